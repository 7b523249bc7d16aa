//! The headers of the two base regions, each in two places.
//!
//! Both places of a region are written before one flush, so a crash leaves the new header in one of them, or
//! damage takes one: the sound one of the higher sequence counts. An opening for writing writes the other again.

use std::cmp::Reverse;

use rb_format::{
    BaseHeader, Corruption, FORMAT_BLOCK, Identity, KeyLimits, Superblock, base_header_offsets,
};

use crate::error::Error;
use crate::error::error_chain;
use crate::io::meta_io::MetaIo;
use crate::io::unusable::Unusable;

pub(crate) const BASE_NAMES: [&str; 2] = ["A", "B"];
pub(crate) const PLACE_NAMES: [&str; 2] = ["first", "second"];

/// A base header that decoded, and where it was.
#[derive(PartialEq)]
pub(crate) struct FoundBase {
    pub(crate) region: usize,
    pub(crate) header: BaseHeader,
}

/// What is in one place of a header.
pub(crate) struct HeaderPlace {
    pub(crate) region: usize,
    pub(crate) place: usize,
    pub(crate) offset: u64,
    pub(crate) state: PlaceState,
}

/// How one place compares with its region's header.
pub(crate) enum PlaceState {
    /// It holds that header.
    Whole,
    /// It does not decode.
    Refused { why: Corruption, bytes: Box<[u8]> },
    /// The device cannot read it.
    Unreadable(Error),
    /// It holds the header of an older base.
    Older(u64),
}

impl HeaderPlace {
    /// What is wrong with it, in words; none if it is whole.
    pub(crate) fn wrong(&self) -> Option<String> {
        match &self.state {
            PlaceState::Whole => None,
            PlaceState::Refused { why, .. } => Some(why.to_string()),
            PlaceState::Unreadable(error) => Some(error_chain(error)),
            PlaceState::Older(sequence) => Some(format!(
                "it is of base {sequence}, the other one of a newer base"
            )),
        }
    }

    /// Whether a crash in a checkpoint, or in a start with an empty store, can leave it like that.
    pub(crate) fn may_be_by_crash(&self, identity: &Identity) -> bool {
        match &self.state {
            PlaceState::Whole | PlaceState::Older(_) => true,
            PlaceState::Refused { why, bytes } => match why {
                Corruption::WrongEpoch { found, .. } => *found <= identity.epoch + 1,
                Corruption::WrongStore { .. } => false,
                _ => BaseHeader::may_be_torn(bytes, identity),
            },
            PlaceState::Unreadable(_) => false,
        }
    }

    /// Which place it is, in words.
    pub(crate) fn title(&self) -> String {
        let (base, place) = (BASE_NAMES[self.region], PLACE_NAMES[self.place]);
        format!("{place} header of base {base}")
    }

    /// Whether an opening for writing should write its region's header there. A later epoch's is left alone.
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

/// What the base headers say.
pub(crate) struct Headers {
    /// That of each region which has one, the newest first.
    pub(crate) found: Vec<FoundBase>,
    /// What is wrong with each region that is damaged.
    pub(crate) damaged: Vec<String>,
    /// Why each other one is not there.
    pub(crate) absent: Vec<String>,
    /// The places of both.
    pub(crate) places: Vec<HeaderPlace>,
}

impl Headers {
    /// The highest sequence number of a base; 0 without any.
    pub(crate) fn base_sequence(&self) -> u64 {
        self.highest(|header| header.base_sequence)
    }

    /// The log up to this block was made durable before a base's header was written.
    pub(crate) fn durable_end(&self) -> u64 {
        self.highest(|header| header.position.sequence)
    }

    /// The highest opening that wrote a base.
    pub(crate) fn incarnation(&self) -> u32 {
        self.highest(|header| header.incarnation)
    }

    fn highest<N: Ord + Default>(&self, number: impl Fn(&BaseHeader) -> N) -> N {
        let numbers = self.found.iter().map(|base| number(&base.header));
        numbers.max().unwrap_or_default()
    }

    /// Every bad slot that a header remembers.
    pub(crate) fn bad_slots(&self) -> Vec<u32> {
        self.found
            .iter()
            .flat_map(|base| base.header.bad_slots.iter().copied())
            .collect()
    }

    /// Every block of the metadata that a header remembers as bad.
    pub(crate) fn bad_blocks(&self) -> Vec<u64> {
        self.found
            .iter()
            .flat_map(|base| base.header.bad_blocks.iter().copied())
            .collect()
    }

    /// The places that do not hold their region's header, though the region has one.
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
    // After metadata was lost, a base that could not be read then may be readable again, and its
    // sequence may be higher than that of the new base. The opening that wrote it is not.
    headers.found.sort_by_key(|base| Reverse(age(&base.header)));
    Ok(headers)
}

fn age(header: &BaseHeader) -> (u32, u64) {
    (header.incarnation, header.base_sequence)
}

impl Headers {
    /// Says why a region has no header. It is absent if both places are as no checkpoint left them.
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
                Err(PlaceState::Refused { why, .. }) => match Unusable::of("header", why.clone()) {
                    Unusable::Damage(why) => damaged.push(why),
                    Unusable::Absent(why) => absent.push(why),
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

/// The lengths that a store's entries keep to.
pub(crate) fn limits_of(superblock: &Superblock) -> KeyLimits {
    KeyLimits {
        key_len_max: superblock.key_len_max,
        metadata_len_max: superblock.metadata_len_max,
    }
}
