//! Runs the program `rb` as users do.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod damage;
mod findings;
mod foreign;
mod formatting;
mod fsck;
mod help;
mod json;
mod logging;
mod man_pages;
mod measuring;
mod memory;
mod messages;
mod odd_inputs;
mod outputs;
mod pages;
mod probing;
mod program;
mod replaying;
mod round_trip;
mod samples;
mod watching;
