//! Draws a flame graph: reads the output of `perf script` from standard input and writes an SVG to standard output. For
//! `cargo xtask profile`.

use std::io::{self, BufReader, BufWriter};
use std::process::ExitCode;

use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options};
use inferno::flamegraph;

fn main() -> ExitCode {
    match draw() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("flame: {why}");
            ExitCode::FAILURE
        }
    }
}

fn draw() -> Result<(), Box<dyn std::error::Error>> {
    let mut folded = Vec::new();
    Folder::from(Options::default()).collapse(BufReader::new(io::stdin().lock()), &mut folded)?;
    let mut options = flamegraph::Options::default();
    options.title = "rb bench".into();
    flamegraph::from_reader(
        &mut options,
        &folded[..],
        BufWriter::new(io::stdout().lock()),
    )?;
    Ok(())
}
