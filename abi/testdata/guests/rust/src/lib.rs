//! A detect plugin in Rust without std: rows whose first field contains "-enc".
#![no_std]

use core::{arch::wasm32, slice};

#[unsafe(link_section = "tocsin.manifest.v1")]
pub static MANIFEST: [u8; include_bytes!("../../manifest.json").len()] = *include_bytes!("../../manifest.json");

#[repr(C)]
pub struct Batch {
    magic: u32,
    header_size: u16,
    flags: u16,
    total_len: u32,
    n_rows: u32,
    n_cols: u32,
    cols_off: u32,
    col_stride: u32,
    out_off: u32,
    out_cap: u32,
    out_len: u32,
    reserved: [u32; 4],
    out_rows: u32,
    out_flags: u32,
}

#[repr(C)]
struct Column {
    index: u32,
    kind: u16,
    flags: u16,
    null_count: u32,
    validity_off: u32,
    data_off: u32,
    data_len: u32,
    offsets_off: u32,
    child_off: u32,
    elem_width: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Hit {
    row: u32,
    rule: u32,
    severity: u16,
    flags: u16,
    note_off: u32,
}

const _: () = assert!(size_of::<Batch>() == 64 && size_of::<Column>() == 48 && size_of::<Hit>() == 16);

unsafe extern "C" {
    static __heap_base: u8;
}

#[unsafe(no_mangle)]
pub extern "C" fn tocsin_arena(min: u32) -> usize {
    let at = (&raw const __heap_base as usize + 15) & !15;
    let have = wasm32::memory_size(0) << 16;
    let need = at + min as usize;
    if need > have && wasm32::memory_grow(0, (need - have).div_ceil(65536)) == usize::MAX {
        return 0;
    }
    at
}

#[unsafe(no_mangle)]
pub extern "C" fn tocsin_init(_off: u32, _len: u32) -> i32 {
    0
}

/// # Safety
/// `b` is a batch that the host wrote in the arena.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tocsin_process(b: *mut Batch) -> i32 {
    let base = b as usize;
    let b = unsafe { &mut *b };
    let rows = b.n_rows as usize;
    let (offs, data, out) = unsafe {
        let c = &*((base + b.cols_off as usize) as *const Column);
        (
            slice::from_raw_parts((base + c.offsets_off as usize) as *const u32, rows + 1),
            slice::from_raw_parts((base + c.data_off as usize) as *const u8, c.data_len as usize),
            slice::from_raw_parts_mut((base + b.out_off as usize) as *mut Hit, b.out_cap as usize / size_of::<Hit>()),
        )
    };
    let mut n = 0;
    for (row, w) in offs.windows(2).enumerate() {
        let Some(value) = data.get(w[0] as usize..w[1] as usize) else { return -2 };
        if !value.windows(4).any(|w| w == b"-enc") {
            continue;
        }
        let Some(hit) = out.get_mut(n) else { return -3 };
        *hit = Hit { row: row as u32, rule: 1, severity: 0, flags: 0, note_off: 0 };
        n += 1;
    }
    b.out_len = (n * size_of::<Hit>()) as u32;
    b.out_rows = n as u32;
    0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    wasm32::unreachable()
}
