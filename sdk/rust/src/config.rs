/// The configuration: a JSON object that satisfies the manifest's config_schema. Reading a key walks over the text, so read
/// in `init`.
#[derive(Clone, Copy)]
pub struct Config<'a>(pub &'a str);

/// A value of the configuration, as its JSON text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value<'a>(pub &'a str);

impl<'a> Config<'a> {
    /// The value of a key at the top, None if it is not there.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        Value(self.0.trim_start()).get(key)
    }

    /// A whole number, or what is otherwise.
    pub fn int(&self, key: &str, otherwise: i64) -> i64 {
        self.get(key).and_then(|v| v.int()).unwrap_or(otherwise)
    }

    /// A number, or what is otherwise.
    pub fn float(&self, key: &str, otherwise: f64) -> f64 {
        self.get(key).and_then(|v| v.float()).unwrap_or(otherwise)
    }

    /// true or false, or what is otherwise.
    pub fn bool(&self, key: &str, otherwise: bool) -> bool {
        self.get(key).and_then(|v| v.bool()).unwrap_or(otherwise)
    }
}

impl<'a> Value<'a> {
    /// The value of a key of an object. Keys are compared as they are written, without escapes.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        let mut members = self.members(b'{');
        while let Some(k) = members.next() {
            let v = members.next()?;
            if k.0.as_bytes().get(1..k.0.len() - 1) == Some(key.as_bytes()) {
                return Some(v);
            }
        }
        None
    }

    /// The elements of an array.
    pub fn items(&self) -> impl Iterator<Item = Value<'a>> {
        self.members(b'[')
    }

    /// A whole number that i64 holds; 5.0 and 5e0 are such, too.
    pub fn int(&self) -> Option<i64> {
        let (negative, mut digits, mut exponent) = decimal(self.0)?;
        while exponent < 0 && digits % 10 == 0 {
            (digits, exponent) = (digits / 10, exponent + 1);
        }
        if digits > 0 && exponent != 0 {
            digits = digits.checked_mul(10u64.checked_pow(exponent.try_into().ok()?)?)?;
        }
        if negative {
            0i64.checked_sub_unsigned(digits)
        } else {
            digits.try_into().ok()
        }
    }

    /// A number; to the last bit if it has at most 15 digits and no huge exponent.
    pub fn float(&self) -> Option<f64> {
        let (negative, digits, exponent) = decimal(self.0)?;
        let mut v = digits as f64;
        let mut left = exponent.unsigned_abs().min(400);
        while left > 0 {
            let step = left.min(22); // as far as powers of ten are exact
            let power = (0..step).fold(1.0, |p, _| p * 10.0);
            v = if exponent < 0 { v / power } else { v * power };
            left -= step;
        }
        Some(if negative { -v } else { v })
    }

    /// true or false.
    pub fn bool(&self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// A text without its escapes, in `buf`; None if it is no text, or longer than that.
    pub fn text<'b>(&self, buf: &'b mut [u8]) -> Option<&'b str> {
        let s = self.0.strip_prefix('"')?.strip_suffix('"')?;
        let (mut chars, mut len) = (s.chars(), 0);
        while let Some(c) = chars.next() {
            let c = if c == '\\' { unescaped(&mut chars)? } else { c };
            len += c.encode_utf8(buf.get_mut(len..len + c.len_utf8())?).len();
        }
        core::str::from_utf8(&buf[..len]).ok()
    }

    fn members(&self, open: u8) -> Members<'a> {
        match self.0.as_bytes().first() {
            Some(&c) if c == open => Members(self.0.get(1..).unwrap_or("")), // no panic that formats a text: 4 KB
            _ => Members(""),
        }
    }
}

/// A JSON number as sign, digits and exponent of ten; digits beyond the 19th are left out. core's own parser would be 20 KB.
fn decimal(s: &str) -> Option<(bool, u64, i32)> {
    let (negative, s) = s.strip_prefix('-').map_or((false, s), |s| (true, s));
    let (s, exponent) = s.split_once(['e', 'E']).unwrap_or((s, "0"));
    let mut exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = s.split_once('.').unwrap_or((s, ""));
    let mut digits = 0u64;
    for (place, c) in whole.bytes().chain(fraction.bytes()).enumerate() {
        let digit = c.is_ascii_digit().then(|| (c - b'0') as u64)?;
        let behind = (place >= whole.len()) as i32;
        match digits.checked_mul(10).and_then(|v| v.checked_add(digit)) {
            Some(v) => (digits, exponent) = (v, exponent.saturating_sub(behind)),
            None => exponent = exponent.saturating_add(1 - behind),
        }
    }
    (!whole.is_empty()).then_some((negative, digits, exponent))
}

fn unescaped(chars: &mut core::str::Chars) -> Option<char> {
    Some(match chars.next()? {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'u' => {
            let unit = hex(chars)?;
            match unit {
                0xD800..=0xDBFF => {
                    chars.next().filter(|&c| c == '\\')?;
                    chars.next().filter(|&c| c == 'u')?;
                    char::from_u32(0x10000 + ((unit - 0xD800) << 10) + hex(chars)?.checked_sub(0xDC00)?)?
                }
                _ => char::from_u32(unit)?,
            }
        }
        c => c,
    })
}

fn hex(chars: &mut core::str::Chars) -> Option<u32> {
    (0..4).try_fold(0, |v, _| Some(v << 4 | chars.next()?.to_digit(16)?))
}

/// The keys and values of an object, or the elements of an array, in turn.
struct Members<'a>(&'a str);

impl<'a> Iterator for Members<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let s = self.0.trim_start_matches([' ', '\t', '\r', '\n', ',', ':']);
        let n = value_len(s.as_bytes());
        let (v, rest) = s.split_at_checked(n)?;
        self.0 = rest;
        (n > 0).then_some(Value(v))
    }
}

/// How long the value is with which a text begins: 0 at the end of an object or array. The host has checked that it is JSON.
fn value_len(s: &[u8]) -> usize {
    let (mut depth, mut quoted, mut i) = (0, false, 0);
    while i < s.len() {
        let c = s[i];
        if quoted {
            i += (c == b'\\') as usize;
            quoted = c != b'"';
        } else {
            match c {
                b'"' => quoted = true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 0 => return i,
                b'}' | b']' => depth -= 1,
                b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return i,
                _ => {}
            }
        }
        i += 1;
        if depth == 0 && !quoted && matches!(c, b'"' | b'}' | b']') {
            return i;
        }
    }
    i
}
