//! Reads a trace: JSON lines with `hash_ids`, the format of the Mooncake traces (Qin et al.,
//! "Mooncake: A KVCache-centric Disaggregated Architecture for LLM Serving", FAST 2025, whose
//! artifact publishes them). Other fields of a line are ignored.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use crate::failure::Failure;

#[derive(Deserialize)]
struct TraceLine {
    hash_ids: Vec<u64>,
}

/// Reads the block ids of each request, of at most `limit` requests. Empty lines are skipped.
pub(super) fn read(path: &Path, limit: Option<u64>) -> Result<Vec<Vec<u64>>, Failure> {
    let failed = |source| Failure::File {
        what: "reading",
        path: path.to_path_buf(),
        source,
    };
    let limit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let mut requests = Vec::new();
    for (number, line) in BufReader::new(File::open(path).map_err(failed)?)
        .lines()
        .enumerate()
    {
        if requests.len() == limit {
            break;
        }
        let line = line.map_err(failed)?;
        if line.trim().is_empty() {
            continue;
        }
        let line: TraceLine = serde_json::from_str(&line).map_err(|error| {
            let why = error.to_string();
            // The parser's own line is always 1.
            let why = why.split(" at line ").next().unwrap_or_default().to_owned();
            Failure::Trace {
                path: path.to_path_buf(),
                line: number + 1,
                column: error.column(),
                why,
            }
        })?;
        requests.push(line.hash_ids);
    }
    Ok(requests)
}
