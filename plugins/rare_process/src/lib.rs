//! A program that a machine has never run before. Machines run the same programs day after day; what an intruder brings is new.
//!
//! Of each host the programs are kept that it ran in the last 90 days. The first days of a host (learn_s) only teach. Paths are
//! compared without what changes from run to run or release to release: the case, numbers, and the names of users.
#![no_std]

use tocsin::{contains_nocase, Batch, Code, Config, Detect, Hits, Map, Result, Severity, Value};

tocsin::manifest!("../manifest.json");
tocsin::plugin!(RareProcess);

const HOST: u32 = 0;
const EXECUTABLE: u32 = 1;

const PROGRAMS: Map = Map(0); // normal path to when it was written down last
const SINCE: Value = Value(1); // the host's first event

const NEW: u32 = 1;

const PATH_MAX: usize = 200;
const DAY_MS: i64 = 86_400_000;

/// Where anybody may write, and programs are seldom installed.
const LOOSE: [&str; 8] =
    ["\\temp\\", "\\appdata\\", "\\downloads\\", "\\users\\public\\", "\\$recycle.bin\\", "/tmp/", "/dev/shm/", "/downloads/"];

struct RareProcess {
    learn_ms: i64,
}

impl Detect for RareProcess {
    fn init(config: Config) -> Result<Self> {
        Ok(RareProcess { learn_ms: 1000 * config.int("learn_s", 7 * 86400) })
    }

    fn process(&self, batch: &Batch, hits: &mut Hits) -> Result {
        let (host, path, time) = (batch.texts(HOST), batch.texts(EXECUTABLE), batch.event_time());
        for row in batch.rows() {
            let (Some(_), Some(t)) = (host.get(row), time.get(row)) else { continue };
            let mut buf = [0; PATH_MAX + 1];
            let program = normal(path.at(row).as_bytes(), &mut buf);
            if program.is_empty() {
                continue;
            }
            let known = PROGRAMS.int(row, program)?;
            if known.is_some_and(|last| t - last < DAY_MS) {
                continue; // once a day is enough for what is kept for 90
            }
            match PROGRAMS.put_int(row, program, t) {
                Err(Code::QUOTA) => continue, // it would be new every time
                new => new?,
            };
            if known.is_none() && !self.learns(row, t)? {
                self.hit(row, path.at(row), hits)?;
            }
        }
        Ok(())
    }
}

impl RareProcess {
    /// Whether a host is in its first days. They begin with its first event.
    fn learns(&self, row: u32, t: i64) -> Result<bool> {
        let since = match SINCE.int(row)? {
            Some(since) => since,
            None => {
                SINCE.put_int(row, t)?;
                t
            }
        };
        Ok(t - since < self.learn_ms)
    }

    fn hit(&self, row: u32, path: &str, hits: &mut Hits) -> Result {
        let loose = LOOSE.iter().any(|place| contains_nocase(path, place));
        let programs = PROGRAMS.count(row)?;
        let mut note = hits.add_noted_as(row, NEW, if loose { Severity::High } else { Severity::Default });
        note.text("program", path).uint("programs_of_host", programs).bool("writable_place", loose);
        Ok(())
    }
}

/// A path as it is compared: in lower case, each run of digits as one #, and the folder behind users or home as *. Of a long one
/// the end.
fn normal<'b>(path: &[u8], buf: &'b mut [u8; PATH_MAX + 1]) -> &'b [u8] {
    let path = &path[path.len().saturating_sub(PATH_MAX)..];
    let (mut n, mut folder, mut hidden) = (0, 0, false); // folder: where the last name begins in buf
    for &c in path {
        let c = match c.to_ascii_lowercase() {
            b'0'..=b'9' => b'#',
            c => c,
        };
        if c == b'/' || c == b'\\' {
            let home = !hidden && matches!(&buf[folder..n], b"users" | b"home");
            buf[n] = c;
            (n, hidden) = (n + 1, home);
            folder = n;
            if hidden {
                buf[n] = b'*';
            }
        } else if hidden {
            n = folder + 1; // the star is there
        } else if c != b'#' || n == folder || buf[n - 1] != b'#' {
            buf[n] = c;
            n += 1;
        }
    }
    &buf[..n]
}
