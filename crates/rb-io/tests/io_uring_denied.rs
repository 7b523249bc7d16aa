// UNSAFETY: a seccomp filter is installed with prctl, on the test's own thread.
#![cfg_attr(
    feature = "io-uring",
    expect(unsafe_code, reason = "prctl with a filter program")
)]
//! Where io_uring is forbidden, `auto` runs posix and reports why, and opening with io_uring fails.
#![cfg(feature = "io-uring")]

use rb_io::{Device, EngineKind, OpenError, open};

/// Makes `io_uring_setup` fail with EPERM on this thread, as container runtimes do.
fn forbid_io_uring() {
    const SETUP: u32 = libc::SYS_io_uring_setup as u32;
    const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let step = |code: u32, k: u32, jt, jf| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let program = [
        // The number of the system call is the first word of struct seccomp_data.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, SETUP, 0, 1),
        step(libc::BPF_RET | libc::BPF_K, DENY, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: only changes what this thread may do.
    let limited = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(limited, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the kernel copies the program, which outlives the call.
    let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) };
    assert_eq!(filtered, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn auto_falls_back_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    let device = || Device::create_file(&path, 1 << 20, false).unwrap();
    let available = open(device(), EngineKind::IoUring).map(drop);
    match available {
        Ok(()) => {
            let opened = open(device(), EngineKind::Auto).unwrap();
            assert_eq!(opened.engine.name(), "io_uring", "auto takes what works");
            assert!(opened.rejected.is_empty());
        }
        Err(error) => println!("io_uring is denied to this test from the start: {error}"),
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            forbid_io_uring();
            let opened = open(device(), EngineKind::Auto).unwrap();
            assert_eq!(opened.engine.name(), "posix");
            let [rejected] = opened.rejected.as_slice() else {
                panic!("{:?}", opened.rejected)
            };
            assert_eq!(rejected.kind, EngineKind::IoUring);
            assert!(
                rejected.reason.contains("not permitted"),
                "{}",
                rejected.reason
            );
            drop(opened);
            let refused = open(device(), EngineKind::IoUring).unwrap_err();
            assert!(
                matches!(
                    refused,
                    OpenError::Engine {
                        kind: EngineKind::IoUring,
                        ..
                    }
                ),
                "{refused}"
            );
        });
    });
}

#[cfg(not(feature = "libblkio"))]
#[test]
fn engines_that_are_not_built_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    let refused = |kind| {
        let device = Device::create_file(&path, 1 << 20, false).unwrap();
        open(device, kind).unwrap_err().to_string()
    };
    let words = refused(EngineKind::Libblkio);
    assert!(words.contains("not part of this build"), "{words}");
    let words = refused(EngineKind::UringCmd);
    assert!(words.contains("is a file; passthrough needs"), "{words}");
}
