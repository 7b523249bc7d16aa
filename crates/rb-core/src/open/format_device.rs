//! Formats a device or file as a store (C8: nothing is destroyed by accident).

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rb_format::{
    ClassRequest, FORMAT_BLOCK, INCARNATION_A_OFFSET, INCARNATION_B_OFFSET, Identity,
    LayoutRequest, LogPosition, Region, SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET, Share, StoreUuid,
    Superblock, base_header_offsets, device_bytes_for,
};
use rb_io::{Access, Claim, Device, DeviceKind, Engine, EngineKind, wipe_list};

use crate::background::checkpoint::write_header;
use crate::background::discard::discard_all;
use crate::error::{Error, FormatError};
use crate::io::meta_io::MetaIo;
use crate::io::superblocks::{trace_of_store, write_superblock};
use crate::io::unwritable::FailedWrite;
use crate::io::whose;
use crate::open::block_size::check_block;
use crate::open::space::{self, allocate_new};
use crate::open::unfinished::{self, Outliving, empty_base};
use crate::options::FormatOptions;
use crate::source::Source;

/// Formats a device, an existing or new file, or the device behind an engine.
///
/// Existing content is examined through the descriptor that holds the device. If the format fails,
/// a file that it created is removed and one that it grew gets its size back. An engine is
/// formatted at its full size, without asking for consent.
///
/// # Errors
/// Refuses without consent; refuses a mounted or otherwise used device, and, unless forced, a
/// foreign signature or an unreadable store; fails if no layout fits. See [`FormatError`].
///
/// ```
/// use rb_core::{ClassRequest, FormatError, FormatOptions, Share, format};
///
/// # let dir = tempfile::tempdir()?;
/// let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
/// let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
/// let formatted = format(&options)?;
/// assert!(formatted.superblock.device_bytes > 16 * (64 << 10));
///
/// // The file now holds a store: formatting it again needs consent.
/// assert!(matches!(format(&options), Err(FormatError::Consent { .. })));
/// format(&FormatOptions { consent: true, ..options })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn format(options: &FormatOptions) -> Result<Formatted, FormatError> {
    let uuid = new_uuid(options)?;
    let identity = Identity { uuid, epoch: 1 };
    let path = match &options.source {
        Source::Path(path) => path,
        Source::Engine(engine) => {
            check_block(options.source.path(), engine.limits())?;
            let superblock = plan(options, engine.capacity_bytes(), identity)?;
            write_store(engine.as_ref(), &superblock, &[], &[], options)?;
            return Ok(Formatted {
                superblock,
                warnings: Vec::new(),
            });
        }
    };
    let mut claim = Claim::take(path)?;
    // Plan first: an impossible request must not touch or grow anything.
    if let Some(device) = claim.device() {
        check_block(path, device.limits())?;
    }
    let bytes = size(&claim, options)?;
    let superblock = plan(options, bytes, identity)?;
    check_consent(options, &claim)?;
    let mut formatted = Formatted {
        superblock,
        warnings: Vec::new(),
    };
    if is_file(&claim) {
        claim.grow(bytes)?;
    }
    let Some(device) = claim.device().map(Arc::clone) else {
        return Ok(formatted);
    };
    let superblock = &formatted.superblock;
    let fill = match device.kind() {
        // Discarded slots become sparse again; the metadata keeps its space.
        DeviceKind::File => {
            let warnings = &mut formatted.warnings;
            allocate_new(&device, superblock, bytes, options.sparse, warnings)?
        }
        _ => Vec::new(),
    };
    let foreign = wipe_list(device.capacity_bytes(), &device.signatures()?);
    let kind = match options.engine {
        EngineKind::Auto => simplest_engine(&device),
        named => named,
    };
    let opened = rb_io::open(device, kind)?;
    let engine = opened.engine.as_ref();
    write_store(engine, superblock, &foreign, &fill, options)?;
    // The store is complete: the claim must not undo it any more.
    drop(claim.keep());
    Ok(formatted)
}

/// A store that was formatted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Formatted {
    /// Its layout.
    pub superblock: Superblock,
    /// Warnings for the operator: space that the file system could not reserve or does not keep.
    pub warnings: Vec<String>,
}

/// Chooses the simplest engine for the kind of device: a format sends only a few small requests.
fn simplest_engine(device: &Device) -> EngineKind {
    match device.kind() {
        DeviceKind::Char => EngineKind::UringCmd,
        DeviceKind::Socket => EngineKind::Libblkio,
        _ => EngineKind::Posix,
    }
}

fn is_file(claim: &Claim) -> bool {
    claim
        .device()
        .is_some_and(|device| device.kind() == DeviceKind::File)
}

/// Size of the store in bytes. Files are grown as requested and never shrunk.
fn size(claim: &Claim, options: &FormatOptions) -> Result<u64, FormatError> {
    let exact = |class: &ClassRequest| matches!(class.share, Share::Slots(_));
    let (existing, is_device) = (claim.bytes(), !is_file(claim));
    match options.bytes {
        Some(wanted) if is_device && wanted > existing => {
            let path = options.source.path().to_path_buf();
            Err(FormatError::DeviceSize {
                path,
                wanted,
                existing,
            })
        }
        Some(wanted) => Ok(wanted),
        None if !is_device && !options.classes.is_empty() && options.classes.iter().all(exact) => {
            Ok(device_bytes_for(
                &options.classes,
                options.key_len_max,
                options.metadata_len_max,
                options.log_bytes,
            )?)
        }
        None => Ok(existing),
    }
}

fn new_uuid(options: &FormatOptions) -> Result<StoreUuid, FormatError> {
    let mut bytes = [0; 16];
    options
        .random
        .fill(&mut bytes)
        .map_err(|why| FormatError::Resource {
            what: "random bytes",
            why: why.to_string(),
        })?;
    // Version 4, variant 1: RFC 9562 section 5.4.
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    Ok(StoreUuid(bytes))
}

fn plan(
    options: &FormatOptions,
    device_bytes: u64,
    identity: Identity,
) -> Result<Superblock, FormatError> {
    let request = LayoutRequest {
        device_bytes,
        classes: options.classes.clone(),
        key_len_max: options.key_len_max,
        metadata_len_max: options.metadata_len_max,
        log_bytes: options.log_bytes,
    };
    let mut superblock = Superblock {
        formatted_at: options.formatted_at,
        ..rb_format::plan(&request, identity)?
    };
    match superblock.set_label(&options.label) {
        true => Ok(superblock),
        false => Err(FormatError::Label {
            len: options.label.len(),
        }),
    }
}

/// Checks the consent to overwrite what is there. A new or empty file, zeros, and the remains of a format that was killed
/// need none.
fn check_consent(options: &FormatOptions, claim: &Claim) -> Result<(), FormatError> {
    let Some(device) = claim.device().filter(|_| claim.bytes() > 0) else {
        return Ok(());
    };
    let path = options.source.path().to_path_buf();
    let holds_nothing = || {
        let read = unfinished::holds_nothing(device, claim.bytes());
        read.map_err(|source| rb_io::OpenError::Path {
            path: device.path().to_path_buf(),
            step: "read",
            source,
        })
    };
    let found = match occupied(device)? {
        Occupied::ByDamaged(_) if !options.force && holds_nothing()? => return Ok(()),
        Occupied::By(found) | Occupied::ByDamaged(found) if !options.force => {
            return Err(FormatError::Occupied { path, found });
        }
        _ if options.consent || options.force => return Ok(()),
        Occupied::ByStore => "it holds a store",
        _ if holds_nothing()? => return Ok(()),
        _ if trace_of_store(|offset| peek(device, offset)).is_some() => {
            "the remains of a raw-block store"
        }
        _ if unfinished::is_too_large(device, claim.bytes()) => UNREAD,
        _ => UNKNOWN,
    };
    Err(FormatError::Consent { path, found })
}

fn peek(device: &Device, offset: u64) -> Option<Vec<u8>> {
    let mut block = vec![0; FORMAT_BLOCK];
    device.peek(offset, &mut block).ok()?;
    Some(block)
}

const UNKNOWN: &str = "unknown data";
const UNREAD: &str = "unknown data, or zeros: devices of more than 1 GiB are not read";

/// Data that overwriting a whole device would destroy.
enum Occupied {
    /// Another program's data or a store of another version, with a description.
    By(String),
    /// A store without a usable superblock, with a description.
    ByDamaged(String),
    ByStore,
    ByNothingKnown,
}

fn occupied(device: &Device) -> Result<Occupied, FormatError> {
    if let Some(found) = device.signature()? {
        let found = format!("{} (at byte {})", found.name, found.offset);
        return Ok(Occupied::By(found));
    }
    let [a, b] = [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET].map(|offset| {
        let mut block = vec![0; FORMAT_BLOCK];
        // An unreadable copy counts as absent.
        let _ = device.peek(offset, &mut block);
        Superblock::decode(&block)
    });
    let versions = [&a, &b].map(|copy| copy.as_ref().err());
    if let Some(why) = versions
        .into_iter()
        .flatten()
        .find(|why| why.is_unknown_version())
    {
        return Ok(Occupied::By(format!("a raw-block store: {why}")));
    }
    Ok(match (a, b) {
        (Ok(a), Ok(b)) if a.identity.uuid != b.identity.uuid => {
            let [a, b] = [a.identity.uuid, b.identity.uuid];
            Occupied::By(format!("parts of two raw-block stores, {a} and {b}"))
        }
        (Ok(_), _) | (_, Ok(_)) => Occupied::ByStore,
        (Err(a), Err(b)) if a.is_absent() && b.is_absent() => Occupied::ByNothingKnown,
        (Err(a), Err(b)) => Occupied::ByDamaged(format!(
            "a raw-block store without a usable superblock (copy A: {}; copy B: {})",
            a.reason(),
            b.reason()
        )),
    })
}

/// Claims a device that a caller wants to overwrite entirely with something other than a store,
/// under the same rules as a format. The device stays claimed while the return value lives.
///
/// # Errors
/// Same as [`format()`]: the device is in use, holds data, or consent is missing.
pub fn claim_device(path: &Path, consent: bool, force: bool) -> Result<Device, FormatError> {
    let device = Device::open(path, Access::ReadWrite)?;
    let path = path.to_path_buf();
    match occupied(&device)? {
        Occupied::By(found) | Occupied::ByDamaged(found) if !force => {
            Err(FormatError::Occupied { path, found })
        }
        Occupied::ByStore => {
            let found = "a raw-block store".to_owned();
            Err(FormatError::Occupied { path, found })
        }
        Occupied::ByNothingKnown if !(consent || force) => {
            let found = UNKNOWN;
            Err(FormatError::Consent { path, found })
        }
        _ => Ok(device),
    }
}

/// Writes an empty store. An interrupted format leaves no store, never half of one. The ranges in
/// `fill` are zeroed first.
fn write_store(
    engine: &dyn Engine,
    superblock: &Superblock,
    foreign: &[Range<u64>],
    fill: &[Range<u64>],
    options: &FormatOptions,
) -> Result<(), FormatError> {
    let discards = engine.discards();
    let discards = discards.as_deref().unwrap_or(engine);
    let limits = discards.limits();
    if options.discard && limits.discard.is_none() {
        let path = options.source.path().to_path_buf();
        return Err(FormatError::NoDiscard { path });
    }
    let failed = |what| move |source: Error| FormatError::Io { what, source };
    let deadline = std::time::Duration::from_mins(1);
    let open =
        |engine, arena| MetaIo::new(engine, arena, 8, deadline).map_err(failed("opening a queue"));
    let mut io = open(engine, 4 << 20)?;
    let mut discarding = open(discards, FORMAT_BLOCK)?;
    let slots = |run: &rb_format::Run| run.first_byte..run.first_byte + run.stride * run.count;
    let slots: Vec<_> = superblock.runs.iter().map(slots).collect();
    if let (true, Some(first)) = (options.discard, superblock.runs.first()) {
        // Try one discard before anything is written: limits alone do not show whether the file
        // system can punch holes.
        let one = first.first_byte..first.first_byte + first.stride;
        discard_all(&mut discarding, limits, &[one], |_, _| {})
            .map_err(failed("discarding the first slot"))?;
    }
    wipe(&mut io, foreign).map_err(failed("wiping foreign signatures"))?;
    invalidate(&mut io, superblock).map_err(failed("wiping the old superblocks"))?;
    space::fill(&mut io, fill).map_err(failed("writing zeros over the metadata"))?;
    if options.discard {
        let tell = |done, all| {
            options
                .progress
                .iter()
                .for_each(|progress| progress.report(done, all));
        };
        discard_all(&mut discarding, limits, &slots, tell)
            .map_err(failed("discarding the slots"))?;
    }
    let position = LogPosition {
        sequence: 1,
        anchor: 0,
    };
    let none = Outliving::default();
    write_empty_base(&mut io, superblock, &superblock.base_a, position, &none)
        .map_err(failed("writing the first checkpoint base"))?;
    let refused =
        write_superblock(&mut io, superblock).map_err(failed("writing the superblocks"))?;
    match refused.first() {
        None => Ok(()),
        // A store can run with one copy, but one that starts with it would not survive the first
        // bad block.
        Some(FailedWrite { what, offset, .. }) => {
            Err(failed("writing the superblocks")(Error::Resource {
                what: "space for both superblock copies",
                why: format!("the device does not take the {what} at byte {offset}"),
            }))
        }
    }
}

/// Zeroes foreign signatures at both ends of the device, in whole format blocks except at the very
/// end.
fn wipe(io: &mut MetaIo, foreign: &[Range<u64>]) -> Result<(), Error> {
    let block = FORMAT_BLOCK as u64;
    let zeros = vec![0; FORMAT_BLOCK];
    for range in foreign {
        for number in range.start / block..range.end.div_ceil(block) {
            let at = number * block;
            // The last block of a device may be partial.
            io.write(at, &zeros[..block.min(range.end - at) as usize])?;
        }
    }
    Ok(())
}

/// Zeroes the fixed blocks, the base headers and the unused areas. The superblocks are zeroed
/// durably before anything they refer to, so a crash leaves the old store whole or no store. The
/// flush of the new base covers the rest; the new superblocks come after it. Old records elsewhere
/// carry another UUID.
fn invalidate(io: &mut MetaIo, superblock: &Superblock) -> Result<(), Error> {
    let zeros = vec![0; FORMAT_BLOCK];
    for offset in [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET] {
        io.write(offset, &zeros)?;
    }
    io.flush()?;
    let headers = superblock.bases().map(base_header_offsets);
    [INCARNATION_A_OFFSET, INCARNATION_B_OFFSET]
        .into_iter()
        .chain(headers.into_iter().flatten())
        .try_for_each(|offset| io.write(offset, &zeros))?;
    superblock
        .unused_areas()
        .into_iter()
        .try_for_each(|area| whose::zero(io, area)?.map_or(Ok(()), Err))
}

/// Writes the first, empty base of an epoch into a base region. Returns the header place that the
/// device did not take.
pub(crate) fn write_empty_base(
    io: &mut MetaIo,
    superblock: &Superblock,
    region: &Region,
    position: LogPosition,
    outliving: &Outliving,
) -> Result<Option<FailedWrite>, Error> {
    let header = empty_base(superblock.identity, position, outliving.clone());
    let refused = write_header(io, region, &header)?;
    io.flush()?;
    Ok(refused)
}

/// Returns whether `path` holds a store, for callers that decide what to ask.
///
/// ```
/// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
/// # let dir = tempfile::tempdir()?;
/// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
/// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
/// let path = dir.path().join("cache");
/// assert!(!rb_core::is_store(&path));
/// rb_core::format(&options)?;
/// assert!(rb_core::is_store(&path));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn is_store(path: &Path) -> bool {
    let Ok(device) = Device::open(path, Access::ReadOnly) else {
        return false;
    };
    let capacity = device.capacity_bytes();
    let kind = simplest_engine(&device);
    let Ok(opened) = rb_io::open(device, kind) else {
        return false;
    };
    let deadline = std::time::Duration::from_secs(10);
    let Ok(mut io) = MetaIo::new(opened.engine.as_ref(), 1 << 20, 4, deadline) else {
        return false;
    };
    crate::io::superblocks::read_superblocks(&mut io, path, capacity).is_ok()
}
