//! The bound on events that a failing device could repeat thousands of times a second: of each kind at most
//! [`PER_SECOND`] in each second of a session. The next event of the kind reports how many were left out.

use std::time::Duration;

/// Most events of a kind in a second.
pub(super) const PER_SECOND: u32 = 10;

/// Kinds of events that are bounded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Dropped,
    Quarantined,
    BadSlot,
    ReadFailed,
    TaskFailed,
    MetadataWrite,
    Space,
    Checkpoint,
    Late,
    Finding,
}

impl Kind {
    pub(super) const ALL: [Kind; 10] = [
        Kind::Dropped,
        Kind::Quarantined,
        Kind::BadSlot,
        Kind::ReadFailed,
        Kind::TaskFailed,
        Kind::MetadataWrite,
        Kind::Space,
        Kind::Checkpoint,
        Kind::Late,
        Kind::Finding,
    ];
}

/// The events of one kind in the current second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    second: u64,
    count: u32,
    left_out: u64,
}

impl Window {
    /// Returns the number of events left out since the last one that was not, if this one is not. `now` is the time since
    /// the store was opened.
    pub(super) fn admit(&mut self, now: Duration) -> Option<u64> {
        if self.second != now.as_secs() {
            (self.second, self.count) = (now.as_secs(), 0);
        }
        if self.count == PER_SECOND {
            self.left_out += 1;
            return None;
        }
        self.count += 1;
        Some(self.take_left_out())
    }

    /// Takes the number of events left out since the last one that was not.
    pub(super) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_few_events_and_the_next_one_counts_the_others() {
        let mut window = Window::default();
        let now = Duration::from_millis(1500);
        let admitted = (0..1000).filter(|_| window.admit(now) == Some(0));
        assert_eq!(admitted.count(), PER_SECOND as usize);
        let later = Duration::from_secs(2);
        let left_out = 1000 - u64::from(PER_SECOND);
        assert_eq!(window.admit(later), Some(left_out));
        assert_eq!(window.admit(later), Some(0), "they are counted once");
        assert_eq!(window.take_left_out(), 0);
    }

    #[test]
    fn every_kind_has_a_window() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
    }
}
