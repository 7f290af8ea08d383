//! What this finds, and how.
#![no_std]

use tocsin::{contains_nocase, Batch, Config, Detect, Hits, Result};

tocsin::manifest!("../manifest.json");
tocsin::plugin!(Rule);

struct Rule;

impl Detect for Rule {
    fn init(_: Config) -> Result<Rule> {
        Ok(Rule)
    }

    fn process(&self, batch: &Batch, hits: &mut Hits) -> Result {
        let command = batch.texts(0);
        for row in batch.rows() {
            if contains_nocase(command.at(row), "mimikatz") {
                hits.add(row, 1);
            }
        }
        Ok(())
    }
}
