/// Whether two texts are the same but for the case of ASCII letters.
pub fn equal_nocase(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// Whether a text ends with another, whatever the case of ASCII letters.
pub fn ends_nocase(s: &str, end: &str) -> bool {
    let (s, end) = (s.as_bytes(), end.as_bytes());
    s.len() >= end.len() && s[s.len() - end.len()..].eq_ignore_ascii_case(end)
}

/// Whether a text contains another, whatever the case of ASCII letters.
pub fn contains_nocase(s: &str, needle: &str) -> bool {
    find(s.as_bytes(), needle.as_bytes(), true).is_some()
}

/// Where a needle is in a text first. It looks for the needle's first and last byte, and compares where both are; built with
/// `-Ctarget-feature=+simd128` at 16 places at a time.
#[inline]
pub fn find(s: &[u8], needle: &[u8], nocase: bool) -> Option<usize> {
    let Some(last) = needle.len().checked_sub(1) else { return Some(0) };
    let ends = s.get(last..)?;
    let fold = |c: u8| if nocase { c.to_ascii_lowercase() } else { c };
    let (first, tail) = (fold(needle[0]), fold(needle[last]));
    let here = |i: usize| {
        let here = &s[i..i + needle.len()];
        here == needle || nocase && here.eq_ignore_ascii_case(needle)
    };
    #[allow(unused_mut)]
    let mut from = 0;
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    {
        use core::arch::wasm32::*;
        let bit = |c: u8| u8x16_splat(if nocase && c.is_ascii_lowercase() { 0x20 } else { 0 });
        let load = |s: &[u8], i: usize, bit| unsafe { v128_or(v128_load(s.as_ptr().add(i) as *const v128), bit) };
        let (first_at, tail_at, first_bit, tail_bit) = (u8x16_splat(first), u8x16_splat(tail), bit(first), bit(tail));
        while from + 16 <= ends.len() {
            let both = v128_and(u8x16_eq(load(s, from, first_bit), first_at), u8x16_eq(load(ends, from, tail_bit), tail_at));
            let mut places = u8x16_bitmask(both);
            while places != 0 {
                let i = from + places.trailing_zeros() as usize;
                if here(i) {
                    return Some(i);
                }
                places &= places - 1;
            }
            from += 16;
        }
    }
    (from..ends.len()).find(|&i| fold(s[i]) == first && fold(ends[i]) == tail && here(i))
}
