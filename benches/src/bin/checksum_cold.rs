//! Measures the payload checksum on bytes that are in no processor cache, like those that a get reads from a device.
//! `cargo xtask bench` compares the CPU time of a verified get with it. Prints one line of JSON.

use std::hint::black_box;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use rb_bench::IDENTITY;
use rb_format::{Generation, payload_checksum};

/// More than the last-level cache of any processor in use: the largest have a little over 1 GB.
const MEMORY_BYTES: usize = 2 << 30;
/// Odd, so that the median is a measured value.
const PASSES: usize = 5;
/// Distance between two values visited in turn, so that the processor does not prefetch the next one. A prime, so that
/// each value is visited once.
const STEP: usize = 7_919;

/// Measures the payload checksum on bytes that are in no processor cache.
#[derive(Debug, Parser)]
struct Args {
    /// Bytes of a value, 4096 to 64 MiB.
    #[arg(default_value_t = 64 << 10, value_parser = clap::value_parser!(u32).range(4096..=64 << 20))]
    value_bytes: u32,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("checksum_cold: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let value_bytes = args.value_bytes as usize;
    // Not zeros: the system would map all pages to one.
    let memory = vec![0x5A_u8; MEMORY_BYTES];
    let values = MEMORY_BYTES / value_bytes;
    let step = if values.is_multiple_of(STEP) { 1 } else { STEP };
    let mut seconds: Vec<f64> = (0..PASSES)
        .map(|_| pass(&memory, value_bytes, values, step))
        .collect();
    seconds.sort_unstable_by(f64::total_cmp);
    let per_gb = |pass: f64| pass / ((values * value_bytes) as f64 / 1e9);
    let (median, least, most) = (seconds[PASSES / 2], seconds[0], seconds[PASSES - 1]);
    writeln!(
        std::io::stdout(),
        r#"{{"value_bytes":{value_bytes},"checksum_cold_s_per_gb":{},"min":{},"max":{}}}"#,
        per_gb(median),
        per_gb(least),
        per_gb(most)
    )
    .map_err(|why| why.to_string())
}

/// Returns the seconds it takes to checksum every value once.
fn pass(memory: &[u8], value_bytes: usize, values: usize, step: usize) -> f64 {
    let start = Instant::now();
    for number in 0..values {
        let at = number * step % values * value_bytes;
        let payload = &memory[at..at + value_bytes];
        black_box(payload_checksum(
            &IDENTITY,
            Generation(1),
            1,
            1,
            black_box(payload),
        ));
    }
    start.elapsed().as_secs_f64()
}
