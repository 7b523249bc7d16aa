//! Machines that try to break the store: the long forms of the tests in `tests/it`, shared by them
//! and by the commands of `cargo xtask`.

pub mod crash;
