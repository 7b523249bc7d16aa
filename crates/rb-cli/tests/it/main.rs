//! Runs the program `rb` as its users do.

mod bad_input;
mod measuring;
mod program;
mod replaying;
mod round_trip;
