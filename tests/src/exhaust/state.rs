//! What tells the states of an execution apart.
//!
//! Two executions of one configuration that come to the same state have the same future, so one of them can be cut off.
//! A state is
//!
//! * the device: what is durable, and the pending writes;
//! * the store in memory, all of it ([`Store::each_part`]);
//! * the oracle, which decides what is legal later;
//! * of each operation, which it is, whether it has begun or ended, where it stands, how many places it has stopped at,
//!   and what it knows: the memory of an operation is a function of what it has read of the rest. What it has taken,
//!   evicted, put or removed is reported as it happens. What else it read is taken over from the store's state when it
//!   read it ([`observed`]): often more than it read, which only tells more states apart.
//!
//! Nothing else can differ: time stands still, and randomness is the same in each execution. That the list is complete is
//! not left to this text. Now and then a search goes on behind a state that it has seen, and each step from there must
//! lead where the same step led the first time (`search.rs`).

use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};

use rb_core::{HeldLock, Store, SwitchPoint};
use xxhash_rust::xxh3::Xxh3;

use super::config::Operation;
use super::execution::Execution;
use super::world::{Running, name};
use crate::schedule::{Place, Wait};

/// Hashes text.
struct Text(Xxh3);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// Hashes those parts of a store's state whose names are wanted.
fn parts(store: &Store, wanted: impl Fn(&str) -> bool) -> u64 {
    let mut text = Text(Xxh3::new());
    store.each_part(&mut |name, part| {
        if wanted(name) {
            // Hashing does not fail.
            text.write_fmt(format_args!("{name} {part}\n"))
                .unwrap_or_default();
        }
    });
    text.0.digest()
}

/// What an operation may read in its next step and keep in memory.
#[derive(Clone, Copy, Default)]
pub(super) struct Before {
    /// The records that a commit takes.
    log: u64,
    /// The entries that a checkpoint copies, and from which position of the log on.
    entries: u64,
    /// What a checkpoint's header says.
    header: u64,
}

impl Before {
    pub(super) fn new(store: &Store, running: &Running) -> Before {
        let commits = matches!(
            running.place,
            Some(
                Place::At(SwitchPoint::CommitBegins)
                    | Place::Waits(Wait::Lock(HeldLock::Committer))
            )
        );
        let copies = writes_base(running)
            && matches!(
                running.passed,
                None | Some(SwitchPoint::CheckpointCopied | SwitchPoint::CloseDrained)
            );
        let heads = writes_base(running)
            && (running.passed == Some(SwitchPoint::CheckpointCopied) || has_sections(running));
        let parts_if = |wanted: bool, names: &[&str]| match wanted {
            true => parts(store, |name| {
                names.iter().any(|wanted| name.starts_with(wanted))
            }),
            false => 0,
        };
        Before {
            log: parts_if(commits, &["log", "ticket", "quarantine"]),
            entries: parts_if(copies, &["shard", "log"]),
            header: parts_if(heads, &["generation", "index", "quarantine"]),
        }
    }
}

fn writes_base(running: &Running) -> bool {
    matches!(running.operation, Operation::Checkpoint | Operation::Close)
}

/// Whether a checkpoint has passed its sections, and not its first flush. What it passes between depends on whether there
/// is something to commit, and on whether another operation commits it.
fn has_sections(running: &Running) -> bool {
    matches!(
        running.passed,
        Some(SwitchPoint::CheckpointSections | SwitchPoint::CommitBegins | SwitchPoint::CommitDone)
    )
}

/// What an operation has read in the step that led it to where it stands, and keeps in memory.
pub(super) fn observed(store: &Store, before: Before, running: &Running) -> u64 {
    let ticket = || parts(store, |name| name == "ticket");
    let tickets = || parts(store, |name| name == "ticket" || name.starts_with("shard"));
    let point = match running.place {
        Some(Place::At(point)) => Some(point),
        _ => None,
    };
    // The header is made before the flush that follows the directory.
    let heads = running.flushes && writes_base(running) && has_sections(running);
    let other = before.log ^ if heads { before.header } else { 0 };
    other
        ^ match point {
            // The generation that it has drawn, and whether there was something to keep.
            Some(SwitchPoint::Reserved) => {
                parts(store, |name| name == "generation") ^ kept(store, running)
            }
            // The first stop of a put: it has looked for something to keep.
            Some(SwitchPoint::SlotsTaken) if running.stops == 1 => kept(store, running),
            Some(SwitchPoint::CheckpointCopied) => before.entries,
            // The ticket that it waits for: of its own record, of another one's that its answer refers to, or of all.
            Some(SwitchPoint::Published | SwitchPoint::Removed) if running.made.is_some() => {
                ticket()
            }
            Some(SwitchPoint::Published | SwitchPoint::Removed) => tickets(),
            Some(SwitchPoint::CommitBegins) => match running.operation {
                Operation::Put { .. } if running.made.is_none() => tickets(),
                _ => ticket(),
            },
            _ => 0,
        }
}

/// What a put that keeps has found: whether the key exists, and the ticket that an answer would wait for.
fn kept(store: &Store, running: &Running) -> u64 {
    match running.operation {
        Operation::Put {
            key,
            keeps: true,
            each_batch,
        } => {
            let exists = store.contains(&name(key));
            let tickets = || parts(store, |name| name.starts_with("shard"));
            digest((exists, (exists && each_batch).then(tickets)))
        }
        _ => 0,
    }
}

/// A number that tells this state from others.
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

/// A number that tells something apart.
pub(super) fn digest(of: impl Hash) -> u64 {
    let mut hasher = Xxh3::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// The state in words, to see in what two differ.
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
