//! Quick form of the fuzzers: runs the corpus and seeded mutations of it through every target.
//!
//! `RB_FUZZ_WRITE_SEEDS=1` writes the seeds that are missing from the corpus. `RB_FUZZ_MUTATIONS` sets the number of
//! mutations per target, `RB_FUZZ_SEED` selects them.
//!
//! All targets are in one test because the counted heap is that of the whole process.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rb_fuzz::mutate::mutate;
use rb_fuzz::seeds::seeds;
use rb_fuzz::{TARGETS, Target};

/// Longer than any input may take.
const STUCK: Duration = Duration::from_mins(1);

fn number(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().expect("a number"))
}

fn corpus(target: &Target) -> Vec<PathBuf> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "corpus", target.name]
        .iter()
        .collect();
    if std::env::var_os("RB_FUZZ_WRITE_SEEDS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds(target.name).iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:02}")), seed).unwrap();
        }
    }
    let files =
        std::fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

/// Runs every file and its mutations. Reports each input before it runs, for the watchdog.
fn run(target: &Target, running: &mpsc::Sender<String>) {
    let seed = number("RB_FUZZ_SEED", 1);
    // An input of the target `image` takes a few hundred times longer than one of a block.
    let default = if target.name == "image" { 1500 } else { 20_000 };
    let files = corpus(target);
    let mutations = number("RB_FUZZ_MUTATIONS", default) / files.len() as u64;
    let mut heap_most = 0;
    let mut count = 0;
    for (at, file) in (0..).zip(files) {
        let data = std::fs::read(&file).unwrap();
        let mut state = seed << 32 | at;
        for mutation in 0..=mutations {
            let input = match mutation {
                0 => data.clone(),
                _ => mutate(&data, &mut state),
            };
            let name = format!("{}, mutation {mutation} of seed {seed}", file.display());
            running.send(name.clone()).unwrap();
            let checked = std::panic::catch_unwind(|| target.check(&input));
            heap_most = heap_most.max(checked.unwrap_or_else(|why| {
                let saved = save(target, &input);
                eprintln!("{name}; the input is {}", saved.display());
                std::panic::resume_unwind(why)
            }));
            count += 1;
        }
    }
    let (name, limit) = (target.name, target.heap_max);
    println!("{name}: {count} inputs, {heap_most} bytes of heap at most of {limit}");
}

fn save(target: &Target, input: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-failed", target.name));
    std::fs::write(&path, input).unwrap();
    path
}

#[test]
fn the_corpus_and_mutations_of_it() {
    let (running, inputs) = mpsc::channel::<String>();
    let watchdog = std::thread::spawn(move || {
        let mut last = String::from("nothing yet");
        loop {
            match inputs.recv_timeout(STUCK) {
                Ok(name) => last = name,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    eprintln!("stuck for {STUCK:?}: {last}");
                    std::process::abort();
                }
            }
        }
    });
    for target in &TARGETS {
        run(target, &running);
    }
    drop(running);
    watchdog.join().unwrap();
}
