//! The process that is killed, and the parent's side of it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;

use rb_core::EngineKind;

use super::serve::{self, ServedTurns};
use super::sizes::BLOCKS_BEFORE_KILL;
use super::workload::{SEED, Workload};
use crate::args::DemoChildArgs;
use crate::child::Child;
use crate::failure::Failure;
use crate::open::{open_quietly, writing};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::progress;

/// Turns that the child acknowledged before it was killed.
pub(super) struct Acknowledged {
    /// Turns that it served, synced and acknowledged.
    pub(super) turns: u64,
    /// Conversations that these turns belong to.
    pub(super) conversations: u64,
}

/// Serves turns without end: each is durable before it is acknowledged. Ends when the process is killed, or when
/// the parent's end closes its output.
pub(crate) fn child(
    args: &DemoChildArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let store = open_quietly(&args.store, writing(engine))?;
    let mut served = ServedTurns::default();
    for turn in Workload::new(SEED) {
        serve::turn(&store, &turn, &mut served)?;
        store.sync().map_err(|source| Failure::Store {
            what: "syncing",
            source,
        })?;
        output.line(format!("{} {}", turn.conversation, turn.number))?;
        output.flush()?;
    }
    Ok(Outcome::Done)
}

/// Runs the child until it has put enough, and kills it while it serves.
pub(super) fn serve_and_kill(store: &Path, engine: EngineKind) -> Result<Acknowledged, Failure> {
    let args = ["demo-child", "--engine", engine.name(), "--store"].map(OsString::from);
    let args = args.into_iter().chain([store.as_os_str().to_owned()]);
    let mut child = Child::spawn("that serves until it is killed", args)?;
    let mut expected = Workload::new(SEED);
    let mut seen = SeenTurns::default();
    let bar = progress::bar(BLOCKS_BEFORE_KILL, "serving");
    while (seen.blocks.len() as u64) < BLOCKS_BEFORE_KILL {
        let Some(line) = child.line()? else {
            return Err(child.failed("ended before it was killed".into()));
        };
        seen.note(&line, &mut expected)?;
        bar.set_position(seen.blocks.len() as u64);
    }
    bar.finish_and_clear();
    // Turns that it acknowledged before it ended count: they were durable.
    for line in child.kill()? {
        seen.note(&line, &mut expected)?;
    }
    Ok(Acknowledged {
        turns: seen.turns,
        conversations: seen.conversations.len() as u64,
    })
}

#[derive(Default)]
struct SeenTurns {
    turns: u64,
    conversations: HashSet<u64>,
    blocks: HashSet<u64>,
}

impl SeenTurns {
    /// Counts a line of the child, which must be the next turn of the workload.
    fn note(&mut self, line: &str, expected: &mut Workload) -> Result<(), Failure> {
        let turn = expected
            .next()
            .filter(|turn| line == format!("{} {}", turn.conversation, turn.number));
        let Some(turn) = turn else {
            return Err(Failure::Child {
                what: "that serves until it is killed",
                why: format!("printed {line:?}, which is not its next turn"),
            });
        };
        self.turns += 1;
        self.conversations.insert(turn.conversation);
        self.blocks.extend(turn.blocks);
        Ok(())
    }
}
