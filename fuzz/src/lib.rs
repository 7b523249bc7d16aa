//! Fuzz targets for every decoder, and for opening a whole device.
//!
//! A target is a plain function over bytes, so the same code runs under libFuzzer (`cargo xtask fuzz`), over the corpus
//! and seeded mutations of it in `cargo test`, and over one file that failed before. It panics when something is wrong:
//! wrong bytes, an impossible result, or more memory than the target's stated bound.
//!
//! Inputs are structured: they name changes to a sound sample and select whether its checksums are made right
//! afterwards, so that the code behind the checksums is reached.
#![forbid(unsafe_code)]

mod base;
mod blocks;
mod forge;
mod image;
mod input;
pub mod mutate;
mod samples;
pub mod seeds;

use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;

/// Counts heap bytes, so that a target's bound can be checked after each input.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// A fuzz target and its memory bound.
pub struct Target {
    /// Name in `cargo xtask fuzz` and of the corpus folder.
    pub name: &'static str,
    /// Maximum bytes of heap that one input may allocate beyond what was in use before.
    pub heap_max: usize,
    run: fn(&[u8]),
}

/// Time limit of one input. Generous: the machine may be busy.
pub const INPUT_TIME_MAX: Duration = Duration::from_secs(10);

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// All targets. The bounds are those of `docs/testing.md`.
pub const TARGETS: [Target; 9] = [
    target("superblock", 64 * KIB, blocks::superblock),
    target("incarnation", 64 * KIB, blocks::incarnation),
    target("slot_header", 64 * KIB, blocks::slot_header),
    target("continuation", 64 * KIB, blocks::continuation),
    target("log_block", 64 * KIB, blocks::log_block),
    target("base_header", 64 * KIB, blocks::base_header),
    target("base_directory", 64 * KIB, base::directory),
    // The raw bytes of one section, and the same amount for what the target makes of its input.
    target("base_section", 8 * MIB, base::section),
    target("image", 16 * MIB, image::run),
];

const fn target(name: &'static str, heap_max: usize, run: fn(&[u8])) -> Target {
    Target {
        name,
        heap_max,
        run,
    }
}

/// Returns the target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    /// Runs one input and returns the most bytes of heap that it used.
    ///
    /// The bound is only meaningful while nothing else in the process allocates.
    ///
    /// # Panics
    /// If the input shows a fault, which includes exceeding the bounds of memory or time.
    #[must_use]
    pub fn check(&self, data: &[u8]) -> usize {
        let start = Instant::now();
        let before = HEAP.current_usage();
        HEAP.reset_peak_usage();
        (self.run)(data);
        let taken = HEAP.peak_usage().saturating_sub(before);
        let time = start.elapsed();
        let (name, limit) = (self.name, self.heap_max);
        assert!(
            taken <= limit,
            "{name}: {taken} bytes of heap, the bound is {limit}"
        );
        assert!(
            time <= INPUT_TIME_MAX,
            "{name}: {time:?}, the bound is {INPUT_TIME_MAX:?}"
        );
        taken
    }
}
