//! The put load and the get load, and the JSON line with their results.

use std::time::{Duration, Instant};

use foyer::Load;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value as Json, json};

use crate::value::{Bodies, mix};
use crate::{Args, Cache, Failure, PACE_BYTES};

/// Share of the device that the get load fills at most, so that no value is displaced.
const FILLED: f64 = 0.5;
/// Upper limit of the filled bytes: more would only take longer.
const FILL_BYTES: u64 = 1 << 30;
/// Number of values of a put run that are read back and compared whole.
const CHECKED: u64 = 256;

/// Results of a run.
#[derive(Default)]
struct Tally {
    values: u64,
    missing: u64,
    wrong: u64,
    latencies_ns: Vec<u64>,
}

/// Puts new keys until the time is over, and counts those that are present when foyer reports that it is done.
pub(crate) async fn put(cache: &Cache, args: &Args) -> Result<Json, Failure> {
    let bodies = Bodies::new(args.value_bytes as usize);
    let mut tally = Tally::default();
    let mut next = 0;
    let clock = Clock::start();
    while clock.wall() < args.seconds {
        let first = next;
        next = put_batch(cache, &bodies, args, first).await;
        let there = (first..next).filter(|key| cache.storage().may_contains(key));
        let there = there.count() as u64;
        tally.values += there;
        tally.missing += next - first - there;
    }
    let (seconds, cpu) = (clock.wall(), clock.cpu());
    let capacity = cache.storage().device().capacity() as u64;
    // Only the newest keys: older ones may have been displaced.
    let recent = CHECKED.min(capacity / 4 / args.value_bytes).min(next);
    for key in next - recent..next {
        // A key that was dropped has already been counted above.
        if let Some(value) = load(cache, key).await? {
            tally.wrong += u64::from(!bodies.matches(key, &value));
        }
    }
    Ok(line("put", args, &mut tally, seconds, cpu, recent))
}

/// Fills the cache, reads every value once and compares every byte, then gets random keys, `depth` at a time.
pub(crate) async fn get(cache: &Cache, args: &Args) -> Result<Json, Failure> {
    let bodies = Bodies::new(args.value_bytes as usize);
    let capacity = cache.storage().device().capacity() as f64;
    let keys = FILL_BYTES.min((capacity * FILLED) as u64) / args.value_bytes;
    if keys < args.depth {
        return Err(format!("only {keys} values fit into half of the file").into());
    }
    let mut next = 0;
    while next < keys {
        next = put_batch(cache, &bodies, args, next).await;
    }
    let mut total = Tally::default();
    let mut present = Vec::new();
    for key in 0..next {
        if let Some(value) = load(cache, key).await? {
            total.wrong += u64::from(!bodies.matches(key, &value));
            present.push(key);
        }
    }
    if (present.len() as u64) < keys / 2 {
        return Err(format!("of {keys} values only {} are there", present.len()).into());
    }
    let verified = present.len() as u64;
    let present = std::sync::Arc::new(present);
    let read_before = cache.storage().statistics().disk_read_bytes();
    let clock = Clock::start();
    let end = Instant::now() + Duration::from_secs_f64(args.seconds);
    let getters: Vec<_> = (0..args.depth)
        .map(|number| {
            let (cache, bodies, present) = (cache.clone(), bodies.clone(), present.clone());
            tokio::spawn(async move {
                let mut tally = Tally::default();
                let mut state = mix(number);
                while Instant::now() < end {
                    state = mix(state);
                    let key = present[(state % present.len() as u64) as usize];
                    let start = Instant::now();
                    let value = load(&cache, key).await?;
                    tally.latencies_ns.push(start.elapsed().as_nanos() as u64);
                    match value {
                        Some(value) => tally.wrong += u64::from(!bodies.ends_match(key, &value)),
                        None => tally.missing += 1,
                    }
                    tally.values += 1;
                }
                Ok::<_, Failure>(tally)
            })
        })
        .collect();
    for getter in getters {
        let one = getter.await??;
        total.values += one.values;
        total.missing += one.missing;
        total.wrong += one.wrong;
        total.latencies_ns.extend(one.latencies_ns);
    }
    let (seconds, cpu) = (clock.wall(), clock.cpu());
    let read = (cache.storage().statistics().disk_read_bytes() - read_before) as u64;
    total.values -= total.missing;
    let payload = total.values * args.value_bytes;
    if read < payload {
        return Err(format!("{payload} bytes served, {read} read from the device").into());
    }
    Ok(line("get", args, &mut total, seconds, cpu, verified))
}

/// Puts keys from `first` until a wait is due, waits, and returns the next key.
async fn put_batch(cache: &Cache, bodies: &Bodies, args: &Args, first: u64) -> u64 {
    let end = first + (PACE_BYTES as u64 / args.value_bytes).max(1);
    for key in first..end {
        let writer = cache.storage_writer(key).force();
        drop(writer.insert(bodies.value(key)));
    }
    cache.storage().wait().await;
    end
}

/// Loads the value of a key from the device.
async fn load(cache: &Cache, key: u64) -> Result<Option<crate::value::Value>, Failure> {
    match cache.storage().load(&key).await? {
        Load::Entry { value, .. } => Ok(Some(value)),
        Load::Miss => Ok(None),
        Load::Piece { .. } => Err(format!("key {key} was served from memory").into()),
        Load::Throttled => Err(format!("key {key} was throttled").into()),
    }
}

fn line(op: &str, args: &Args, tally: &mut Tally, seconds: f64, cpu: f64, verified: u64) -> Json {
    let bytes = (tally.values * args.value_bytes) as f64;
    tally.latencies_ns.sort_unstable();
    // foyer does not report when a single put is done, so puts have no latency.
    let latency_us = |part: f64| {
        let last = tally.latencies_ns.len().checked_sub(1)?;
        let at = (last as f64 * part).round() as usize;
        Some(tally.latencies_ns[at] as f64 / 1000.0)
    };
    let (p50_us, p99_us) = (latency_us(0.50), latency_us(0.99));
    let engine = match args.engine {
        crate::Engine::Psync => "psync",
        crate::Engine::IoUring => "io_uring",
    };
    json!({
        "op": op,
        "engine": engine,
        "value_bytes": args.value_bytes,
        "depth": args.depth,
        "gbps": bytes / 1e9 / seconds,
        "ops_per_s": tally.values as f64 / seconds,
        "p50_us": p50_us,
        "p99_us": p99_us,
        "cpu_s_per_gb": cpu / (bytes / 1e9),
        "verified_bytes": verified * args.value_bytes,
        "wrong_bytes": tally.wrong * args.value_bytes,
        "missing": tally.missing,
    })
}

/// Measures wall time and the process's user and system time since a moment.
struct Clock {
    start: Instant,
    cpu: f64,
}

impl Clock {
    fn start() -> Clock {
        Clock {
            start: Instant::now(),
            cpu: cpu_seconds(),
        }
    }

    fn wall(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn cpu(&self) -> f64 {
        cpu_seconds() - self.cpu
    }
}

/// Returns the user and system time of all threads of this process in seconds; zero if the system does not report it.
fn cpu_seconds() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        let both = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        both as f64 / 1e6
    })
}
