//! Counts which operations have begun at which places of others.

use std::fmt;

use rb_core::SwitchPoint;
use rb_testkit::Moment;

use crate::schedule::Place;

macro_rules! kinds {
    ($($name:ident: $words:literal,)*) => {
        /// Kind of an operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = $words] $name,)*
            /// Several operations in a row, or one that needs the store exclusively: no other begins in it.
            Alone,
        }

        impl Kind {
            /// All kinds that begin within each other.
            pub const ALL: &[Kind] = &[$(Kind::$name,)*];
        }

        impl fmt::Display for Kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Kind::$name => $words,)* Kind::Alone => "alone" })
            }
        }
    };
}

kinds! {
    Put: "put",
    PutEachBatch: "put, each batch",
    PutKeep: "put that keeps",
    Remove: "remove",
    Get: "get",
    Lease: "lease",
    Unlease: "unlease",
    Sync: "sync",
    Commit: "commit",
    Checkpoint: "checkpoint",
    Validate: "validate",
    Scrub: "scrub",
    Discard: "discard",
    Close: "close",
}

/// For each place of a running operation, the number of operations of each kind that began there.
#[derive(Clone, Debug)]
pub struct Pairs(Vec<u64>);

impl Default for Pairs {
    fn default() -> Self {
        Pairs(vec![0; Pairs::PLACES * Kind::ALL.len()])
    }
}

impl Pairs {
    /// Number of distinguishable places.
    pub const PLACES: usize = SwitchPoint::ALL.len() + 2;

    /// Returns the number of a place; `None` for a wait.
    #[must_use]
    pub(super) fn number(place: Place) -> Option<usize> {
        match place {
            Place::At(point) => SwitchPoint::ALL.iter().position(|one| *one == point),
            Place::Device(Moment::Before) => Some(SwitchPoint::ALL.len()),
            Place::Device(Moment::After) => Some(SwitchPoint::ALL.len() + 1),
            Place::Waits(_) => None,
        }
    }

    fn name(number: usize) -> String {
        match SwitchPoint::ALL.get(number) {
            Some(point) => format!("{point:?}"),
            None if number == SwitchPoint::ALL.len() => "before the device's work".into(),
            None => "after the device's work".into(),
        }
    }

    pub(super) fn count(&mut self, place: usize, kind: Kind) {
        if let Some(count) = self.0.get_mut(place * Kind::ALL.len() + kind as usize) {
            *count += 1;
        }
    }

    pub(super) fn of(&self, place: usize) -> &[u64] {
        let kinds = Kind::ALL.len();
        &self.0[place * kinds..][..kinds]
    }

    pub(super) fn add(&mut self, other: &Pairs) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count += more;
        }
    }

    /// Returns each place by its name, with the counts of the operations that began there.
    pub fn rows(&self) -> impl Iterator<Item = (String, &[u64])> {
        (0..Pairs::PLACES).map(|number| (Pairs::name(number), self.of(number)))
    }

    /// Returns the pair that was reached least.
    #[must_use]
    pub fn rarest(&self) -> (u64, String, Kind) {
        let pairs = self.rows().flat_map(|(name, counts)| {
            let kinds = Kind::ALL.iter().zip(counts);
            kinds.map(move |(kind, count)| (*count, name.clone(), *kind))
        });
        pairs
            .min_by_key(|(count, ..)| *count)
            .unwrap_or((0, String::new(), Kind::Alone))
    }
}
