//! The state that a session saves for the next one: the evidence, and who drives. Ghosts and sample are not saved, because each
//! session has another secret for its hashes; a window of lookups later they are full again.

use super::ages::BUCKETS;
use super::class::CLASSES;
use super::duel::{ARMS, Scores};
use super::value::Counts;

/// The first bytes, which name this encoding.
const TAG: [u8; 8] = *b"learned1";
const SCORES: usize = 2 * ARMS + 1;
const LEN: usize = TAG.len() + 3 * 4 + SCORES * 8 + 2 * CLASSES * BUCKETS * 4;

/// The state that is saved.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    pub(super) arm: u32,
    pub(super) noted: u32,
    pub(super) chains: u32,
    pub(super) scores: Scores,
    pub(super) counts: Counts,
}

impl Saved {
    pub(super) fn encode(&self) -> Vec<u8> {
        let head = [self.arm, self.noted, self.chains];
        let Scores {
            hits,
            writes,
            lookups,
        } = &self.scores;
        let scores = hits.iter().chain(writes).chain([lookups]);
        let counts = self.counts.references.iter().chain(&*self.counts.visits);
        let mut bytes = TAG.to_vec();
        bytes.extend(head.into_iter().flat_map(u32::to_le_bytes));
        bytes.extend(scores.flat_map(|score| score.to_le_bytes()));
        bytes.extend(counts.flatten().flat_map(|count| count.to_le_bytes()));
        debug_assert_eq!(bytes.len(), LEN, "the length is known");
        bytes
    }

    /// Decodes a saved state; `None` if these bytes are none, or not one that a policy has.
    pub(super) fn decode(bytes: &[u8]) -> Option<Saved> {
        let bytes = bytes.strip_prefix(&TAG)?;
        if bytes.len() + TAG.len() != LEN {
            return None;
        }
        let (head, bytes) = bytes.split_at(3 * 4);
        let (scores, counts) = bytes.split_at(SCORES * 8);
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("a chunk of four"));
        let head: Vec<u32> = head.chunks_exact(4).map(word).collect();
        let score = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().expect("a chunk of eight"));
        let scores: Vec<f64> = scores.chunks_exact(8).map(score).collect();
        let is_sound = |score: &f64| score.is_finite() && *score >= 0.0;
        if head[0] as usize >= ARMS || !scores.iter().all(is_sound) {
            return None;
        }
        let mut all = Counts::new();
        let places = all.references.iter_mut().chain(all.visits.iter_mut());
        for (place, bytes) in places.flatten().zip(counts.chunks_exact(4)) {
            // Counts grow by one, and a forged one must not overflow.
            *place = word(bytes).min(u32::MAX / 2);
        }
        Some(Saved {
            arm: head[0],
            noted: head[1].min(u32::MAX / 2),
            chains: head[2].min(u32::MAX / 2),
            scores: Scores {
                hits: std::array::from_fn(|arm| scores[arm]),
                writes: std::array::from_fn(|arm| scores[ARMS + arm]),
                lookups: scores[2 * ARMS],
            },
            counts: all,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_comes_back_and_nothing_else() {
        let mut counts = Counts::new();
        counts.references[3][7] = 5;
        counts.visits[CLASSES - 1][BUCKETS - 1] = 9;
        let saved = Saved {
            arm: 2,
            noted: 7,
            chains: 3,
            scores: Scores {
                hits: [1.0, 2.0, 3.0, 4.5],
                writes: [0.5; ARMS],
                lookups: 12.0,
            },
            counts,
        };
        let bytes = saved.encode();
        let back = Saved::decode(&bytes).unwrap();
        assert_eq!(format!("{back:?}"), format!("{saved:?}"));
        assert!(Saved::decode(&bytes[1..]).is_none());
        assert!(Saved::decode(&bytes[..bytes.len() - 1]).is_none());
        assert!(Saved::decode(b"").is_none());
        let mut wrong = bytes.clone();
        wrong[8] = ARMS as u8;
        assert!(Saved::decode(&wrong).is_none(), "there is no such arm");
        let mut wrong = bytes;
        wrong[20..28].copy_from_slice(&f64::NAN.to_le_bytes());
        assert!(Saved::decode(&wrong).is_none());
    }
}
