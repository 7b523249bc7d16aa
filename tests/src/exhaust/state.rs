//! Identifies the state of an execution.
//!
//! Two executions of one configuration that reach the same state have the same future, so one of them can be cut off. A
//! state consists of
//!
//! * the device: the durable bytes, and the pending writes;
//! * the store in memory, all of it ([`rb_core::Store::each_part`]);
//! * the oracle, which decides what is legal later;
//! * each operation: which it is, whether it has begun or ended, its place, its number of stops, and what it knows: the
//!   memory of an operation is a function of what it has read of the rest. What it has taken, evicted, put or removed
//!   is reported as it happens. Everything else it read is taken from the store's state at that time (`observed.rs`):
//!   often more than it read, which only distinguishes more states.
//!
//! Nothing else can differ: time stands still, and randomness is the same in each execution. The completeness of this
//! list is tested: now and then a search continues behind a known state, and each step from there must lead where the
//! same step led the first time (`search.rs`).

use std::hash::{Hash, Hasher};

use xxhash_rust::xxh3::Xxh3;

use super::digest::parts;
use super::execution::Execution;
use super::running::Running;

/// Returns a number that identifies this state.
pub(super) fn hash(execution: &Execution) -> u64 {
    let mut hasher = Xxh3::new();
    execution.points.hash().hash(&mut hasher);
    parts(&execution.store, |_| true).hash(&mut hasher);
    let inside = execution.world.lock();
    inside.oracle.hash(&mut hasher);
    for running in &inside.operations {
        let Running {
            operation: _,
            began,
            ended,
            place,
            passed,
            stops,
            flushes,
            has_slot,
            made,
            since,
            acknowledged,
            observed,
        } = running;
        (began, ended).hash(&mut hasher);
        if !ended {
            (format!("{:?}", (place, passed)), stops, made).hash(&mut hasher);
            (flushes, has_slot, since, acknowledged, observed).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Describes the state, to show how two differ.
pub(super) fn words(execution: &Execution) -> Vec<String> {
    let mut words = vec![format!("device {:x}", execution.points.hash())];
    execution
        .store
        .each_part(&mut |name, part| words.push(format!("{name} {part}")));
    let inside = execution.world.lock();
    words.push(format!("{:?}", inside.oracle));
    words.extend(
        inside
            .operations
            .iter()
            .map(|running| format!("{running:?}")),
    );
    words
}
