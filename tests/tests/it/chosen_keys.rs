//! Tests of keys that were chosen so that their on-device hashes are equal.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rb_core::{Background, ClassRequest, Put, PutOptions, Share, Store};
use rb_format::key_hash;
use rb_testkit::colliding;

use crate::support::FileFixture;

const KEYS: u32 = 25_000;
/// Number of keys in a batch.
const BATCH: usize = 250;
/// Maximum ratio of the time for such keys to that for others. It should be about 1; it was eleven for puts, and
/// hundreds for a replay.
const RATIO_MAX: u32 = 4;

fn others(number: u32) -> [u8; colliding::KEY_LEN] {
    let mut key = [0xA5; colliding::KEY_LEN];
    key[..8].copy_from_slice(
        &u64::from(number)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .to_le_bytes(),
    );
    key
}

/// Puts all keys, looks them up, and opens what a kill then leaves. Returns the duration of each.
fn times(fixture: &FileFixture, keys: &[[u8; colliding::KEY_LEN]]) -> [Duration; 3] {
    // Without a checkpoint, so that all of the keys are in the log.
    let store = fixture.open_with(|options| options.background = Background::Manual);
    let start = Instant::now();
    for some in keys.chunks(BATCH) {
        let puts = some.iter().map(|key| Put::new(key, &key[..100])).collect();
        let answers = store.put_many(puts, PutOptions::default());
        assert!(answers.iter().all(Result::is_ok));
    }
    store.sync().unwrap();
    let put = start.elapsed();
    let start = Instant::now();
    assert!(keys.iter().all(|key| store.contains(key)));
    let looked = start.elapsed();
    let killed = fixture.image();
    let start = Instant::now();
    let again: Store = killed.open();
    let opened = start.elapsed();
    assert_eq!(again.stats().index.entries, u64::from(KEYS));
    assert!(again.recovery().log_records >= u64::from(KEYS));
    [put, looked, opened]
}

/// The index once placed keys by the on-device hash, which anyone who knows the store's UUID can compute. 25,000 keys
/// with one hash made a put eleven times as slow, and a replay of their log quadratic: 17 s.
#[test]
fn keys_of_one_hash_take_no_longer_than_others() {
    let beds = [(); 2].map(|()| {
        let class = ClassRequest {
            slot_bytes: 4096,
            share: Share::Slots(u64::from(KEYS)),
        };
        FileFixture::with(vec![class], |options| {
            options.key_len_max = colliding::KEY_LEN as u32;
            // Room for the records of all keys.
            options.log_bytes = Some(64 << 20);
        })
    });
    let uuid = beds[0].open().superblock().identity.uuid;
    let seed = u64::from_le_bytes(uuid.0[..8].try_into().unwrap());
    let chosen: Vec<_> = (0..KEYS)
        .map(|number| colliding::key(seed, number))
        .collect();
    let hashes: HashSet<_> = chosen.iter().map(|key| key_hash(&uuid, key)).collect();
    assert_eq!(hashes.len(), 1);
    let found = times(&beds[0], &chosen);
    let usual = times(&beds[1], &(0..KEYS).map(others).collect::<Vec<_>>());
    for ((what, chosen), usual) in ["puts", "lookups", "an opening"]
        .iter()
        .zip(found)
        .zip(usual)
    {
        let most = usual * RATIO_MAX + Duration::from_millis(100);
        assert!(chosen <= most, "{what}: {chosen:?}, others {usual:?}");
    }
}
