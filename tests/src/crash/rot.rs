//! Damages bytes that were durable, as a failing device does, and checks what must survive.
//!
//! Which region must survive what, and why:
//!
//! | region | must survive | because |
//! |---|---|---|
//! | superblock | rot, loss or an unreadable sector of either copy | there are two, 1 MiB apart, and nothing else locates the structures |
//! | incarnation | the same of either block | the log and the base name the session as well |
//! | base | rot or loss anywhere in one of the two | the log keeps everything since the older one |
//! | log | rot or loss of a block that was durable: reported, not survived | a later block names it; slot headers verify what they can |
//! | slots | anything | header and payload are bound to key, generation, slot, length and store: a miss |
//!
//! Two faults in the same region may lose entries; they may never serve wrong bytes.

use rb_core::Superblock;
use rb_format::{BaseHeader, FORMAT_BLOCK, Incarnation, LogBlock, log_block_offset};
use rb_testkit::{FaultRates, Kept, MemDevice};

use super::check::Crash;
use super::explore::Explorer;
use super::history::Step;
use super::legal::Legal;
use super::plan::Plan;
use super::states::State;
use super::values::{name, version_of};
use super::version::KEYS;
use super::world::World;

impl Explorer<'_> {
    /// Damages each region of what a run has left in turn, and opens it.
    pub(super) fn rot(&mut self, world: &World) {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            world.sync();
            // After two checkpoints both bases are whole, regardless of earlier damage.
            world.checkpoint();
            // Sometimes write so much log that only the part that no base needs may have been
            // overwritten: more between the bases than the log keeps in reserve, and the same
            // amount after them.
            let (between, after) = [(1, 1), (16, 64)][world.random(2) as usize];
            let write = |count| (0..count).for_each(|_| (world.put(3), world.sync()).1);
            write(between);
            world.checkpoint();
            write(after);
            world.remove(3);
            world.put(5);
            world.sync();
        }));
        if done.is_err() {
            world.fail("a panic before the damage".into());
        }
        let Some(layout) = world.lock().layout.clone() else {
            return;
        };
        if !self.collect(world) || world.store().is_none() {
            return;
        }
        for damage in [Self::rot_superblock, Self::rot_incarnation, Self::rot_base] {
            self.rot_one(world, &layout, damage);
        }
        self.rot_log(world, &layout);
    }

    fn rot_one(
        &mut self,
        world: &World,
        layout: &Superblock,
        damage: fn(&mut Self, &MemDevice, &Superblock) -> Option<State>,
    ) {
        let Some((child, at, legal)) = self.last(world) else {
            return;
        };
        let Some(state) = damage(self, &child.device, layout) else {
            return;
        };
        self.tally.states.reach(state);
        self.tally.restarts += 1;
        match child.open(|_| {}) {
            Ok(()) => {
                if let Some(lost) = child
                    .store()
                    .and_then(|s| s.recovery().lost_metadata.clone())
                {
                    child.fail(format!("{state}, yet: {lost}"));
                }
                let legal = &legal;
                Crash { world, at, legal }.check_values(&child);
            }
            Err(why) => child.fail(format!("{state}, yet: {why}")),
        }
        self.collect(&child);
    }

    /// Copies the store as it is to a new device.
    fn last(&mut self, world: &World) -> Option<(std::sync::Arc<World>, Step, Legal)> {
        let mut points = world.device.crash_points()?;
        while points.advance() {}
        let all = vec![Kept::All; points.pending().len()];
        let at = Step::try_from(points.at()).unwrap_or(Step::MAX);
        let legal = world.lock().oracle.legal_at(at, &|_, _| false);
        let seed = self.below(u64::MAX);
        let child = world.crashed(&points.image(&all), at, legal.clone(), seed);
        Some((child, at, legal))
    }

    fn rot_superblock(&mut self, device: &MemDevice, _: &Superblock) -> Option<State> {
        let copies = [
            rb_format::SUPERBLOCK_A_OFFSET,
            rb_format::SUPERBLOCK_B_OFFSET,
        ];
        let copy = copies[self.below(2) as usize];
        self.flip(device, copy, FORMAT_BLOCK as u64);
        Some(State::SuperblockRot)
    }

    fn rot_incarnation(&mut self, device: &MemDevice, layout: &Superblock) -> Option<State> {
        let blocks = [
            rb_format::INCARNATION_A_OFFSET,
            rb_format::INCARNATION_B_OFFSET,
        ];
        // The newest: the one that matters.
        let newest = blocks.into_iter().max_by_key(|offset| {
            Incarnation::decode(&block(device, *offset), &layout.identity)
                .map_or(0, |found| found.number)
        })?;
        self.flip(device, newest, FORMAT_BLOCK as u64);
        Some(State::IncarnationRot)
    }

    /// Damages the newest base: its header, or anything that the header names.
    fn rot_base(&mut self, device: &MemDevice, layout: &Superblock) -> Option<State> {
        let (region, header) = newest_base(device, layout)?;
        let written = header.directory_offset + header.directory_len;
        let (start, len) = match self.below(3) {
            0 => (0, FORMAT_BLOCK as u64),
            1 => (header.directory_offset, header.directory_len),
            _ => (
                FORMAT_BLOCK as u64,
                written.saturating_sub(FORMAT_BLOCK as u64),
            ),
        };
        self.flip(device, region + start, len);
        Some(State::BaseRot)
    }

    /// Damages a block of the log that a later one names as durable, and that recovery needs.
    fn rot_log(&mut self, world: &World, layout: &Superblock) {
        let Some((child, ..)) = self.last(world) else {
            return;
        };
        let Some((_, header)) = newest_base(&child.device, layout) else {
            return;
        };
        let first = header.position.sequence;
        let ring = layout.log.bytes / FORMAT_BLOCK as u64;
        let mut chain = Vec::new();
        for sequence in first..first + ring {
            let bytes = block(&child.device, log_block_offset(&layout.log, sequence));
            match LogBlock::decode(&bytes, &layout.identity) {
                Ok(found) if found.sequence == sequence => chain.push((sequence, found.durable)),
                _ => break,
            }
        }
        let named = chain.iter().map(|(_, durable)| *durable).max().unwrap_or(0);
        let needed = named.saturating_sub(first) + 1;
        if named < first {
            return;
        }
        let rotten = first + self.below(needed);
        for copy in layout.log_block_offsets(rotten) {
            self.flip(&child.device, copy, FORMAT_BLOCK as u64);
        }
        self.tally.states.reach(State::LogRot);
        self.tally.restarts += 1;
        child.lock().oracle.loose = true;
        match child.open(|_| {}) {
            Ok(()) => {
                let reported = child
                    .store()
                    .is_some_and(|s| s.recovery().lost_metadata.is_some());
                if !reported {
                    child.fail(format!(
                        "log block {rotten} is rotten, {named} was durable, and the loss was not reported"
                    ));
                }
                // Removed keys may be back; their bytes must still be their own.
                serve(&child);
            }
            Err(why) => child.fail(format!("a rotten log block, and: {why}")),
        }
        self.collect(&child);
    }

    /// Inverts one byte.
    fn flip(&mut self, device: &MemDevice, offset: u64, len: u64) {
        let at = offset + self.below(len);
        device.corrupt(at..at + 1);
    }

    /// Continues the run on a device that fails at random; then heals it and opens the store again.
    pub(super) fn err_by_chance(&mut self, world: &World) {
        let Some((child, ..)) = self.last(world) else {
            return;
        };
        self.tally.states.reach(State::FaultyRun);
        child.lock().faulty = true;
        child.lock().oracle.loose = true;
        let Some(places) = child.places() else { return };
        let rare = FaultRates {
            read_error: 40,
            write_error: 20,
            no_space: 300,
            short: 60,
            slow: 200,
            ..FaultRates::default()
        };
        let often = FaultRates {
            read_error: 100,
            rot: 100,
            write_error: 100,
            no_space: 100,
            late_write: 100,
            lost_write: 100,
            misdirected_write: 60,
            short: 300,
            slow: 1000,
        };
        let log = FaultRates {
            rot: 20,
            lost_write: 40,
            misdirected_write: 20,
            ..rare
        };
        let [base_a, base_b] = places.bases;
        let [a, b] = places.superblocks;
        let regions = vec![
            (a, rare),
            (b, rare),
            (places.incarnations, rare),
            (base_a, log),
            (base_b, rare),
            (places.log, log),
            (places.log_2, log),
            (places.slots, often),
        ];
        let seed = self.below(u64::MAX);
        let work = || {
            child.device.set_rates(seed, regions);
            if child.open(|_| {}).is_ok() {
                Plan::new(&child, 60, 0).faulty().run();
            }
            child.shut();
            child.device.heal();
            // Every fault by now is reported, or opening returns an error; it never panics.
            if child.open(|_| {}).is_ok() {
                serve(&child);
            }
        };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
            child.fail("a panic on a device that fails at random".into());
        }
        self.tally.restarts += 2;
        self.collect(&child);
    }
}

/// Reads every key; every value must have been put for its key.
fn serve(world: &World) {
    let Some(store) = world.store() else { return };
    for key in 0..KEYS {
        let next = world.lock().next_version;
        if let Ok(Some(value)) = store.get(&name(key))
            && version_of(key, &value, next).is_none()
        {
            world.fail(format!("key {key} has bytes that were never put for it"));
        }
    }
    if let Err(why) = store.audit() {
        world.fail(format!("accounting: {why}"));
    }
}

fn block(device: &MemDevice, offset: u64) -> Vec<u8> {
    let mut bytes = vec![0; FORMAT_BLOCK];
    device.peek(offset, &mut bytes);
    bytes
}

/// Returns the offset of the newest base, and its header.
fn newest_base(device: &MemDevice, layout: &Superblock) -> Option<(u64, BaseHeader)> {
    [&layout.base_a, &layout.base_b]
        .into_iter()
        .filter_map(|region| {
            let header = BaseHeader::decode(&block(device, region.offset), &layout.identity);
            Some((region.offset, header.ok()?))
        })
        .max_by_key(|(_, header)| (header.incarnation, header.base_sequence))
}
