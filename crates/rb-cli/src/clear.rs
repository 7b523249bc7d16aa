//! `rb clear`: drops every entry of a store.

use rb_core::{EngineKind, StoreOptions};
use serde::Serialize;

use crate::args::ClearArgs;
use crate::failure::Failure;
use crate::open::{close, open_quietly, writing};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::size::counted;

#[derive(Serialize)]
struct Cleared {
    cleared_entries: u64,
}

pub(crate) fn clear(
    args: &ClearArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let looking = StoreOptions {
        read_only: true,
        ..writing(engine)
    };
    let store = open_quietly(&args.path, looking)?;
    let (entries, foreign) = (
        store.stats().index.entries,
        store.recovery().foreign.clone(),
    );
    close(&store)?;
    if !foreign.is_empty() && !args.force {
        return Err(Failure::Foreign {
            path: args.path.clone(),
            found: foreign,
        });
    }
    if !args.yes {
        return Err(Failure::ClearConsent {
            path: args.path.clone(),
            entries: counted(entries, "entry"),
        });
    }
    let emptying = StoreOptions {
        start_empty: true,
        force: args.force,
        ..writing(engine)
    };
    close(&open_quietly(&args.path, emptying)?)?;
    match output.is_json() {
        true => output.json(&Cleared {
            cleared_entries: entries,
        })?,
        false => output.line(format!("dropped {}", counted(entries, "entry")))?,
    }
    Ok(Outcome::Done)
}
