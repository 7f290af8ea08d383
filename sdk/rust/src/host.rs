use crate::{Code, Result};
use core::fmt;

#[cfg(target_arch = "wasm32")]
mod raw {
    #[link(wasm_import_module = "tocsin_v1")]
    extern "C" {
        pub fn log(level: i32, text: *const u8, len: usize);
        pub fn fail(text: *const u8, len: usize);
        pub fn now(row: u32) -> i64;
        pub fn random(row: u32, dst: *mut u8, len: usize) -> i32;
        pub fn metric(id: u32, delta: i64);
        pub fn lookup(table: u32, key: *const u8, key_len: usize, dst: *mut u8, cap: usize) -> i64;
        pub fn state_get(row: u32, slot: u32, dst: *mut u8, cap: usize) -> i64;
        pub fn state_put(row: u32, slot: u32, value: *const u8, len: usize) -> i32;
        pub fn state_del(row: u32, slot: u32) -> i32;
        pub fn state_add(row: u32, slot: u32, delta: i64) -> i64;
        pub fn map_get(row: u32, slot: u32, key: *const u8, key_len: usize, dst: *mut u8, cap: usize) -> i64;
        pub fn map_put(row: u32, slot: u32, key: *const u8, key_len: usize, value: *const u8, len: usize) -> i32;
        pub fn map_del(row: u32, slot: u32, key: *const u8, key_len: usize) -> i32;
        pub fn map_count(row: u32, slot: u32) -> i64;
        pub fn map_next(row: u32, slot: u32, key: *const u8, key_len: usize, dst: *mut u8, cap: usize) -> i64;
        pub fn timer_set(row: u32, tag: i64, at: i64) -> i32;
        pub fn timer_del(row: u32, tag: i64) -> i32;
    }
}

/// On the machine at hand, for tests: a host without state, timers or tables, as the contract allows one to be.
#[cfg(not(target_arch = "wasm32"))]
mod raw {
    macro_rules! unsupported {
        ($($name:ident($($arg:ty),*) -> $answer:ty = $value:expr;)*) => {
            $(#[allow(clippy::too_many_arguments)] pub unsafe fn $name($(_: $arg),*) -> $answer { $value })*
        };
    }
    unsupported! {
        log(i32, *const u8, usize) -> () = ();
        fail(*const u8, usize) -> () = ();
        now(u32) -> i64 = i64::MIN;
        random(u32, *mut u8, usize) -> i32 = -6;
        metric(u32, i64) -> () = ();
        lookup(u32, *const u8, usize, *mut u8, usize) -> i64 = -6;
        state_get(u32, u32, *mut u8, usize) -> i64 = -6;
        state_put(u32, u32, *const u8, usize) -> i32 = -6;
        state_del(u32, u32) -> i32 = -6;
        state_add(u32, u32, i64) -> i64 = i64::MIN;
        map_get(u32, u32, *const u8, usize, *mut u8, usize) -> i64 = -6;
        map_put(u32, u32, *const u8, usize, *const u8, usize) -> i32 = -6;
        map_del(u32, u32, *const u8, usize) -> i32 = -6;
        map_count(u32, u32) -> i64 = -6;
        map_next(u32, u32, *const u8, usize, *mut u8, usize) -> i64 = -6;
        timer_set(u32, i64, i64) -> i32 = -6;
        timer_del(u32, i64) -> i32 = -6;
    }
}

/// A value of a row's key: the slot of kind "value" with this id. Rows of a call must not go back.
#[derive(Clone, Copy)]
pub struct Value(pub u32);

/// A map of a row's key: the slot of kind "map" with this id. Keys of it are bytes, and ordered as such.
#[derive(Clone, Copy)]
pub struct Map(pub u32);

/// The timers of a row's key.
#[derive(Clone, Copy)]
pub struct Timers;

/// A table of the manifest's `tables`, by its place.
#[derive(Clone, Copy)]
pub struct Table(pub u32);

/// A counter of the manifest's `metrics`, by its place.
#[derive(Clone, Copy)]
pub struct Metric(pub u32);

impl Value {
    /// The value in `buf`; None if there is none, TOO_SMALL if `buf` is smaller than it.
    pub fn get<'b>(&self, row: u32, buf: &'b mut [u8]) -> Result<Option<&'b [u8]>> {
        let n = unsafe { raw::state_get(row, self.0, buf.as_mut_ptr(), buf.len()) };
        found(n, buf)
    }

    /// Sets the value.
    pub fn put(&self, row: u32, value: &[u8]) -> Result {
        done(unsafe { raw::state_put(row, self.0, value.as_ptr(), value.len()) })
    }

    /// Deletes the value, and says whether there was one.
    pub fn del(&self, row: u32) -> Result<bool> {
        there(unsafe { raw::state_del(row, self.0) })
    }

    /// Adds to the value as a number (0 if there is none), and gives the sum.
    pub fn add(&self, row: u32, delta: i64) -> Result<i64> {
        match unsafe { raw::state_add(row, self.0, delta) } {
            i64::MIN => Err(Code::INVALID),
            sum => Ok(sum),
        }
    }

    /// The value as a number, as `add` and `put_int` leave it; None also for a value that is not 8 bytes.
    pub fn int(&self, row: u32) -> Result<Option<i64>> {
        int(unsafe { |dst, cap| raw::state_get(row, self.0, dst, cap) })
    }

    /// Sets the value to a number.
    pub fn put_int(&self, row: u32, v: i64) -> Result {
        self.put(row, &v.to_le_bytes())
    }
}

impl Map {
    /// The value of a key in `buf`; None if there is none, TOO_SMALL if `buf` is smaller than it.
    pub fn get<'b>(&self, row: u32, key: &[u8], buf: &'b mut [u8]) -> Result<Option<&'b [u8]>> {
        let n = unsafe { raw::map_get(row, self.0, key.as_ptr(), key.len(), buf.as_mut_ptr(), buf.len()) };
        found(n, buf)
    }

    /// Sets the value of a key, and says whether the key is new.
    pub fn put(&self, row: u32, key: &[u8], value: &[u8]) -> Result<bool> {
        match unsafe { raw::map_put(row, self.0, key.as_ptr(), key.len(), value.as_ptr(), value.len()) } {
            n if n < 0 => Err(Code(n)),
            n => Ok(n == 1),
        }
    }

    /// Deletes a key, and says whether it was there.
    pub fn del(&self, row: u32, key: &[u8]) -> Result<bool> {
        there(unsafe { raw::map_del(row, self.0, key.as_ptr(), key.len()) })
    }

    /// The value of a key as a number; None also for a value that is not 8 bytes.
    pub fn int(&self, row: u32, key: &[u8]) -> Result<Option<i64>> {
        int(unsafe { |dst, cap| raw::map_get(row, self.0, key.as_ptr(), key.len(), dst, cap) })
    }

    /// Sets the value of a key to a number, and says whether the key is new.
    pub fn put_int(&self, row: u32, key: &[u8], v: i64) -> Result<bool> {
        self.put(row, key, &v.to_le_bytes())
    }

    /// The number of keys.
    pub fn count(&self, row: u32) -> Result<u64> {
        match unsafe { raw::map_count(row, self.0) } {
            n if n < 0 => Err(Code(n as i32)),
            n => Ok(n as u64),
        }
    }

    /// Empties the map, and says whether there was something in it.
    pub fn clear(&self, row: u32) -> Result<bool> {
        there(unsafe { raw::state_del(row, self.0) })
    }

    /// The key behind another (b"" is before the first) in `buf`; None after the last.
    pub fn next<'b>(&self, row: u32, after: &[u8], buf: &'b mut [u8]) -> Result<Option<&'b [u8]>> {
        let n = unsafe { raw::map_next(row, self.0, after.as_ptr(), after.len(), buf.as_mut_ptr(), buf.len()) };
        found(n, buf)
    }

    /// Calls `each` with the keys in order, until it answers false. Half of `buf` must hold a key.
    pub fn keys(&self, row: u32, buf: &mut [u8], mut each: impl FnMut(&[u8]) -> Result<bool>) -> Result {
        let (mut last, mut next) = buf.split_at_mut(buf.len() / 2);
        let mut n = 0;
        while let Some(key) = self.next(row, &last[..n], next)? {
            n = key.len();
            if !each(key)? {
                break;
            }
            (last, next) = (next, last);
        }
        Ok(())
    }
}

impl Timers {
    /// Sets the timer of a tag, ms of event time; one that was set is replaced.
    pub fn set(&self, row: u32, tag: i64, at: i64) -> Result {
        done(unsafe { raw::timer_set(row, tag, at) })
    }

    /// Deletes the timer of a tag, and says whether there was one.
    pub fn del(&self, row: u32, tag: i64) -> Result<bool> {
        there(unsafe { raw::timer_del(row, tag) })
    }
}

impl Table {
    /// The row of a key in `buf`, a JSON object; None if there is none, TOO_SMALL if `buf` is smaller than it.
    pub fn find<'b>(&self, key: &str, buf: &'b mut [u8]) -> Result<Option<&'b [u8]>> {
        let n = unsafe { raw::lookup(self.0, key.as_ptr(), key.len(), buf.as_mut_ptr(), buf.len()) };
        found(n, buf)
    }
}

impl Metric {
    /// Adds to the counter.
    pub fn add(&self, delta: i64) {
        unsafe { raw::metric(self.0, delta) }
    }
}

fn found(n: i64, buf: &[u8]) -> Result<Option<&[u8]>> {
    match n {
        -1 => Ok(None),
        n if n < 0 => Err(Code(n as i32)),
        n => buf.get(..n as usize).map(Some).ok_or(Code::TOO_SMALL),
    }
}

fn int(get: impl FnOnce(*mut u8, usize) -> i64) -> Result<Option<i64>> {
    let mut buf = [0; 8];
    match get(buf.as_mut_ptr(), 8) {
        8 => Ok(Some(i64::from_le_bytes(buf))),
        n if n < -1 => Err(Code(n as i32)),
        _ => Ok(None),
    }
}

fn done(answer: i32) -> Result {
    if answer < 0 {
        Err(Code(answer))
    } else {
        Ok(())
    }
}

fn there(answer: i32) -> Result<bool> {
    match Code(answer) {
        Code::NOT_FOUND => Ok(false),
        c if c.0 < 0 => Err(c),
        _ => Ok(true),
    }
}

/// The watermark of a row, ms of event time: the only clock. The least i64 before any.
pub fn now(row: u32) -> i64 {
    unsafe { raw::now(row) }
}

/// Fills `dst` with bytes that depend on the pipeline, the operator and the row.
pub fn random(row: u32, dst: &mut [u8]) -> Result {
    done(unsafe { raw::random(row, dst.as_mut_ptr(), dst.len()) })
}

/// How much a line concerns the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

/// A line for the operator, of at most 1 024 bytes.
pub fn log(level: Level, text: &str) {
    unsafe { raw::log(level as i32, text.as_ptr(), text.len()) }
}

/// The text that goes with the error that is returned next: `return Err(fail(Code::INVALID, "..."))`.
pub fn fail(code: Code, text: &str) -> Code {
    unsafe { raw::fail(text.as_ptr(), text.len()) }
    code
}

/// A line of up to 256 bytes for `log` and `fail`; what is too long is cut. It takes texts and numbers without core's
/// formatting, which would make a module some KiB larger, and `write!` for all else.
pub struct Line {
    text: [u8; 256],
    len: usize,
}

impl Line {
    pub const fn new() -> Line {
        Line { text: [0; 256], len: 0 }
    }

    /// Appends a text.
    pub fn text(&mut self, s: &str) -> &mut Line {
        let mut n = s.len().min(self.text.len() - self.len);
        while !s.is_char_boundary(n) {
            n -= 1;
        }
        self.text[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        self
    }

    /// Appends a number.
    pub fn number(&mut self, v: u64) -> &mut Line {
        if v > 9 {
            self.number(v / 10);
        }
        self.text(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"][(v % 10) as usize])
    }

    /// What was written.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.text[..self.len]).unwrap_or("")
    }
}

impl Default for Line {
    fn default() -> Line {
        Line::new()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.text(s);
        Ok(())
    }
}
