//! Tests of hints: each operation passes what its caller knows of the batch to the eviction policy.

use std::sync::{Arc, Mutex};

use rb_core::policy::{
    Entries, Gone, Hints, IndexError, Lookup, Note, Origin, Policies, Policy, PolicyFactory,
    Purpose, Resident, Room,
};
use rb_core::{Put, PutOptions};
use rb_io::Arena;

use crate::support::{Sim, key};

/// Calls of a store's policies: the purpose of a lookup, or `None` for an insertion.
type Seen = Arc<Mutex<Vec<(Option<Purpose>, Hints)>>>;

#[derive(Debug)]
struct Listening(Seen);

impl PolicyFactory for Listening {
    fn policies(&self, room: &Room<'_>) -> Result<Policies, IndexError> {
        Ok(Policies::alone(room, || Listening(Arc::clone(&self.0))))
    }
}

impl Policy for Listening {
    fn insert(&mut self, _: &Resident, origin: Origin) {
        let Origin::Put(place) = origin else {
            panic!("nothing is recovered");
        };
        self.0.lock().unwrap().push((None, place.hints));
    }

    fn lookup(&mut self, lookup: &Lookup) -> Note {
        let seen = (Some(lookup.purpose), lookup.place.hints);
        self.0.lock().unwrap().push(seen);
        Note::default()
    }

    fn pin(&mut self, _: &Resident) {}

    fn unpin(&mut self, _: &Resident) {}

    fn remove(&mut self, _: &Resident, _: Gone) {}

    fn victim(&mut self, _: u8, _: &Entries<'_>) -> Option<u32> {
        None
    }

    fn worth(&self, _: u8, _: &Entries<'_>) -> Option<u64> {
        None
    }

    fn evictable(&self, _: u8, _: &mut dyn FnMut(u32)) {}
}

#[test]
fn every_operation_passes_its_hints_to_the_policy() {
    let seen = Seen::default();
    let sim = Sim::new(64);
    let store = sim.open_with(|options| {
        options.policy = Some(Arc::new(Listening(Arc::clone(&seen))));
    });
    let take = || std::mem::take(&mut *seen.lock().unwrap());
    let key = key(1);
    let keys: [&[u8]; 1] = [&key];
    let hints = Hints::new().chain_ended().priority(7);
    let options = PutOptions {
        hints,
        ..PutOptions::default()
    };
    let is_put = |seen: Vec<(Option<Purpose>, Hints)>| {
        assert_eq!(seen.last(), Some(&(None, hints)), "{seen:?}");
    };
    assert!(store.put_many(vec![Put::new(&key, b"v")], options)[0].is_ok());
    is_put(take());
    let putting = store.put_many_async(vec![Put::new(&key, b"w")], options);
    assert!(putting.wait()[0].is_ok());
    is_put(take());

    let arena = Arena::allocate(8192).unwrap();
    let loan = || vec![arena.lend_exclusive(0, 8192).unwrap()];
    let mut output = [0; 8];
    let hinted = store.hinted(hints);
    let is_lookup = |purpose| {
        let seen = take();
        assert_eq!(seen, [(Some(purpose), hints)]);
    };
    assert!(hinted.get_many(&keys)[0].is_ok());
    is_lookup(Purpose::Lease);
    assert!(hinted.get_many_async(&keys).wait()[0].is_ok());
    is_lookup(Purpose::Lease);
    assert!(hinted.get_many_into(&keys, &mut [&mut output])[0].is_ok());
    is_lookup(Purpose::Lease);
    assert!(hinted.get_many_at(&keys, loan())[0].is_ok());
    is_lookup(Purpose::Lease);
    assert!(hinted.get_many_at_async(&keys, loan()).wait()[0].is_ok());
    is_lookup(Purpose::Lease);
    drop(hinted.lookup_and_pin(&keys));
    is_lookup(Purpose::Lease);
    assert_eq!(hinted.touch_many(&keys), [true]);
    is_lookup(Purpose::Touch);
    assert_eq!(hinted.contains_many(&keys), [true]);
    is_lookup(Purpose::Probe);
    // Without hints the policy knows nothing.
    assert!(store.get(&key).unwrap().is_some());
    assert_eq!(take(), [(Some(Purpose::Lease), Hints::new())]);
}
