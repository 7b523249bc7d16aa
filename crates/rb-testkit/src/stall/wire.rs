//! The few messages of the FUSE protocol that one file needs (`linux/fuse.h`, version 7.31). The
//! protocol uses native byte order; this code uses little-endian, like every machine that we test
//! on.

use std::ops::Range;

/// The largest write and the headers before its bytes.
pub(super) const REQUEST_BYTES_MAX: usize = TRANSFER_MAX + 4096;
const TRANSFER_MAX: usize = 1 << 20;
const HEADER_BYTES: usize = 40;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;
const ROOT: u64 = 1;
const FILE: u64 = 2;
/// How long the kernel may cache attributes and names, in seconds.
const FOR_EVER: u64 = 1 << 20;

/// `ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES`: requests of one caller are in flight
/// together.
const INIT_FLAGS: u32 = 1 | 1 << 5 | 1 << 15 | 1 << 22;
/// `DIRECT_IO | NOFLUSH | PARALLEL_DIRECT_WRITES`: each request of the caller is one request to the
/// server.
const OPEN_FLAGS: u32 = 1 | 1 << 5 | 1 << 6;

pub(super) fn is_transfer(request: &[u8]) -> bool {
    matches!(number(request, 4..8) as u32, READ | WRITE)
}

pub(super) fn is_flush(request: &[u8]) -> bool {
    number(request, 4..8) as u32 == FSYNC
}

/// Executes a request and returns the reply; `None` if the kernel expects none.
pub(super) fn answer(request: &[u8], bytes: &mut [u8]) -> Option<Vec<u8>> {
    let unique = number(request, 8..16);
    let node = number(request, 16..24);
    let body = request.get(HEADER_BYTES..).unwrap_or_default();
    let size = bytes.len() as u64;
    let told = match number(request, 4..8) as u32 {
        FORGET | BATCH_FORGET | INTERRUPT => return None,
        INIT => Ok(init()),
        LOOKUP if body.starts_with(b"file\0") => Ok(entry(size)),
        LOOKUP => Err(ENOENT),
        GETATTR => Ok([words64(&[FOR_EVER, 0]), attributes(node, size)].concat()),
        OPEN => Ok([words64(&[0]), words32(&[OPEN_FLAGS, 0])].concat()),
        READ => Ok(bytes[range(body, bytes.len())].to_vec()),
        WRITE => {
            let range = range(body, bytes.len());
            let len = range.len() as u32;
            let from = body.get(HEADER_BYTES..).unwrap_or_default();
            bytes[range].copy_from_slice(&from[..len as usize]);
            Ok(words32(&[len, 0]))
        }
        // Must not be ENOSYS: the kernel would never send a flush again.
        RELEASE | FSYNC => Ok(Vec::new()),
        _ => Err(ENOSYS),
    };
    let (error, told) = match told {
        Ok(told) => (0, told),
        Err(errno) => (-errno, Vec::new()),
    };
    let len = (16 + told.len()) as u32;
    Some([words32(&[len, error as u32]), words64(&[unique]), told].concat())
}

/// Returns the part of the file that a read or write refers to.
fn range(body: &[u8], len: usize) -> Range<usize> {
    let start = (number(body, 8..16) as usize).min(len);
    start..(start + number(body, 16..20) as usize).min(len)
}

fn init() -> Vec<u8> {
    let pages = (TRANSFER_MAX / 4096) as u32;
    let mut told = words32(&[7, 31, 1 << 17, INIT_FLAGS, 0, TRANSFER_MAX as u32, 1, pages]);
    told.resize(64, 0);
    told
}

fn entry(size: u64) -> Vec<u8> {
    let times = words64(&[FILE, 0, FOR_EVER, FOR_EVER, 0]);
    [times, attributes(FILE, size)].concat()
}

fn attributes(node: u64, size: u64) -> Vec<u8> {
    let (mode, size) = if node == ROOT {
        (0o40755, 0)
    } else {
        (0o100_600, size)
    };
    let numbers = words64(&[node, size, size / 512, 0, 0, 0]);
    [numbers, words32(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0])].concat()
}

fn words32(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn words64(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Reads a little-endian number of up to 8 bytes; missing bytes are 0.
fn number(bytes: &[u8], at: Range<usize>) -> u64 {
    let bytes = bytes.get(at).unwrap_or_default();
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
