//! Measures one kind of restart in rounds.

use rb_core::EngineKind;
use serde::Serialize;

use super::kill::kill;
use super::measure::{MeasuredRestart, measure};
use crate::args::{FillArgs, Until};
use crate::failure::Failure;
use crate::output::Output;

/// The round with the median time to the first verified get, and that time of all rounds.
#[derive(Serialize)]
pub(super) struct RestartCase {
    #[serde(skip)]
    title: &'static str,
    case: &'static str,
    #[serde(flatten)]
    median: MeasuredRestart,
    /// In the order of the rounds.
    first_get_rounds_seconds: Vec<f64>,
}

impl RestartCase {
    /// Measures `rounds` restarts, at least one: each after its own kill, or after a clean close.
    pub(super) fn measure(
        fill: &FillArgs,
        engine: EngineKind,
        until: Option<Until>,
        rounds: u32,
        output: &mut Output,
    ) -> Result<RestartCase, Failure> {
        let (title, case) = match until {
            None => ("clean close", "clean_close"),
            Some(Until::Usual) => ("killed, usual log", "killed_usual_log"),
            Some(Until::Longest) => ("killed, longest log", "killed_longest_log"),
            Some(Until::Full) => ("killed, full log", "killed_full_log"),
        };
        let mut all = Vec::new();
        // At least one, so that there is a median.
        for _ in 0..rounds.max(1) {
            if let Some(until) = until {
                kill(fill, engine, until)?;
            }
            let mut measured = measure(fill, engine)?;
            for warning in std::mem::take(&mut measured.restart_warnings) {
                output.warn(format!("{title}: {warning}"));
            }
            all.push(measured);
        }
        let first_get_rounds_seconds = all.iter().map(|round| round.first_get_seconds).collect();
        all.sort_by(|a, b| a.first_get_seconds.total_cmp(&b.first_get_seconds));
        Ok(RestartCase {
            title,
            case,
            median: all.swap_remove(all.len() / 2),
            first_get_rounds_seconds,
        })
    }

    pub(super) fn show(&self, output: &mut Output) -> Result<(), Failure> {
        self.median.show(self.title, output)?;
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
