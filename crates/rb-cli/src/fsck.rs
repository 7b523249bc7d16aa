//! `rb fsck`: audits a store, and repairs it with `--repair`.

mod report;

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use rb_core::{AuditOptions, AuditReport, AuditState, EngineKind, OpenError, RepairReport};

use crate::args::FsckArgs;
use crate::failure::Failure;
use crate::open::refused;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::progress::progress_bar;
use report::FsckReport;

pub(crate) fn fsck(
    args: &FsckArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let options = options(args, engine, output.is_json());
    let (report, repaired, unasked) = if args.repair {
        let (done, unasked) = repair(args, &options, output)?;
        (
            done.after.as_ref().unwrap_or(&done.before).clone(),
            Some(done),
            unasked,
        )
    } else {
        (
            rb_core::audit(&args.path, &options).map_err(|why| failed(&args.path, why))?,
            None,
            None,
        )
    };
    let shown = FsckReport::of(&args.path, &report, repaired.as_ref());
    if output.is_json() {
        output.json_with(&shown, unasked.as_ref())?;
    } else {
        shown.show(output)?;
    }
    let more = "what is still damaged needs more consent: `rb fsck --repair --yes --force` also rewrites superblock copies and incarnation blocks";
    let repaired = repaired.is_some_and(|done| done.after.is_some());
    if repaired && report.state != AuditState::Clean && !args.force && !output.is_json() {
        output.line(more)?;
    }
    if let Some(failure) = unasked {
        // The report comes before the reason why the repair did not begin.
        output.flush()?;
        return Ok(Outcome::Broken(failure));
    }
    Ok(match report.state {
        AuditState::Clean => Outcome::Done,
        AuditState::Damaged => Outcome::Damaged,
        AuditState::Unusable => Outcome::Unusable,
    })
}

fn options(args: &FsckArgs, engine: EngineKind, quiet: bool) -> AuditOptions {
    let progress = (args.deep && !quiet).then(|| progress_bar("reading slots"));
    AuditOptions {
        engine,
        deep: args.deep,
        in_use: args.force && !args.repair,
        force: args.force && args.repair,
        progress,
        ..AuditOptions::default()
    }
}

/// Asks unless `--yes` was given, and repairs. The failure is the reason why the user could not be asked; the
/// report then has the findings.
fn repair(
    args: &FsckArgs,
    options: &AuditOptions,
    output: &mut Output,
) -> Result<(RepairReport, Option<Failure>), Failure> {
    let mut unasked = None;
    let done = rb_core::repair(&args.path, options, |before| {
        if args.yes {
            return true;
        }
        match ask(&args.path, before, output) {
            Ok(Some(agreed)) => return agreed,
            Ok(None) => {
                unasked = Some(Failure::RepairConsent {
                    path: args.path.clone(),
                });
            }
            Err(failure) => unasked = Some(failure),
        }
        false
    })
    .map_err(|why| failed(&args.path, why))?;
    Ok((done, unasked))
}

/// Asks the user at the terminal. `None` if standard input is not a terminal.
fn ask(path: &Path, before: &AuditReport, output: &mut Output) -> Result<Option<bool>, Failure> {
    if output.is_json() || !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    FsckReport::of(path, before, None).show(output)?;
    output.flush()?;
    let mut stderr = std::io::stderr();
    // Without a standard error the question cannot be shown.
    let asked = write!(
        stderr,
        "Repair {}? This writes to it. Type yes to agree: ",
        path.display()
    );
    if asked.and_then(|()| stderr.flush()).is_err() {
        return Ok(None);
    }
    let mut answer = String::new();
    match std::io::stdin().lock().read_line(&mut answer) {
        Ok(_) => Ok(Some(answer.trim() == "yes")),
        Err(_) => Ok(None),
    }
}

fn failed(path: &Path, source: OpenError) -> Failure {
    let path = path.to_path_buf();
    match source {
        OpenError::Device(why) if why.is_in_use() => Failure::InUse {
            path,
            source: OpenError::Device(why),
        },
        source => refused(&path, source),
    }
}
