//! Records of a journal and their encoding: the kind and the number of words, 4 bytes each, then words of 8 bytes.

use super::shape::Key;

/// A record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The store is open.
    Serving,
    /// Operation `op` begins.
    Begin { op: u64, what: What },
    /// The operation ended with these results, key by key.
    End { op: u64, answers: Vec<Answer> },
    /// A put took this entry's slot.
    Evicted { key: Key, generation: u64 },
    /// A violation.
    Violation(String),
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Puts of these keys and versions.
    Put {
        keeps: bool,
        durable: bool,
        puts: Vec<(Key, u64)>,
    },
    Remove {
        durable: bool,
        keys: Vec<Key>,
    },
    /// Reads of values.
    Get(Vec<Key>),
    /// Checks for presence only.
    Look(Vec<Key>),
    Sync,
    Checkpoint,
    /// The last handle is dropped.
    Drop,
    Close,
}

/// Result of one key of an operation, or of an operation that has no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// An operation without keys succeeded.
    Done,
    Written,
    Existed,
    Superseded,
    /// The key was absent, and the put had no effect.
    NotAdmitted,
    /// The store was too busy or too full: nothing changed.
    Refused,
    /// The key is absent.
    Absent,
    /// The key is present.
    Present,
    /// The key's value.
    Value {
        version: u64,
        generation: u64,
    },
}

/// Bytes of a record before its words: the kind, and the number of words.
pub(super) const HEAD: usize = 8;
pub(super) const KIND_DROP: u64 = 18;
pub(super) const KIND_CLOSE: u64 = 19;

/// Longest text of a violation, in bytes: a record is at most 4096.
const TEXT_MAX: usize = 3072;

/// Splits off the first record: its kind, its words, and the rest.
pub(super) fn split(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let (body, rest) = rest.split_at_checked(number(&head[4..]) as usize * 8)?;
    Some((number(&head[..4]), body, rest))
}

/// Decodes the records of a journal.
pub(super) fn events(mut bytes: &[u8]) -> impl Iterator<Item = Result<Event, String>> {
    std::iter::from_fn(move || {
        let (kind, body, rest) = split(bytes)?;
        bytes = rest;
        let words: Vec<u64> = body.chunks_exact(8).map(number).collect();
        let unknown = || format!("a record of kind {kind} with {} words", words.len());
        Some(Event::decode(kind, &words).ok_or_else(unknown))
    })
}

fn number(bytes: &[u8]) -> u64 {
    let digits = bytes.iter().rev();
    digits.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

impl Event {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut words = Vec::new();
        let kind: u32 = match self {
            Event::Serving => 1,
            Event::Begin { op, what } => {
                words.push(*op);
                what.encode(&mut words)
            }
            Event::End { op, answers } => {
                words.push(*op);
                answers
                    .iter()
                    .for_each(|answer| words.extend(answer.encode()));
                2
            }
            Event::Evicted { key, generation } => {
                words.extend([*key, *generation]);
                3
            }
            Event::Violation(text) => {
                let text = text.as_bytes();
                let text = &text[..text.len().min(TEXT_MAX)];
                words.extend(text.chunks(8).map(number));
                4
            }
        };
        let mut bytes = Vec::with_capacity(8 + 8 * words.len());
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&(words.len() as u32).to_le_bytes());
        words
            .iter()
            .for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        bytes
    }

    fn decode(kind: u64, words: &[u64]) -> Option<Event> {
        Some(match (kind, words) {
            (1, []) => Event::Serving,
            (2, [op, answers @ ..]) => Event::End {
                op: *op,
                answers: answers
                    .chunks(2)
                    .map(Answer::decode)
                    .collect::<Option<_>>()?,
            },
            (3, &[key, generation]) => Event::Evicted { key, generation },
            (4, text) => {
                let bytes: Vec<u8> = text.iter().flat_map(|word| word.to_le_bytes()).collect();
                let text = String::from_utf8_lossy(&bytes);
                Event::Violation(text.trim_end_matches('\0').to_owned())
            }
            (_, [op, what @ ..]) => Event::Begin {
                op: *op,
                what: What::decode(kind, what)?,
            },
            _ => return None,
        })
    }
}

impl What {
    fn encode(&self, words: &mut Vec<u64>) -> u32 {
        match self {
            What::Put {
                keeps,
                durable,
                puts,
            } => {
                words.extend(puts.iter().flat_map(|&(key, version)| [key, version]));
                8 + u32::from(*keeps) + 2 * u32::from(*durable)
            }
            What::Remove { durable, keys } => {
                words.extend(keys);
                12 + u32::from(*durable)
            }
            What::Get(keys) => {
                words.extend(keys);
                14
            }
            What::Look(keys) => {
                words.extend(keys);
                15
            }
            What::Sync => 16,
            What::Checkpoint => 17,
            What::Drop => KIND_DROP as u32,
            What::Close => KIND_CLOSE as u32,
        }
    }

    fn decode(kind: u64, words: &[u64]) -> Option<What> {
        Some(match kind {
            8..12 => What::Put {
                keeps: kind & 1 != 0,
                durable: kind & 2 != 0,
                puts: words
                    .chunks_exact(2)
                    .map(|pair| (pair[0], pair[1]))
                    .collect(),
            },
            12 | 13 => What::Remove {
                durable: kind == 13,
                keys: words.to_vec(),
            },
            14 => What::Get(words.to_vec()),
            15 => What::Look(words.to_vec()),
            16 => What::Sync,
            17 => What::Checkpoint,
            KIND_DROP => What::Drop,
            KIND_CLOSE => What::Close,
            _ => return None,
        })
    }
}

impl Answer {
    fn encode(self) -> [u64; 2] {
        match self {
            Answer::Done => [0, 0],
            Answer::Written => [1, 0],
            Answer::Existed => [2, 0],
            Answer::Superseded => [3, 0],
            Answer::Refused => [4, 0],
            Answer::Absent => [5, 0],
            Answer::Present => [6, 0],
            Answer::NotAdmitted => [8, 0],
            Answer::Value {
                version,
                generation,
            } => [7 | version << 8, generation],
        }
    }

    fn decode(words: &[u64]) -> Option<Answer> {
        let &[word, generation] = words else {
            return None;
        };
        Some(match word & 0xff {
            0 => Answer::Done,
            1 => Answer::Written,
            2 => Answer::Existed,
            3 => Answer::Superseded,
            4 => Answer::Refused,
            5 => Answer::Absent,
            6 => Answer::Present,
            7 => Answer::Value {
                version: word >> 8,
                generation,
            },
            8 => Answer::NotAdmitted,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::journal::{Journal, Reader};
    use super::*;

    #[test]
    fn records_come_back_as_they_were_and_a_cut_one_is_left_out() {
        let value = Answer::Value {
            version: 1 << 40,
            generation: u64::MAX,
        };
        let simple = [
            Answer::Done,
            Answer::Written,
            Answer::Existed,
            Answer::Superseded,
            Answer::NotAdmitted,
            Answer::Refused,
            Answer::Absent,
            Answer::Present,
            value,
        ];
        let mut wanted = vec![Event::Serving];
        for keeps in [false, true] {
            for durable in [false, true] {
                let puts = vec![(1, 2), (3, 4)];
                let what = What::Put {
                    keeps,
                    durable,
                    puts,
                };
                wanted.push(Event::Begin { op: 7, what });
                let keys = vec![5];
                let what = What::Remove { durable, keys };
                wanted.push(Event::Begin { op: 8, what });
            }
        }
        let rest = [
            What::Get(vec![1, 2]),
            What::Look(vec![3]),
            What::Sync,
            What::Checkpoint,
            What::Drop,
            What::Close,
        ];
        wanted.extend(rest.map(|what| Event::Begin { op: 9, what }));
        let answers = simple.to_vec();
        wanted.push(Event::End { op: 7, answers });
        wanted.push(Event::Evicted {
            key: 4,
            generation: 5,
        });
        wanted.push(Event::Violation("a violation".into()));
        let journal = Journal::in_memory();
        wanted.iter().for_each(|event| journal.record(event));
        assert!(journal.is_wrong());
        let bytes = journal.bytes();
        let read: Result<Vec<Event>, String> = events(&bytes).collect();
        assert_eq!(read.unwrap(), wanted);
        let (first, last) = bytes.split_at(bytes.len() / 2);
        let mut reader = Reader::default();
        assert!([first, last].map(|half| reader.take(half)).contains(&true));
        assert_eq!(reader.into_bytes(), bytes);
        let cut = events(&bytes[..bytes.len() - 1]).count();
        assert_eq!(cut, wanted.len() - 1);
    }
}
