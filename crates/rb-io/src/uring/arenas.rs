//! Which registered buffer a part lies in.

use crate::arena::{Arena, ArenaId, PIECE_BYTES};
use crate::engine::Feature;
use crate::request::Part;
use crate::sys::ring::Ring;

/// The registered arenas of one ring.
#[derive(Debug, Default)]
pub(super) struct Registered {
    /// Each arena and the number of its first piece.
    arenas: Vec<(ArenaId, u16)>,
}

/// The kernel's limit for the number of registered buffers (`IORING_MAX_REG_BUFFERS`).
const PIECES_MAX: usize = 1 << 14;

impl Registered {
    /// Registers `arenas`, all or none, and says what came of it. Failing is not an error: parts
    /// then go without, a little slower.
    pub(super) fn register(ring: &mut Ring, arenas: &[Arena]) -> (Self, Feature) {
        const NAME: &str = "registered buffers";
        if arenas.is_empty() {
            return (Self::default(), Feature::off(NAME, "no arena was given"));
        }
        let bytes: usize = arenas.iter().map(Arena::bytes).sum();
        let pieces: usize = arenas
            .iter()
            .map(|arena| arena.bytes().div_ceil(PIECE_BYTES))
            .sum();
        if pieces > PIECES_MAX {
            let why = format!("{pieces} pieces, and the kernel takes {PIECES_MAX}");
            return (Self::default(), Feature::off(NAME, why));
        }
        if let Err(error) = ring.register_arenas(arenas) {
            let limit = match rustix::process::getrlimit(rustix::process::Resource::Memlock).current
            {
                Some(bytes) => format!("{bytes} bytes"),
                None => "unlimited".into(),
            };
            let why = format!("{bytes} bytes refused: {error}; RLIMIT_MEMLOCK is {limit}");
            return (Self::default(), Feature::off(NAME, why));
        }
        let mut first = 0;
        let mut registered = Self::default();
        for arena in arenas {
            registered.arenas.push((arena.id(), first));
            // At most `PIECES_MAX` in all.
            first += arena.bytes().div_ceil(PIECE_BYTES) as u16;
        }
        (
            registered,
            Feature::on(NAME, format!("{bytes} bytes in {pieces} pieces")),
        )
    }

    /// The piece that the part's memory lies in, if it is registered and not across two.
    pub(super) fn piece_of(&self, part: &Part) -> Option<u16> {
        let buf = part.buf.as_ref()?;
        let id = buf.arena().id();
        let (_, first) = self.arenas.iter().find(|(arena, _)| *arena == id)?;
        let start = buf.arena_offset() + part.buf_offset;
        let last = start + (part.len as usize).saturating_sub(1);
        let piece = start / PIECE_BYTES;
        (piece == last / PIECE_BYTES).then_some(first + piece as u16)
    }
}
