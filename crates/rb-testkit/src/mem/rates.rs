//! Random faults: how often, and in which part of the device, all from one seed.

use std::ops::Range;

use rb_io::{OpKind, Part};

use crate::values::next_number;

/// Fault rates of requests, in units of 1/10,000. The default is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultRates {
    /// A read fails and changes nothing.
    pub read_error: u16,
    /// A read finds one bit flipped, and so does every later one.
    pub rot: u16,
    /// A write or discard fails and changes nothing.
    pub write_error: u16,
    /// A write fails for lack of space and changes nothing.
    pub no_space: u16,
    /// A write or discard fails, but lands anyway before the next flush.
    pub late_write: u16,
    /// A write or discard succeeds and never lands.
    pub lost_write: u16,
    /// A write succeeds and lands in another block of the device.
    pub misdirected_write: u16,
    /// A read or write is short.
    pub short: u16,
    /// A request completes after later ones.
    pub slow: u16,
}

/// The random fault of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    Fails,
    NoSpace,
    Rots,
    Late,
    Lost,
    Misdirected,
    Short,
}

#[derive(Debug, Default)]
pub(super) struct Chance {
    random: u64,
    regions: Vec<(Range<u64>, FaultRates)>,
}

impl Chance {
    pub(super) fn new(seed: u64, regions: Vec<(Range<u64>, FaultRates)>) -> Self {
        Self {
            random: seed,
            regions,
        }
    }

    pub(super) fn number(&mut self, below: u64) -> u64 {
        next_number(&mut self.random) % below.max(1)
    }

    fn hits(&mut self, rate: u16) -> bool {
        rate > 0 && self.number(10_000) < u64::from(rate)
    }

    fn rates(&self, part: &Part) -> Option<FaultRates> {
        let region = self
            .regions
            .iter()
            .find(|(range, _)| range.contains(&part.offset))?;
        (part.op != OpKind::Flush).then_some(region.1)
    }

    pub(super) fn is_slow(&mut self, part: &Part) -> bool {
        self.rates(part).is_some_and(|rates| self.hits(rates.slow))
    }

    pub(super) fn strike(&mut self, part: &Part) -> Option<Mishap> {
        let rates = self.rates(part)?;
        let chances = match part.op {
            OpKind::Read => &[(rates.read_error, Mishap::Fails), (rates.rot, Mishap::Rots)][..],
            OpKind::Write => &[
                (rates.write_error, Mishap::Fails),
                (rates.no_space, Mishap::NoSpace),
                (rates.late_write, Mishap::Late),
                (rates.lost_write, Mishap::Lost),
                (rates.misdirected_write, Mishap::Misdirected),
            ],
            OpKind::Discard => &[
                (rates.write_error, Mishap::Fails),
                (rates.late_write, Mishap::Late),
                (rates.lost_write, Mishap::Lost),
            ],
            OpKind::Flush => &[],
        };
        let mut chances = chances.to_vec();
        chances.push((rates.short, Mishap::Short));
        chances
            .into_iter()
            .find(|(rate, _)| self.hits(*rate))
            .map(|(_, mishap)| mishap)
    }
}
