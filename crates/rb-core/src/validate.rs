//! The validator: reads the headers of unproven entries, at full queue depth, and proves or drops
//! each entry.
//!
//! It takes no leases, so that it neither holds back eviction nor disturbs recency. A generation is
//! unique: if the entry is still live with the same generation after the read, its slot was its own
//! during the read, and what the header said counts.

use rb_format::{FORMAT_BLOCK, Generation, SlotHeader};
use rb_index::{Cursor, Located, Visit};

use crate::error::Error;
use crate::events::{DropReason, Event};
use crate::inner::Inner;
use crate::meta_io::{MetaIo, ReadAt};
use crate::stats::add;

/// How far the validator has come.
pub(crate) struct Validator {
    /// None once all is validated, or if nothing is to be.
    pub(crate) place: Option<(usize, Cursor)>,
    pub(crate) io: Option<MetaIo>,
}

struct Unproven {
    hash: u64,
    shard: usize,
    key: Box<[u8]>,
    located: Located,
}

impl Inner {
    /// Validates up to `count` entries. Answers whether there may be more.
    ///
    /// # Errors
    /// The device or its queue stopped answering. One unreadable header is not an error: the entry
    /// stays unproven and its next read decides.
    pub(crate) fn validate_some(&self, count: usize) -> Result<bool, Error> {
        let mut validator = self.validator.lock();
        let Some((shard, cursor)) = &mut validator.place else {
            return Ok(false);
        };
        let mut batch = Vec::new();
        while batch.len() < count && *shard < self.index.shards() {
            let guard = self.index.lock(*shard, Visit::Background);
            let number = *shard;
            let more = guard.snapshot(cursor, count - batch.len(), &mut |entry| {
                if !entry.located.proven {
                    let (hash, key, located) = (entry.hash, entry.key.into(), entry.located);
                    batch.push(Unproven {
                        hash,
                        shard: number,
                        key,
                        located,
                    });
                }
            });
            drop(guard);
            if !more {
                (*shard, *cursor) = (*shard + 1, Cursor::default());
            }
        }
        let more = *shard < self.index.shards();
        if !more {
            validator.place = None;
        }
        if let (Some(io), false) = (&mut validator.io, batch.is_empty()) {
            self.validate_batch(io, &batch)?;
        }
        if !more {
            validator.io = None;
        }
        Ok(more)
    }

    fn validate_batch(&self, io: &mut MetaIo, batch: &[Unproven]) -> Result<(), Error> {
        let reads = batch.iter().enumerate().filter_map(|(tag, entry)| {
            let offset = self.geometry.slot_offset(entry.located.slot.0)?;
            Some(ReadAt {
                tag,
                offset,
                len: FORMAT_BLOCK,
            })
        });
        io.read_each(reads, |tag, header| {
            let entry = &batch[tag];
            let Ok(bytes) = header else {
                add(&self.counters.read_errors, 1);
                return;
            };
            let proven = entry.is_proven_by(self, &bytes[..FORMAT_BLOCK]);
            let mut shard = self.index.lock(entry.shard, Visit::Background);
            let Located { generation, .. } = entry.located;
            if proven {
                shard.prove_generation(entry.hash, &entry.key, generation);
            } else if shard.forget_generation(entry.hash, &entry.key, generation) {
                drop(shard);
                add(&self.counters.dropped, 1);
                let reason = DropReason::FailedValidation;
                self.emit(&Event::Dropped {
                    key: &entry.key,
                    generation,
                    reason,
                });
            }
        })?;
        add(&self.counters.validated, batch.len());
        Ok(())
    }
}

impl Unproven {
    fn is_proven_by(&self, inner: &Inner, header: &[u8]) -> bool {
        SlotHeader::decode(header, &inner.identity).is_ok_and(|header| {
            header.key == self.key
                && header.generation == Generation(self.located.generation)
                && header.slot == self.located.slot.0
                && header.payload_len == self.located.payload_len
                && header.payload_checksum == self.located.payload_checksum
        })
    }
}
