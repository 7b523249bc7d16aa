//! Hashes what an operation has read of the store and keeps in memory.

use rb_core::{HeldLock, Store, SwitchPoint};

use super::config::Operation;
use super::digest::{digest, parts};
use super::running::Running;
use super::values::name;
use crate::schedule::{Place, Wait};

/// State that an operation may read in its next step and keep in memory.
#[derive(Clone, Copy, Default)]
pub(super) struct Before {
    /// Records that a commit takes.
    log: u64,
    /// Entries that a checkpoint copies, and the log position it starts from.
    entries: u64,
    /// Contents of a checkpoint's header.
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
            && (running.passed == Some(SwitchPoint::CheckpointCopied) || has_sections(running))
            && !has_header(running);
        let parts_if = |wanted: bool, names: &[&str]| match wanted {
            true => parts(store, |name| {
                names.iter().any(|wanted| name.starts_with(wanted))
            }),
            false => 0,
        };
        Before {
            log: parts_if(commits, &["log", "ticket", "quarantine"]),
            entries: parts_if(copies, &["shard", "log"]),
            header: parts_if(heads, &["generation", "index", "quarantine", "lifetime"]),
        }
    }

    /// Returns the header's hash, if the last step made the header.
    pub(super) fn header_made(self, running: &Running) -> Option<u64> {
        (self.header != 0 && has_header(running)).then_some(self.header)
    }
}

fn writes_base(running: &Running) -> bool {
    matches!(running.operation, Operation::Checkpoint | Operation::Close)
}

/// Returns whether a checkpoint has passed its sections, and not its first flush. Which places it passes between them
/// depends on whether there is something to commit, and on whether another operation commits it.
fn has_sections(running: &Running) -> bool {
    matches!(
        running.passed,
        Some(SwitchPoint::CheckpointSections | SwitchPoint::CommitBegins | SwitchPoint::CommitDone)
    )
}

/// Returns whether a checkpoint has made its header, and not written it. It is made before the flush that follows the
/// directory, and so before a wait for the flush of another operation.
fn has_header(running: &Running) -> bool {
    let flushes = match running.place {
        Some(Place::Waits(Wait::Lock(HeldLock::Flush))) => true,
        Some(Place::Device(_)) => running.flushes,
        _ => false,
    };
    flushes && writes_base(running) && has_sections(running)
}

/// Returns a hash of what an operation has read in its last step and keeps in memory.
pub(super) fn observed(store: &Store, before: Before, running: &Running) -> u64 {
    let ticket = || parts(store, |name| name == "ticket");
    let tickets = || parts(store, |name| name == "ticket" || name.starts_with("shard"));
    let point = match running.place {
        Some(Place::At(point)) => Some(point),
        _ => None,
    };
    before.log
        ^ match point {
            // Which keys have entries, and how many slots are free.
            Some(SwitchPoint::PutJudged) => parts(store, |name| {
                name.starts_with("shard") || name.starts_with("class")
            }),
            // The generation that it has drawn, and whether there was an entry to keep.
            Some(SwitchPoint::Reserved) => {
                parts(store, |name| name == "generation") ^ kept(store, running)
            }
            // The first stop of a put: it has looked for an entry to keep.
            Some(SwitchPoint::SlotsTaken) if running.stops == 1 => kept(store, running),
            Some(SwitchPoint::CheckpointCopied) => before.entries,
            // The ticket that it waits for: of its own record, of another one's that its result
            // refers to, or of all.
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

/// Returns what a put that keeps has found: whether the key exists, and the ticket that its result would wait for.
fn kept(store: &Store, running: &Running) -> u64 {
    match running.operation {
        Operation::Put {
            key,
            keeps: true,
            each_batch,
            ..
        } => {
            let exists = store.contains(&name(key));
            let tickets = || parts(store, |name| name.starts_with("shard"));
            digest((exists, (exists && each_batch).then(tickets)))
        }
        _ => 0,
    }
}
