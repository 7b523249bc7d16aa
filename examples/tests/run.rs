//! Runs each example; an example asserts what it shows.

use std::process::Command;

fn run(program: &str) {
    let output = Command::new(program).output().expect("the example starts");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{program}: {}\n{out}{err}",
        output.status
    );
    assert!(!out.is_empty(), "{program} shows nothing");
}

#[test]
fn plain_cache() {
    run(env!("CARGO_BIN_EXE_plain_cache"));
}

#[test]
fn tokio_service() {
    run(env!("CARGO_BIN_EXE_tokio_service"));
}

#[test]
fn index_only_cache() {
    run(env!("CARGO_BIN_EXE_index_only_cache"));
}

#[test]
fn own_engine() {
    run(env!("CARGO_BIN_EXE_own_engine"));
}
