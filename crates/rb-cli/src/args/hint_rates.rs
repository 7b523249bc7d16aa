//! Rates of hints on the command line: how often a simulated caller says that a chain has ended.

/// Percentages of requests that carry the hint that their chain has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HintRates {
    /// Percentage of the requests whose chain has ended.
    pub ended: f64,
    /// Percentage of the others: wrong hints.
    pub others: f64,
}

impl HintRates {
    /// Parses `80/5`.
    ///
    /// # Errors
    /// The reason why it is no pair of percentages.
    pub fn parse(text: &str) -> Result<HintRates, String> {
        let percent = |text: &str| {
            let percent = text.parse().ok();
            percent.filter(|percent| (0.0..=100.0).contains(percent))
        };
        let rates = text.split_once('/').and_then(|(ended, others)| {
            Some(HintRates {
                ended: percent(ended)?,
                others: percent(others)?,
            })
        });
        rates.ok_or_else(|| "it is not two percentages from 0 to 100, as in 80/5".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_two_percentages() {
        let rates = |ended, others| Ok(HintRates { ended, others });
        assert_eq!(HintRates::parse("80/5"), rates(80.0, 5.0));
        assert_eq!(HintRates::parse("100/0.5"), rates(100.0, 0.5));
        for text in ["", "80", "80/", "/5", "101/5", "80/-1", "nan/5", "80/5/1"] {
            assert!(HintRates::parse(text).is_err(), "{text}");
        }
    }
}
