//! Loading a checkpoint base: sections are read ahead and decoded on several threads.

use std::cmp::Reverse;
use std::fmt::{self, Display};
use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::thread::{Builder, Scope};

use crossbeam::channel::{Sender, bounded};
use parking_lot::Mutex;
use rb_format::{
    BaseEntry, BaseHeader, Corruption, DirectoryEntry, FORMAT_BLOCK, Generation, Geometry,
    KeyLimits, LOG_BLOCK_PAYLOAD, MoreSlots, Record, SectionScratch, Superblock, decode_directory,
    decode_section_with, log_blocks, padded_len,
};
use rb_index::{Index, LoadEntry, Loader, NewEntry, SlotId};
use rb_io::Buffer;

use crate::commit::words;
use crate::error::Error;
use crate::meta_io::MetaIo;

/// A base header that decoded, and where it was.
#[derive(PartialEq)]
pub(crate) struct FoundBase {
    pub(crate) region: usize,
    pub(crate) header: BaseHeader,
}

/// Why a part of the metadata cannot be used.
pub(crate) enum Unusable {
    /// It is damaged, or on a place that the device cannot read: another copy may serve.
    Damage(String),
    /// It may be sound, but this build cannot read it.
    Unreadable(Corruption),
    /// It names a value of several slots, which this program does not read.
    SeveralSlots(&'static str),
    /// Nothing of this store and epoch was written there yet.
    Absent(String),
    /// The device or its queue does not answer: that says nothing about what is on it.
    NoAnswer(Error),
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Unusable {
        match error.is_damage() {
            true => Unusable::Damage(words(&error)),
            false => Unusable::NoAnswer(error),
        }
    }
}

impl Unusable {
    fn of(what: impl Display, why: Corruption) -> Unusable {
        let words = format!("{what}: {why}");
        match why {
            Corruption::CodecDisabled { .. } => Unusable::Unreadable(why),
            why if why.is_unknown_version() => Unusable::Unreadable(why),
            Corruption::WrongEpoch { .. } | Corruption::WrongStore { .. } => {
                Unusable::Absent(words)
            }
            why if why.is_absent() => Unusable::Absent(words),
            _ => Unusable::Damage(words),
        }
    }
}

impl Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Damage(why) | Unusable::Absent(why) => f.write_str(why),
            Unusable::Unreadable(why) => why.fmt(f),
            Unusable::SeveralSlots(what) => write!(f, "{what}: a value of several slots"),
            Unusable::NoAnswer(error) => f.write_str(&words(error)),
        }
    }
}

/// What the two base headers say.
pub(crate) struct Headers {
    /// Those that decode, the newest first.
    pub(crate) found: Vec<FoundBase>,
    /// What is wrong with each that is damaged.
    pub(crate) damaged: Vec<String>,
    /// Why each other one is not there.
    pub(crate) absent: Vec<String>,
}

impl Headers {
    /// Every bad slot that a header remembers.
    pub(crate) fn bad_slots(&self) -> Vec<u32> {
        self.found
            .iter()
            .flat_map(|base| base.header.bad_slots.iter().copied())
            .collect()
    }
}

/// Reads both base headers.
pub(crate) fn read_headers(io: &mut MetaIo, superblock: &Superblock) -> Result<Headers, Unusable> {
    let (mut found, mut damaged, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    for (region, name) in [(0, "A"), (1, "B")] {
        let place = [&superblock.base_a, &superblock.base_b][region];
        let header = io
            .read(place.offset, FORMAT_BLOCK)
            .map_err(Unusable::from)
            .and_then(|block| {
                BaseHeader::decode(&block[..FORMAT_BLOCK], &superblock.identity)
                    .map_err(|why| Unusable::of("header", why))
            });
        match header {
            Ok(header) => found.push(FoundBase { region, header }),
            Err(Unusable::Damage(why)) => damaged.push(format!("base {name}: {why}")),
            Err(Unusable::Absent(why)) => absent.push(format!("base {name}: {why}")),
            Err(other) => return Err(other),
        }
    }
    // After metadata was lost, a base that could not be read then may be readable again, and its
    // sequence may be higher than that of the new base. The opening that wrote it is not.
    found.sort_by_key(|base| Reverse((base.header.incarnation, base.header.base_sequence)));
    Ok(Headers {
        found,
        damaged,
        absent,
    })
}

/// Bytes of sections read together. What is read and not yet decoded besides is bounded by the arena,
/// whose buffers come back as sections are decoded.
const READ_TOGETHER: usize = 6 << 20;

/// Loads every entry of a base into an empty index.
///
/// # Errors
/// What makes the base unusable.
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
        loader.bad_slot(SlotId(slot));
    }
    let limits = limits_of(superblock);
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        let mut sections = Crew::new(scope, || {
            let failure = &failure;
            let mut scratch = SectionScratch::default();
            move |(number, entry, bytes): (u32, DirectoryEntry, Buffer)| {
                if failure.lock().is_some() {
                    return;
                }
                let decoded = decode_section_with(
                    &mut scratch,
                    &bytes,
                    &entry,
                    number,
                    header,
                    geometry,
                    limits,
                    &mut |entries| {
                        if entries.iter().any(|entry| !entry.more.is_empty()) {
                            *failure.lock() = Some(Unusable::SeveralSlots("base section"));
                        }
                        let claims: Vec<_> = entries.iter().map(claim).collect();
                        loader.load_batch(&claims);
                    },
                );
                if let Err(why) = decoded {
                    *failure.lock() = Some(Unusable::of(format!("section {number}"), why));
                }
            }
        });
        let mut wave = Vec::new();
        let numbered: Vec<(u32, &DirectoryEntry)> = (0..).zip(&directory).collect();
        let mut rest = apart(numbered.len(), workers())
            .map(|at| numbered[at])
            .peekable();
        while rest.peek().is_some() && failure.lock().is_none() {
            wave.clear();
            let mut bytes = 0;
            while let Some((number, entry)) =
                rest.next_if(|(_, entry)| bytes == 0 || bytes + stored(entry) <= READ_TOGETHER)
            {
                bytes += stored(entry);
                wave.push((number, *entry));
            }
            let reads: Vec<_> = wave
                .iter()
                .map(|(_, e)| (region.offset + e.offset, stored(e)))
                .collect();
            let answers = match io.read_many(&reads) {
                Ok(answers) => answers,
                Err(error) => {
                    *failure.lock() = Some(error.into());
                    return;
                }
            };
            for ((number, entry), answer) in wave.drain(..).zip(answers) {
                match answer {
                    Ok(bytes) => {
                        if let Err(error) = sections.send((number, entry, bytes)) {
                            *failure.lock() = Some(Unusable::NoAnswer(error));
                            return;
                        }
                    }
                    Err(error) => {
                        let why = match Unusable::from(Error::from(error)) {
                            Unusable::Damage(why) => {
                                Unusable::Damage(format!("section {number}: {why}"))
                            }
                            other => other,
                        };
                        *failure.lock() = Some(why);
                    }
                }
            }
        }
        sections.end();
    });
    failure.into_inner().map_or(Ok(()), Err)
}

/// The numbers below `count`, so that `workers` who take them in turns are far from one another: neighbouring
/// sections are of one shard, whose lock only one can hold.
fn apart(count: usize, workers: usize) -> impl Iterator<Item = usize> {
    let part = count.div_ceil(workers).max(1);
    (0..part).flat_map(move |at| (at..count).step_by(part))
}

/// Threads that load a base, replay a log and order what was loaded, at most.
pub(crate) fn workers() -> usize {
    // Asking takes system calls for longer than a small store takes to open.
    static WORKERS: OnceLock<usize> = OnceLock::new();
    let count = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    *WORKERS.get_or_init(|| count().min(8))
}

/// Entries for which another thread pays off.
const ENTRIES_PER_WORKER: usize = 4096;

/// Threads that order so many entries.
pub(crate) fn workers_for(entries: u32) -> usize {
    workers().min(1 + entries as usize / ENTRIES_PER_WORKER)
}

/// Pieces of work for several threads. They start with the second piece: a small store has one, and opens without
/// threads.
pub(crate) struct Crew<'scope, 'env, T, W> {
    scope: &'scope Scope<'scope, 'env>,
    /// Makes what a thread does with each piece.
    worker: W,
    /// The first piece, while there are no threads.
    held: Option<T>,
    pieces: Option<Sender<T>>,
}

impl<'scope, 'env, T, W, R> Crew<'scope, 'env, T, W>
where
    T: Send + 'scope,
    W: Fn() -> R,
    R: FnMut(T) + Send + 'scope,
{
    pub(crate) fn new(scope: &'scope Scope<'scope, 'env>, worker: W) -> Self {
        Crew {
            scope,
            worker,
            held: None,
            pieces: None,
        }
    }

    /// Hands a piece out; waits while as many are waiting as there are threads.
    ///
    /// # Errors
    /// The system has no thread.
    pub(crate) fn send(&mut self, piece: T) -> Result<(), Error> {
        let pieces = match &self.pieces {
            Some(pieces) => pieces,
            None => {
                let Some(first) = self.held.take() else {
                    self.held = Some(piece);
                    return Ok(());
                };
                let pieces = self.pieces.insert(self.start()?);
                drop(pieces.send(first));
                pieces
            }
        };
        // Sending fails only when every thread has stopped.
        drop(pieces.send(piece));
        Ok(())
    }

    /// Does here what no thread has been started for, so that its memory comes back.
    pub(crate) fn catch_up(&mut self) {
        if let Some(piece) = self.held.take() {
            (self.worker)()(piece);
        }
    }

    /// There are no more pieces.
    pub(crate) fn end(mut self) {
        self.catch_up();
    }

    /// Starts as many threads as there should be, or as there are to be had: at least one.
    fn start(&self) -> Result<Sender<T>, Error> {
        let (pieces, inbox) = bounded(workers());
        for number in 0..workers() {
            let (mut work, inbox) = ((self.worker)(), inbox.clone());
            let spawned = Builder::new()
                .name("rb-recover".into())
                .spawn_scoped(self.scope, move || inbox.into_iter().for_each(&mut work));
            if let Err(why) = spawned
                && number == 0
            {
                return Err(Error::Resource {
                    what: "a thread",
                    why: why.to_string(),
                });
            }
        }
        Ok(pieces)
    }
}

/// The lengths that a store's entries keep to.
pub(crate) fn limits_of(superblock: &Superblock) -> KeyLimits {
    KeyLimits {
        key_len_max: superblock.key_len_max,
        metadata_len_max: superblock.metadata_len_max,
    }
}

/// The most entries that a base can have: one for each slot, and one for each put while it was taken, whose
/// records the ring still held. It bounds the memory of recovery, which compressed sections do not.
fn entries_max(superblock: &Superblock, geometry: &Geometry) -> u64 {
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
    let in_block = LOG_BLOCK_PAYLOAD / shortest.encoded_len();
    u64::from(geometry.slots()) + log_blocks(&superblock.log) * in_block as u64
}

/// Bytes that a section takes on the device.
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
    // What does not fit its region need not be read to be refused.
    if padded == 0 || padded > room {
        return decode(&[]);
    }
    let padded = padded as usize;
    let bytes = io.read(region_offset + header.directory_offset, padded)?;
    decode(&bytes[..padded])
}

fn claim<'a>(entry: &BaseEntry<'a>) -> LoadEntry<'a> {
    LoadEntry {
        hash: entry.key_hash,
        key: entry.key,
        entry: NewEntry {
            slot: SlotId(entry.slot),
            payload_len: entry.payload_len,
            payload_checksum: entry.payload_checksum,
            placement: entry.placement,
            metadata: entry.metadata,
            proven: false,
        },
        generation: entry.generation.0,
        recency: entry.recency,
    }
}

/// An index for this store, every slot free.
pub(crate) fn empty_index(geometry: &Geometry, shards: u32) -> Result<Index, rb_index::IndexError> {
    let classes = (0..geometry.classes())
        .map(|class| geometry.class_slots(u8::try_from(class).unwrap_or(u8::MAX)))
        .collect();
    Index::new(rb_index::IndexOptions { shards, classes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both of two workers were always in the same shard once a shard had several sections, and held each other
    /// up: of ten million entries each took 0.3 us or more, of a million 0.1.
    #[test]
    fn workers_are_far_apart_and_leave_nothing_out() {
        for (count, workers) in [(0, 2), (1, 8), (7, 3), (640, 2), (641, 8)] {
            let mut order: Vec<usize> = apart(count, workers).collect();
            let near = |pair: &&[usize]| pair[0].abs_diff(pair[1]) < count / workers - 1;
            if workers < count {
                assert_eq!(
                    order.windows(2).filter(near).count(),
                    0,
                    "{count}/{workers}"
                );
            }
            order.sort_unstable();
            assert!(order.into_iter().eq(0..count), "{count}/{workers}");
        }
    }

    /// A build without zstd once took a sound, compressed base for damage, rebuilt the index from slot
    /// headers and so brought removed keys back, without a word.
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
        let error = crate::recover::no_base(Unusable::Unreadable(Corruption::Version {
            what: "base header",
            found: 2,
            supported: 1,
        }));
        assert!(matches!(error, crate::error::OpenError::Build { .. }));
    }
}
