//! A chat service as its cache sees it.
//!
//! A conversation starts with one of a few system prompts, whose blocks all conversations with that
//! prompt share, and grows with each turn. A block is named by everything before it, as in prefix
//! caching: the same words after another history are another block. Which conversation speaks next
//! is skewed, so that some come back soon and some after a long time. Ended conversations make room
//! for new ones. Everything follows from the seed, so two processes agree without talking.

use crate::payload::mix;

/// The conversations are the same in every run.
pub(super) const SEED: u64 = 20_250_101;
/// Conversations going on at one time.
const ACTIVE: usize = 240;
/// System prompts to begin with.
const PROMPTS: u64 = 4;
/// Blocks of a system prompt.
const PROMPT_BLOCKS: u64 = 8;
/// Blocks that a turn adds: from 2 to 5.
const TURN_BLOCKS: std::ops::Range<u64> = 2..6;
/// Turns of a conversation: from 4 to 15.
const TURNS: std::ops::Range<u64> = 4..16;

/// One turn of one conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Which conversation, counted from 0 in the order of their beginnings.
    pub(super) conversation: u64,
    /// Which turn of it, from 0.
    pub(super) number: u64,
    /// All its blocks: the history, then what this turn adds.
    pub(super) blocks: Vec<u64>,
    /// How many of them are history.
    pub(super) history: usize,
}

struct Conversation {
    number: u64,
    turns: u64,
    turns_max: u64,
    blocks: Vec<u64>,
}

/// Turns without end.
pub(super) struct Workload {
    random: u64,
    started: u64,
    active: Vec<Conversation>,
}

impl Workload {
    pub(super) fn new(seed: u64) -> Workload {
        let mut workload = Workload {
            random: seed,
            started: 0,
            active: Vec::new(),
        };
        for _ in 0..ACTIVE {
            let conversation = workload.begin();
            workload.active.push(conversation);
        }
        workload
    }

    fn begin(&mut self) -> Conversation {
        let prompt = self.below(PROMPTS);
        let mut blocks = Vec::new();
        for at in 0..PROMPT_BLOCKS {
            let history = blocks.last().copied().unwrap_or(0);
            blocks.push(block(history, prompt, at));
        }
        let turns_max = TURNS.start + self.below(TURNS.end - TURNS.start);
        self.started += 1;
        Conversation {
            number: self.started - 1,
            turns: 0,
            turns_max,
            blocks,
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(1);
        mix(self.random) % end
    }

    /// A conversation; the first ones speak more often than the last ones.
    fn speaker(&mut self) -> usize {
        let end = ACTIVE as u64;
        let (a, b) = (self.below(end), self.below(end));
        usize::try_from(a.min(b)).unwrap_or(0)
    }
}

impl Iterator for Workload {
    type Item = Turn;

    fn next(&mut self) -> Option<Turn> {
        let speaker = self.speaker();
        let added = TURN_BLOCKS.start + self.below(TURN_BLOCKS.end - TURN_BLOCKS.start);
        let conversation = &mut self.active[speaker];
        let history = conversation.blocks.len();
        for at in 0..added {
            let before = conversation.blocks.last().copied().unwrap_or(0);
            conversation
                .blocks
                .push(block(before, conversation.number, at));
        }
        let turn = Turn {
            conversation: conversation.number,
            number: conversation.turns,
            blocks: conversation.blocks.clone(),
            history,
        };
        conversation.turns += 1;
        if conversation.turns == conversation.turns_max {
            self.active[speaker] = self.begin();
        }
        Some(turn)
    }
}

/// The name of a block: what came before it, and what it says.
fn block(before: u64, said: u64, at: u64) -> u64 {
    mix(mix(mix(before) ^ said) ^ at)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn two_processes_agree() {
        let (a, b) = (Workload::new(3), Workload::new(3));
        assert!(a.take(500).eq(b.take(500)));
        assert_ne!(Workload::new(3).next(), Workload::new(4).next());
    }

    #[test]
    fn conversations_grow_and_share_their_prompts() {
        let turns: Vec<Turn> = Workload::new(1).take(3000).collect();
        let mut last: std::collections::HashMap<u64, Turn> = std::collections::HashMap::new();
        for turn in turns {
            assert_eq!(
                turn.blocks.iter().collect::<HashSet<_>>().len(),
                turn.blocks.len()
            );
            match last.get(&turn.conversation) {
                Some(before) => {
                    assert_eq!(before.number + 1, turn.number);
                    assert_eq!(before.blocks, turn.blocks[..turn.history]);
                }
                None => assert_eq!((turn.number, turn.history), (0, PROMPT_BLOCKS as usize)),
            }
            last.insert(turn.conversation, turn);
        }
        let prompts: HashSet<&u64> = last.values().map(|turn| &turn.blocks[0]).collect();
        assert_eq!(prompts.len(), PROMPTS as usize);
        let own: HashSet<&u64> = last
            .values()
            .map(|turn| &turn.blocks[PROMPT_BLOCKS as usize])
            .collect();
        assert_eq!(
            own.len(),
            last.len(),
            "what is said after a prompt is nobody else's"
        );
    }
}
