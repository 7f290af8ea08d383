use crate::Hits;
use core::ptr;

const DEPTH_MAX: usize = 8;
const CUT: &[u8] = b",\"truncated\":true";

/// A JSON object that goes with a hit, written into the answer as it grows. It is closed when it is dropped.
///
/// A field that would make it larger than 4 096 bytes is left out, and the note then ends with `"truncated": true`. Inside an
/// array keys are not written: `note.array("users").text("", user).end()`.
pub struct Note<'h, 'a> {
    hits: &'h mut Hits<'a>,
    at: *mut u8,
    cap: usize, // 0: there is no room for any of it
    len: usize,
    open: [u8; DEPTH_MAX], // what closes each level
    depth: usize,
    skipped: u32, // levels that found no room
    comma: bool,
    fits: bool,
}

impl<'h, 'a> Note<'h, 'a> {
    pub(crate) fn new(hits: &'h mut Hits<'a>) -> Note<'h, 'a> {
        let (at, cap) = hits.begin().unwrap_or((ptr::null_mut(), 0));
        let mut n = Note { hits, at, cap: cap as usize, len: 0, open: [0; DEPTH_MAX], depth: 0, skipped: 0, comma: false, fits: true };
        if n.cap > 0 {
            n.put(b'{');
            n.open[0] = b'}';
            n.depth = 1;
        }
        n
    }

    /// A text.
    pub fn text(&mut self, key: &str, v: &str) -> &mut Self {
        self.field(key, |n| n.quoted(v))
    }

    /// A text as bytes; those that are not UTF-8 are replaced.
    pub fn bytes(&mut self, key: &str, v: &[u8]) -> &mut Self {
        self.field(key, |n| {
            n.put(b'"');
            for part in v.utf8_chunks() {
                n.escaped(part.valid());
                if !part.invalid().is_empty() {
                    n.raw("\u{fffd}".as_bytes());
                }
            }
            n.put(b'"');
        })
    }

    /// A whole number.
    pub fn int(&mut self, key: &str, v: i64) -> &mut Self {
        self.field(key, |n| {
            if v < 0 {
                n.put(b'-');
            }
            n.digits(v.unsigned_abs(), 1);
        })
    }

    /// A whole number that is not negative.
    pub fn uint(&mut self, key: &str, v: u64) -> &mut Self {
        self.field(key, |n| n.digits(v, 1))
    }

    /// A number with up to 9 decimals; as many of them as 18 digits hold. What is no number, or has more, is null.
    pub fn float(&mut self, key: &str, v: f64, decimals: u32) -> &mut Self {
        self.field(key, |n| n.fraction(v, decimals.min(9)))
    }

    /// A time, ms since 1970, as text in UTC: `2026-03-02T08:00:00.000Z`. null outside the years 0 to 9999.
    pub fn time(&mut self, key: &str, ms: i64) -> &mut Self {
        let (day, ms) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) as u64);
        let (year, month, of_month) = date(day);
        self.field(key, |n| {
            if !(0..=9999).contains(&year) {
                return n.raw(b"null");
            }
            n.put(b'"');
            let parts = [
                (year as u64, 4, b'-'),
                (month, 2, b'-'),
                (of_month, 2, b'T'),
                (ms / 3_600_000, 2, b':'),
                (ms / 60_000 % 60, 2, b':'),
                (ms / 1000 % 60, 2, b'.'),
                (ms % 1000, 3, b'Z'),
            ];
            for (v, digits, behind) in parts {
                n.digits(v, digits);
                n.put(behind);
            }
            n.put(b'"');
        })
    }

    /// true or false.
    pub fn bool(&mut self, key: &str, v: bool) -> &mut Self {
        self.field(key, |n| n.raw(if v { b"true" } else { b"false" }))
    }

    /// Opens an object.
    pub fn object(&mut self, key: &str) -> &mut Self {
        self.level(key, b'{', b'}')
    }

    /// Opens an array.
    pub fn array(&mut self, key: &str) -> &mut Self {
        self.level(key, b'[', b']')
    }

    /// Closes what was opened last.
    pub fn end(&mut self) -> &mut Self {
        if self.skipped > 0 {
            self.skipped -= 1;
        } else if self.depth > 1 {
            self.depth -= 1;
            self.put(self.open[self.depth]);
            self.comma = true;
        }
        self
    }

    /// A field fits whole, or is left out.
    fn field(&mut self, key: &str, value: impl FnOnce(&mut Self)) -> &mut Self {
        if self.skipped > 0 || self.cap == 0 {
            return self;
        }
        let (from, comma) = (self.len, self.comma);
        if comma {
            self.put(b',');
        }
        if self.open[self.depth - 1] == b'}' {
            self.quoted(key);
            self.put(b':');
        }
        value(self);
        if self.len + self.depth + CUT.len() > self.cap {
            (self.len, self.comma, self.fits) = (from, comma, false);
        } else {
            self.comma = true;
        }
        self
    }

    fn level(&mut self, key: &str, open: u8, close: u8) -> &mut Self {
        if self.skipped > 0 || self.depth == DEPTH_MAX || self.cap == 0 {
            self.fits &= self.skipped > 0;
            self.skipped += 1;
            return self;
        }
        let before = self.len;
        self.field(key, |n| {
            n.put(open);
            n.put(b' '); // room for what closes it
        });
        if self.len == before {
            self.skipped += 1;
        } else {
            self.len -= 1;
            self.open[self.depth] = close;
            self.depth += 1;
            self.comma = false;
        }
        self
    }

    /// Writes a byte, or counts one that finds no room.
    fn put(&mut self, c: u8) {
        if self.len < self.cap {
            unsafe { self.at.add(self.len).write(c) }
        }
        self.len += 1;
    }

    fn raw(&mut self, s: &[u8]) {
        for &c in s {
            self.put(c);
        }
    }

    fn quoted(&mut self, s: &str) {
        self.put(b'"');
        self.escaped(s);
        self.put(b'"');
    }

    fn escaped(&mut self, s: &str) {
        for &c in s.as_bytes() {
            if c == b'"' || c == b'\\' {
                self.put(b'\\');
                self.put(c);
            } else if c < 0x20 {
                self.raw(b"\\u00");
                self.put(b'0' + (c >> 4));
                self.put(b"0123456789abcdef"[c as usize & 15]);
            } else {
                self.put(c);
            }
        }
    }

    fn digits(&mut self, mut v: u64, least: usize) {
        let mut text = [b'0'; 20];
        let mut at = text.len();
        while v > 0 {
            at -= 1;
            text[at] = b'0' + (v % 10) as u8;
            v /= 10;
        }
        self.raw(&text[at.min(text.len() - least)..]);
    }

    fn fraction(&mut self, v: f64, mut decimals: u32) {
        let magnitude = if v < 0.0 { -v } else { v };
        while decimals > 0 && magnitude * 10u64.pow(decimals) as f64 >= 1e18 {
            decimals -= 1;
        }
        let unit = 10u64.pow(decimals);
        let scaled = magnitude * unit as f64 + 0.5;
        if scaled.is_nan() || scaled >= 1e18 {
            return self.raw(b"null");
        }
        let scaled = scaled as u64;
        if v < 0.0 && scaled > 0 {
            self.put(b'-');
        }
        self.digits(scaled / unit, 1);
        if decimals > 0 {
            self.put(b'.');
            self.digits(scaled % unit, decimals as usize);
        }
    }
}

/// The date of a day since 1970 in the Gregorian calendar. Years are counted from March, so that the day that is not always there is
/// the last of them, and in eras of 400.
fn date(day: i64) -> (i64, u64, u64) {
    let since = day + 719_468; // 0000-03-01
    let (era, of_era) = (since.div_euclid(146_097), since.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + (month <= 2) as i64, month as u64, of_month as u64)
}

impl Drop for Note<'_, '_> {
    fn drop(&mut self) {
        if self.cap == 0 {
            return;
        }
        self.skipped = 0;
        while self.depth > 1 {
            self.end();
        }
        if !self.fits {
            self.raw(if self.comma { CUT } else { &CUT[1..] });
        }
        self.put(b'}');
        let (len, fits) = (self.len as u32, self.fits);
        self.hits.end(len, fits);
    }
}
