//! Loads a checkpoint base: reads sections ahead and decodes them on several threads.

use parking_lot::Mutex;
use rb_format::{
    BaseEntry, BaseHeader, DirectoryEntry, FORMAT_BLOCK, Generation, Geometry, KeyLimits,
    LOG_BLOCK_PAYLOAD, MoreSlots, Record, SectionScratch, Superblock, decode_directory,
    decode_section_with, log_blocks, padded_len,
};
use rb_index::{LoadEntry, Loader, NewEntry, Note, SlotId};
use rb_io::Buffer;

use crate::error::Error;
use crate::io::headers::FoundBase;
use crate::io::headers::limits_of;
use crate::io::meta_io::MetaIo;
use crate::io::unusable::Unusable;
use crate::memory;
use crate::open::crew::{Crew, workers};

/// Below this many bytes of entries one worker finishes before more could start. A single worker
/// also loads in section order, so a small store is the same after every restart, which the
/// simulator depends on.
const LOADED_BY_ONE: u64 = 256 << 10;

/// Entries claimed in one batch. A batch spreads over all shards, so each shard's lock is taken
/// once per few entries, and it still fits in the nearest caches. Per entry: 180 ns in batches of
/// 64, 85 ns of 1024, 105 ns of 16,384.
const CLAIMED_TOGETHER: usize = 1024;

/// Bytes of sections read together. Sections read but not yet decoded are bounded by the arena,
/// whose buffers return as sections are decoded.
const READ_TOGETHER: usize = 6 << 20;

/// Loads every entry of a base into an empty index.
///
/// # Errors
/// The reason why the base is unusable.
pub(crate) fn load_base(
    io: &mut MetaIo,
    superblock: &Superblock,
    geometry: &Geometry,
    base: &FoundBase,
    loader: &Loader<'_>,
) -> Result<(), Unusable> {
    let region = [&superblock.base_a, &superblock.base_b][base.region];
    let header = &base.header;
    let most = entries_max(superblock, geometry);
    if header.entries > most {
        let found = header.entries;
        let words = format!("it names {found} entries, and no base has more than {most}");
        return Err(Unusable::Damage(words));
    }
    let directory = read_directory(io, region.offset, region.bytes, header)?;
    for &slot in &header.bad_slots {
        loader.bad_slot(SlotId(slot), Generation::last_of(header.incarnation).0);
    }
    let raw: u64 = directory.iter().map(|section| section.raw_len).sum();
    memory::check_entries(header.entries, raw)?;
    let workers = if raw < LOADED_BY_ONE { 0 } else { workers() };
    let sections = Sections {
        header,
        geometry,
        limits: limits_of(superblock),
        loader,
        failure: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        let mut crew = Crew::new(scope, workers, || {
            let (sections, mut scratch) = (&sections, SectionScratch::default());
            move |section| sections.load(&mut scratch, section)
        });
        let read = sections.read(io, region.offset, &directory, |section| crew.send(section));
        if let Err(why) = read {
            sections.fail(why);
        }
        crew.end();
    });
    sections.failure.into_inner().map_or(Ok(()), Err)
}

/// A section's number, directory entry and bytes.
type Section = (u32, DirectoryEntry, Buffer);

/// The sections of a base; one thread reads them, several load them.
struct Sections<'a, 'index> {
    header: &'a BaseHeader,
    geometry: &'a Geometry,
    limits: KeyLimits,
    loader: &'a Loader<'index>,
    /// Why the base is unusable; set once, no more sections are loaded.
    failure: Mutex<Option<Unusable>>,
}

impl Sections<'_, '_> {
    fn fail(&self, why: Unusable) {
        *self.failure.lock() = Some(why);
    }

    fn has_failed(&self) -> bool {
        self.failure.lock().is_some()
    }

    /// Reads all sections, as many together as fit, and passes each to `load`. Stops once one has
    /// failed.
    fn read(
        &self,
        io: &mut MetaIo,
        region_offset: u64,
        directory: &[DirectoryEntry],
        mut load: impl FnMut(Section) -> Result<(), Error>,
    ) -> Result<(), Unusable> {
        let mut rest = (0..).zip(directory).peekable();
        while rest.peek().is_some() && !self.has_failed() {
            let (mut together, mut bytes) = (Vec::new(), 0);
            while let Some((number, entry)) =
                rest.next_if(|(_, entry)| bytes == 0 || bytes + stored(entry) <= READ_TOGETHER)
            {
                bytes += stored(entry);
                together.push((number, *entry));
            }
            let reads: Vec<_> = together
                .iter()
                .map(|(_, entry)| (region_offset + entry.offset, stored(entry)))
                .collect();
            let answers = io.read_many(&reads)?;
            for ((number, entry), answer) in together.into_iter().zip(answers) {
                match answer {
                    Ok(bytes) => load((number, entry, bytes)).map_err(Unusable::NoAnswer)?,
                    Err(error) => self.fail(match Unusable::from(Error::from(error)) {
                        Unusable::Damage(why) => {
                            Unusable::Damage(format!("section {number}: {why}"))
                        }
                        other => other,
                    }),
                }
            }
        }
        Ok(())
    }

    /// Decodes a section and loads its entries, unless another one has failed.
    fn load(&self, scratch: &mut SectionScratch, (number, entry, bytes): Section) {
        if self.has_failed() {
            return;
        }
        let mut claims = Vec::with_capacity(CLAIMED_TOGETHER);
        let decoded = decode_section_with(
            scratch,
            &bytes,
            &entry,
            number,
            self.header,
            self.geometry,
            self.limits,
            &mut |entries| {
                if entries.iter().any(|entry| !entry.more.is_empty()) {
                    self.load_several(entries);
                    return;
                }
                let claim = |entry| claim(self.loader, entry, &[]);
                claims.extend(entries.iter().map(claim));
                if claims.len() >= CLAIMED_TOGETHER {
                    self.loader.load_batch(&claims);
                    claims.clear();
                }
            },
        );
        self.loader.load_batch(&claims);
        if let Err(why) = decoded {
            self.fail(Unusable::of(format!("section {number}"), why));
        }
    }

    /// Loads entries some of which have several slots.
    fn load_several(&self, entries: &[BaseEntry<'_>]) {
        let lists: Vec<Vec<SlotId>> = entries
            .iter()
            .map(|entry| entry.more.iter().map(SlotId).collect())
            .collect();
        let claims: Vec<_> = entries
            .iter()
            .zip(&lists)
            .map(|(entry, more)| claim(self.loader, entry, more))
            .collect();
        self.loader.load_batch(&claims);
    }
}

/// The most entries a base can have: one per slot, and one per put record that the ring held while
/// the base was written. Bounds the memory of recovery; the size of compressed sections does not.
fn entries_max(superblock: &Superblock, geometry: &Geometry) -> u64 {
    u64::from(geometry.slots()) + log_blocks(&superblock.log) * records_in_block()
}

/// Most put records that fit in a log block.
pub(crate) fn records_in_block() -> u64 {
    let shortest = Record::Put {
        key: &[0],
        slot: 0,
        more: MoreSlots::NONE,
        generation: Generation(1),
        payload_len: 1,
        payload_checksum: 0,
        placement: 0,
        policy: 0,
        expiry: 0,
        metadata: &[],
    };
    (LOG_BLOCK_PAYLOAD / shortest.encoded_len()) as u64
}

/// Bytes that a section occupies on the device.
pub(crate) fn stored(entry: &DirectoryEntry) -> usize {
    (entry.stored_len as usize).next_multiple_of(FORMAT_BLOCK)
}

/// Reads and checks the directory of a base.
pub(crate) fn read_directory(
    io: &mut MetaIo,
    region_offset: u64,
    region_bytes: u64,
    header: &BaseHeader,
) -> Result<Vec<DirectoryEntry>, Unusable> {
    let decode = |bytes: &[u8]| {
        decode_directory(bytes, header, region_bytes).map_err(|why| Unusable::of("directory", why))
    };
    let padded = padded_len(header.directory_len);
    let room = region_bytes.saturating_sub(header.directory_offset);
    // Does not fit the region: refuse without reading it.
    if padded == 0 || padded > room {
        return decode(&[]);
    }
    let padded = padded as usize;
    let bytes = io.read(region_offset + header.directory_offset, padded)?;
    decode(&bytes[..padded])
}

fn claim<'a>(loader: &Loader<'_>, entry: &BaseEntry<'a>, more: &'a [SlotId]) -> LoadEntry<'a> {
    LoadEntry {
        hash: loader.hash(entry.key),
        key: entry.key,
        entry: NewEntry {
            slot: SlotId(entry.slot),
            more,
            payload_len: entry.payload_len,
            payload_checksum: entry.payload_checksum,
            placement: entry.placement,
            expiry: entry.expiry,
            metadata: entry.metadata,
            verified: false,
        },
        generation: entry.generation.0,
        recency: entry.recency,
        note: Note(entry.policy),
    }
}

#[cfg(test)]
mod tests {
    use rb_format::Corruption;

    use super::*;

    /// Regression test: a build without zstd took a sound, compressed base for damage, rebuilt the
    /// index from slot headers which silently restored removed keys.
    #[test]
    fn what_this_build_cannot_read_is_not_damage() {
        let why = Corruption::CodecDisabled {
            what: "base section",
            codec: "zstd",
        };
        assert!(matches!(
            Unusable::of("section 0", why),
            Unusable::Unreadable(_)
        ));
        let error = crate::open::recover::no_base(Unusable::Unreadable(Corruption::Version {
            what: "base header",
            found: 2,
            supported: 1,
        }));
        assert!(matches!(error, crate::error::OpenError::Build { .. }));
    }
}
