//! The requests of a chat service to its cache.
//!
//! A conversation starts with one of a few system prompts, whose blocks are shared by all conversations
//! with that prompt, and grows with each turn. The id of a block depends on all blocks before it, as in
//! prefix caching: the same text after another history is another block. The choice of the next
//! conversation is skewed, so that some return soon and some after a long time. A new conversation replaces
//! one that has ended. Everything follows from the seed, so two processes generate the same turns.

use crate::payload::mix;

/// Seed of the demo: the conversations are the same in every run.
pub(super) const SEED: u64 = 20_250_101;
/// Number of conversations at the same time.
const ACTIVE: usize = 240;
/// Number of system prompts.
const PROMPTS: u64 = 4;
/// Number of blocks of a system prompt.
const PROMPT_BLOCKS: u64 = 8;
/// Number of blocks that a turn adds: 2 to 5.
const TURN_BLOCKS: std::ops::Range<u64> = 2..6;
/// Number of turns of a conversation: 4 to 15.
const TURNS: std::ops::Range<u64> = 4..16;

/// One turn of one conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Number of the conversation, from 0, in the order of their starts.
    pub(super) conversation: u64,
    /// Number of the turn in its conversation, from 0.
    pub(super) number: u64,
    /// All blocks of the conversation: the history, then those that this turn adds.
    pub(super) blocks: Vec<u64>,
    /// Number of blocks of history.
    pub(super) history: usize,
}

struct Conversation {
    number: u64,
    turns: u64,
    turns_max: u64,
    blocks: Vec<u64>,
}

/// An endless sequence of turns.
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

    /// Chooses a conversation; the first ones are chosen more often than the last ones.
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

/// Computes the id of a block from the block before it, its text and its position.
fn block(before: u64, text: u64, at: u64) -> u64 {
    mix(mix(mix(before) ^ text) ^ at)
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
            "blocks after a prompt belong to one conversation"
        );
    }
}
