//! Reduces many measurements of one contender to few numbers: medians with their spread, and ratios within a round.

use serde_json::{Value, json};

use super::contender::Contender;

/// Compared metrics: the field of the results, and its unit for the reader.
pub(super) const METRICS: [(&str, &str); 5] = [
    ("gbps", "GB/s"),
    ("cpu_s_per_gb", "CPU s/GB"),
    ("cpu_s_per_gb_process", "CPU s/GB, whole process"),
    ("p50_us", "p50 µs"),
    ("p99_us", "p99 µs"),
];

/// All rounds of one case on one target.
pub(super) struct Rounds {
    pub(super) target: &'static str,
    pub(super) case: String,
    /// The results of each round, of every contender that has one.
    pub(super) answers: Vec<Vec<(Contender, Value)>>,
}

/// A median and its spread.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Returns `None` if there are no numbers.
    pub(super) fn of(mut numbers: Vec<f64>) -> Option<Spread> {
        numbers.retain(|number| number.is_finite());
        numbers.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (numbers.first()?, numbers.last()?);
        let (low, high) = (numbers[(numbers.len() - 1) / 2], numbers[numbers.len() / 2]);
        let median = f64::midpoint(low, high);
        Some(Spread { median, min, max })
    }

    fn json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

impl Rounds {
    /// Returns the contenders that have any result, in the order of a round.
    pub(super) fn contenders(&self) -> Vec<Contender> {
        let mut all = Vec::new();
        for (contender, _) in self.answers.iter().flatten() {
            if !all.contains(contender) {
                all.push(*contender);
            }
        }
        all
    }

    /// Returns the spread of one metric of a contender.
    pub(super) fn spread(&self, contender: Contender, metric: &str) -> Option<Spread> {
        let rounds = self.answers.iter();
        Spread::of(
            rounds
                .filter_map(|round| number(round, contender, metric))
                .collect(),
        )
    }

    /// Returns the ratio of one contender to another, computed within each round.
    pub(super) fn ratio(&self, one: Contender, other: Contender, metric: &str) -> Option<Spread> {
        let of = |round: &Vec<_>| Some(number(round, one, metric)? / number(round, other, metric)?);
        Spread::of(self.answers.iter().filter_map(of).collect())
    }

    /// Returns one line for each contender, with all its results.
    pub(super) fn json(&self) -> Vec<Value> {
        let line = |contender: Contender| {
            let mut line = json!({
                "target": self.target, "case": self.case, "contender": contender.name(),
                "answers": self.answers.iter().flatten()
                    .filter(|(who, _)| *who == contender).map(|(_, answer)| answer).collect::<Vec<_>>(),
            });
            for (metric, _) in METRICS {
                let all = [
                    (metric.to_owned(), self.spread(contender, metric)),
                    (
                        format!("{metric}_over_fio"),
                        self.ratio(contender, Contender::FioUring, metric),
                    ),
                    (
                        format!("{metric}_of_ours_over_it"),
                        self.ratio(Contender::Ours, contender, metric),
                    ),
                ];
                for (name, spread) in all {
                    line[name] = spread.map_or(Value::Null, Spread::json);
                }
            }
            line
        };
        self.contenders().into_iter().map(line).collect()
    }
}

/// Returns a field of a contender's result in a round. Only fio distinguishes its own CPU time from that of its
/// process.
fn number(round: &[(Contender, Value)], contender: Contender, metric: &str) -> Option<f64> {
    let (_, answer) = round.iter().find(|(who, _)| *who == contender)?;
    let other = metric.strip_suffix("_process").unwrap_or(metric);
    answer[metric].as_f64().or_else(|| answer[other].as_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let round = |ours: f64, fio: f64| {
            vec![
                (Contender::Ours, json!({ "gbps": ours })),
                (Contender::FioUring, json!({ "gbps": fio, "p50_us": null })),
            ]
        };
        // A disk that is twice as fast for a while must not affect the ratio.
        let rounds = Rounds {
            target: "disk",
            case: "get".to_owned(),
            answers: vec![round(0.9, 1.0), round(1.8, 2.0), round(4.5, 5.0)],
        };
        let ratio = rounds.ratio(Contender::Ours, Contender::FioUring, "gbps");
        assert!(
            ratio.is_some_and(
                |ratio| (ratio.max - 0.9).abs() < 1e-9 && (ratio.min - 0.9).abs() < 1e-9
            )
        );
        let fio = rounds.spread(Contender::FioUring, "gbps");
        assert!(fio.is_some_and(|fio| (fio.min, fio.median, fio.max) == (1.0, 2.0, 5.0)));
        assert!(rounds.spread(Contender::FioUring, "p50_us").is_none());
    }
}
