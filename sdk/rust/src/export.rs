//! What plugin! exports.
use crate::{Batch, Code, Config, Detect, Hits, Result};
use core::{cell::UnsafeCell, slice, str};

/// The one value of the rule's type, made by init.
pub struct Plugin<T>(UnsafeCell<Option<T>>);

unsafe impl<T> Sync for Plugin<T> {} // the host calls an instance from one thread at a time

impl<T: Detect> Plugin<T> {
    pub const fn new() -> Plugin<T> {
        Plugin(UnsafeCell::new(None))
    }

    /// # Safety
    /// The host wrote an init header there.
    pub unsafe fn init(&self, header: *const u8) -> i32 {
        let word = |at: usize| (header.add(at) as *const u32).read() as usize;
        let config = str::from_utf8_unchecked(slice::from_raw_parts(header.add(word(8)), word(12)));
        match T::init(Config(config)) {
            Ok(rule) => {
                *self.0.get() = Some(rule);
                0
            }
            Err(Code(code)) => code,
        }
    }

    /// # Safety
    /// The host wrote a batch there.
    pub unsafe fn call(&self, at: *mut u8, judge: fn(&T, &Batch, &mut Hits) -> Result) -> i32 {
        let Some(rule) = &*self.0.get() else { return Code::INTERNAL.0 };
        let (batch, mut hits) = Batch::at(at);
        match judge(rule, &batch, &mut hits) {
            Ok(()) => hits.finish(),
            Err(Code(code)) => code,
        }
    }
}

impl<T: Detect> Default for Plugin<T> {
    fn default() -> Plugin<T> {
        Plugin::new()
    }
}

/// The arena is what lies above the program's own data, and grows in place as long as nobody else takes memory behind it:
/// then it moves behind that. So a rule may have an allocator that takes pages, as Rust's own does.
#[cfg(target_arch = "wasm32")]
mod arena {
    use core::arch::wasm32::{memory_grow, memory_size};

    extern "C" {
        static __heap_base: u8;
    }

    static mut AT: usize = 0;
    static mut END: usize = 0;

    #[no_mangle]
    pub extern "C" fn tocsin_arena(min: u32) -> usize {
        const PAGE: usize = 65536;
        let min = min as usize;
        unsafe {
            if END == 0 {
                AT = (&raw const __heap_base as usize + 15) & !15;
                END = memory_size(0) * PAGE;
            }
            if END >= AT && END - AT >= min {
                return AT;
            }
            let in_place = END == memory_size(0) * PAGE;
            let pages = if in_place { AT.saturating_add(min).saturating_sub(END) } else { min }.div_ceil(PAGE);
            let at = memory_grow(0, pages);
            if at == usize::MAX {
                return 0;
            }
            if !in_place {
                AT = at * PAGE;
            }
            END = (at + pages) * PAGE;
            AT
        }
    }
}

#[cfg(all(target_arch = "wasm32", feature = "panic-handler"))]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    use crate::{log, Level, Line};
    if let Some(place) = info.location() {
        let mut line = Line::new();
        line.text("panicked at ").text(place.file()).text(":").number(place.line() as u64);
        log(Level::Error, line.as_str());
    }
    core::arch::wasm32::unreachable()
}
