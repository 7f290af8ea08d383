//! Password spraying: one address fails to log in as many users within a span, a password or two for each, so that no account is
//! locked. Counting failures alone misses it, and so does counting them by user.
//!
//! Of each address the users are kept whom it failed to be, with the time of the last attempt. Once there are enough of them
//! within the span it is a hit (rule 1), and no other for as long; a login that then succeeds, as one of those users, is
//! another (rule 2).
#![no_std]

use tocsin::{Batch, Code, Config, Detect, Hits, Map, Result, Value};

tocsin::manifest!("../manifest.json");
tocsin::plugin!(Spraying);

// Columns, and slots of the state.
const USER: u32 = 1;
const OUTCOME: u32 = 2;
const USERS: Map = Map(0); // user, in lower case, to the time of the last failure
const ALERTED: Value = Value(1); // when

const SPRAYED: u32 = 1;
const SUCCEEDED: u32 = 2;

const NAME_MAX: usize = 64;
const SHOWN: usize = 10; // names in a note

struct Spraying {
    users: u64,
    span_ms: i64,
}

impl Detect for Spraying {
    fn init(config: Config) -> Result<Self> {
        Ok(Spraying { users: config.int("users", 10) as u64, span_ms: 1000 * config.int("span_s", 1800) })
    }

    fn process(&self, batch: &Batch, hits: &mut Hits) -> Result {
        let (user, outcome, time) = (batch.texts(USER), batch.texts(OUTCOME), batch.event_time());
        for row in batch.rows() {
            let mut buf = [0; NAME_MAX];
            let name = lower(user.at(row).as_bytes(), &mut buf);
            let Some(t) = time.get(row) else { continue };
            if name.is_empty() {
                continue;
            }
            if matches!(outcome.at(row).as_bytes().first(), Some(b's' | b'S' | b'a' | b'A')) {
                self.succeeded(row, name, t, hits)?;
            } else {
                self.failed(row, name, t, hits)?;
            }
        }
        Ok(())
    }
}

impl Spraying {
    fn failed(&self, row: u32, name: &[u8], t: i64, hits: &mut Hits) -> Result {
        let last = USERS.int(row, name)?;
        let quiet = ALERTED.int(row)?.is_some_and(|at| t - at < self.span_ms);
        match USERS.put_int(row, name, last.map_or(t, |last| last.max(t))) {
            Err(Code::QUOTA) if quiet => return Ok(()),     // it is said, and one user more says nothing new
            Err(Code::QUOTA) => return self.forget(row, t), // what is too old makes room for the next
            new => new?,
        };
        if quiet || USERS.count(row)? < self.users {
            return Ok(());
        }
        self.forget(row, t)?; // only now: before, it does not matter
        let users = USERS.count(row)?;
        if users < self.users {
            return Ok(());
        }
        ALERTED.put_int(row, t)?;
        let mut note = hits.add_noted(row, SPRAYED);
        note.uint("users", users).int("span_s", self.span_ms / 1000).array("some_users");
        let mut shown = 0;
        USERS.keys(row, &mut [0; 2 * NAME_MAX], |name| {
            note.bytes("", name);
            shown += 1;
            Ok(shown < SHOWN)
        })
    }

    /// A login that succeeds is a hit if the address has just failed to be this user and many others.
    fn succeeded(&self, row: u32, name: &[u8], t: i64, hits: &mut Hits) -> Result {
        let recent = |at: Option<i64>| at.is_some_and(|at| t >= at && t - at < self.span_ms);
        if recent(ALERTED.int(row)?) && recent(USERS.int(row, name)?) {
            hits.add_noted(row, SUCCEEDED).uint("users", USERS.count(row)?);
        }
        Ok(())
    }

    /// Forgets the users whose last failure is not within the span before t.
    fn forget(&self, row: u32, t: i64) -> Result {
        USERS.keys(row, &mut [0; 2 * NAME_MAX], |name| {
            if USERS.int(row, name)?.is_some_and(|last| t - last >= self.span_ms) {
                USERS.del(row, name)?;
            }
            Ok(true)
        })
    }
}

/// A name as it is compared: accounts are the same in any case.
fn lower<'b>(name: &[u8], buf: &'b mut [u8; NAME_MAX]) -> &'b [u8] {
    let n = name.len().min(NAME_MAX);
    buf[..n].copy_from_slice(&name[..n]);
    buf[..n].make_ascii_lowercase();
    &buf[..n]
}
