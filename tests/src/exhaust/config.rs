//! Configurations: which operations run concurrently, and the initial contents.

use std::fmt;
use std::str::FromStr;

/// Number of keys: a and b.
pub(super) const KEYS: usize = 2;
/// Number of slots, of one class.
pub(super) const SLOTS: u64 = 2;
/// Capacity of the slots: one block.
pub(super) const SLOT_BYTES: u64 = 4096;

/// An operation of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Puts a value.
    Put {
        /// The key's number.
        key: usize,
        /// True if the put keeps an existing value.
        keeps: bool,
        /// True if the put completes only once it is durable.
        each_batch: bool,
        /// True if the value takes both slots of the store.
        large: bool,
    },
    /// Removes a value.
    Remove {
        /// The key's number.
        key: usize,
        /// True if the remove completes only once it is durable: an option of the store, so it applies to all removes
        /// of a run or to none.
        each_batch: bool,
    },
    /// Makes everything durable.
    Sync,
    /// Writes a checkpoint.
    Checkpoint,
    /// Closes the store.
    Close,
}

impl Operation {
    /// Returns all operations.
    #[must_use]
    pub fn all() -> Vec<Operation> {
        let mut all = Vec::new();
        for each_batch in [false, true] {
            for keeps in [false, true] {
                all.extend((0..KEYS).map(|key| Operation::Put {
                    key,
                    keeps,
                    each_batch,
                    large: false,
                }));
            }
            all.extend((0..KEYS).map(|key| Operation::Remove { key, each_batch }));
        }
        all.extend((0..KEYS).map(|key| Operation::Put {
            key,
            keeps: false,
            each_batch: false,
            large: true,
        }));
        all.extend([Operation::Sync, Operation::Checkpoint, Operation::Close]);
        all
    }

    /// Returns the number of slots that it takes.
    pub(super) fn slots(self) -> u64 {
        match self {
            Operation::Put { large: true, .. } => SLOTS,
            Operation::Put { .. } => 1,
            _ => 0,
        }
    }

    /// Returns whether it is a put that keeps an existing value.
    pub(super) fn keeps(self) -> bool {
        matches!(self, Operation::Put { keeps: true, .. })
    }

    pub(super) fn is_each_batch(self) -> bool {
        matches!(
            self,
            Operation::Put {
                each_batch: true,
                ..
            } | Operation::Remove {
                each_batch: true,
                ..
            }
        )
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = |key: usize| ['a', 'b'][key];
        let each = match self.is_each_batch() {
            true => "-each",
            false => "",
        };
        match *self {
            Operation::Put {
                key: of,
                keeps,
                large,
                ..
            } => {
                let name = match (keeps, large) {
                    (true, _) => "keep",
                    (false, true) => "two",
                    (false, false) => "put",
                };
                write!(f, "{name}-{}{each}", key(of))
            }
            Operation::Remove { key: of, .. } => write!(f, "remove-{}{each}", key(of)),
            Operation::Sync => f.write_str("sync"),
            Operation::Checkpoint => f.write_str("checkpoint"),
            Operation::Close => f.write_str("close"),
        }
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(name: &str) -> Result<Operation, String> {
        let all = Operation::all();
        let found = all.iter().find(|operation| operation.to_string() == name);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = all.iter().map(ToString::to_string).collect();
            format!("no operation {name}; there are {}", names.join(", "))
        })
    }
}

/// Initial contents of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Initial {
    /// No values.
    Empty,
    /// A value of key a, durable.
    One,
    /// Values of both keys, durable; that of a is older.
    Both,
}

impl Initial {
    /// All of them.
    pub const ALL: [Initial; 3] = [Initial::Empty, Initial::One, Initial::Both];

    /// Returns how many keys have a value.
    pub(super) fn values(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Initial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["empty", "one", "both"][self.values()])
    }
}

impl FromStr for Initial {
    type Err = String;

    fn from_str(name: &str) -> Result<Initial, String> {
        let found = Initial::ALL
            .iter()
            .find(|initial| initial.to_string() == name);
        found
            .copied()
            .ok_or_else(|| format!("no initial state {name}; there are empty, one, both"))
    }
}

/// Operations that run concurrently, in every order of their steps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Config {
    /// Initial contents.
    pub initial: Initial,
    /// The operations.
    pub operations: Vec<Operation>,
    /// True if the policy refuses what it would have to evict for.
    pub refuses: bool,
}

impl Config {
    /// Returns all configurations of `count` operations of `among`. The order of the operations does not matter.
    pub(super) fn all(count: usize, among: &[Operation], refuses: bool) -> Vec<Config> {
        let mut multisets: Vec<Vec<usize>> = vec![Vec::new()];
        for _ in 0..count {
            let longer = multisets.iter().flat_map(|chosen| {
                let from = chosen.last().copied().unwrap_or(0);
                (from..among.len()).map(|next| [&chosen[..], &[next]].concat())
            });
            multisets = longer.collect();
        }
        let mut configs = Vec::new();
        for initial in Initial::ALL {
            let chosen = multisets.iter().map(|chosen| Config {
                initial,
                operations: chosen.iter().map(|at| among[*at]).collect(),
                refuses,
            });
            configs.extend(chosen.filter(Config::is_possible));
        }
        configs
    }

    /// Returns whether removes complete only once they are durable; `None` if there are both kinds.
    fn removes_each_batch(&self) -> Option<bool> {
        let of_removes = |operation: &Operation| match operation {
            Operation::Remove { each_batch, .. } => Some(*each_batch),
            _ => None,
        };
        let mut sorts = self.operations.iter().filter_map(of_removes);
        let first = sorts.next().unwrap_or(false);
        sorts.all(|sort| sort == first).then_some(first)
    }

    /// Returns whether one store can run all of it.
    pub(super) fn is_possible(&self) -> bool {
        self.removes_each_batch().is_some()
    }

    /// Returns whether the store acknowledges removes only once they are durable.
    pub(super) fn is_each_batch(&self) -> bool {
        self.removes_each_batch().unwrap_or(false)
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.operations.iter().map(ToString::to_string).collect();
        write!(f, "--initial {} --only {}", self.initial, names.join(","))?;
        match self.refuses {
            true => f.write_str(" --refuses"),
            false => Ok(()),
        }
    }
}
