//! The states that a crash test must cover, and how often a run reached each. A state that is never reached means that
//! the run tested less than it claims.

use std::fmt;

macro_rules! states {
    ($($name:ident: $words:literal,)*) => {
        /// A situation in which a crash, a fault or a restart is interesting.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum State {
            $(#[doc = $words] $name,)*
        }

        impl State {
            /// All states.
            pub const ALL: &[State] = &[$(State::$name,)*];
        }

        impl fmt::Display for State {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(State::$name => $words,)* })
            }
        }
    };
}

states! {
    BaseSections: "crash among a base's sections",
    BaseDirectory: "crash before a base's first flush, all of it written",
    BaseHeader: "crash between a base's header and its flush",
    BaseHeaderTorn: "a base's header torn",
    LogBlocks: "crash between log blocks and their flush",
    LogBlocksMany: "crash with several blocks of one commit unflushed",
    LogWrap: "crash in a commit that wraps around the ring",
    LogGap: "a log block lost, a later one of the same commit kept",
    LogFull: "crash after the log was full",
    LogLapped: "crash after the ring was overwritten at least once",
    Incarnation: "crash in an opening, at its incarnation block",
    IncarnationTorn: "an incarnation block torn",
    Superblock: "crash between the superblock copies",
    StartEmpty: "crash while the store is emptied",
    Format: "crash while an old store is formatted",
    RecoveryAgain: "crash in the recovery of a crash",
    ThirdRestart: "a third restart in a row after crashes",
    SlotTorn: "a slot's write torn",
    ClassFull: "crash with every slot of a class in use",
    Unverified: "crash with entries that were not read since the last crash",
    Evicted: "crash after an eviction that no sync covers",
    Leased: "crash with a lease on an entry",
    LeasedRemoved: "crash with a lease on an entry that was removed",
    Quarantined: "crash with a slot in quarantine",
    BadSlot: "a slot given up as bad",
    LateWrite: "a failed write landed later",
    LateDiscard: "a failed discard landed later",
    Discarded: "crash after freed slots were discarded",
    Closed: "crash of a store that was closed cleanly",
    UnsyncedKept: "a crash kept what no sync covered",
    UnsyncedLost: "a crash lost what no sync covered",
    DataLost: "an entry recovered whose data was lost: a miss",
    OlderBase: "recovery from the older base",
    BaseRot: "the newest base rotten: nothing lost",
    LogRot: "a block in the middle of the log rotten: reported",
    SuperblockRot: "a superblock copy rotten: repaired",
    IncarnationRot: "an incarnation block rotten: nothing lost",
    SlotRot: "a slot rotten: a miss",
    SeveralRecovered: "a value of several slots recovered, and served",
    SeveralTorn: "one slot of several torn or lost, another one written",
    SeveralHollow: "an entry of several slots recovered, some of its data lost: a miss",
    SeveralEvicting: "entries evicted for a value of several slots",
    SeveralEvicted: "an entry of several slots evicted",
    SeveralLeasedRemoved: "an entry of several slots removed under a lease",
    SeveralRot: "a further slot rotten: a miss",
    FaultyRun: "a run on a device that fails at random",
}

/// Number of times that each state was reached.
#[derive(Clone, Debug)]
pub struct States(Vec<u64>);

impl Default for States {
    fn default() -> Self {
        States(vec![0; State::ALL.len()])
    }
}

impl States {
    pub(super) fn reach(&mut self, state: State) {
        self.0[state as usize] += 1;
    }

    pub(super) fn reach_if(&mut self, state: State, reached: bool) {
        self.0[state as usize] += u64::from(reached);
    }

    pub(super) fn add(&mut self, other: &States) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count += more;
        }
    }

    /// Returns each state with its count.
    pub fn counts(&self) -> impl Iterator<Item = (State, u64)> {
        State::ALL.iter().copied().zip(self.0.iter().copied())
    }

    /// Returns the states that were never reached.
    #[must_use]
    pub fn missed(&self) -> Vec<State> {
        self.counts()
            .filter(|(_, count)| *count == 0)
            .map(|(state, _)| state)
            .collect()
    }
}
