//! One request of a trace: get all its blocks, put those that missed, touch all.
//!
//! A batch that does not fit the chunk goes in several, its *last* keys first: the store makes the
//! first key of each batch the most recently used, so the first key of the whole must come last.

use std::time::{Duration, Instant};

use rb_core::{Error, Lookup, Payload, Put, PutOptions, PutResult, Store, Value};

use super::tally::Tally;
use crate::failure::Failure;
use crate::payload::{fill, is_payload};

pub(super) struct Driver {
    value_bytes: usize,
    /// Keys per batch, so that a batch takes at most half the buffers.
    chunk: usize,
}

/// What the gets of one request came to.
#[derive(Default)]
struct Got {
    hit: Vec<bool>,
    time: Duration,
}

impl Driver {
    pub(super) fn new(value_bytes: usize, buffer_bytes: usize) -> Driver {
        // A buffer holds the header block in front and whole blocks of payload.
        let stride = 4096 + value_bytes.next_multiple_of(4096);
        let chunk = (buffer_bytes / 2 / stride).max(1);
        Driver { value_bytes, chunk }
    }

    pub(super) fn request(
        &self,
        store: &Store,
        ids: &[u64],
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let keys: Vec<[u8; 8]> = ids.iter().map(|id| id.to_le_bytes()).collect();
        let got = self.get(store, ids, &keys, tally)?;
        tally.requests += 1;
        tally.block_refs += ids.len() as u64;
        tally.block_hits += got.hit.iter().filter(|hit| **hit).count() as u64;
        tally.prefix_hits += got.hit.iter().take_while(|hit| **hit).count() as u64;
        if !ids.is_empty() {
            tally.get_latencies.push(got.time);
        }

        let missed: Vec<u64> = ids
            .iter()
            .zip(&got.hit)
            .filter(|(_, hit)| !**hit)
            .map(|(id, _)| *id)
            .collect();
        self.put(store, &missed, tally)?;

        let keys: Vec<&[u8]> = keys.iter().map(<[u8; 8]>::as_slice).collect();
        let start = Instant::now();
        store.touch_many(&keys);
        tally.touch_time += start.elapsed();
        Ok(())
    }

    fn get(
        &self,
        store: &Store,
        ids: &[u64],
        keys: &[[u8; 8]],
        tally: &mut Tally,
    ) -> Result<Got, Failure> {
        let mut got = Got {
            hit: vec![false; ids.len()],
            time: Duration::ZERO,
        };
        for first in chunks_from_the_end(ids.len(), self.chunk) {
            let end = (first + self.chunk).min(ids.len());
            let borrowed: Vec<&[u8]> = keys[first..end].iter().map(<[u8; 8]>::as_slice).collect();
            let start = Instant::now();
            let answers = store.get_many(&borrowed);
            got.time += start.elapsed();
            let start = Instant::now();
            for (at, answer) in (first..end).zip(answers) {
                got.hit[at] = self.check(ids[at], answer, tally)?;
            }
            tally.check_time += start.elapsed();
        }
        tally.get_time += got.time;
        Ok(got)
    }

    /// Whether it was a hit; if so, every byte of it was looked at.
    fn check(&self, id: u64, answer: Lookup, tally: &mut Tally) -> Result<bool, Failure> {
        match answer {
            Ok(None) => Ok(false),
            Ok(Some(value)) => {
                tally.bytes_got += value.len() as u64;
                if value.len() != self.value_bytes || !is_payload(id, &value) {
                    tally.wrong_blocks += 1;
                    tally.wrong_bytes += self.wrong_bytes(id, &value);
                }
                Ok(true)
            }
            Err(error) => {
                tally.get_errors += 1;
                tally.note(&error);
                stop_if_hopeless("getting", id, error).map(|()| false)
            }
        }
    }

    /// How many bytes of a wrong value are wrong: missing and extra ones count too.
    fn wrong_bytes(&self, id: u64, value: &Value) -> u64 {
        let mut expected = vec![0; self.value_bytes];
        fill(id, &mut expected);
        let differing = expected
            .iter()
            .zip(value.iter())
            .filter(|(a, b)| a != b)
            .count();
        (differing + expected.len().abs_diff(value.len())) as u64
    }

    fn put(&self, store: &Store, ids: &[u64], tally: &mut Tally) -> Result<(), Failure> {
        let keys: Vec<[u8; 8]> = ids.iter().map(|id| id.to_le_bytes()).collect();
        for first in chunks_from_the_end(ids.len(), self.chunk) {
            let end = (first + self.chunk).min(ids.len());
            let start = Instant::now();
            let mut puts = Vec::with_capacity(end - first);
            for at in first..end {
                let mut buffer =
                    store
                        .buffer(self.value_bytes)
                        .map_err(|source| Failure::Store {
                            what: "taking a buffer",
                            source,
                        })?;
                fill(ids[at], &mut buffer);
                puts.push(Put {
                    key: &keys[at],
                    payload: Payload::Buffer(buffer),
                    metadata: &[],
                });
            }
            tally.fill_time += start.elapsed();
            let start = Instant::now();
            let answers = store.put_many(puts, PutOptions::default());
            tally.put_time += start.elapsed();
            for (id, answer) in ids[first..end].iter().zip(answers) {
                self.note_put(*id, answer, tally)?;
            }
        }
        Ok(())
    }

    fn note_put(&self, id: u64, answer: PutResult, tally: &mut Tally) -> Result<(), Failure> {
        match answer {
            Ok(_) => {
                tally.bytes_put += self.value_bytes as u64;
                Ok(())
            }
            Err(error) => {
                tally.put_errors += 1;
                tally.note(&error);
                stop_if_hopeless("putting", id, error)
            }
        }
    }
}

/// One key's error is counted; an error that every later operation would meet too ends the replay.
fn stop_if_hopeless(what: &'static str, id: u64, source: Error) -> Result<(), Failure> {
    if source.is_poisoned() || matches!(source, Error::Closed | Error::ReadOnly) {
        let key = id.to_le_bytes().to_vec();
        return Err(Failure::Key { what, key, source });
    }
    Ok(())
}

/// The first positions of the chunks of `count` things, the last chunk first. The chunks start at 0,
/// so the one that may be short is the last, which goes first.
fn chunks_from_the_end(count: usize, chunk: usize) -> impl Iterator<Item = usize> {
    (0..count).step_by(chunk).rev()
}

#[cfg(test)]
mod tests {
    use rb_core::{ClassRequest, FormatOptions, Share, StoreOptions};

    use super::*;

    #[test]
    fn wrong_bytes_are_counted_and_break_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let class = ClassRequest {
            slot_bytes: 4096,
            share: Share::Slots(8),
        };
        rb_core::format(&FormatOptions::new(&path, vec![class])).unwrap();
        let store = Store::open(&path, StoreOptions::default()).unwrap();
        let mut bytes = vec![0; 4096];
        fill(7, &mut bytes);
        bytes[100] ^= 1;
        bytes[4095] ^= 1;
        store.put(&7_u64.to_le_bytes(), &bytes).unwrap();
        store.put(&8_u64.to_le_bytes(), &[1; 10]).unwrap();

        let driver = Driver::new(4096, 1 << 20);
        let mut tally = Tally::default();
        driver.request(&store, &[9, 7], &mut tally).unwrap();
        assert_eq!((tally.wrong_blocks, tally.wrong_bytes), (1, 2));
        assert_eq!((tally.block_hits, tally.prefix_hits), (1, 0));
        assert!(tally.judge().is_some());
        driver.request(&store, &[9], &mut tally).unwrap();
        assert_eq!((tally.wrong_blocks, tally.prefix_hits), (1, 1));
        driver.request(&store, &[8], &mut tally).unwrap();
        assert!(tally.wrong_bytes >= 2 + 4086, "{}", tally.wrong_bytes);
        store.close().unwrap();
    }

    #[test]
    fn operations_that_fail_make_the_replay_fail() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let class = ClassRequest {
            slot_bytes: 4096,
            share: Share::Slots(8),
        };
        // Block ids are keys of 8 bytes, so every get and every put of this store fails.
        let options = FormatOptions {
            key_len_max: 7,
            ..FormatOptions::new(&path, vec![class])
        };
        rb_core::format(&options).unwrap();
        let store = Store::open(&path, StoreOptions::default()).unwrap();
        let mut tally = Tally::default();
        let driver = Driver::new(4096, 1 << 20);
        driver.request(&store, &[1, 2], &mut tally).unwrap();
        assert_eq!((tally.get_errors, tally.put_errors), (2, 2));
        let words = tally.judge().unwrap().chain();
        assert!(words.contains("2 gets and 2 puts failed"), "{words}");
        assert!(words.contains("key of 8 bytes"), "{words}");
        store.close().unwrap();
    }

    #[test]
    fn chunks_cover_everything_and_start_with_the_last() {
        let firsts: Vec<usize> = chunks_from_the_end(10, 4).collect();
        assert_eq!(firsts, [8, 4, 0]);
        assert_eq!(chunks_from_the_end(0, 4).count(), 0);
        assert!(chunks_from_the_end(4, 4).eq([0]));
    }
}
