//! Runs tests on devices for `cargo xtask device-test`, in its machines and elsewhere; see `rb_tests::device`.
//! Everything on the named devices is overwritten.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use rb_core::EngineKind;
use rb_tests::device::{self, Cell, Target};
use rb_tests::race::child;

/// Tests engines and stores on devices; the contents of the devices are lost.
#[derive(Debug, Parser)]
struct Args {
    /// Name that prefixes the results.
    #[arg(long, default_value = "device")]
    cell: String,
    #[command(subcommand)]
    what: What,
}

/// A device is a path, `serial:S` (block node of that NVMe drive) or `generic:S` (its character node).
#[derive(Debug, Subcommand)]
enum What {
    /// Print the node of a device.
    Node { device: String },
    /// Everything that an engine and a store over it promise.
    Suite { engine: EngineKind, device: String },
    /// A store written through each ENGINE=DEVICE is read through all others.
    Cross { targets: Vec<String> },
    /// A drive with one bad block at this byte.
    BadBlock {
        engine: EngineKind,
        device: String,
        direction: Fails,
        at: u64,
    },
    /// A drive of a kind that cannot hold a store: opening and formatting it fail with this message.
    Unfit {
        engine: EngineKind,
        device: String,
        words: String,
    },
    /// A disk that one of two hosts has reserved; `other` is the other host's path to it.
    Reserved {
        engine: EngineKind,
        device: String,
        other: String,
    },
    /// A drive that is pulled out.
    Removal { engine: EngineKind, device: String },
    /// Under dm-flakey.
    Flakey { engine: EngineKind, device: String },
    /// Placement handles.
    Fdp { engine: EngineKind, device: String },
    /// Batches of gets compared with fio's reads, on a character node.
    Speed {
        engine: EngineKind,
        device: String,
        /// Minimum share of fio's bandwidth.
        #[arg(long)]
        least: Option<f64>,
    },
    /// The program `rb` on the drive with this serial number.
    Users { serial: String },
    /// Work on a device, recorded by dm-log-writes.
    LogRecord {
        engine: EngineKind,
        device: String,
        log: String,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 40)]
        rounds: u64,
    },
    /// Replay of the record.
    LogReplay {
        log: PathBuf,
        /// Size of the recorded device in bytes.
        #[arg(long)]
        capacity: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 200)]
        points: u64,
    },
    /// The suite on real hardware.
    Real {
        device: PathBuf,
        /// The device's serial number, for scripts.
        #[arg(long)]
        serial: Option<String>,
        #[arg(long, value_delimiter = ',')]
        engines: Vec<EngineKind>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Fails {
    Read,
    Write,
}

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if child(&given) {
        return ExitCode::SUCCESS;
    }
    let args = Args::parse();
    let mut cell = Cell::new(&args.cell);
    let good = match run(args.what, &args.cell, &mut cell) {
        Ok(Some(good)) => good,
        Ok(None) => cell.end(),
        Err(why) => {
            eprintln!("device: {why}");
            cell.fail(&why);
            cell.end()
        }
    };
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs the tests of the cell. Returns the overall result if there is more than this cell.
fn run(what: What, name: &str, cell: &mut Cell) -> Result<Option<bool>, String> {
    let target = |engine: EngineKind, name: &str| -> Result<Target, String> {
        let path = device::node(name)?;
        Ok(Target { engine, path })
    };
    match what {
        What::Node { device } => {
            let line = format!("{}\n", device::node(&device)?.display());
            let printed = std::io::stdout().write_all(line.as_bytes());
            return printed.map(|()| Some(true)).map_err(|why| why.to_string());
        }
        What::Suite { engine, device } => device::suite(cell, &target(engine, &device)?),
        What::Cross { targets } => {
            let pair = |text: &String| -> Result<Target, String> {
                let (engine, name) = text
                    .split_once('=')
                    .ok_or_else(|| format!("{text:?} is not ENGINE=DEVICE"))?;
                target(engine.parse().map_err(|why| format!("{why}"))?, name)
            };
            let targets: Vec<Target> = targets.iter().map(pair).collect::<Result<_, _>>()?;
            device::cross(cell, &targets);
        }
        What::BadBlock {
            engine,
            device,
            direction,
            at,
        } => {
            let direction = match direction {
                Fails::Read => device::Direction::Read,
                Fails::Write => device::Direction::Write,
            };
            device::bad_block(cell, &target(engine, &device)?, direction, at);
        }
        What::Unfit {
            engine,
            device,
            words,
        } => device::unfit(cell, &target(engine, &device)?, &words),
        What::Reserved {
            engine,
            device,
            other,
        } => device::reserved(cell, &target(engine, &device)?, &target(engine, &other)?),
        What::Removal { engine, device } => device::removal(cell, &target(engine, &device)?),
        What::Flakey { engine, device } => device::flakey(cell, &target(engine, &device)?),
        What::Fdp { engine, device } => device::fdp(cell, &target(engine, &device)?),
        What::Speed {
            engine,
            device,
            least,
        } => device::speed(cell, &target(engine, &device)?, least),
        What::Users { serial } => device::users(cell, &serial)?,
        What::LogRecord {
            engine,
            device,
            log,
            seed,
            rounds,
        } => {
            let log = device::node(&log)?;
            device::log_record(cell, &target(engine, &device)?, &log, seed, rounds);
        }
        What::LogReplay {
            log,
            capacity,
            seed,
            points,
        } => device::log_replay(cell, &log, capacity, seed, points),
        What::Real {
            device,
            serial,
            engines,
        } => return device::real(name, &device, serial.as_deref(), &engines).map(Some),
    }
    Ok(None)
}
