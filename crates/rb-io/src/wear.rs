//! Asks an NVMe drive for its wear.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::nvme::command::{Command, IDENTIFY_BYTES, Identify};
use crate::nvme::identify::endurance_group;
use crate::nvme::wear::{FDP_BYTES, SMART_BYTES};
use crate::nvme::{PlacedWrites, Wear};
use crate::sys::nvme::{To, namespace_id, receive};

/// Returns the wear of the NVMe drive behind a path, a character or block node of a namespace; `None` for anything else. It
/// writes nothing, and takes no lock.
///
/// # Errors
/// The path cannot be opened for reading, or the drive does not answer. Before Linux 6.2 only processes with
/// `CAP_SYS_ADMIN` may ask.
pub fn wear(path: &Path) -> io::Result<Option<Wear>> {
    let kind = std::fs::metadata(path)?.file_type();
    if !kind.is_block_device() && !kind.is_char_device() {
        return Ok(None);
    }
    let file = File::open(path)?;
    let Ok(namespace) = namespace_id(file.as_fd()) else {
        return Ok(None);
    };
    let ask =
        |command: Command, answer: &mut [u8]| receive(file.as_fd(), To::Admin, command, answer);
    let mut smart = [0; SMART_BYTES];
    ask(Command::smart(SMART_BYTES as u32), &mut smart)?;
    let mut wear = Wear::decode(&smart);
    let mut answer = [0; IDENTIFY_BYTES];
    ask(
        Command::identify(Identify::Namespace, namespace),
        &mut answer,
    )?;
    let mut fdp = [0; FDP_BYTES];
    let command = Command::fdp_statistics(endurance_group(&answer), FDP_BYTES as u32);
    // A drive without flexible data placement refuses it.
    if ask(command, &mut fdp).is_ok() {
        wear.placed = Some(PlacedWrites::decode(&fdp));
    }
    Ok(Some(wear))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_no_wear_and_a_missing_one_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(wear(file.path()).unwrap(), None);
        assert!(wear(Path::new("/nowhere/at/all")).is_err());
    }
}
