//! The golden batches of the contract, which share no code with this crate, and answers read back as the host reads them.
use std::{fmt::Write, fs, path::PathBuf};
use tocsin::{Batch, Code, Config, ConfigValue as Json, Hits, Severity};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../abi/testdata/golden").join(name)
}

/// Bytes at a multiple of 8, as the host writes them.
struct Aligned(Vec<u64>, usize);

impl Aligned {
    fn new(b: &[u8]) -> Aligned {
        let mut words = vec![0u64; b.len().div_ceil(8)];
        for (i, c) in b.iter().enumerate() {
            words[i / 8] |= (*c as u64) << (i % 8 * 8);
        }
        Aligned(words, b.len())
    }
    fn bytes(&mut self) -> &mut [u8] {
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr() as *mut u8, self.1) }
    }
}

/// A column as the JSON of make.py writes it, without white space.
fn shown(b: &Batch, column: u32, kind: &str) -> String {
    let mut out = String::from("[");
    for row in b.rows() {
        if row > 0 {
            out.push(',');
        }
        let value = match kind {
            "bool" => b.bools(column).get(row).map(|v| v.to_string()),
            "i32" => b.i32s(column).get(row).map(|v| v.to_string()),
            "i64" | "timestamp_ms" => b.i64s(column).get(row).map(|v| v.to_string()),
            "u32" => b.u32s(column).get(row).map(|v| v.to_string()),
            "u64" => b.u64s(column).get(row).map(|v| v.to_string()),
            "f64" => b.f64s(column).get(row).map(|v| v.to_string()),
            "utf8" => b.texts(column).get(row).map(|v| format!("\"{}\"", v.replace('\0', "\\u0000"))),
            "ip" => b.ips(column).get(row).map(|v| {
                v.iter().fold(String::from("\""), |mut s, c| {
                    let _ = write!(s, "{c:02x}");
                    s
                }) + "\""
            }),
            _ => panic!("{kind}"),
        };
        out += &value.unwrap_or("null".into());
    }
    out + "]"
}

fn compact(json: &str) -> String {
    let (mut out, mut quoted, mut escaped) = (String::new(), false, false);
    for c in json.chars() {
        if quoted || !c.is_whitespace() {
            out.push(c);
        }
        (quoted, escaped) = (quoted != (c == '"' && !escaped), c == '\\' && !escaped);
    }
    out
}

#[test]
fn golden_batches_mean_what_is_beside_them() {
    let mut seen = 0;
    for entry in fs::read_dir(golden("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let meaning = fs::read_to_string(&path).unwrap();
        let mut bytes = Aligned::new(&fs::read(path.with_extension("bin")).unwrap());
        let (batch, _) = Batch::from_bytes(bytes.bytes()).unwrap();
        let meaning = Json(&meaning);
        assert_eq!(meaning.get("rows").unwrap().int(), Some(batch.len() as i64));
        for (i, c) in meaning.get("columns").unwrap().items().enumerate() {
            let mut buf = [0; 32];
            let kind = c.get("type").unwrap().text(&mut buf).unwrap();
            assert_eq!(shown(&batch, i as u32, kind), compact(c.get("values").unwrap().0), "{path:?} column {i}");
            assert_eq!(batch.was_cut(i as u32), c.get("cut").unwrap().bool().unwrap());
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen} columns");
}

#[test]
fn wanted_columns_are_found_by_what_they_are() {
    let mut raw = fs::read(golden("all_types.bin")).unwrap();
    let mut index = |column: usize, index: u32| {
        raw[64 + column * 48..][..4].copy_from_slice(&index.to_le_bytes());
        Aligned::new(&raw)
    };
    type Get = fn(&Batch) -> Option<i64>;
    let columns: [(u32, Get); 4] = [
        (0xFFFF_FF00, |b| b.event_time().get(0)),
        (0xFFFF_FF01, |b| b.watermark().get(0)),
        (0xFFFF_FF10, |b| b.timer_at().get(0)),
        (0xFFFF_FF11, |b| b.timer_tag().get(0)),
    ];
    for (what, get) in columns {
        let mut bytes = index(7, what); // the timestamps
        assert_eq!(get(&Batch::from_bytes(bytes.bytes()).unwrap().0), Some(1772438400000), "{what:x}");
    }
    let mut bytes = index(3, 0xFFFF_FF12);
    let (batch, _) = Batch::from_bytes(bytes.bytes()).unwrap();
    assert_eq!(batch.from_version().get(0), Some(u32::MAX));
    let wrong: [fn(&Batch); 3] = [|b| _ = b.event_time(), |b| _ = b.texts(0), |b| _ = b.i64s(9)];
    for wrong in wrong {
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wrong(&batch))).is_err());
    }
}

/// Hits and notes as the host would read them; checks what it would check.
fn answer(b: &[u8]) -> Vec<(u32, u32, u32, String)> {
    let u32 = |at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap()) as usize;
    let (out, len, count) = (u32(28), u32(36), u32(56));
    assert!(len <= u32(32) && count * 16 <= len);
    let mut free = out + count * 16;
    (0..count)
        .map(|i| {
            let rec = out + i * 16;
            let at = u32(rec + 12);
            let mut note = String::new();
            if at > 0 {
                assert!(at >= free && at + 4 + u32(at) <= out + len && u32(at) <= 4096);
                free = at + 4 + u32(at);
                note = String::from_utf8(b[at + 4..free].to_vec()).unwrap();
            }
            (u32(rec) as u32, u32(rec + 4) as u32, u32(rec + 8) as u32, note)
        })
        .collect()
}

#[test]
fn the_golden_answer_is_written_again() {
    let golden_answer = answer(&fs::read(golden("hits.bin")).unwrap());
    let mut bytes = Aligned::new(&fs::read(golden("all_types.bin")).unwrap());
    let (_, mut hits) = Batch::from_bytes(bytes.bytes()).unwrap();
    hits.add(0, 1);
    hits.add_noted_as(2, 1, Severity::Critical).array("why").text("", "é").object("").int("n", 1);
    hits.add_noted_as(2, 7, Severity::Medium);
    assert_eq!(hits.finish(), 0);
    assert_eq!(answer(bytes.bytes()), golden_answer);
}

/// A batch of rows without columns, with so much room.
fn empty(rows: u32, cap: u32) -> Aligned {
    let mut b = vec![0u8; 64 + cap as usize];
    for (at, v) in [(0, 0x3142_4354u32), (4, 64), (8, 64 + cap), (12, rows), (20, 64), (24, 48), (28, 64), (32, cap)] {
        b[at..at + 4].copy_from_slice(&v.to_le_bytes());
    }
    Aligned::new(&b)
}

/// Runs a rule as the host does: with more room when it asks for it.
fn asked(rows: u32, rule: impl Fn(&mut Hits)) -> Vec<(u32, u32, u32, String)> {
    let mut cap = 16 * rows + 4096;
    for _ in 0..12 {
        let mut b = empty(rows, cap);
        let (_, mut hits) = Batch::from_bytes(b.bytes()).unwrap();
        rule(&mut hits);
        let code = hits.finish();
        if code == 0 {
            return answer(b.bytes());
        }
        assert_eq!(code, Code::TOO_SMALL.0);
        let more = u32::from_le_bytes(b.bytes()[36..40].try_into().unwrap());
        assert!(more > cap && more <= 4 << 20, "{more} after {cap}");
        cap = more;
    }
    panic!("it never had enough");
}

#[test]
fn hits_and_notes_find_room() {
    for (rows, rules, note) in [(1, 1, 4000), (1, 300, 1), (4, 2, 900), (100, 1, 200), (100, 9, 30), (1000, 3, 0), (4096, 2, 20)] {
        let text = "x".repeat(note);
        let got = asked(rows, |hits| {
            for row in 0..rows {
                for rule in 1..=rules {
                    if (row + rule) % 3 == 0 || note == 0 {
                        hits.add(row, rule);
                    } else {
                        hits.add_noted(row, rule).uint("row", row as u64).text("t", &text);
                    }
                }
            }
        });
        let want: Vec<_> = (0..rows)
            .flat_map(|row| (1..=rules).map(move |rule| (row, rule)))
            .map(|(row, rule)| {
                (
                    row,
                    rule,
                    0,
                    if (row + rule) % 3 == 0 || note == 0 { String::new() } else { format!("{{\"row\":{row},\"t\":\"{text}\"}}") },
                )
            })
            .collect();
        assert_eq!(got, want, "{rows} rows, {rules} rules, {note} bytes");
    }
}

#[test]
fn notes_are_json_whatever_is_put_into_them() {
    let one = |note: &dyn Fn(&mut tocsin::Note)| asked(1, |hits| note(&mut hits.add_noted(0, 1)))[0].3.clone();
    assert_eq!(one(&|_| {}), "{}");
    assert_eq!(
        one(&|n| {
            n.text("a\"", "\\ \u{1}\u{1f} \u{7f}日");
        }),
        "{\"a\\\"\":\"\\\\ \\u0001\\u001f \u{7f}日\"}"
    );
    assert_eq!(
        one(&|n| {
            n.bytes("b", b"a\xffb\xe6\x97");
        }),
        "{\"b\":\"a\u{fffd}b\u{fffd}\"}"
    );
    assert_eq!(
        one(&|n| {
            n.int("i", i64::MIN).int("z", 0).uint("u", u64::MAX).bool("t", true).bool("f", false);
        }),
        "{\"i\":-9223372036854775808,\"z\":0,\"u\":18446744073709551615,\"t\":true,\"f\":false}"
    );
    assert_eq!(
        one(&|n| {
            n.float("a", 0.25, 2)
                .float("b", -1.005, 1)
                .float("c", f64::NAN, 3)
                .float("d", 1e300, 0)
                .float("e", 123456789012.5, 9)
                .float("f", -0.001, 2)
                .float("g", 7.0, 0);
        }),
        "{\"a\":0.25,\"b\":-1.0,\"c\":null,\"d\":null,\"e\":123456789012.500000,\"f\":0.00,\"g\":7}"
    );
    assert_eq!(
        one(&|n| {
            n.array("a").int("", 1).object("").text("k", "v").end().array("").end().end().int("z", 2);
        }),
        "{\"a\":[1,{\"k\":\"v\"},[]],\"z\":2}"
    );
    assert_eq!(
        one(&|n| {
            n.end().end().array("a");
        }),
        "{\"a\":[]}"
    );
    for (ms, text) in [
        (0, "\"1970-01-01T00:00:00.000Z\""),
        (-1, "\"1969-12-31T23:59:59.999Z\""),
        (1_772_438_400_123, "\"2026-03-02T08:00:00.123Z\""),
        (951_782_400_000, "\"2000-02-29T00:00:00.000Z\""),
        (-2_203_891_200_000, "\"1900-03-01T00:00:00.000Z\""),
        (253_402_300_799_999, "\"9999-12-31T23:59:59.999Z\""),
        (-62_167_219_200_000, "\"0000-01-01T00:00:00.000Z\""),
        (253_402_300_800_000, "null"),
        (i64::MIN, "null"),
        (i64::MAX, "null"),
    ] {
        assert_eq!(
            one(&|n| {
                n.time("t", ms);
            }),
            format!("{{\"t\":{text}}}")
        );
    }
    // the eighth level is the last; what is in deeper ones is left out
    let deep = one(&|n| {
        for _ in 0..12 {
            n.array("a");
        }
        n.int("", 1);
        for _ in 0..12 {
            n.end();
        }
        n.int("z", 2);
    });
    assert_eq!(deep, "{\"a\":[[[[[[[]]]]]]],\"z\":2,\"truncated\":true}");
    // a field that does not fit is left out whole, later ones may fit
    let long = one(&|n| {
        n.text("a", &"x".repeat(5000)).array("b");
        for _ in 0..2000 {
            n.int("", 123456);
        }
        n.end().int("c", 1);
    });
    assert!(
        long.starts_with("{\"b\":[123456,123456")
            && long.ends_with("123456],\"truncated\":true}")
            && long.len() <= 4096
            && long.len() > 4080,
        "{} {long}",
        long.len()
    );
    let edge = one(&|n| {
        n.text("a", &"\u{1}".repeat(900));
    });
    assert_eq!(edge, "{\"truncated\":true}");
}

#[test]
fn configurations_are_read() {
    let c = Config(" {\"a\": 5, \"b\" : -7.50e1,\"t\":\"x\\n\\u00e9\\ud83d\\ude00\\\"\", \"l\": [1, [2,{}], \"a,]b\", {\"k\": [ ]}], \"o\": {\"a\": 6, \"y\": true}, \"n\":null,\"e\":[]} ");
    assert_eq!((c.int("a", 0), c.int("b", 0), c.int("t", 3), c.int("none", 4), c.int("n", 9)), (5, -75, 3, 4, 9));
    assert_eq!((c.float("a", 0.0), c.float("b", 0.0), c.float("o", 0.5)), (5.0, -75.0, 0.5));
    let mut buf = [0; 16];
    assert_eq!(c.get("t").unwrap().text(&mut buf), Some("x\né😀\""));
    assert_eq!(c.get("t").unwrap().text(&mut [0; 8]), None);
    let o = c.get("o").unwrap();
    assert_eq!((o.get("a").unwrap().int(), o.get("y").unwrap().bool(), o.get("z")), (Some(6), Some(true), None));
    let items: Vec<_> = c.get("l").unwrap().items().map(|v| v.0).collect();
    assert_eq!(items, ["1", "[2,{}]", "\"a,]b\"", "{\"k\": [ ]}"]);
    assert_eq!(c.get("e").unwrap().items().count(), 0);
    assert_eq!((Config("{}").get("a"), Config("").get("a"), Config("[]").get("a")), (None, None, None));
    for (text, int, float) in [
        ("1e3", Some(1000), 1000.0),
        ("0.1", None, 0.1),
        ("12.340", None, 12.34),
        ("5.0", Some(5), 5.0),
        ("0e9", Some(0), 0.0),
        ("-0.0", Some(0), -0.0),
        ("9223372036854775807", Some(i64::MAX), 9.223372036854775807e18),
        ("-9223372036854775808", Some(i64::MIN), -9.223372036854775808e18),
        ("9223372036854775808", None, 9.223372036854775808e18),
        ("1e400", None, f64::INFINITY),
        ("1e-400", None, 0.0),
        ("1e99999999999", None, f64::NAN),
        ("100000000000000000000000", None, 1e23),
    ] {
        assert_eq!(Json(text).int(), int, "{text}");
        if !float.is_nan() {
            assert!((Json(text).float().unwrap() - float).abs() <= float.abs() * 1e-15 || Json(text).float() == Some(float), "{text}");
        }
    }
}

#[test]
fn texts_are_searched() {
    use tocsin::{contains_nocase, ends_nocase, equal_nocase, find};
    let pieces = ["", "a", "A", "ab", "aB", "b", "日", "-", "aab"];
    for x in pieces {
        for y in pieces {
            for z in pieces {
                let s = format!("{x}{y}{x}{z}");
                for needle in pieces {
                    assert_eq!(find(s.as_bytes(), needle.as_bytes(), false), s.find(needle), "{s} {needle}");
                    assert_eq!(
                        find(s.as_bytes(), needle.as_bytes(), true),
                        s.to_ascii_lowercase().find(&needle.to_ascii_lowercase()),
                        "{s} {needle}"
                    );
                    assert_eq!(contains_nocase(&s, needle), s.to_ascii_lowercase().contains(&needle.to_ascii_lowercase()));
                    assert_eq!(ends_nocase(&s, needle), s.to_ascii_lowercase().ends_with(&needle.to_ascii_lowercase()));
                    assert_eq!(equal_nocase(&s, needle), s.eq_ignore_ascii_case(needle));
                }
            }
        }
    }
}

#[test]
fn broken_batches_are_refused() {
    let good = fs::read(golden("all_types.bin")).unwrap();
    assert!(Batch::from_bytes(Aligned::new(&good).bytes()).is_ok());
    for n in (0..good.len()).step_by(8) {
        assert!(Batch::from_bytes(Aligned::new(&good[..n]).bytes()).is_err(), "cut to {n}");
    }
    let mut seed = 1u64;
    for _ in 0..20_000 {
        let mut b = good.clone();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            b[(seed >> 33) as usize % 800] ^= 1 << (seed >> 61);
        }
        let mut b = Aligned::new(&b);
        if let Ok((batch, _)) = Batch::from_bytes(b.bytes()) {
            if batch.len() == 3 {
                let _ = std::panic::catch_unwind(|| batch.texts(6).get(2).map(|s| s.len()));
            }
        }
    }
}
