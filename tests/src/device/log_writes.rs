//! Reads what dm-log-writes records: every write, flush and mark of a device, in the order in which they became
//! durable. A write is recorded when the flush after it has ended, so the writes between two flushes are those that a
//! crash could keep or lose.
//!
//! Source of the layout: the kernel's Documentation/admin-guide/device-mapper/log-writes.rst and
//! drivers/md/dm-log-writes.c. All numbers are little-endian; sectors are the log's own.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// `WRITE_LOG_MAGIC` of the kernel.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;
/// Sector, number of sectors, flags and length of data, 8 bytes each.
const ENTRY_BYTES: u64 = 32;

/// A recorded event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// Bytes at an offset; durable with the flush after it.
    Write { at: u64, bytes: Vec<u8> },
    /// Discarded bytes: they read as zero, or as before.
    Discard { at: u64, len: u64 },
    /// Everything before it is durable.
    Flush,
    /// A mark that the recorder placed here.
    Mark(String),
}

/// Reads a whole log.
///
/// # Errors
/// If it is not a log, or ends in the middle of an entry.
pub(super) fn read(path: &Path) -> Result<Vec<Recorded>, String> {
    let failed = |why| format!("{}: {why}", path.display());
    let file = File::open(path).map_err(|why| failed(why.to_string()))?;
    let bytes_at = |at: u64, len: u64| -> Result<Vec<u8>, String> {
        // A length is accepted only if it is within the file.
        let end = file
            .metadata()
            .map_err(|why| failed(why.to_string()))?
            .len();
        if at.checked_add(len).is_none_or(|last| last > end) {
            return Err(failed(format!(
                "{len} bytes at {at} are beyond its end, {end}"
            )));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, at)
            .map_err(|why| failed(why.to_string()))?;
        Ok(bytes)
    };
    let head = bytes_at(0, 28)?;
    let (magic, version, count) = (
        number(&head[..8]),
        number(&head[8..16]),
        number(&head[16..24]),
    );
    if magic != MAGIC || version != VERSION {
        return Err(failed(format!(
            "no log of writes: magic {magic:#x}, version {version}"
        )));
    }
    let sector = number(&head[24..28]);
    let mut at = sector;
    let mut log = Vec::new();
    for _ in 0..count {
        let entry = bytes_at(at, ENTRY_BYTES)?;
        let word = |n: usize| number(&entry[8 * n..8 * n + 8]);
        let (place, sectors, flags, len) = (word(0), word(1), word(2), word(3));
        let size = |sectors: u64| {
            let bytes = sectors.checked_mul(sector);
            bytes.ok_or_else(|| failed(format!("{sectors} sectors at {at}")))
        };
        let (place, bytes) = (size(place)?, size(sectors)?);
        if flags & MARK != 0 {
            let text = bytes_at(at + ENTRY_BYTES, len)?;
            let text = String::from_utf8_lossy(&text);
            log.push(Recorded::Mark(text.trim_end_matches('\0').to_owned()));
        }
        at += sector;
        // The kernel sends a flush before the data of a write that carries one.
        if flags & FLUSH != 0 {
            log.push(Recorded::Flush);
        }
        if flags & DISCARD != 0 {
            log.push(Recorded::Discard {
                at: place,
                len: bytes,
            });
        } else if bytes > 0 {
            log.push(Recorded::Write {
                at: place,
                bytes: bytes_at(at, bytes)?,
            });
            at += bytes;
        }
    }
    Ok(log)
}

fn number(bytes: &[u8]) -> u64 {
    let wide = bytes.iter().rev();
    wide.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(words: [u64; 4], rest: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend_from_slice(rest);
        bytes.resize(512, 0);
        bytes
    }

    #[test]
    fn a_log_reads_back_and_a_cut_one_is_an_error() {
        let mut log: Vec<u8> = [MAGIC, VERSION, 4]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        log.extend(512_u32.to_le_bytes());
        log.resize(512, 0);
        log.extend(entry([9, 1, 0, 0], &[]));
        log.extend([7; 512]);
        log.extend(entry([0, 0, FLUSH, 0], &[]));
        log.extend(entry([0, 0, MARK, 3], b"r17"));
        log.extend(entry([16, 8, DISCARD, 0], &[]));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &log).unwrap();
        let write = Recorded::Write {
            at: 9 * 512,
            bytes: vec![7; 512],
        };
        let discard = Recorded::Discard {
            at: 16 * 512,
            len: 8 * 512,
        };
        let whole = [
            write,
            Recorded::Flush,
            Recorded::Mark("r17".into()),
            discard,
        ];
        assert_eq!(read(file.path()).unwrap(), whole);
        for len in [0, 27, 540, 1000, log.len() - 500] {
            std::fs::write(file.path(), &log[..len]).unwrap();
            assert!(read(file.path()).is_err(), "{len}");
        }
    }
}
