//! Reads a trace: JSON lines with `hash_ids`, the format of the Mooncake traces (Qin et al.,
//! "Mooncake: A KVCache-centric Disaggregated Architecture for LLM Serving", FAST 2025, whose
//! artifact publishes them). The fields `timestamp` and `input_length` may be missing, and others are ignored. The file
//! may be compressed with zstd.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;

use crate::failure::Failure;

/// First bytes of a zstd frame.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// Bytes of the longest line: far more than a request has, so that no file makes the program take all memory.
const LINE_MAX: u64 = 64 << 20;

/// A request.
#[derive(Deserialize)]
pub(crate) struct Request {
    /// Time in milliseconds.
    #[serde(default)]
    pub(crate) timestamp: u64,
    /// Number of tokens.
    pub(crate) input_length: Option<u64>,
    /// The blocks of its prefix, in order.
    pub(crate) hash_ids: Vec<u64>,
}

/// Reads at most `limit` requests. Empty lines are skipped.
pub(crate) fn read(path: &Path, limit: Option<u64>) -> Result<Vec<Request>, Failure> {
    let failed = |source| Failure::File {
        what: "reading",
        path: path.to_path_buf(),
        source,
    };
    let limit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let mut lines = plain(File::open(path).map_err(failed)?).map_err(failed)?;
    let mut requests = Vec::new();
    let mut number = 0;
    while requests.len() < limit {
        number += 1;
        let Some(line) = next_line(&mut lines, number).map_err(failed)? else {
            break;
        };
        if line.trim().is_empty() {
            continue;
        }
        let request = serde_json::from_str(&line).map_err(|error| {
            let why = error.to_string();
            // The parser's own line is always 1.
            let why = why.split(" at line ").next().unwrap_or_default().to_owned();
            Failure::Trace {
                path: path.to_path_buf(),
                line: number,
                column: error.column(),
                why,
            }
        })?;
        requests.push(request);
    }
    Ok(requests)
}

/// Reads a line without its end; `None` at the end of the file.
fn next_line(lines: &mut dyn BufRead, number: usize) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = lines.take(LINE_MAX + 1).read_until(b'\n', &mut line)?;
    if read as u64 > LINE_MAX {
        return Err(io::Error::other(format!(
            "line {number} is longer than {LINE_MAX} bytes"
        )));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    let text = String::from_utf8(line);
    let text = text.map_err(|_| io::Error::other(format!("line {number} is not UTF-8")))?;
    Ok((read > 0).then_some(text))
}

/// Returns the text of a file, decompressed if it is a zstd file. The first bytes show that, not the name.
fn plain(file: File) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::new(file);
    let mut start = Vec::new();
    // A pipe may hand out its first bytes one by one.
    file.by_ref().take(4).read_to_end(&mut start)?;
    let is_zstd = start == ZSTD_MAGIC;
    let whole = io::Cursor::new(start).chain(file);
    match is_zstd {
        true => decompressed(whole),
        false => Ok(Box::new(whole)),
    }
}

/// Decompresses piece by piece. The library refuses a file that needs a window of more than 128 MiB.
#[cfg(feature = "zstd")]
fn decompressed(file: impl BufRead + 'static) -> io::Result<Box<dyn BufRead>> {
    struct Named<R>(R);

    impl<R: Read> Read for Named<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer).map_err(|why| {
                let why = match why.kind() {
                    io::ErrorKind::UnexpectedEof => "the file ends within a frame".to_owned(),
                    _ => why.to_string(),
                };
                io::Error::other(format!("the zstd compression is damaged: {why}"))
            })
        }
    }

    let decoder = zstd::stream::read::Decoder::with_buffer(file)?;
    Ok(Box::new(BufReader::new(Named(decoder))))
}

#[cfg(not(feature = "zstd"))]
fn decompressed(_: impl BufRead + 'static) -> io::Result<Box<dyn BufRead>> {
    Err(io::Error::other(
        "it is compressed with zstd, and this build of rb has no zstd",
    ))
}
