//! Opens every image of a crash point and compares it with what is legal.
//!
//! Recovery depends on the image's metadata alone, and the result of a get depends on the entry that recovery found and
//! on the bytes of its slots. So each metadata that a crash leaves is opened once, with the real store; each entry is
//! read once with each possible content of its slots; and an image is legal if the result for each key is. Both halves
//! of the first sentence are checked along the way, in the requests that reach the device, and of each crash point one
//! random image is opened and read as a whole.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rb_core::Store;
use rb_format::{Geometry, Superblock};
use rb_testkit::values::next_number;
use rb_testkit::{CrashImage, CrashPoints, MemDevice};
use xxhash_rust::xxh3::xxh3_64;

use super::config::KEYS;
use super::digest::digest;
use super::images::{Kept, Spots};
use super::log::read_log;
use super::oracle::{ABSENT, Candidate, Legal, Version};
use super::prepared::{Policy, open};
use super::values::{all_slots, name, number, value};

/// One metadata in this many is used after it was checked, and crashes again.
const GOES_ON: u64 = 8;

/// A key's version and generation, as a get returns them.
type Found = Option<(Version, u64)>;

/// Result of recovery from a metadata.
struct Recovered {
    entries: [Option<Entry>; KEYS],
}

#[derive(Clone)]
struct Entry {
    slots: Vec<u32>,
    generation: u64,
    /// Unique number, across executions.
    id: u64,
}

/// Counts of what was checked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looked {
    pub(super) images: u64,
    /// Distinct metadata, each opened.
    pub(super) metadata: u64,
    /// Distinct contents of an entry's slot, each read.
    pub(super) contents: u64,
    /// Images that were opened and read as a whole.
    pub(super) whole: u64,
}

/// Checks crash points, and caches what it has opened.
pub(super) struct Checker<'a> {
    layout: &'a Superblock,
    slots: Vec<Range<u64>>,
    recovered: Mutex<HashMap<u64, Arc<Recovered>>>,
    found: Mutex<HashMap<(u64, u64), Found>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Checker<'_> {
    pub(super) fn new(layout: &Superblock) -> Checker<'_> {
        let geometry = Geometry::new(layout);
        let slots = (0..geometry.slots()).filter_map(|slot| {
            let from = geometry.slot_offset(slot)?;
            let to = geometry.payload_offset(slot)? + geometry.slot_capacity(slot)?;
            Some(from..to)
        });
        Checker {
            layout,
            slots: slots.collect(),
            recovered: Mutex::default(),
            found: Mutex::default(),
        }
    }

    /// Returns the region of all slots, which is contiguous.
    fn slot_area(&self) -> Range<u64> {
        let from = self.slots.iter().map(|slot| slot.start).min();
        let to = self.slots.iter().map(|slot| slot.end).max();
        from.unwrap_or(0)..to.unwrap_or(0)
    }

    /// Returns the parts of the device that the slots of an entry take.
    fn ranges(&self, entry: &Entry) -> Vec<Range<u64>> {
        let slots = entry.slots.iter();
        slots
            .map(|slot| self.slots[*slot as usize].clone())
            .collect()
    }

    /// Returns every choice among the contents of an entry's slots, independently of each other.
    fn contents(&self, spots: &Spots<'_>, kept: &Kept, entry: &Entry) -> Vec<Kept> {
        self.ranges(entry)
            .into_iter()
            .fold(vec![kept.clone()], |all, slot| {
                let with = |kept| spots.choices(spots.within(slot.clone()), kept);
                all.iter().flat_map(with).collect()
            })
    }

    /// Checks every image of a crash point.
    ///
    /// # Errors
    /// A description of the violation, and what was kept.
    pub(super) fn point(
        &self,
        points: &CrashPoints,
        legal: &Legal,
        looked: &mut Looked,
    ) -> Result<(), (String, Kept)> {
        let spots = Spots::new(points);
        let in_slots = spots.within(self.slot_area());
        let metadata = (0..spots.len()).filter(|spot| !in_slots.contains(spot));
        let all = spots.choices(metadata, &spots.nothing());
        let mut images = all.len() as u64;
        for slot in &self.slots {
            images *= spots
                .choices(spots.within(slot.clone()), &spots.nothing())
                .len() as u64;
        }
        looked.images += images;
        for kept in &all {
            let image = spots.image(kept);
            let recovered = self
                .recover(&image, looked)
                .map_err(|why| (why, kept.clone()))?;
            for (key, entry) in recovered.entries.iter().enumerate() {
                let Some(entry) = entry else {
                    judge(&legal[key], key, None, None).map_err(|why| (why, kept.clone()))?;
                    continue;
                };
                for kept in self.contents(&spots, kept, entry) {
                    let found = self.read(&spots, &kept, key, entry, looked);
                    let judged =
                        found.and_then(|found| judge(&legal[key], key, Some(entry), found));
                    judged.map_err(|why| (why, kept))?;
                }
            }
        }
        self.whole(&spots, &all, points.hash(), looked)
    }

    /// Checks one image as a whole, with the given writes kept.
    ///
    /// # Errors
    /// A description of the violation.
    pub(super) fn image(
        &self,
        points: &CrashPoints,
        kept: &Kept,
        legal: &Legal,
    ) -> Result<(), String> {
        let spots = Spots::new(points);
        if !spots.has(kept) {
            return Err(format!(
                "there is nothing pending of which {kept} could be kept"
            ));
        }
        let mut looked = Looked::default();
        let recovered = self.recover(&spots.image(kept), &mut looked)?;
        for (key, entry) in recovered.entries.iter().enumerate() {
            let found = match entry {
                Some(entry) => self.read(&spots, kept, key, entry, &mut looked)?,
                None => None,
            };
            judge(&legal[key], key, entry.as_ref(), found)?;
        }
        Ok(())
    }

    /// Checks one random image of a crash point: the result of the whole must equal that of its parts.
    fn whole(
        &self,
        spots: &Spots<'_>,
        metadata: &[Kept],
        seed: u64,
        looked: &mut Looked,
    ) -> Result<(), (String, Kept)> {
        let mut random = seed;
        let mut draw =
            |among: &[Kept]| among[next_number(&mut random) as usize % among.len()].clone();
        let mut kept = draw(metadata);
        for slot in &self.slots {
            kept = draw(&spots.choices(spots.within(slot.clone()), &kept));
        }
        looked.whole += 1;
        let check = || {
            let image = spots.image(&kept);
            let recovered = self.recover(&image, looked)?;
            let store =
                open(&image.device(), Policy::default(), None).map_err(|why| why.to_string())?;
            for (key, entry) in recovered.entries.iter().enumerate() {
                let parts = match entry {
                    Some(entry) => self.read(spots, &kept, key, entry, looked)?,
                    None => None,
                };
                let found = get(&store, key)?;
                if found != parts {
                    return Err(format!(
                        "key {key} is {found:?} in the image as a whole, and {parts:?} by its parts"
                    ));
                }
            }
            Ok(())
        };
        shielded(check).map_err(|why| (why, kept.clone()))
    }

    /// Recovers the metadata of an image.
    fn recover(&self, image: &CrashImage, looked: &mut Looked) -> Result<Arc<Recovered>, String> {
        let metadata = image.hash_without(self.slot_area());
        if let Some(known) = lock(&self.recovered).get(&metadata) {
            return Ok(Arc::clone(known));
        }
        looked.metadata += 1;
        let recovered = shielded(|| self.open(image, metadata))?;
        let recovered = Arc::new(recovered);
        lock(&self.recovered).insert(metadata, Arc::clone(&recovered));
        Ok(recovered)
    }

    fn open(&self, image: &CrashImage, metadata: u64) -> Result<Recovered, String> {
        let checksums = read_log(image, self.layout)?;
        let device = image.device();
        let store = open(&device, Policy::default(), None)
            .map_err(|why| format!("it does not open: {why}"))?;
        self.reads_only(&device, 0, &[])?;
        let report = store.recovery();
        if let Some(lost) = &report.lost_metadata {
            return Err(format!("the crash lost the metadata: {lost}"));
        }
        // A torn header is not a base. A sound one must name sections that exist.
        if let Some(why) = report
            .base_damage
            .iter()
            .find(|why| !why.contains(": header"))
        {
            return Err(format!("the crash left a base that is not whole: {why}"));
        }
        store
            .audit()
            .map_err(|why| format!("the accounting: {why}"))?;
        let mut entries = [const { None }; KEYS];
        store.for_each(|entry| {
            let (key, slots, generation) =
                (number(&entry.key), all_slots(&entry), entry.generation);
            // Without a record of its put, the metadata alone identifies it.
            let known = checksums.get(&(slots[0], generation)).copied();
            let id = digest((
                key,
                &slots,
                generation,
                known,
                known.map_or(metadata, |_| 0),
            ));
            entries[key] = Some(Entry {
                slots,
                generation,
                id,
            });
            true
        });
        if metadata.is_multiple_of(GOES_ON) {
            goes_on(&device, store, (metadata / GOES_ON).is_multiple_of(2))?;
        }
        Ok(Recovered { entries })
    }

    /// Returns the result of a get of an entry, with what is kept of its slot.
    fn read(
        &self,
        spots: &Spots<'_>,
        kept: &Kept,
        key: usize,
        entry: &Entry,
        looked: &mut Looked,
    ) -> Result<Found, String> {
        let slots = self.ranges(entry);
        let bytes = slots.iter().map(|slot| spots.bytes(slot.clone(), kept));
        let content = xxh3_64(&bytes.collect::<Vec<_>>().concat());
        if let Some(known) = lock(&self.found).get(&(entry.id, content)) {
            return Ok(*known);
        }
        looked.contents += 1;
        let found = shielded(|| {
            let device = spots.image(kept).device();
            let store = open(&device, Policy::default(), None).map_err(|why| why.to_string())?;
            let opened = device.log().len();
            let found = get(&store, key)?;
            self.reads_only(&device, opened, &slots)?;
            Ok(found)
        })?;
        lock(&self.found).insert((entry.id, content), found);
        Ok(found)
    }

    /// Checks that the requests since an earlier count touch these slots and no other.
    fn reads_only(
        &self,
        device: &MemDevice,
        since: usize,
        slots: &[Range<u64>],
    ) -> Result<(), String> {
        let area = self.slot_area();
        let requests = device.log();
        let mut others = requests[since..].iter().filter(|request| {
            let end = request.offset + u64::from(request.len);
            let touches = request.offset < area.end && area.start < end;
            let within = |slot: &Range<u64>| slot.start <= request.offset && end <= slot.end;
            touches == slots.is_empty() || touches && !slots.iter().any(within)
        });
        match others.next() {
            None => Ok(()),
            Some(other) => Err(format!(
                "images cannot be checked in parts: {other:?} of an opening, or of a get of slots {slots:?}"
            )),
        }
    }
}

/// Puts a value after a crash, of one slot or, if it is `large`, of two, and crashes again.
fn goes_on(device: &Arc<MemDevice>, store: Store, large: bool) -> Result<(), String> {
    let version = if large { 99 } else { 49 };
    let bytes = value(version);
    let put = store.put(&name(0), &bytes).and_then(|_| store.sync());
    put.map_err(|why| format!("it cannot be used: {why}"))?;
    let crashed = device.crash();
    drop(store);
    let again = open(&crashed, Policy::default(), None);
    let again = again.map_err(|why| format!("it does not open a second time: {why}"))?;
    match get(&again, 0)? {
        Some((found, _)) if found == version => Ok(()),
        found => Err(format!(
            "version {version} was put and synced, and {found:?} is there"
        )),
    }
}

fn shielded<T>(check: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let checked = catch_unwind(AssertUnwindSafe(check));
    checked.unwrap_or_else(|why| Err(format!("a panic: {}", crate::schedule::words(why.as_ref()))))
}

fn get(store: &Store, key: usize) -> Result<Found, String> {
    let found = store
        .get(&name(key))
        .map_err(|why| format!("get of key {key}: {why}"))?;
    let Some(found) = found else { return Ok(None) };
    let version = found.get(1).copied().unwrap_or(ABSENT);
    match version != ABSENT && found[..] == value(version) {
        true => Ok(Some((version, found.generation()))),
        false => Err(format!("key {key} has bytes that were never put")),
    }
}

/// Checks whether a crash may leave this.
fn judge(
    candidates: &[Candidate],
    key: usize,
    entry: Option<&Entry>,
    found: Found,
) -> Result<(), String> {
    let legal = candidates.iter().any(|candidate| match found {
        Some(found) => {
            candidate.version != ABSENT && (candidate.version, candidate.generation) == found
        }
        // Its record reached the device, and its bytes did not.
        None => {
            let lost = entry.is_some_and(|entry| entry.generation == candidate.generation);
            candidate.may_miss || candidate.volatile && lost
        }
    });
    if legal {
        return Ok(());
    }
    let entry = entry.map(|entry| (entry.generation, &entry.slots));
    Err(format!(
        "key {key} is {found:?} (version, generation) after the crash, its entry {entry:?} (generation, slots); legal is one of {candidates:?}"
    ))
}
