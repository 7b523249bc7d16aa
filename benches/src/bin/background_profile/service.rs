//! The background services of a store, and the preparation that gives each of them work.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rb_bench::{Draws, key};
use rb_core::{
    ClassRequest, FormatOptions, Scrub, Share, Source, Store, StoreOptions, Validate, format,
};
use rb_io::Engine;
use rb_testkit::{DriveEngine, DriveSpeed};

use crate::Failure;
use crate::load::{Latencies, Load, get_during};

/// Slowdown of the drive compared with an SSD.
const FACTOR: u32 = 20;

const VALUE_BYTES: usize = 64 << 10;
const VALUES: u64 = 2048;
/// Number of entries that only fill the index. Their keys are long, so a checkpoint has much to write.
const FILLERS: u64 = 32 << 10;
const FILLER_BYTES: usize = 4096;
const FILLER_KEY_BYTES: usize = 480;
const DEVICE_BYTES: usize = 512 << 20;

/// Number of slots that are freed for discards. Their records are too few to make a checkpoint due.
const FREED: u64 = 2 << 10;
/// Time after opening during which services that read leave the store alone.
const FIRST_LOOK: Duration = Duration::from_millis(520);

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Service {
    Scrub,
    Validate,
    Discard,
    Checkpoint,
}

impl Service {
    pub(crate) const ALL: [Service; 4] = [
        Service::Scrub,
        Service::Validate,
        Service::Discard,
        Service::Checkpoint,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Service::Scrub => "scrub",
            Service::Validate => "validate",
            Service::Discard => "discard",
            Service::Checkpoint => "checkpoint",
        }
    }
}

/// A filled store on a simulated drive.
pub(crate) struct Fixture {
    engine: Arc<DriveEngine>,
    draws: Draws,
}

impl Fixture {
    pub(crate) fn new() -> Result<Fixture, Failure> {
        let engine = Arc::new(DriveEngine::new(DEVICE_BYTES, DriveSpeed::ssd(FACTOR)));
        engine.set_timed(false);
        let classes = [(FILLER_BYTES, FILLERS), (VALUE_BYTES, VALUES)];
        let classes = classes.map(|(bytes, slots)| ClassRequest {
            slot_bytes: bytes as u64,
            share: Share::Slots(slots + 64),
        });
        let fixture = Fixture {
            engine,
            draws: Draws::new(1),
        };
        // The smallest log, so that few puts make a checkpoint due.
        let options = FormatOptions {
            log_bytes: Some(8 << 20),
            ..FormatOptions::new(fixture.source(), classes.to_vec())
        };
        format(&options)?;
        let store = Store::open(fixture.source(), StoreOptions::default())?;
        let value = vec![7; VALUE_BYTES];
        for number in 0..VALUES {
            store.put(&key(number), &value)?;
        }
        for number in 0..FILLERS {
            store.put(&filler(number), &value[..FILLER_BYTES])?;
        }
        store.close()?;
        Ok(fixture)
    }

    fn source(&self) -> Source {
        Source::from(Arc::clone(&self.engine) as Arc<dyn Engine>)
    }

    /// Measures the store without the service and with it. Also returns the share of its work that the service did.
    pub(crate) fn round(
        &mut self,
        service: Service,
        load: Load,
        time: Duration,
    ) -> Result<(Latencies, Latencies, (f64, Duration)), Failure> {
        let off = StoreOptions {
            validate: Validate::Off,
            // One queue per reader; otherwise gets would wait for each other, not for the drive.
            queues_max: 16,
            ..StoreOptions::default()
        };
        let store = Store::open(self.source(), off.clone())?;
        self.engine.set_timed(true);
        let (without, ()) = get_during(&store, load, VALUES, |begin| {
            begin();
            std::thread::sleep(time);
            Ok(())
        })?;
        self.engine.set_timed(false);
        match service {
            // Leaves the store as a crash would.
            Service::Validate => drop(store),
            _ => store.close()?,
        }
        let with = StoreOptions {
            scrub: (service == Service::Scrub)
                .then(|| NonZeroU64::new(1 << 30).map(Scrub::daily))
                .flatten(),
            discard_freed: service == Service::Discard,
            sync_interval: match service {
                Service::Discard => Duration::from_hours(1),
                _ => off.sync_interval,
            },
            validate: match service {
                Service::Validate => Validate::Background,
                _ => Validate::Off,
            },
            ..off
        };
        let store = Store::open(self.source(), with)?;
        self.prepare(&store, service)?;
        self.engine.set_timed(true);
        let (with, done) = get_during(&store, load, VALUES, |begin| {
            self.serve(&store, service, time, begin)
        })?;
        self.engine.set_timed(false);
        if service == Service::Discard {
            let value = vec![7; FILLER_BYTES];
            for number in 0..FILLERS {
                if !store.contains(&filler(number)) {
                    store.put(&filler(number), &value)?;
                }
            }
        }
        store.close()?;
        Ok((without, with, done))
    }

    /// Prepares all but the last step that gives the service its work.
    fn prepare(&mut self, store: &Store, service: Service) -> Result<(), Failure> {
        match service {
            Service::Scrub | Service::Validate => {}
            Service::Discard => {
                // Random slots, as in a store that has been in use; consecutive ones would be
                // joined.
                let mut number = self.draws.below(FILLERS);
                for _ in 0..FREED {
                    store.remove(&filler(number))?;
                    number = (number + 12_345) % FILLERS;
                }
            }
            Service::Checkpoint => {
                let nearly = store.stats().log_blocks / 4 - 16;
                while store.stats().replay_blocks < nearly {
                    self.change(store, 8)?;
                }
                store.sync()?;
            }
        }
        Ok(())
    }

    /// Replaces `entries` entries.
    fn change(&mut self, store: &Store, entries: u64) -> Result<(), Failure> {
        for _ in 0..entries {
            let number = self.draws.below(FILLERS);
            store.put(&filler(number), &[7; FILLER_BYTES])?;
        }
        Ok(())
    }

    /// Takes the last step, then waits until the service is done or `time` is over.
    fn serve(
        &mut self,
        store: &Store,
        service: Service,
        time: Duration,
        begin: &dyn Fn(),
    ) -> Result<(f64, Duration), Failure> {
        let entries = (VALUES + FILLERS) as f64;
        let part = |of: f64| {
            let stats = store.stats();
            match service {
                Service::Scrub => stats.scrub.entries as f64 / of,
                Service::Validate => stats.validated as f64 / of,
                Service::Discard => stats.discard.slots as f64 / of,
                Service::Checkpoint => f64::from(u8::from(stats.checkpoints > 0)),
            }
        };
        let all = match service {
            Service::Scrub => entries,
            // The other entries are verified by gets.
            Service::Validate => FILLERS as f64,
            Service::Discard => FREED as f64,
            Service::Checkpoint => 1.0,
        };
        match service {
            Service::Scrub | Service::Validate => {
                std::thread::sleep(FIRST_LOOK.saturating_sub(Duration::from_millis(200)));
            }
            // Discards begin with the commit.
            Service::Discard => store.sync()?,
            Service::Checkpoint => {
                while !store.stats().checkpointing {
                    self.change(store, 8)?;
                }
                store.sync()?;
            }
        }
        begin();
        let start = Instant::now();
        while start.elapsed() < time && part(all) < 0.999 {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok((part(all), start.elapsed()))
    }
}

fn filler(number: u64) -> Vec<u8> {
    let mut long = key(number | 1 << 40).to_vec();
    for round in 1.. {
        if long.len() >= FILLER_KEY_BYTES {
            break;
        }
        long.extend(key(number.wrapping_mul(31) + (round << 41)));
    }
    long
}
