//! Capacities on the command line: slots, or percent of the distinct blocks of a trace.

/// The number of slots of a simulated store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Capacity {
    /// This many slots.
    Slots(u32),
    /// Percent of the distinct blocks of the trace.
    Percent(f64),
}

impl Capacity {
    /// Parses `18279` or `2.5%`.
    ///
    /// # Errors
    /// The reason why it is neither.
    pub fn parse(text: &str) -> Result<Capacity, String> {
        let why = || "it is neither a number of slots from 1 to 4294967295, as in 18279, nor a percentage above 0 and up to 100, as in 2.5%";
        let capacity = match text.strip_suffix('%') {
            Some(percent) => percent
                .parse()
                .ok()
                .filter(|percent| *percent > 0.0 && *percent <= 100.0)
                .map(Capacity::Percent),
            None => text
                .parse()
                .ok()
                .filter(|slots| *slots > 0)
                .map(Capacity::Slots),
        };
        capacity.ok_or_else(|| why().to_owned())
    }

    /// The slots for a trace with this many distinct blocks; at least 1.
    pub(crate) fn slots(self, distinct: u32) -> u32 {
        match self {
            Capacity::Slots(slots) => slots,
            Capacity::Percent(percent) => (f64::from(distinct) * percent / 100.0).max(1.0) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_slots_or_percentages() {
        assert_eq!(Capacity::parse("18279"), Ok(Capacity::Slots(18_279)));
        assert_eq!(Capacity::parse("2.5%"), Ok(Capacity::Percent(2.5)));
        for text in [
            "",
            "0",
            "-1",
            "0%",
            "101%",
            "nan%",
            "%",
            "1.5",
            "5000000000",
        ] {
            assert!(Capacity::parse(text).is_err(), "{text}");
        }
        assert_eq!(Capacity::Percent(10.0).slots(182_790), 18_279);
        assert_eq!(Capacity::Percent(0.001).slots(10), 1);
    }
}
