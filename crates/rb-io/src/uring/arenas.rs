//! Maps the memory of a part to a registered buffer.
//!
//! Arenas are registered in windows. A window begins every `stride` bytes and is longer than that
//! by the largest part, so every part lies inside the window that it begins in. A window is pinned
//! by the first part that needs it: pinning everything up front touches memory that may never be
//! used, and delayed each queue, and with it each restart of a store.

use crate::arena::{Arena, ArenaId};
use crate::engine::Feature;
use crate::memory_limit::locked_limit;
use crate::request::Part;
use crate::sys::encode::Encoder;
use crate::sys::ring::{Ring, Window};

/// The windows of one ring.
#[derive(Debug, Default)]
pub(super) struct Registered {
    /// Each arena, the number of its first window, and its size.
    arenas: Vec<(ArenaId, usize, usize)>,
    stride: usize,
    /// Length of a window that is not cut short by the end of its arena.
    length: usize,
    pinned: Vec<bool>,
    /// Reason why no more windows are pinned.
    refused: Option<String>,
}

/// The kernel's limit on the number of registered buffers (`IORING_MAX_REG_BUFFERS`).
const WINDOWS_MAX: usize = 1 << 14;
/// Beyond this number, windows are made larger instead.
const WINDOWS_WANTED: usize = 1 << 10;
/// At this stride the largest part adds at most a quarter to the pinned memory, and pinning one
/// window takes little time compared to reading into memory that was never touched.
const STRIDE_MIN: usize = 4 << 20;
/// The kernel limits one registered buffer to 1 GiB; half is reserved for the largest part.
const STRIDE_MAX: usize = 1 << 29;

impl Registered {
    /// Prepares the windows of `arenas`, for parts of at most `part_max` bytes. With `lazy`, none
    /// is pinned yet, if the kernel supports that (Linux 5.19). A failure is not an error: parts
    /// then use unregistered memory, a little slower.
    pub(super) fn new<E: Encoder>(
        ring: &mut Ring<E>,
        arenas: &[Arena],
        part_max: u64,
        lazy: bool,
    ) -> Self {
        if arenas.is_empty() {
            return Self::refused("no arena was given".into());
        }
        if let Some(why) = ring.refuses_registered() {
            return Self::refused(why.to_owned());
        }
        let bytes: usize = arenas.iter().map(Arena::bytes).sum();
        let stride = (bytes / WINDOWS_WANTED)
            .next_power_of_two()
            .clamp(STRIDE_MIN, STRIDE_MAX);
        let part_max = usize::try_from(part_max).unwrap_or(STRIDE_MAX);
        let mut windows = Self {
            stride,
            length: stride + part_max.min(STRIDE_MAX),
            ..Self::default()
        };
        let mut count = 0;
        for arena in arenas {
            windows.arenas.push((arena.id(), count, arena.bytes()));
            count += arena.bytes().div_ceil(stride);
        }
        if count > WINDOWS_MAX {
            let why = format!("{bytes} bytes are {count} windows; the kernel takes {WINDOWS_MAX}");
            return Self::refused(why);
        }
        let all = || (0..count).filter_map(|number| windows.window(number));
        if lazy && ring.register_sparse(arenas, count).is_ok() {
            windows.pinned = vec![false; count];
            return windows;
        }
        match ring.register_arenas(arenas, all()) {
            Ok(()) => windows.pinned = vec![true; count],
            Err(error) => return Self::refused(why_refused(bytes, &error)),
        }
        windows
    }

    fn refused(why: String) -> Self {
        Self {
            refused: Some(why),
            ..Self::default()
        }
    }

    /// Returns the window of this number, counted over all arenas.
    fn window(&self, number: usize) -> Option<Window> {
        let (arena, (_, first, bytes)) = self
            .arenas
            .iter()
            .enumerate()
            .rfind(|(_, (_, first, _))| *first <= number)?;
        let offset = (number - first) * self.stride;
        Some(Window {
            arena,
            offset,
            len: self.length.min(bytes.checked_sub(offset)?),
        })
    }

    /// Returns the registered buffer that contains the part's memory, if there is one; pins it if
    /// necessary.
    pub(super) fn window_of<E: Encoder>(&mut self, ring: &mut Ring<E>, part: &Part) -> Option<u16> {
        let buf = part.buf.as_ref()?;
        let id = buf.arena().id();
        let (_, first, _) = self.arenas.iter().find(|(arena, ..)| *arena == id)?;
        let start = buf.arena_offset() + part.buf_offset;
        let number = first + start / self.stride;
        if start % self.stride + part.len as usize > self.length {
            return None;
        }
        // At most `WINDOWS_MAX`.
        let index = number as u16;
        if !*self.pinned.get(number)? {
            if self.refused.is_some() {
                return None;
            }
            let window = self.window(number)?;
            let len = window.len;
            if let Err(error) = ring.pin(index, window) {
                self.refused = Some(why_refused(len, &error));
                return None;
            }
            self.pinned[number] = true;
        }
        Some(index)
    }

    /// Reports the outcome so far.
    pub(super) fn report(&self) -> Feature {
        const NAME: &str = "registered buffers";
        let (all, pinned) = (
            self.pinned.len(),
            self.pinned.iter().filter(|pinned| **pinned).count(),
        );
        let stride = self.stride;
        match &self.refused {
            Some(why) if pinned == 0 => Feature::off(NAME, why.clone()),
            // No window was used yet. If even one is more than this process may lock, none will be registered.
            None if pinned == 0
                && let Some(window) = self.window(0)
                && let Some(limit) = locked_limit()
                && (window.len as u64) > limit =>
            {
                Feature::off(
                    NAME,
                    format!(
                        "no window of {} bytes can be registered: RLIMIT_MEMLOCK is {limit} bytes",
                        window.len
                    ),
                )
            }
            // Neighbouring windows overlap, so each counts with its whole length.
            None if pinned == 0
                && let Some(window) = self.window(0)
                && let Some(limit) = locked_limit()
                && let fit = limit / (window.len as u64).max(1)
                && fit < all as u64 =>
            {
                Feature::on(
                    NAME,
                    format!(
                        "at most {fit} of {all} windows of {stride} bytes, each pinned when first used: RLIMIT_MEMLOCK is {limit} bytes"
                    ),
                )
            }
            Some(why) => Feature::on(
                NAME,
                format!("{pinned} of {all} windows of {stride} bytes; then {why}"),
            ),
            None => Feature::on(
                NAME,
                format!("{pinned} of {all} windows of {stride} bytes, each pinned when first used"),
            ),
        }
    }
}

fn why_refused(bytes: usize, error: &std::io::Error) -> String {
    let limit = match rustix::process::getrlimit(rustix::process::Resource::Memlock).current {
        Some(bytes) => format!("{bytes} bytes"),
        None => "unlimited".into(),
    };
    format!("{bytes} bytes refused: {error}; RLIMIT_MEMLOCK is {limit}")
}
