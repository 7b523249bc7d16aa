//! Tests of every engine on real devices: the tests of `cargo xtask device-test`, which run in its machines, on loop
//! devices and on real hardware.
//!
//! A *cell* is one engine on one device. Its tests run one after the other, each under a watchdog, and each prints its
//! result immediately as a line of JSON, so that a machine that dies has reported all but the last test. Everything on
//! the named devices is overwritten.

mod bad_block;
mod cell;
mod cross;
mod fdp;
mod flakey;
mod log_record;
mod log_replay;
mod log_writes;
mod nodes;
mod program;
mod real;
mod removal;
mod reserved;
mod speed;
mod stores;
mod suite;
mod target;
mod unfit;
mod users;

pub use bad_block::{Direction, bad_block};
pub use cell::{Cell, MARK, Outcome};
pub use cross::cross;
pub use fdp::fdp;
pub use flakey::flakey;
pub use log_record::log_record;
pub use log_replay::log_replay;
pub use nodes::node;
pub use real::real;
pub use removal::removal;
pub use reserved::reserved;
pub use speed::speed;
pub use suite::suite;
pub use target::Target;
pub use unfit::unfit;
pub use users::users;
