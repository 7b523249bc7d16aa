//! Values in memory: [`Value`], the result of a get, and [`ValueBuf`], which a put writes without a copy.

use std::fmt;
use std::ops::{Deref, DerefMut};

use rb_format::FORMAT_BLOCK;
use rb_io::{Buffer, Loan};

use crate::error::Error;

/// The result of a get for one key: a value, `None` for a miss, or an error.
pub type Lookup = Result<Option<Value>, Error>;

/// A value that was read and verified; dereferences to its bytes.
///
/// It owns buffer memory of the store, not the slots: the entry may be evicted or replaced while the value lives.
///
/// ```
/// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
/// # let dir = tempfile::tempdir()?;
/// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
/// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
/// # let store = Store::open_or_create(&options, StoreOptions::default())?;
/// store.put(b"key", b"value")?;
/// let value = store.get(b"key")?.expect("it was put");
/// store.remove(b"key")?;
/// assert_eq!(value.len(), 5);
/// assert!(value == b"value"[..]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Value {
    /// Header block, payload, padding, and room for the headers of further slots.
    buf: Buffer,
    len: usize,
    metadata: Box<[u8]>,
    generation: u64,
}

impl Value {
    pub(crate) fn new(buf: Buffer, len: usize, metadata: Box<[u8]>, generation: u64) -> Value {
        Value {
            buf,
            len,
            metadata,
            generation,
        }
    }

    /// The metadata that was put with the value.
    ///
    /// ```
    /// use rb_core::{Put, PutOptions};
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// let options = FormatOptions { metadata_len_max: 16, ..options };
    /// let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put_many(vec![Put::new(b"key", b"value").with_metadata(b"bf16")], PutOptions::default());
    /// let value = store.get(b"key")?.expect("it was put");
    /// assert_eq!(value.metadata(), b"bf16");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn metadata(&self) -> &[u8] {
        &self.metadata
    }

    /// The generation of the put that wrote the value; later puts have higher generations.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"first")?;
    /// let first = store.get(b"key")?.expect("it was put");
    /// store.put(b"key", b"second")?;
    /// let second = store.get(b"key")?.expect("it was put");
    /// assert!(first.generation() < second.generation());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Converts the value into memory that can be changed and put without a copy.
    ///
    /// ```
    /// use rb_core::{Payload, Put, PutOptions};
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// let mut buffer = store.get(b"key")?.expect("it was put").into_buffer();
    /// buffer[0] = b'V';
    /// let put = Put { payload: Payload::Buffer(buffer), ..Put::new(b"copy", &[]) };
    /// store.put_many(vec![put], PutOptions::default());
    /// assert_eq!(store.get(b"copy")?.as_deref(), Some(&b"Value"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn into_buffer(self) -> ValueBuf {
        ValueBuf {
            buf: self.buf,
            len: self.len,
        }
    }
}

/// The result of a get into the caller's memory for one key: the value, `None` for a miss, or an error.
pub type LookupAt = Result<Option<ValueAt>, Error>;

/// A value that was read into the caller's memory and verified there.
#[derive(Debug)]
#[non_exhaustive]
pub struct ValueAt {
    /// The memory; the value is at its start.
    pub loan: Loan,
    /// Length of the value in bytes.
    pub len: usize,
    /// The metadata that was put with the value.
    pub metadata: Box<[u8]>,
    /// The generation of the put that wrote the value.
    pub generation: u64,
}

impl Deref for Value {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.buf[FORMAT_BLOCK..FORMAT_BLOCK + self.len]
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq<[u8]> for Value {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the bytes: cached blocks derive from users' prompts.
        f.debug_struct("Value")
            .field("len", &self.len)
            .field("generation", &self.generation)
            .finish()
    }
}

/// Buffer memory for one value, with room for the header in front and padding behind, so that a put writes it as one
/// request without a copy. Dereferences to the value's bytes. Made by [`Store::buffer`](crate::Store::buffer).
///
/// ```
/// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
/// # let dir = tempfile::tempdir()?;
/// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
/// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
/// # let store = Store::open_or_create(&options, StoreOptions::default())?;
/// let mut buffer = store.buffer(1000)?;
/// assert_eq!(buffer.len(), 1000);
/// buffer[..3].copy_from_slice(b"abc");
/// assert_eq!(&buffer[..3], b"abc");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ValueBuf {
    buf: Buffer,
    len: usize,
}

impl ValueBuf {
    pub(crate) fn new(buf: Buffer, len: usize) -> ValueBuf {
        ValueBuf { buf, len }
    }

    /// Its memory: a header block, the payload, room for padding and for headers of further slots.
    pub(crate) fn into_inner(self) -> Buffer {
        self.buf
    }
}

impl Deref for ValueBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.buf[FORMAT_BLOCK..FORMAT_BLOCK + self.len]
    }
}

impl DerefMut for ValueBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buf[FORMAT_BLOCK..FORMAT_BLOCK + self.len]
    }
}

impl fmt::Debug for ValueBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueBuf").field("len", &self.len).finish()
    }
}
