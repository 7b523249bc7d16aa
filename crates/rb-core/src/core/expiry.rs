//! Expiry: a value whose time is over is a miss, and its entry is dropped by the operation that looks
//! it up.
//!
//! That needs no record. Put record, base and slot header hold the time, so a restart finds it over, too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rb_index::{Located, ShardGuard};

use crate::core::inner::Inner;
use crate::counters::add;
use crate::error::Error;
use crate::events::{DropReason, Event};

/// Drops the expired entries that one operation meets.
pub(crate) struct Expiry<'a> {
    inner: &'a Inner,
    /// The time of the operation, read when it first matters.
    now: Option<u32>,
    dropped: Vec<(Box<[u8]>, Located)>,
}

impl<'a> Expiry<'a> {
    pub(crate) fn new(inner: &'a Inner) -> Expiry<'a> {
        Expiry {
            inner,
            now: None,
            dropped: Vec::new(),
        }
    }

    /// Drops the entry of a key if its time is over. Called in the hold of the key's shard in which
    /// the operation looks the key up.
    pub(crate) fn apply(&mut self, shard: &mut ShardGuard<'_>, hash: u64, key: &[u8]) {
        if !shard.may_expire() {
            return;
        }
        let now = *self.now.get_or_insert_with(|| now(self.inner));
        if let Some(gone) = shard.expire(hash, key, now) {
            self.inner.changed_if(true, key, gone.generation);
            add(&self.inner.counters.expired, 1);
            self.dropped.push((key.into(), gone));
        }
    }

    /// Returns whether the observer has to be notified.
    pub(crate) fn has_dropped(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// Notifies the observer. The caller holds no lock.
    pub(crate) fn notify(self) {
        for (key, gone) in &self.dropped {
            self.inner.emit(&Event::Dropped {
                key,
                slot: gone.slot.0,
                generation: gone.generation,
                len: gone.payload_len,
                class: gone.class,
                reason: DropReason::Expired,
            });
        }
    }
}

/// The present in seconds since the store was formatted; 0 before that.
pub(crate) fn now(inner: &Inner) -> u32 {
    let since = since_epoch(inner.options.clock.wall()).as_secs();
    let since = since.saturating_sub(inner.superblock.formatted_at);
    u32::try_from(since).unwrap_or(u32::MAX)
}

/// The expiry of a put as the device stores it: whole seconds since the format, rounded up; 0 for
/// never. Times that the 4 bytes do not hold become the last one that they hold.
///
/// # Errors
/// `Expiry`: the time is over, or not after that of the format.
pub(crate) fn stored(inner: &Inner, expires: Option<SystemTime>) -> Result<u32, Error> {
    let Some(expires) = expires.map(since_epoch) else {
        return Ok(0);
    };
    let formatted = Duration::from_secs(inner.superblock.formatted_at);
    let after = since_epoch(inner.options.clock.wall()).max(formatted);
    if expires <= after {
        return Err(Error::Expiry { expires, after });
    }
    let since = expires.saturating_sub(formatted);
    let seconds = since.as_secs() + u64::from(since.subsec_nanos() > 0);
    Ok(u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// The time of a stored expiry; `None` for never.
pub(crate) fn time_of(inner: &Inner, expiry: u32) -> Option<SystemTime> {
    let formatted = Duration::from_secs(inner.superblock.formatted_at);
    let since = formatted.saturating_add(Duration::from_secs(expiry.into()));
    (expiry > 0).then(|| UNIX_EPOCH.checked_add(since))?
}

/// Returns whether a stored expiry is over.
pub(crate) fn is_over(expiry: u32, now: u32) -> bool {
    (1..=now).contains(&expiry)
}

/// Times before 1970 count as 1970.
fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}
