//! The plugin contract (abi/README.md) for Rust: no std, no allocator, no dependency.
//!
//! A detect plugin is a manifest and one type:
//!
//! ```ignore
//! #![no_std]
//! use tocsin::{Batch, Config, Detect, Hits, Result};
//!
//! tocsin::manifest!("../manifest.json");
//! tocsin::plugin!(Rule);
//!
//! struct Rule;
//!
//! impl Detect for Rule {
//!     fn init(_: Config) -> Result<Rule> { Ok(Rule) }
//!     fn process(&self, batch: &Batch, hits: &mut Hits) -> Result {
//!         let command = batch.texts(0);
//!         for row in batch.rows() {
//!             if command.at(row).contains("-enc") { hits.add(row, 1); }
//!         }
//!         Ok(())
//!     }
//! }
//! ```
//!
//! Read batch.rs (columns) and hits.rs (answers) first, then host.rs (state, timers, tables).
#![no_std]

mod batch;
mod config;
#[doc(hidden)]
pub mod export;
mod hits;
mod host;
mod note;
mod text;

pub use batch::{Batch, Bools, Numbers, Texts};
pub use config::{Config, Value as ConfigValue};
pub use hits::{Hits, Severity};
pub use host::{fail, log, now, random, Level, Line, Map, Metric, Table, Timers, Value};
pub use note::Note;
pub use text::{contains_nocase, ends_nocase, equal_nocase, find};

/// What the contract's functions answer when they refuse; negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub i32);

impl Code {
    pub const NOT_FOUND: Code = Code(-1);
    pub const INVALID: Code = Code(-2);
    pub const TOO_SMALL: Code = Code(-3);
    pub const DENIED: Code = Code(-4);
    pub const QUOTA: Code = Code(-5);
    pub const UNSUPPORTED: Code = Code(-6);
    pub const INTERNAL: Code = Code(-7);
    /// A row that went back, or that has no key.
    pub const BAD_ROW: Code = Code(-8);
    /// The first of the plugin's own; all below are, too.
    pub const OWN: Code = Code(-64);
}

/// A result whose error fails the call: nothing of it counts.
pub type Result<T = ()> = core::result::Result<T, Code>;

/// A detect plugin. What it says about a row depends on the row, the configuration and the host's state alone, so it cannot
/// change between calls.
pub trait Detect: Sized {
    /// Once an instance. The configuration satisfies the manifest's config_schema.
    fn init(config: Config) -> Result<Self>;

    /// Judges the rows of a batch.
    fn process(&self, batch: &Batch, hits: &mut Hits) -> Result;

    /// Judges timers that fired; `batch.timer_at()` and `batch.timer_tag()` say which. Wants `plugin!(Rule, timer)`.
    fn timer(&self, _batch: &Batch, _hits: &mut Hits) -> Result {
        Err(Code::UNSUPPORTED)
    }

    /// Brings what keys remember up to date, a row a key; `batch.from_version()` says since when. Wants `plugin!(Rule, migrate)`.
    fn migrate(&self, _batch: &Batch) -> Result {
        Err(Code::UNSUPPORTED)
    }
}

/// Puts a file, relative to the source file, into the module as its manifest. Not `#[used]`, which would keep a second copy
/// in memory.
#[macro_export]
macro_rules! manifest {
    ($path:literal) => {
        #[cfg(target_arch = "wasm32")]
        #[link_section = "tocsin.manifest.v1"]
        pub static TOCSIN_MANIFEST: [u8; include_bytes!($path).len()] = *include_bytes!($path);
    };
}

/// Exports a type that implements [`Detect`], once a crate; with `timer` and `migrate` also what the host calls for these:
/// `plugin!(Rule, timer, migrate)`.
#[macro_export]
macro_rules! plugin {
    ($rule:ty $(, $more:ident)*) => {
        static TOCSIN_PLUGIN: $crate::export::Plugin<$rule> = $crate::export::Plugin::new();

        #[no_mangle]
        pub extern "C" fn tocsin_init(header: u32, _len: u32) -> i32 {
            unsafe { TOCSIN_PLUGIN.init(header as usize as *const u8) }
        }

        #[no_mangle]
        pub extern "C" fn tocsin_process(batch: u32) -> i32 {
            unsafe { TOCSIN_PLUGIN.call(batch as usize as *mut u8, <$rule as $crate::Detect>::process) }
        }

        $($crate::export_also!($more, $rule);)*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! export_also {
    (timer, $rule:ty) => {
        #[no_mangle]
        pub extern "C" fn tocsin_timer(batch: u32) -> i32 {
            unsafe { TOCSIN_PLUGIN.call(batch as usize as *mut u8, <$rule as $crate::Detect>::timer) }
        }
    };
    (migrate, $rule:ty) => {
        #[no_mangle]
        pub extern "C" fn tocsin_migrate(batch: u32) -> i32 {
            unsafe { TOCSIN_PLUGIN.call(batch as usize as *mut u8, |rule, batch, _| <$rule as $crate::Detect>::migrate(rule, batch)) }
        }
    };
}
