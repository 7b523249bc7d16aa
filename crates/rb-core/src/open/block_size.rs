//! Rejects devices whose blocks are larger than the format's; they cannot hold a store.

use std::path::Path;

use rb_format::FORMAT_BLOCK;
use rb_io::{Limits, OpenError, Probe};

const LARGER_BLOCKS: &str = "blocks of 512 or 4096 bytes are needed: format an NVMe namespace with them (nvme format --lbaf), \
     or put the store in a file of a file system on the device";

/// Returns why a device with these limits cannot hold a store, if so.
fn too_large(limits: &Limits) -> Option<String> {
    let block = limits.block;
    (block.value as usize > FORMAT_BLOCK).then(|| {
        format!(
            "its blocks are {} bytes ({}) and the store's format block is {FORMAT_BLOCK}, which it cannot write by itself",
            block.value, block.source
        )
    })
}

/// Rejects a device before anything on it is changed.
///
/// # Errors
/// `Unfit`: its blocks are larger than those of the format.
pub(crate) fn check_block(path: &Path, limits: &Limits) -> Result<(), OpenError> {
    let path = path.to_path_buf();
    too_large(limits).map_or(Ok(()), |reason| Err(OpenError::Unfit { path, reason }))
}

/// Probes a path like [`rb_io::probe`], and marks engines unusable if the device's blocks are
/// larger than 4096 bytes.
///
/// # Errors
/// Same as [`rb_io::probe`].
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("device");
/// std::fs::File::create(&path)?.set_len(1 << 20)?;
/// let probe = rb_core::probe(&path)?;
/// assert!(probe.engines.iter().any(|offer| offer.kind == rb_core::EngineKind::Posix));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn probe(path: &Path) -> Result<Probe, OpenError> {
    let mut probe = rb_io::probe(path)?;
    judge(&mut probe);
    Ok(probe)
}

fn judge(probe: &mut Probe) {
    let mut refused = false;
    for engine in &mut probe.engines {
        let limits = engine.outcome.as_ref().map(|offer| &offer.limits);
        if let Some(why) = limits.ok().and_then(too_large) {
            engine.outcome = Err(why);
            engine.auto = false;
            refused = true;
        }
    }
    if refused {
        probe.advice.push(LARGER_BLOCKS.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blocks_larger_than_the_format_are_refused() {
        let check = |block| {
            let limits = Limits::simple(block, 1 << 20, "BLKSSZGET");
            check_block(Path::new("/dev/x"), &limits).map_err(|error| error.to_string())
        };
        for block in [512, 4096] {
            assert_eq!(check(block), Ok(()));
        }
        for block in [8192, 16384, 65536] {
            let words = format!(
                "/dev/x cannot hold a store: its blocks are {block} bytes (BLKSSZGET) and the store's format block is 4096, which it cannot write by itself"
            );
            assert_eq!(check(block), Err(words));
        }
    }
}
