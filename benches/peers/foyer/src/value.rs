//! Values that cost foyer as little as possible: shared bytes that are copied once, into its buffer.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use foyer::Code;

/// Number of different bodies. With values of 1 MiB, they exceed any processor cache.
const BODIES: u64 = 64;
/// Bytes of the key in front of the body.
const KEY_BYTES: usize = 8;

/// Value of a key: the key, then a body derived from it.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    key: u64,
    /// The value as stored on the device; a value that is about to be written does not contain its key yet.
    bytes: Arc<Vec<u8>>,
}

impl Code for Value {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let io = foyer::Error::io_error;
        self.bytes.len().encode(writer)?;
        writer.write_all(&self.key.to_le_bytes()).map_err(io)?;
        writer.write_all(&self.bytes[KEY_BYTES..]).map_err(io)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Value> {
        let bytes = Vec::<u8>::decode(reader)?;
        let key = u64::decode(&mut bytes.as_slice())?;
        Ok(Value {
            key,
            bytes: Arc::new(bytes),
        })
    }

    fn estimated_size(&self) -> usize {
        size_of::<usize>() + self.bytes.len()
    }
}

/// All bodies.
#[derive(Clone)]
pub(crate) struct Bodies(Arc<Vec<Arc<Vec<u8>>>>);

impl Bodies {
    /// Makes the bodies for values of `len` bytes, at least 16.
    pub(crate) fn new(len: usize) -> Bodies {
        let body = |number: u64| {
            let mut state = number + 1;
            let mut bytes = Vec::with_capacity(len + 8);
            while bytes.len() < len {
                state = mix(state);
                bytes.extend_from_slice(&state.to_le_bytes());
            }
            bytes.truncate(len);
            Arc::new(bytes)
        };
        Bodies(Arc::new((0..BODIES).map(body).collect()))
    }

    fn of(&self, key: u64) -> &Arc<Vec<u8>> {
        &self.0[(key % BODIES) as usize]
    }

    /// Returns the value of a key without copying.
    pub(crate) fn value(&self, key: u64) -> Value {
        Value {
            key,
            bytes: self.of(key).clone(),
        }
    }

    /// Returns whether both ends match the key's value: cheap enough to check while the clock runs.
    pub(crate) fn ends_match(&self, key: u64, value: &Value) -> bool {
        let (right, found) = (self.of(key), &value.bytes);
        let tail = right.len() - KEY_BYTES..;
        value.key == key && found.len() == right.len() && found[tail.clone()] == right[tail]
    }

    /// Returns whether every byte matches the key's value.
    pub(crate) fn matches(&self, key: u64, value: &Value) -> bool {
        self.ends_match(key, value) && value.bytes[KEY_BYTES..] == self.of(key)[KEY_BYTES..]
    }
}

/// Returns the next pseudorandom number after `state`.
pub(crate) fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state ^ (state >> 27)
}

/// Returns the size in bytes of a file or block device.
pub(crate) fn file_bytes(path: &Path) -> std::io::Result<u64> {
    File::open(path)?.seek(SeekFrom::End(0))
}
