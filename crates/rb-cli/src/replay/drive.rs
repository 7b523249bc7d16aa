//! Runs one request of a trace: gets all its blocks, puts those that missed, touches all.
//!
//! A request that does not fit one batch is split, its *last* keys first: the store makes the first key of
//! each batch the most recently used one, so the first key of the request must come last.

use std::time::{Duration, Instant};

use rb_core::{Error, Lookup, Payload, Put, PutOptions, PutOutcome, PutResult, Store, Value};

use super::tally::ReplayTally;
use crate::failure::Failure;
use crate::payload::{fill, is_payload};
use crate::series::{Kind, Recorder};

pub(super) struct Driver {
    value_bytes: usize,
    /// Keys of a batch: as many as take half the buffers.
    chunk: usize,
}

/// Results of the gets of one request.
#[derive(Default)]
struct RequestHits {
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
        tally: &mut ReplayTally,
        recorder: &mut Recorder<'_>,
    ) -> Result<(), Failure> {
        let (got_before, put_before) = (tally.got_bytes, (tally.put_bytes, tally.put_time));
        let keys: Vec<[u8; 8]> = ids.iter().map(|id| id.to_le_bytes()).collect();
        let got = self.get(store, ids, &keys, tally)?;
        tally.requests += 1;
        tally.block_refs += ids.len() as u64;
        let hits = got.hit.iter().filter(|hit| **hit).count() as u64;
        tally.block_hits += hits;
        tally.prefix_hits += got.hit.iter().take_while(|hit| **hit).count() as u64;
        if !ids.is_empty() {
            let bytes = tally.got_bytes - got_before;
            recorder.call(Kind::Get, Instant::now(), got.time, hits, bytes);
        }

        let missed: Vec<u64> = ids
            .iter()
            .zip(&got.hit)
            .filter(|(_, hit)| !**hit)
            .map(|(id, _)| *id)
            .collect();
        self.put(store, &missed, tally)?;
        if !missed.is_empty() {
            let (bytes, time) = (
                tally.put_bytes - put_before.0,
                tally.put_time - put_before.1,
            );
            let values = bytes / self.value_bytes.max(1) as u64;
            recorder.call(Kind::Put, Instant::now(), time, values, bytes);
        }

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
        tally: &mut ReplayTally,
    ) -> Result<RequestHits, Failure> {
        let mut got = RequestHits {
            hit: vec![false; ids.len()],
            time: Duration::ZERO,
        };
        for first in chunks_from_the_end(ids.len(), self.chunk) {
            let end = (first + self.chunk).min(ids.len());
            let borrowed: Vec<&[u8]> = keys[first..end].iter().map(<[u8; 8]>::as_slice).collect();
            let start = Instant::now();
            let results = store.get_many(&borrowed);
            got.time += start.elapsed();
            let start = Instant::now();
            for (at, result) in (first..end).zip(results) {
                got.hit[at] = self.check(ids[at], result, tally)?;
            }
            tally.check_time += start.elapsed();
        }
        tally.get_time += got.time;
        Ok(got)
    }

    /// Returns whether the get was a hit, and counts wrong bytes of its value.
    fn check(&self, id: u64, result: Lookup, tally: &mut ReplayTally) -> Result<bool, Failure> {
        match result {
            Ok(None) => Ok(false),
            Ok(Some(value)) => {
                tally.got_bytes += value.len() as u64;
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

    /// Number of wrong bytes of a value. Missing and extra bytes count.
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

    fn put(&self, store: &Store, ids: &[u64], tally: &mut ReplayTally) -> Result<(), Failure> {
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
                    payload: Payload::Buffer(buffer),
                    ..Put::new(&keys[at], &[])
                });
            }
            tally.fill_time += start.elapsed();
            let start = Instant::now();
            let results = store.put_many(puts, PutOptions::default());
            tally.put_time += start.elapsed();
            for (id, result) in ids[first..end].iter().zip(results) {
                self.note_put(*id, result, tally)?;
            }
        }
        Ok(())
    }

    fn note_put(&self, id: u64, result: PutResult, tally: &mut ReplayTally) -> Result<(), Failure> {
        match result {
            Ok(PutOutcome::NotAdmitted) => {
                tally.refused_blocks += 1;
                Ok(())
            }
            Ok(_) => {
                tally.put_bytes += self.value_bytes as u64;
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

/// Ends the replay with an error that every later operation would have too. Other errors are counted.
fn stop_if_hopeless(what: &'static str, id: u64, source: Error) -> Result<(), Failure> {
    if source.is_poisoned() || matches!(source, Error::Closed | Error::ReadOnly) {
        let key = id.to_le_bytes().to_vec();
        return Err(Failure::Key { what, key, source });
    }
    Ok(())
}

/// First positions of the chunks of `count` items, the last chunk first. A short chunk is the last one.
fn chunks_from_the_end(count: usize, chunk: usize) -> impl Iterator<Item = usize> {
    (0..count).step_by(chunk).rev()
}

#[cfg(test)]
mod tests {
    use rb_core::{ClassRequest, FormatOptions, Share, StoreOptions};

    use super::*;
    use crate::series::Series;

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
        let mut tally = ReplayTally::default();
        let series = Series::start(indicatif::ProgressBar::hidden());
        let mut recorder = series.recorder();
        driver
            .request(&store, &[9, 7], &mut tally, &mut recorder)
            .unwrap();
        assert_eq!((tally.wrong_blocks, tally.wrong_bytes), (1, 2));
        assert_eq!((tally.block_hits, tally.prefix_hits), (1, 0));
        assert!(tally.judge().is_some());
        driver
            .request(&store, &[9], &mut tally, &mut recorder)
            .unwrap();
        assert_eq!((tally.wrong_blocks, tally.prefix_hits), (1, 1));
        driver
            .request(&store, &[8], &mut tally, &mut recorder)
            .unwrap();
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
        let mut tally = ReplayTally::default();
        let series = Series::start(indicatif::ProgressBar::hidden());
        let mut recorder = series.recorder();
        let driver = Driver::new(4096, 1 << 20);
        driver
            .request(&store, &[1, 2], &mut tally, &mut recorder)
            .unwrap();
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
