//! Requests as chains of dense block numbers.

use std::collections::HashMap;

use crate::trace::Request;

/// A trace whose blocks are numbered from 0 in the order of their first use.
pub(super) struct Chains {
    /// All references, chain after chain.
    blocks: Vec<u32>,
    /// The end of each chain in `blocks`, and its time in milliseconds.
    ends: Vec<(usize, u64)>,
    pub(super) distinct: u32,
}

impl Chains {
    /// Numbers the blocks of a trace. With `block_tokens` the blocks that a request does not fill are left out.
    pub(super) fn new(requests: &[Request], block_tokens: Option<u64>) -> Chains {
        let mut numbers: HashMap<u64, u32> = HashMap::new();
        let (mut blocks, mut ends) = (Vec::new(), Vec::new());
        for request in requests {
            let whole = match (block_tokens, request.input_length) {
                (Some(tokens), Some(length)) => usize::try_from(length / tokens),
                _ => Ok(usize::MAX),
            };
            for id in request.hash_ids.iter().take(whole.unwrap_or(usize::MAX)) {
                let next = numbers.len() as u32;
                blocks.push(*numbers.entry(*id).or_insert(next));
            }
            ends.push((blocks.len(), request.timestamp));
        }
        Chains {
            distinct: numbers.len() as u32,
            blocks,
            ends,
        }
    }

    /// Each chain with its time.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &[u32])> {
        let mut begin = 0;
        self.ends.iter().map(move |&(end, time)| {
            let chain = &self.blocks[begin..end];
            begin = end;
            (time, chain)
        })
    }

    /// All references in order.
    pub(super) fn references(&self) -> &[u32] {
        &self.blocks
    }

    /// The number of requests.
    pub(super) fn requests(&self) -> usize {
        self.ends.len()
    }
}
