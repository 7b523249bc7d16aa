//! Puts of a run, and the checks of their results.

use rb_core::{Durability, Put, PutMode, PutOptions, PutOutcome};
use rb_io::OpKind;

use super::history::Why;
use super::oracle::Since;
use super::states::State;
use super::values::{name, value};
use super::version::Version;
use super::world::{Held, World, Writing};

/// Error of a device that cannot write a block.
pub(super) const EIO: i32 = 5;

impl World {
    pub(super) fn put(&self, most: u64) {
        self.put_with(most, false, false);
    }

    pub(super) fn put_with(&self, most: u64, each_batch: bool, keep: bool) {
        let Some(Held { store, opening }) = self.held() else {
            return;
        };
        if self.random(24) == 0 {
            self.arm_a_write();
        }
        let keys = self.some_keys(most);
        let first = {
            let mut inside = self.lock();
            let first = inside.next_version;
            inside.next_version += keys.len() as Version;
            first
        };
        let names: Vec<_> = keys.iter().map(|key| name(*key)).collect();
        let values: Vec<_> = (first..)
            .zip(&keys)
            .map(|(v, key)| value(*key, v))
            .collect();
        let puts: Vec<_> = names
            .iter()
            .zip(&values)
            .map(|(k, v)| Put::new(k, v))
            .collect();
        let options = PutOptions {
            durability: Some(match each_batch {
                true => Durability::EachBatch,
                false => Durability::Interval,
            }),
            mode: match keep {
                true => PutMode::KeepExisting,
                false => PutMode::Replace,
            },
            ..PutOptions::default()
        };
        let writings = (first..).map(|version| Writing {
            version,
            each_batch,
            made: None,
            was_there: false,
        });
        let since = self.begin(&keys, writings);
        self.trace(|| format!("put {keys:?} v{first}.. each batch {each_batch} keep {keep}"));
        let answers = match self.random(4) {
            0 => self.wait(store.put_many_async(puts, options)),
            _ => store.put_many(puts, options),
        };
        self.trace(|| format!("put {keys:?} v{first}..: {answers:?}"));
        for ((key, since), answer) in keys.into_iter().zip(since).zip(answers) {
            let Some(writing) = self.end(key) else {
                continue;
            };
            match answer {
                Ok(stored) => self.was_answered(key, keep, since, writing, stored),
                Err(error) => {
                    self.judge("put", key, &error, opening);
                    if writing.made.is_some() && !self.lock().oracle.loose {
                        self.fail(format!(
                            "the put of key {key} failed and took effect: {error}"
                        ));
                    }
                }
            }
        }
        let late = self.device.late_writes() > 0;
        self.reach(State::LateWrite, late);
    }

    /// Lets the next write of a slot fail; it may still land.
    fn arm_a_write(&self) {
        let Some(places) = self.places() else { return };
        let times = 1 + self.random(3) as u32;
        match self.random(2) {
            0 => self.device.late_next(places.slots, EIO),
            _ => self
                .device
                .fail_times(OpKind::Write, places.slots, EIO, times),
        }
    }

    /// Records that a put completed. The state that its result refers to is acknowledged, and durable if the put asked
    /// for that.
    fn was_answered(
        &self,
        key: usize,
        keep: bool,
        since: Since,
        writing: Writing,
        stored: PutOutcome,
    ) {
        let outcome = self.record(|oracle, now| {
            let Writing {
                version,
                each_batch,
                made,
                was_there,
            } = writing;
            if stored == PutOutcome::NotAdmitted && was_there {
                return Err(format!(
                    "the refused put of key {key} version {version} removed a value"
                ));
            }
            if (stored, made) == (PutOutcome::NotAdmitted, None) {
                // As a get that missed: the key had no value at some moment.
                oracle.missed(key, since);
                if keep {
                    return Ok(());
                }
            }
            let (state, why) = match (stored, made) {
                (PutOutcome::NotAdmitted, removed @ Some(_)) => (removed, Why::Answered),
                (written, made) if written.is_written() => (made, Why::Answered),
                (_, Some(_)) => (None, Why::Answered),
                (PutOutcome::Existed, None) => (oracle.first_live(key, since), Why::Existed),
                (_, None) => (oracle.first_change(key, since), Why::Superseded),
            };
            let Some(state) = state else {
                return Err(format!(
                    "the put of key {key} version {version} returned {stored:?}, which is wrong"
                ));
            };
            oracle.answered(key, state);
            if each_batch {
                oracle.durable(key, state, now, why);
            }
            Ok(())
        });
        self.check(outcome);
    }
}
