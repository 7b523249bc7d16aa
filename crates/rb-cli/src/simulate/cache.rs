//! The store's own index, whose slots hold nothing: it is used as a store uses it, without values.

use std::time::Duration;

use rb_core::policy::PolicyFactory;
use rb_index::{
    Batch, Budget, Hints, Index, IndexOptions, Judged, Lease, LockPurpose, NewEntry, Note, Purpose,
    PutMode, Reserve, SlotId, Wanted,
};

use crate::failure::Failure;

/// The index, and memory that its calls use again.
pub(super) struct Cache {
    index: Index,
    generation: u64,
    hints: Hints,
    /// The hash of each position of a batch, and its shard with the position; the last position of a shard first.
    hashes: Vec<u64>,
    order: Vec<(u32, u32)>,
    slots: Vec<SlotId>,
    leases: Vec<Option<Lease>>,
    /// The write budget in blocks, and the time up to which it has passed, in milliseconds.
    budget: Option<Budget>,
    at: u64,
    /// True with a budget or a floor.
    is_bounded: bool,
}

impl Cache {
    /// Makes an empty cache. `secret` is that of its hashes: each opening of a store draws another.
    pub(super) fn new(
        slots: u32,
        shards: u32,
        secret: u64,
        policy: Option<&dyn PolicyFactory>,
    ) -> Result<Cache, Failure> {
        let index = Index::new(IndexOptions {
            shards,
            classes: vec![vec![0..slots]],
            secret: u128::from(secret).to_le_bytes(),
        });
        let mut index = index.map_err(|source| Failure::Index { source })?;
        if let Some(policy) = policy {
            index
                .use_policy(policy, &[])
                .map_err(|source| Failure::Index { source })?;
        }
        Ok(Cache {
            index,
            generation: 0,
            hints: Hints::new(),
            hashes: Vec::new(),
            order: Vec::new(),
            slots: Vec::new(),
            leases: Vec::new(),
            budget: None,
            at: 0,
            is_bounded: false,
        })
    }

    /// Sets the hint of the calls from now on: whether the request's chain has ended.
    pub(super) fn chain_ended(&mut self, ended: bool) {
        self.hints.chain_ended = ended;
    }

    /// Bounds the writes from now on.
    pub(super) fn bound(&mut self, budget: Budget) {
        (self.budget, self.is_bounded) = (Some(budget), true);
    }

    /// Sets the least worth of what is written.
    #[cfg(test)]
    pub(super) fn set_floor(&mut self, floor: f64) {
        self.index.set_write_floor(floor);
        self.is_bounded = true;
    }

    /// The budget as it is.
    #[cfg(test)]
    pub(super) fn budget(&self) -> Option<&Budget> {
        self.budget.as_ref()
    }

    /// The trace's time is now this many milliseconds.
    pub(super) fn pass(&mut self, time: u64) {
        if let Some(budget) = &mut self.budget {
            budget.pass(Duration::from_millis(time.saturating_sub(self.at)));
            self.at = self.at.max(time);
            self.index.set_write_floor(budget.floor());
        }
    }

    /// Takes the blocks that the budget admits of missing ones out of it, and returns them.
    fn paid<'a>(&mut self, blocks: &'a [u32]) -> &'a [u32] {
        if !self.is_bounded {
            return blocks;
        }
        let wanted = blocks.iter().map(|block| Wanted {
            hash: self.index.hash(&block.to_le_bytes()),
            class: 0,
            slots: 1,
        });
        let admitted = self.index.admits(&wanted.collect::<Vec<_>>());
        let Some(budget) = &mut self.budget else {
            return &blocks[..admitted.written];
        };
        budget.want(admitted.worth.max(admitted.written) as u64);
        let paid = (0..admitted.written).take_while(|_| budget.take(1)).count();
        self.index.set_write_floor(budget.floor());
        &blocks[..paid]
    }

    /// Leases the blocks of a chain that are there, as a lookup that locks them does. Returns whether each was found.
    pub(super) fn lease(&mut self, chain: &[u32]) -> impl Iterator<Item = bool> + '_ {
        let batch = self.index.begin_batch(chain.len()).with_hints(self.hints);
        self.group(chain);
        self.leases.clear();
        self.leases.resize_with(chain.len(), || None);
        for positions in self.order.chunk_by(|a, b| a.0 == b.0) {
            let mut shard = self
                .index
                .lock(positions[0].0 as usize, LockPurpose::Operation);
            for &(_, at) in positions {
                let at = at as usize;
                let key = chain[at].to_le_bytes();
                self.leases[at] = shard.lease(self.hashes[at], &key, batch.at(at));
            }
        }
        if self.index.judges() {
            self.judge(batch);
        }
        self.leases.iter().map(Option::is_some)
    }

    /// Lets the policy see the whole chain.
    fn judge(&mut self, batch: Batch) {
        let judged = |(lease, &hash): (&Option<Lease>, &u64)| Judged {
            hash,
            found: lease.is_some(),
            note: lease.as_ref().map_or(Note::default(), Lease::note),
        };
        let chain = self.leases.iter().zip(&self.hashes).map(judged);
        let mut chain: Vec<Judged> = chain.collect();
        self.index.judge(batch, Purpose::Lease, &mut chain);
        for (lease, judged) in self.leases.iter_mut().zip(&chain) {
            if let Some(lease) = lease {
                lease.set_note(judged.note);
            }
        }
    }

    /// Ends the leases of a chain, that of its first block last: the sooner a block is needed, the later it is evicted.
    pub(super) fn release(&mut self, chain: &[u32]) {
        self.group(chain);
        for positions in self.order.chunk_by(|a, b| a.0 == b.0) {
            let mut shard = self
                .index
                .lock(positions[0].0 as usize, LockPurpose::Operation);
            for &(_, at) in positions {
                if let Some(lease) = self.leases[at as usize].take() {
                    shard.release(lease);
                }
            }
        }
    }

    /// Puts blocks that were missing. Returns how many were written: those for which there was a slot, and which
    /// another request had not put meanwhile.
    pub(super) fn put(&mut self, blocks: &[u32]) -> u64 {
        let missing = self.missing(blocks);
        let blocks = self.paid(&missing);
        let paid = blocks.len();
        let batch = self.index.begin_batch(blocks.len()).with_hints(self.hints);
        self.take_slots(blocks);
        // Too few slots, or not admitted: the first blocks get them, since those after a missing one are worth nothing.
        let blocks = &blocks[..self.slots.len()];
        if let Some(budget) = &mut self.budget {
            budget.pay_back((paid - blocks.len()) as u64);
        }
        self.group(blocks);
        let mut written = 0;
        for positions in self.order.chunk_by(|a, b| a.0 == b.0) {
            let mut shard = self
                .index
                .lock(positions[0].0 as usize, LockPurpose::Operation);
            for &(_, at) in positions {
                let at = at as usize;
                self.generation += 1;
                let (key, slot) = (blocks[at].to_le_bytes(), self.slots[at]);
                let (hash, mode) = (self.hashes[at], PutMode::KeepExisting);
                let reserved =
                    shard.reserve(hash, &key, &[slot], self.generation, mode, batch.at(at));
                let Reserve::Reserved(reservation) = reserved else {
                    self.index.give_back(&[slot]);
                    continue;
                };
                shard.publish(reservation, &key, value_in(slot));
                written += 1;
            }
        }
        written
    }

    /// The number of evictions.
    pub(super) fn evictions(&self) -> u64 {
        self.index.stats().evictions
    }

    /// Checks the whole index.
    pub(super) fn audit(&self) -> Result<(), Failure> {
        self.index.audit().map_err(|what| Failure::Contract {
            what: format!("the index does not add up: {what}"),
        })
    }

    /// The blocks that are still missing: they need slots.
    fn missing(&self, blocks: &[u32]) -> Vec<u32> {
        let is_missing = |block: &u32| {
            let key = block.to_le_bytes();
            let hash = self.index.hash(&key);
            let shard = self.index.shard_of(hash);
            let shard = self.index.lock(shard, LockPurpose::Operation);
            shard.get(hash, &key).is_none()
        };
        blocks.iter().copied().filter(is_missing).collect()
    }

    fn take_slots(&mut self, blocks: &[u32]) {
        self.slots.clear();
        let free = self.index.take_free(0, blocks.len(), &mut self.slots);
        if free < blocks.len() {
            let hash = |block: &u32| Some(self.index.hash(&block.to_le_bytes()));
            let hashes: Vec<_> = blocks[free..].iter().map(hash).collect();
            let mut evicted = Vec::new();
            self.index.evict_for(0, &hashes, &mut evicted);
            self.slots.extend(evicted.iter().map(|one| one.slot));
        }
    }

    /// Orders the positions of a batch by shard, the last of each shard first.
    fn group(&mut self, blocks: &[u32]) {
        let hash = |block: &u32| self.index.hash(&block.to_le_bytes());
        self.hashes.clear();
        self.hashes.extend(blocks.iter().map(hash));
        self.order.clear();
        let shard = |hash: &u64| self.index.shard_of(*hash) as u32;
        let shards = self.hashes.iter().enumerate().rev();
        self.order
            .extend(shards.map(|(at, hash)| (shard(hash), at as u32)));
        if self.index.shards() > 1 {
            // Stable: within a shard the last position stays first.
            self.order.sort_by_key(|&(shard, _)| shard);
        }
    }
}

fn value_in(slot: SlotId) -> NewEntry<'static> {
    NewEntry {
        slot,
        more: &[],
        payload_len: 1,
        payload_checksum: 0,
        placement: 0,
        expiry: 0,
        metadata: &[],
        verified: true,
    }
}
