//! Opening is exclusive, and creating destroys nothing.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use super::{Access, Device, DeviceKind};
use crate::error::OpenError;

const CHILD_PATH: &str = "RB_IO_TEST_OPEN";
const REFUSED: i32 = 23;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_second_writer_is_refused() {
    let directory = directory();
    let path = directory.path().join("device");
    let device = Device::create_file(&path, 1 << 20, false).unwrap();
    for refused in [
        Device::open(&path, Access::ReadWrite).unwrap_err(),
        Device::create_file(&path, 4 << 20, false).unwrap_err(),
    ] {
        assert!(refused.is_in_use(), "{refused}");
    }
    assert_eq!(
        std::fs::metadata(&path).unwrap().len(),
        1 << 20,
        "the loser changed nothing"
    );
    let reader = Device::open(&path, Access::ReadOnly).unwrap();
    assert!(in_another_process(&path), "another process is refused too");
    drop(device);
    assert!(!in_another_process(&path), "a reader holds no lock");
    drop(reader);
    Device::open(&path, Access::ReadWrite).unwrap();
}

#[test]
fn a_locked_reader_and_a_writer_keep_each_other_out() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let open = |access| Device::open(file.path(), access);
    let reader = open(Access::ReadLocked).unwrap();
    let beside = open(Access::ReadLocked).unwrap();
    assert!(open(Access::ReadWrite).unwrap_err().is_in_use());
    drop((reader, beside));
    let writer = open(Access::ReadWrite).unwrap();
    assert!(open(Access::ReadLocked).unwrap_err().is_in_use());
    drop(writer);
    open(Access::ReadLocked).unwrap();
}

/// Runs the check in another process; returns whether it is refused as a second writer.
fn in_another_process(path: &Path) -> bool {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "device::tests::child_of_a_second_writer_is_refused",
        ])
        .env(CHILD_PATH, path)
        .output()
        .unwrap();
    match child.status.code() {
        Some(REFUSED) => true,
        Some(0) => false,
        _ => panic!("the child failed: {child:?}"),
    }
}

/// Does nothing unless started by the test above.
#[test]
fn child_of_a_second_writer_is_refused() {
    let Some(path) = std::env::var_os(CHILD_PATH) else {
        return;
    };
    match Device::open(Path::new(&path), Access::ReadWrite) {
        Ok(_) => {}
        Err(error) if error.is_in_use() => std::process::exit(REFUSED),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn files_are_private_and_never_shrink() {
    let directory = directory();
    let path = directory.path().join("device");
    let device = Device::create_file(&path, (1 << 20) + 100, true).unwrap();
    assert_eq!(
        (device.kind(), device.capacity_bytes()),
        (DeviceKind::File, 1 << 20)
    );
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let whole = 0..1 << 20;
    let reserved = device.allocate(std::slice::from_ref(&whole)).unwrap();
    assert_eq!(reserved, metadata.blocks() * 512 >= 1 << 20);
    drop(device);
    let device = Device::create_file(&path, 4096, false).unwrap();
    assert_eq!(device.capacity_bytes(), 1 << 20);
    drop(device);
    let device = Device::create_file(&path, 2 << 20, false).unwrap();
    assert_eq!(device.capacity_bytes(), 2 << 20);
}

#[test]
fn only_files_and_block_devices_open() {
    let directory = directory();
    let pipe = directory.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    for path in [directory.path(), &pipe, Path::new("/dev/null")] {
        let refused = Device::open(path, Access::ReadOnly).unwrap_err();
        assert!(matches!(refused, OpenError::WrongType { .. }), "{refused}");
        let refused = Device::create_file(path, 4096, false).unwrap_err();
        assert!(matches!(refused, OpenError::WrongType { .. }), "{refused}");
    }
    let missing = directory.path().join("missing");
    assert!(matches!(
        Device::open(&missing, Access::ReadWrite),
        Err(OpenError::Path { .. })
    ));
    assert!(!missing.exists(), "opening creates nothing");
    let empty = directory.path().join("empty");
    std::fs::File::create(&empty).unwrap();
    let refused = Device::open(&empty, Access::ReadWrite).unwrap_err();
    assert!(
        matches!(refused, OpenError::TooSmall { bytes: 0, .. }),
        "{refused}"
    );
}

#[test]
fn a_signature_is_seen_at_an_odd_end() {
    let directory = directory();
    let path = directory.path().join("device");
    let mut file = std::fs::File::create(&path).unwrap();
    // Not a multiple of the page; the end is still read.
    file.write_all(&vec![0; (3 << 20) + 512 - 512]).unwrap();
    file.write_all(b"EFI PART").unwrap();
    file.write_all(&[0; 504]).unwrap();
    drop(file);
    let device = Device::open(&path, Access::ReadOnly).unwrap();
    let found = device.signature().unwrap().unwrap();
    assert_eq!((found.name, found.offset), ("GPT", 3 << 20));
}

/// The error did not name the process that holds the lock, so the operator had to search for it.
#[test]
fn a_refused_opening_names_the_process_that_has_the_lock() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let _held = Device::open(file.path(), Access::ReadWrite).unwrap();
    let refused = Device::open(file.path(), Access::ReadWrite).unwrap_err();
    assert!(refused.is_in_use());
    let named = format!("process {} holds its lock", std::process::id());
    let inode = MetadataExt::ino(&file.as_file().metadata().unwrap());
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    match locks.contains(&format!(":{inode} ")) {
        true => assert!(refused.to_string().contains(&named), "{refused}"),
        false => eprintln!("skipped: this system does not list the lock"),
    }
}
