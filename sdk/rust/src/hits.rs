use crate::{Code, Note};
use core::{marker::PhantomData, ptr};

/// How bad a hit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Severity {
    /// As the manifest says.
    Default,
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

pub(crate) const HIT: u32 = 16;
pub(crate) const NOTE_MAX: u32 = 4096;

/// The answer: hits from the beginning of the output's space, notes behind them. Rows ascend, and within a row rules do.
///
/// What does not fit is left out and noted; the host then calls again with more room, so a rule need not care.
pub struct Hits<'a> {
    out: *mut u8,
    header: *mut u8,
    off: u32, // of the output's space, from the batch
    cap: u32,
    rows: u32,
    count: u32,
    notes: u32, // where notes begin, from out
    end: u32,   // and end
    more: u32,  // bytes to ask for, 0 if all fitted
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a> Hits<'a> {
    pub(crate) unsafe fn new(header: *mut u8, rows: u32, off: u32, cap: u32) -> Hits<'a> {
        Hits { out: header.add(off as usize), header, off, cap, rows, count: 0, notes: cap, end: cap, more: 0, memory: PhantomData }
    }

    /// Reports a row, with the severity that the manifest gives the rule.
    pub fn add(&mut self, row: u32, rule: u32) {
        self.add_as(row, rule, Severity::Default)
    }

    /// Reports a row with a severity.
    pub fn add_as(&mut self, row: u32, rule: u32, severity: Severity) {
        if self.more > 0 || (self.count + 1) * HIT > self.notes && !self.shift() {
            self.want(HIT);
            return;
        }
        self.write(self.count * HIT, row);
        self.write(self.count * HIT + 4, rule);
        self.write(self.count * HIT + 8, severity as u32);
        self.write(self.count * HIT + 12, 0);
        self.count += 1;
    }

    /// Reports a row with a note, which is complete when it is dropped: `hits.add_noted(row, 1).uint("count", n);`
    pub fn add_noted(&mut self, row: u32, rule: u32) -> Note<'_, 'a> {
        self.add(row, rule);
        Note::new(self)
    }

    /// Likewise, with a severity.
    pub fn add_noted_as(&mut self, row: u32, rule: u32, severity: Severity) -> Note<'_, 'a> {
        self.add_as(row, rule, severity);
        Note::new(self)
    }

    /// What the answer is, once all is said.
    pub fn finish(self) -> i32 {
        let used = if self.end > self.notes { self.end } else { self.count * HIT };
        unsafe {
            (self.header.add(36) as *mut u32).write(if self.more > 0 { self.more } else { used });
            (self.header.add(56) as *mut u32).write(if self.more > 0 { 0 } else { self.count });
        }
        if self.more > 0 {
            Code::TOO_SMALL.0
        } else {
            0
        }
    }

    /// Begins a note of the last hit: where its bytes may go, and how many. None if there is no room, or no hit.
    pub(crate) fn begin(&mut self) -> Option<(*mut u8, u32)> {
        if self.more > 0 {
            return None;
        }
        if self.end == self.notes {
            // the first note: one hit a row has room before it, or the hits that are there already
            self.notes = (self.rows.max(self.count) * HIT).min(self.cap);
            self.end = self.notes;
        }
        let free = self.cap - self.end;
        if free < 64 {
            self.want(NOTE_MAX);
            return None;
        }
        Some((unsafe { self.out.add(self.end as usize + 4) }, (free - 4).min(NOTE_MAX)))
    }

    /// Ends a note of n bytes, or one that found no room.
    pub(crate) fn end(&mut self, n: u32, fits: bool) {
        if !fits && self.cap - self.end - 4 < NOTE_MAX {
            self.want(NOTE_MAX);
            return;
        }
        self.write(self.end, n);
        self.write((self.count - 1) * HIT + 12, self.off + self.end);
        self.end = (self.end + 4 + n + 3) & !3; // the padding is between notes, or was free
        self.end = self.end.min(self.cap);
    }

    /// Makes room for hits by moving the notes behind them towards the end.
    fn shift(&mut self) -> bool {
        let by = ((self.cap - self.end) / 2) & !15;
        if self.end == self.notes || by == 0 {
            return false;
        }
        unsafe {
            let from = self.out.add(self.notes as usize);
            ptr::copy(from, from.add(by as usize), (self.end - self.notes) as usize);
        }
        for i in 0..self.count {
            let at = i * HIT + 12;
            match self.read(at) {
                0 => {}
                note => self.write(at, note + by),
            }
        }
        self.notes += by;
        self.end += by;
        true
    }

    fn want(&mut self, bytes: u32) {
        self.more = self.more.max(2 * self.cap + bytes);
    }

    fn write(&mut self, off: u32, v: u32) {
        unsafe { (self.out.add(off as usize) as *mut u32).write_unaligned(v) }
    }

    fn read(&self, off: u32) -> u32 {
        unsafe { (self.out.add(off as usize) as *const u32).read_unaligned() }
    }
}
