//! Values that cost foyer as little as can be: shared bytes that are copied once, into its buffer.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use foyer::Code;

/// Different bodies: more than fit into a cache of the processor with 1 MiB each.
const BODIES: u64 = 64;
/// The key in front of the body.
const KEY_BYTES: usize = 8;

/// A value of a key: the key, then a body that follows from it.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    key: u64,
    /// The value as it is on the device, except that one to be written has no key in it yet.
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

/// All bodies there are.
#[derive(Clone)]
pub(crate) struct Bodies(Arc<Vec<Arc<Vec<u8>>>>);

impl Bodies {
    /// Bodies for values of `len` bytes, at least 16.
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

    /// The value of a key, copying nothing.
    pub(crate) fn value(&self, key: u64) -> Value {
        Value {
            key,
            bytes: self.of(key).clone(),
        }
    }

    /// Whether these are the key's bytes at both ends: cheap enough to ask while the clock runs.
    pub(crate) fn ends_match(&self, key: u64, value: &Value) -> bool {
        let (right, found) = (self.of(key), &value.bytes);
        let tail = right.len() - KEY_BYTES..;
        value.key == key && found.len() == right.len() && found[tail.clone()] == right[tail]
    }

    /// Whether these are the key's bytes, every one.
    pub(crate) fn matches(&self, key: u64, value: &Value) -> bool {
        self.ends_match(key, value) && value.bytes[KEY_BYTES..] == self.of(key)[KEY_BYTES..]
    }
}

/// A step of a generator whose numbers look random and repeat.
pub(crate) fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state ^ (state >> 27)
}

/// The size in bytes of a file or of a block device.
pub(crate) fn file_bytes(path: &Path) -> std::io::Result<u64> {
    File::open(path)?.seek(SeekFrom::End(0))
}
