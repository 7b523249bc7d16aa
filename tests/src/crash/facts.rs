//! Facts about a store between two steps that do not depend on the device's writes.

use rb_io::OpKind;

use super::states::State;
use super::world::World;

impl World {
    /// Returns the states that the store is in.
    pub(super) fn facts(&self) -> Vec<State> {
        let mut facts = Vec::new();
        let Some(store) = self.store() else {
            return facts;
        };
        let mut reach = |state, reached: bool| facts.extend(reached.then_some(state));
        let stats = store.stats();
        let classes = &stats.index.classes;
        reach(
            State::ClassFull,
            classes.iter().any(|class| class.free == 0),
        );
        reach(
            State::Quarantined,
            classes.iter().any(|class| class.quarantined > 0),
        );
        reach(State::Discarded, stats.discard.slots > 0);
        let mut unverified = false;
        store.for_each(|entry| {
            unverified |= !entry.verified;
            !unverified
        });
        reach(State::Unverified, unverified);
        {
            let inside = self.lock();
            reach(State::Evicted, inside.evicted);
            reach(State::Leased, !inside.locks.is_empty());
            reach(State::LogFull, inside.log_was_full);
        }
        if let Some(places) = self.places() {
            let ops = self.device.log();
            let writes = ops
                .iter()
                .filter(|op| op.op == OpKind::Write && places.log.contains(&op.offset));
            let written: u64 = writes.map(|op| u64::from(op.len)).sum();
            let ring = places.log.end - places.log.start;
            reach(State::LogLapped, written > ring);
        }
        facts
    }
}
