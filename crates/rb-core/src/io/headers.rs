//! The headers of the two base regions, each in two places.
//!
//! A checkpoint writes both places of a region before one flush. After a crash or damage, one sound
//! place suffices: the one with the higher sequence wins, and the next session that writes rewrites
//! the other.

use std::cmp::Reverse;

use rb_format::{
    BaseHeader, Corruption, FORMAT_BLOCK, Identity, KeyLimits, LifetimeCounters, Superblock,
    base_header_offsets,
};

use crate::error::Error;
use crate::error::error_chain;
use crate::io::meta_io::MetaIo;
use crate::io::unusable::Unusable;

pub(crate) const BASE_NAMES: [&str; 2] = ["A", "B"];
pub(crate) const PLACE_NAMES: [&str; 2] = ["first", "second"];

/// A decoded base header and its region.
#[derive(PartialEq)]
pub(crate) struct FoundBase {
    pub(crate) region: usize,
    pub(crate) header: BaseHeader,
}

/// The content of one place of a header.
pub(crate) struct HeaderPlace {
    pub(crate) region: usize,
    pub(crate) place: usize,
    pub(crate) offset: u64,
    pub(crate) state: PlaceState,
}

/// State of one place relative to its region's header.
pub(crate) enum PlaceState {
    /// It holds that header.
    Whole,
    /// It does not decode.
    Refused { why: Corruption, bytes: Box<[u8]> },
    /// The device cannot read it.
    Unreadable(Error),
    /// It holds the header of an older base, with this sequence.
    Older(u64),
}

impl HeaderPlace {
    /// Describes the damage; `None` if the place is whole.
    pub(crate) fn wrong(&self) -> Option<String> {
        match &self.state {
            PlaceState::Whole => None,
            PlaceState::Refused { why, .. } => Some(why.reason()),
            PlaceState::Unreadable(error) => Some(error_chain(error)),
            PlaceState::Older(sequence) => Some(format!(
                "it is of base {sequence}, the other one of a newer base"
            )),
        }
    }

    /// Returns whether a crash during a checkpoint or a start-empty can leave this state.
    pub(crate) fn may_be_by_crash(&self, identity: &Identity) -> bool {
        match &self.state {
            PlaceState::Whole | PlaceState::Older(_) => true,
            PlaceState::Refused { why, bytes } => match why {
                // A start-empty writes the base of the next epoch before the superblock.
                Corruption::WrongEpoch { found, .. } => *found <= identity.epoch + 1,
                Corruption::WrongStore { .. } => false,
                _ => BaseHeader::may_be_torn(bytes, identity),
            },
            PlaceState::Unreadable(_) => false,
        }
    }

    /// Name of the place, for messages.
    pub(crate) fn title(&self) -> String {
        let (base, place) = (BASE_NAMES[self.region], PLACE_NAMES[self.place]);
        format!("{place} header of base {base}")
    }

    /// Returns whether a writing session should rewrite this place. The header of a later epoch is
    /// left alone.
    fn is_to_mend(&self, epoch: u64) -> bool {
        match &self.state {
            PlaceState::Whole => false,
            PlaceState::Refused {
                why: Corruption::WrongEpoch { found, .. },
                ..
            } => *found < epoch,
            _ => true,
        }
    }
}

/// Result of reading all base headers.
pub(crate) struct Headers {
    /// The header of each region that has one, newest first.
    pub(crate) found: Vec<FoundBase>,
    /// Description of each damaged region.
    pub(crate) damaged: Vec<String>,
    /// Reason why each other region has no header.
    pub(crate) absent: Vec<String>,
    /// All places of both regions.
    pub(crate) places: Vec<HeaderPlace>,
}

impl Headers {
    /// The highest base sequence; 0 without a base.
    pub(crate) fn base_sequence(&self) -> u64 {
        self.highest(|header| header.base_sequence)
    }

    /// Sequence of the last log block known to be durable: it was made durable before a base header
    /// was written.
    pub(crate) fn durable_end(&self) -> u64 {
        self.highest(|header| header.position.sequence)
    }

    /// The highest incarnation that wrote a base.
    pub(crate) fn incarnation(&self) -> u32 {
        self.highest(|header| header.incarnation)
    }

    /// The name of a base region whose header is lost in both places, not by a crash.
    pub(crate) fn overwritten(&self, identity: &Identity) -> Option<&'static str> {
        let is_lost = |region: &usize| {
            let mut places = self.places.iter().filter(|place| place.region == *region);
            places.all(|place| !place.may_be_by_crash(identity))
        };
        (0..BASE_NAMES.len())
            .find(is_lost)
            .map(|region| BASE_NAMES[region])
    }

    fn highest<N: Ord + Default>(&self, number: impl Fn(&BaseHeader) -> N) -> N {
        let numbers = self.found.iter().map(|base| number(&base.header));
        numbers.max().unwrap_or_default()
    }

    /// The lifetime counters of the newest base.
    pub(crate) fn lifetime(&self) -> LifetimeCounters {
        let newest = self.found.first();
        newest.map_or_else(LifetimeCounters::default, |base| base.header.lifetime)
    }

    /// Every bad slot listed in a header.
    pub(crate) fn bad_slots(&self) -> Vec<u32> {
        self.found
            .iter()
            .flat_map(|base| base.header.bad_slots.iter().copied())
            .collect()
    }

    /// Every bad metadata block listed in a header, as format block numbers.
    pub(crate) fn bad_blocks(&self) -> Vec<u64> {
        self.found
            .iter()
            .flat_map(|base| base.header.bad_blocks.iter().copied())
            .collect()
    }

    /// The places to rewrite: they do not hold the header that their region has elsewhere.
    pub(crate) fn weak(&self) -> impl Iterator<Item = (&HeaderPlace, &BaseHeader)> {
        self.places.iter().filter_map(|place| {
            let base = self.found.iter().find(|base| base.region == place.region)?;
            let is_weak = place.is_to_mend(base.header.identity.epoch);
            is_weak.then_some((place, &base.header))
        })
    }
}

/// Reads all base headers.
pub(crate) fn read_headers(io: &mut MetaIo, superblock: &Superblock) -> Result<Headers, Unusable> {
    let offsets = superblock.bases().map(base_header_offsets);
    let reads: Vec<_> = offsets
        .iter()
        .flatten()
        .map(|&offset| (offset, FORMAT_BLOCK))
        .collect();
    let mut answers = io.read_many(&reads)?.into_iter();
    let mut headers = Headers {
        found: Vec::new(),
        damaged: Vec::new(),
        absent: Vec::new(),
        places: Vec::new(),
    };
    for (region, offsets) in offsets.into_iter().enumerate() {
        let mut best: Option<BaseHeader> = None;
        let mut read = Vec::new();
        for offset in offsets {
            let decoded = match answers.next() {
                Some(Ok(block)) => {
                    let bytes = &block[..FORMAT_BLOCK];
                    match BaseHeader::decode(bytes, &superblock.identity) {
                        // A newer format may be intact: refuse the store rather than treat this as
                        // damage.
                        Err(why) if why.is_unknown_version() => {
                            return Err(Unusable::Unreadable(why));
                        }
                        decoded => decoded.map_err(|why| {
                            let bytes = bytes.into();
                            PlaceState::Refused { why, bytes }
                        }),
                    }
                }
                Some(Err(error)) => match Error::from(error) {
                    error if error.is_damage() => Err(PlaceState::Unreadable(error)),
                    error => return Err(Unusable::NoAnswer(error)),
                },
                None => continue,
            };
            if let Ok(header) = &decoded
                && best.as_ref().is_none_or(|best| age(best) < age(header))
            {
                best = Some(header.clone());
            }
            read.push((offset, decoded));
        }
        if best.is_none() {
            headers.without_header(region, &read)?;
        }
        for (place, (offset, decoded)) in read.into_iter().enumerate() {
            let state = match decoded {
                Ok(header) if best.as_ref() == Some(&header) => PlaceState::Whole,
                Ok(header) => PlaceState::Older(header.base_sequence),
                Err(state) => state,
            };
            headers.places.push(HeaderPlace {
                region,
                place,
                offset,
                state,
            });
        }
        let found = best.map(|header| FoundBase { region, header });
        headers.found.extend(found);
    }
    // Incarnation first: a base that was unreadable when metadata was lost may be readable again,
    // with a higher sequence than the new base, but never with a higher incarnation.
    headers.found.sort_by_key(|base| Reverse(age(&base.header)));
    Ok(headers)
}

fn age(header: &BaseHeader) -> (u32, u64) {
    (header.incarnation, header.base_sequence)
}

impl Headers {
    /// Records why a region has no header: absent if neither place was written in this store and
    /// epoch, else damaged.
    fn without_header(
        &mut self,
        region: usize,
        read: &[(u64, Result<BaseHeader, PlaceState>)],
    ) -> Result<(), Unusable> {
        let (mut damaged, mut absent) = (Vec::new(), Vec::new());
        for (_, state) in read {
            match state {
                Ok(_) | Err(PlaceState::Whole | PlaceState::Older(_)) => {}
                Err(PlaceState::Unreadable(error)) => damaged.push(error_chain(error)),
                Err(PlaceState::Refused { why, .. }) => match Unusable::from(why.clone()) {
                    Unusable::Damage(why) => damaged.push(header(&why)),
                    Unusable::Absent(why) => absent.push(header(&why)),
                    other => return Err(other),
                },
            }
        }
        let (list, mut why) = match damaged.is_empty() {
            true => (&mut self.absent, absent),
            false => (&mut self.damaged, damaged),
        };
        why.dedup();
        let name = BASE_NAMES[region];
        list.push(format!("base {name}: {}", why.join("; second place: ")));
        Ok(())
    }
}

/// Returns the reason with the short name of the structure, because the line names the base.
fn header(why: &str) -> String {
    let why = why.strip_prefix("base header: ").unwrap_or(why);
    format!("header: {why}")
}

/// The length limits of a store's keys and metadata.
pub(crate) fn limits_of(superblock: &Superblock) -> KeyLimits {
    KeyLimits {
        key_len_max: superblock.key_len_max,
        metadata_len_max: superblock.metadata_len_max,
    }
}
