//! One kind of restart, measured in rounds.

use rb_core::EngineKind;
use serde::Serialize;

use super::kill::kill;
use super::measure::{Measured, measure};
use crate::args::{FillArgs, Until};
use crate::failure::Failure;
use crate::output::Output;

/// The round with the median time to the first verified get, and that time in all of them.
#[derive(Serialize)]
pub(super) struct Case {
    #[serde(skip)]
    name: &'static str,
    #[serde(flatten)]
    median: Measured,
    /// In the order of the rounds.
    first_get_rounds_seconds: Vec<f64>,
}

impl Case {
    /// Measures `rounds` restarts, at least one: each after a kill there, or after a clean close.
    pub(super) fn measure(
        fill: &FillArgs,
        engine: EngineKind,
        until: Option<Until>,
        rounds: u32,
        output: &mut Output,
    ) -> Result<Case, Failure> {
        let name = match until {
            None => "clean close",
            Some(Until::Quarter) => "killed, usual log",
            Some(Until::Longest) => "killed, longest log",
            Some(Until::Full) => "killed, full log",
        };
        let mut all = Vec::new();
        // Never none, so that there is one in the middle.
        for _ in 0..rounds.max(1) {
            if let Some(until) = until {
                kill(fill, engine, until)?;
            }
            let measured = measure(fill, engine)?;
            for warning in &measured.warnings {
                output.warn(format!("{name}: {warning}"));
            }
            all.push(measured);
        }
        let first_get_rounds_seconds = all.iter().map(|round| round.first_get_seconds).collect();
        all.sort_by(|a, b| a.first_get_seconds.total_cmp(&b.first_get_seconds));
        Ok(Case {
            name,
            median: all.swap_remove(all.len() / 2),
            first_get_rounds_seconds,
        })
    }

    pub(super) fn show(&self, output: &mut Output) -> Result<(), Failure> {
        self.median.show(self.name, output)?;
        let rounds = &self.first_get_rounds_seconds;
        if rounds.len() > 1 {
            let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
            let most = rounds.iter().copied().fold(0.0, f64::max);
            output.line(format!(
                "{:<20} {least:>15.3} to {most:.3} s, median of {} rounds above",
                "",
                rounds.len()
            ))?;
        }
        Ok(())
    }
}
