//! Axes of charts: linear or logarithmic, and where their ticks are.

/// Ticks that a linear axis has, about.
const TICKS: f64 = 6.0;
/// Most ticks of a logarithmic axis that shows 2 and 5 between the powers of ten.
const FINE_TICKS_MAX: usize = 9;

/// An axis of a chart.
#[derive(Clone, Debug)]
pub struct Axis {
    pub(crate) name: String,
    is_log: bool,
    from_zero: bool,
    ticks: Option<Vec<f64>>,
    label: fn(f64) -> String,
}

/// The part of an axis that a chart shows, in positions on the axis.
pub(crate) struct Shown {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) ticks: Vec<f64>,
}

impl Axis {
    /// Makes a linear axis. The name has the unit.
    #[must_use]
    pub fn linear(name: &str) -> Axis {
        Axis {
            name: name.to_owned(),
            is_log: false,
            from_zero: false,
            ticks: None,
            label: short,
        }
    }

    /// Makes a logarithmic axis, which shows positive numbers only.
    #[must_use]
    pub fn log(name: &str) -> Axis {
        Axis {
            is_log: true,
            ..Axis::linear(name)
        }
    }

    /// Starts a linear axis at zero.
    #[must_use]
    pub fn from_zero(self) -> Axis {
        Axis {
            from_zero: true,
            ..self
        }
    }

    /// Shows the numbers at the ticks in this form.
    #[must_use]
    pub fn labelled(self, label: fn(f64) -> String) -> Axis {
        Axis { label, ..self }
    }

    /// Sets the ticks. The axis begins at the first one at the latest.
    #[must_use]
    pub fn ticks(self, ticks: Vec<f64>) -> Axis {
        Axis {
            ticks: Some(ticks),
            ..self
        }
    }

    /// Returns the position of a number; `None` if the axis cannot show it.
    pub(crate) fn position(&self, number: f64) -> Option<f64> {
        let position = if self.is_log { number.log10() } else { number };
        position.is_finite().then_some(position)
    }

    /// Returns the label at a position.
    pub(crate) fn label_at(&self, position: f64) -> String {
        (self.label)(if self.is_log {
            10_f64.powf(position)
        } else {
            position
        })
    }

    /// Returns the part that shows all positions.
    pub(crate) fn shown(&self, positions: impl Iterator<Item = f64>) -> Shown {
        let (mut from, mut to) = (f64::INFINITY, f64::NEG_INFINITY);
        for position in positions {
            (from, to) = (from.min(position), to.max(position));
        }
        if from > to {
            (from, to) = (0.0, 1.0);
        }
        if self.from_zero {
            from = 0.0;
            to *= 1.06;
        }
        if to - from < 1e-9 {
            to = from + 1.0;
        }
        let ticks = match &self.ticks {
            Some(ticks) => {
                let all = ticks.iter().filter_map(|tick| self.position(*tick));
                let all: Vec<f64> = all.collect();
                from = all.iter().copied().fold(from, f64::min);
                all
            }
            None if self.is_log => log_ticks(&mut from, &mut to),
            None => linear_ticks(from, to),
        };
        let inside = |tick: &f64| (from - 1e-9..=to + 1e-9).contains(tick);
        Shown {
            from,
            to,
            ticks: ticks.into_iter().filter(inside).collect(),
        }
    }
}

/// Extends the part to ticks at both ends, and returns the ticks: powers of ten, and 2 and 5 times as much if there is
/// room.
fn log_ticks(from: &mut f64, to: &mut f64) -> Vec<f64> {
    let powers = from.floor() as i32..=to.ceil() as i32;
    let fine: Vec<f64> = powers
        .flat_map(|power| [1.0, 2.0, 5.0].map(|step: f64| f64::from(power) + step.log10()))
        .collect();
    let first = fine.iter().rposition(|tick| *tick <= *from + 1e-9);
    let last = fine.iter().position(|tick| *tick >= *to - 1e-9);
    let ticks = fine[first.unwrap_or(0)..=last.unwrap_or(fine.len() - 1)].to_vec();
    (*from, *to) = (ticks[0], ticks[ticks.len() - 1]);
    match ticks.len() {
        0..=FINE_TICKS_MAX => ticks,
        _ => ticks
            .into_iter()
            .filter(|tick| (tick - tick.round()).abs() < 1e-9)
            .collect(),
    }
}

/// Returns multiples of 1, 2 or 5 times a power of ten.
fn linear_ticks(from: f64, to: f64) -> Vec<f64> {
    let rough = (to - from) / TICKS;
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps.into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((from / step).ceil() as i64, (to / step).floor() as i64);
    (first..=last).map(|tick| tick as f64 * step).collect()
}

/// Shows a number with as many digits as it needs, up to three after the point.
fn short(number: f64) -> String {
    let text = format!("{number:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0" } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_are_round_numbers() {
        let shown = Axis::linear("s").from_zero().shown([4.9].into_iter());
        assert_eq!(shown.ticks, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(short(0.25), "0.25");
        assert_eq!(short(30.0), "30");
    }

    #[test]
    fn log_axes_end_at_ticks_and_show_no_zero() {
        let axis = Axis::log("us");
        assert_eq!(axis.position(0.0), None);
        let at = [130.0, 1700.0].map(|number| axis.position(number).unwrap_or(0.0));
        let shown = axis.shown(at.into_iter());
        let labels: Vec<String> = shown
            .ticks
            .iter()
            .map(|tick| axis.label_at(*tick))
            .collect();
        assert_eq!(labels, ["100", "200", "500", "1000", "2000"]);
        assert!(shown.from <= at[0] && shown.to >= at[1]);
    }

    #[test]
    fn an_axis_without_numbers_has_a_length() {
        for axis in [
            Axis::linear("a"),
            Axis::log("b"),
            Axis::linear("c").from_zero(),
        ] {
            for numbers in [&[][..], &[0.0], &[7.0, 7.0]] {
                let shown = axis.shown(numbers.iter().copied());
                assert!(shown.to > shown.from, "{axis:?} {numbers:?}");
            }
        }
    }
}
