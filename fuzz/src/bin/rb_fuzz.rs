//! Runs a target under libFuzzer. `RB_FUZZ_TARGET` names the target; `cargo xtask fuzz` sets it.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use rb_fuzz::{Target, find};

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn target() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = std::env::var("RB_FUZZ_TARGET").unwrap_or_default();
        find(&name).unwrap_or_else(|| panic!("RB_FUZZ_TARGET={name:?} is not a target"))
    })
}

fuzz_target!(init: {
    target().check(&[]);
}, |data: &[u8]| {
    target().check(data);
});
