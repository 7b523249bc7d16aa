//! The suite on a loop device, if the machine allows one: limits, alignment, exclusive opening and
//! discard of a real block device.

use std::path::Path;

use rb_io::{Access, Device, DeviceKind, EngineKind};
use rb_testkit::{LoopDevice, conformance, skip};

#[test]
fn engines_on_a_loop_device() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(conformance::CAPACITY_MIN).unwrap();
    for sector in [512, 4096] {
        let what = "conformance on a loop device";
        let Some(node) = LoopDevice::attach(what, file.path(), sector) else {
            return;
        };
        let open = || Device::open(node.path(), Access::ReadWrite).expect("the loop device opens");
        let device = open();
        assert_eq!(
            (device.kind(), device.limits().block.value),
            (DeviceKind::Block, sector)
        );
        assert_eq!(device.limits().block.source, "BLKSSZGET");
        assert!(device.direct());
        let refused = Device::open(node.path(), Access::ReadWrite).expect_err("a second writer");
        assert!(refused.is_in_use(), "{refused}");
        Device::open(node.path(), Access::ReadOnly).expect("a reader concurrent with the writer");
        drop(device);
        let mut kinds = vec![EngineKind::Posix];
        if cfg!(feature = "io-uring") && skip::io_uring_works("a loop device", node.path()) {
            kinds.push(EngineKind::IoUring);
            // Its driver for block devices uses io_uring.
            kinds.extend(cfg!(feature = "libblkio").then_some(EngineKind::Libblkio));
        }
        for kind in kinds {
            conformance::run(&format!("{kind} on a loop device of {sector}"), &|| {
                rb_io::open(open(), kind).expect("the engine opens").engine
            });
        }
    }
}

/// A file that was open for writing could be opened a second time through a loop device that was
/// set up over it afterwards, and through a second loop device over the same file: `rb format`
/// wiped a store in use.
#[test]
fn a_file_and_the_loop_devices_over_it_keep_each_other_out() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let open = |path: &Path, access| Device::open(path, access);
    let held = open(file.path(), Access::ReadWrite).unwrap();
    let attach = || LoopDevice::attach("two loop devices over a file", file.path(), 512);
    let (Some(one), Some(two)) = (attach(), attach()) else {
        return;
    };
    for access in [Access::ReadWrite, Access::ReadLocked] {
        assert!(
            open(one.path(), access).unwrap_err().is_in_use(),
            "{access:?}"
        );
    }
    open(one.path(), Access::ReadOnly).unwrap();
    drop(held);
    let held = open(one.path(), Access::ReadWrite).unwrap();
    assert!(open(two.path(), Access::ReadWrite).unwrap_err().is_in_use());
    assert!(
        open(file.path(), Access::ReadWrite)
            .unwrap_err()
            .is_in_use()
    );
    drop(held);
    open(two.path(), Access::ReadWrite).unwrap();
}
