use crate::{Code, Hits, Result};
use core::{marker::PhantomData, ops::Range, slice, str};

const MAGIC: u32 = 0x3142_4354; // "TCB1"
const EVENT_TIME: u32 = 0xFFFF_FF00;
const WATERMARK: u32 = 0xFFFF_FF01;
const TIMER_AT: u32 = 0xFFFF_FF10;
const TIMER_TAG: u32 = 0xFFFF_FF11;
const FROM_VERSION: u32 = 0xFFFF_FF12;

const BOOL: u16 = 1;
const I32: u16 = 2;
const I64: u16 = 3;
const U32: u16 = 4;
const U64: u16 = 5;
const F64: u16 = 6;
const UTF8: u16 = 7;
const TIMESTAMP_MS: u16 = 9;
const IP: u16 = 10;

/// Rows as columns, where the host wrote them: nothing is copied. Columns are named by their place in the manifest's `reads`;
/// a place or a type that the manifest does not have panics, at the line of the rule.
pub struct Batch<'a> {
    base: *const u8,
    rows: u32,
    columns: u32,
    first: u32,
    stride: u32,
    memory: PhantomData<&'a [u8]>,
}

/// A column as its descriptor says.
struct Column {
    kind: u16,
    flags: u16,
    valid: u32,
    data: u32,
    len: u32,
    offsets: u32,
}

/// A column of fixed width: numbers, times (ms since 1970), addresses (16 bytes).
#[derive(Clone, Copy)]
pub struct Numbers<'a, T> {
    /// One a row, 0 where there is none.
    pub values: &'a [T],
    valid: &'a [u8],
}

/// A column of texts.
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    data: &'a [u8],
    offsets: &'a [u32],
    valid: &'a [u8],
}

/// A column of booleans.
#[derive(Clone, Copy)]
pub struct Bools<'a> {
    bits: &'a [u8],
    valid: &'a [u8],
}

fn bit(bits: &[u8], row: u32) -> bool {
    bits[row as usize / 8] >> (row % 8) & 1 != 0
}

impl<'a, T: Copy> Numbers<'a, T> {
    /// The row's value, None if it has none.
    pub fn get(&self, row: u32) -> Option<T> {
        bit(self.valid, row).then(|| self.values[row as usize])
    }
}

impl<'a> Texts<'a> {
    /// The row's text, None if it has none.
    pub fn get(&self, row: u32) -> Option<&'a str> {
        bit(self.valid, row).then(|| self.at(row))
    }

    /// The row's text, "" if it has none.
    #[inline]
    pub fn at(&self, row: u32) -> &'a str {
        let text = &self.data[self.offsets[row as usize] as usize..self.offsets[row as usize + 1] as usize];
        unsafe { str::from_utf8_unchecked(text) } // the contract: always valid UTF-8
    }
}

impl<'a> Bools<'a> {
    /// The row's value, None if it has none.
    pub fn get(&self, row: u32) -> Option<bool> {
        bit(self.valid, row).then(|| bit(self.bits, row))
    }
}

impl<'a> Batch<'a> {
    /// # Safety
    /// The host wrote a batch there, which lives for 'a.
    pub unsafe fn at(base: *mut u8) -> (Batch<'a>, Hits<'a>) {
        let mut batch = Batch { base, rows: 0, columns: 0, first: 0, stride: 0, memory: PhantomData };
        batch.rows = batch.u32(12);
        batch.columns = batch.u32(16);
        batch.first = batch.u32(20);
        batch.stride = batch.u32(24);
        let hits = Hits::new(base, batch.rows, batch.u32(28), batch.u32(32));
        (batch, hits)
    }

    /// A batch in memory, for tests on the machine at hand: bytes as the host would write them, at a multiple of 8.
    pub fn from_bytes(bytes: &'a mut [u8]) -> Result<(Batch<'a>, Hits<'a>)> {
        let len = bytes.len() as u64;
        if len < 64 || bytes.as_ptr() as usize % 8 != 0 || bytes[..4] != MAGIC.to_le_bytes() {
            return Err(Code::INVALID);
        }
        let (batch, hits) = unsafe { Batch::at(bytes.as_mut_ptr()) };
        let (rows, bits) = (batch.rows as u64, batch.rows.div_ceil(8) as u64);
        let inside = |off: u32, n: u64| off as u64 + n <= len;
        let mut good = inside(batch.first, batch.columns as u64 * batch.stride as u64)
            && batch.stride >= 48
            && batch.first % 4 == 0
            && inside(batch.u32(28), batch.u32(32) as u64)
            && batch.u32(8) as u64 <= len;
        for i in 0..if good { batch.columns } else { 0 } {
            let c = batch.column(i);
            let width = match c.kind {
                I32 | U32 => 4 * rows,
                I64 | U64 | F64 | TIMESTAMP_MS => 8 * rows,
                IP => 16 * rows,
                BOOL => bits,
                _ => 0,
            };
            good &= inside(c.valid, bits) && inside(c.data, c.len as u64) && c.len as u64 >= width && c.data % 8 == 0 && c.offsets % 4 == 0;
            good &= c.kind != UTF8 || inside(c.offsets, 4 * (rows + 1));
            if good && c.kind == UTF8 {
                let offsets: &[u32] = batch.slice(c.offsets, batch.rows + 1);
                good &= offsets[0] == 0 && offsets.windows(2).all(|w| w[0] <= w[1]) && offsets[rows as usize] <= c.len;
                good = good && str::from_utf8(batch.slice(c.data, c.len)).is_ok();
            }
        }
        if good {
            Ok((batch, hits))
        } else {
            Err(Code::INVALID)
        }
    }

    /// The number of rows.
    pub fn len(&self) -> u32 {
        self.rows
    }

    /// Whether there are none; the host gives none such.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The rows, from 0.
    pub fn rows(&self) -> Range<u32> {
        0..self.rows
    }

    /// A utf8 column.
    #[track_caller]
    pub fn texts(&self, column: u32) -> Texts<'a> {
        let c = self.typed(column, &[UTF8]);
        Texts { data: self.slice(c.data, c.len), offsets: self.slice(c.offsets, self.rows + 1), valid: self.valid(&c) }
    }

    /// A bool column.
    #[track_caller]
    pub fn bools(&self, column: u32) -> Bools<'a> {
        let c = self.typed(column, &[BOOL]);
        Bools { bits: self.slice(c.data, self.rows.div_ceil(8)), valid: self.valid(&c) }
    }

    /// An i32 column.
    #[track_caller]
    pub fn i32s(&self, column: u32) -> Numbers<'a, i32> {
        self.numbers(column, &[I32])
    }

    /// An i64 or timestamp_ms column.
    #[track_caller]
    pub fn i64s(&self, column: u32) -> Numbers<'a, i64> {
        self.numbers(column, &[I64, TIMESTAMP_MS])
    }

    /// A u32 column.
    #[track_caller]
    pub fn u32s(&self, column: u32) -> Numbers<'a, u32> {
        self.numbers(column, &[U32])
    }

    /// A u64 column.
    #[track_caller]
    pub fn u64s(&self, column: u32) -> Numbers<'a, u64> {
        self.numbers(column, &[U64])
    }

    /// An f64 column.
    #[track_caller]
    pub fn f64s(&self, column: u32) -> Numbers<'a, f64> {
        self.numbers(column, &[F64])
    }

    /// An ip column, IPv4 as ::ffff:a.b.c.d.
    #[track_caller]
    pub fn ips(&self, column: u32) -> Numbers<'a, [u8; 16]> {
        self.numbers(column, &[IP])
    }

    /// The time of each row, ms; of a timer its due time. The manifest must want `event_time`.
    #[track_caller]
    pub fn event_time(&self) -> Numbers<'a, i64> {
        self.i64s(self.find(EVENT_TIME))
    }

    /// The watermark of each row, ms; the least i64 before any. The manifest must want `watermark`.
    #[track_caller]
    pub fn watermark(&self) -> Numbers<'a, i64> {
        self.i64s(self.find(WATERMARK))
    }

    /// Of timers that fired: what they were set to.
    #[track_caller]
    pub fn timer_at(&self) -> Numbers<'a, i64> {
        self.i64s(self.find(TIMER_AT))
    }

    /// Of timers that fired: their tags.
    #[track_caller]
    pub fn timer_tag(&self) -> Numbers<'a, i64> {
        self.i64s(self.find(TIMER_TAG))
    }

    /// Of keys that are brought up to date: the state.version that they were left by.
    #[track_caller]
    pub fn from_version(&self) -> Numbers<'a, u32> {
        self.u32s(self.find(FROM_VERSION))
    }

    /// Whether a value of a column was cut to its `max_len`.
    pub fn was_cut(&self, column: u32) -> bool {
        column < self.columns && self.column(column).flags & 8 != 0
    }

    #[track_caller]
    fn find(&self, index: u32) -> u32 {
        match (0..self.columns).rev().find(|i| self.u32(self.first + i * self.stride) == index) {
            Some(i) => i,
            None => panic!("the batch has no such column: the manifest does not want it"),
        }
    }

    #[track_caller]
    fn numbers<T>(&self, column: u32, kinds: &[u16]) -> Numbers<'a, T> {
        let c = self.typed(column, kinds);
        Numbers { values: self.slice(c.data, self.rows), valid: self.valid(&c) }
    }

    #[track_caller]
    fn typed(&self, column: u32, kinds: &[u16]) -> Column {
        if column >= self.columns {
            panic!("the manifest reads fewer columns");
        }
        let c = self.column(column);
        if !kinds.contains(&c.kind) {
            panic!("the manifest says another type");
        }
        c
    }

    fn column(&self, i: u32) -> Column {
        let at = self.first + i * self.stride;
        let kind = self.u32(at + 4);
        Column {
            kind: kind as u16,
            flags: (kind >> 16) as u16,
            valid: self.u32(at + 12),
            data: self.u32(at + 16),
            len: self.u32(at + 20),
            offsets: self.u32(at + 24),
        }
    }

    fn valid(&self, c: &Column) -> &'a [u8] {
        self.slice(c.valid, self.rows.div_ceil(8))
    }

    fn u32(&self, off: u32) -> u32 {
        unsafe { (self.base.add(off as usize) as *const u32).read() }
    }

    /// Inside the batch as the host promises and from_bytes checks.
    fn slice<T>(&self, off: u32, n: u32) -> &'a [T] {
        unsafe { slice::from_raw_parts(self.base.add(off as usize) as *const T, n as usize) }
    }
}
