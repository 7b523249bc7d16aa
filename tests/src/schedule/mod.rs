//! Runs operations of a store in separate threads, one at a time, and decides at every point where one stands which one
//! runs next.
//!
//! A [`Baton`] is held by exactly one operation. The operation gives it up only at a [`Place`]: a
//! [`rb_core::SwitchPoint`] of the store, a moment of the simulated device, or a wait for something that another
//! operation has. There a [`Chooser`] decides which operation runs: the same, a suspended one, or a new one. So every
//! interleaving of the steps between these places can be run, and a run is a function of the chooser's decisions.
//!
//! A chooser that draws from a seed drives the crash harness (`crash/plan.rs`). One that enumerates all decisions is in
//! the tests of this module.

mod baton;
mod chooser;
mod place;
mod threads;

#[cfg(test)]
mod tests;

pub(crate) use baton::words;
pub use baton::{Baton, Outcome};
pub use chooser::{Chooser, Kind, Next, Standing, Work};
pub use place::{Place, Wait};
