//! `rb stats` and `rb top`: the figures of a store that another process has open.

mod figures;
mod lines;
mod screen;
mod seen;
mod top;
mod words;

use std::io::IsTerminal;

use crate::args::{StatsArgs, TopArgs};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::output::Output;
pub(crate) use figures::{LifetimeLine, alarms};
use figures::{StatsLine, StoreLine, TopLine};
use seen::Seen;

pub(crate) fn stats(args: &StatsArgs, output: &mut Output) -> Result<Outcome, Failure> {
    loop {
        let line = StatsLine::of(&args.path, &Seen::now(&args.path)?.session);
        if output.is_json() {
            output.json(&line)?;
        } else {
            lines::show(&line, output)?;
        }
        output.flush()?;
        if !args.watch {
            return Ok(outcome(&line.store));
        }
        std::thread::sleep(args.interval);
        if !output.is_json() {
            output.line("")?;
        }
    }
}

pub(crate) fn top(args: &TopArgs, output: &mut Output) -> Result<Outcome, Failure> {
    if args.once || output.is_json() {
        let before = Seen::now(&args.path)?;
        std::thread::sleep(args.interval);
        let line = TopLine::between(&args.path, &before, &Seen::now(&args.path)?);
        match output.is_json() {
            true => output.json(&line)?,
            false => screen::text(&line)
                .iter()
                .try_for_each(|text| output.line(text))?,
        }
        return Ok(outcome(&line.store));
    }
    if !std::io::stdout().is_terminal() {
        let why = "rb top draws on a terminal, and standard output is none: give --once, or use rb stats --watch";
        return Err(Failure::Usage { why: why.into() });
    }
    top::run(&args.path, args.interval)
}

fn outcome(store: &StoreLine) -> Outcome {
    match store.alarms[..] {
        [] => Outcome::Done,
        [..] => Outcome::Alarm,
    }
}
