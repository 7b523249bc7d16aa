//! Runs operations of a store in threads of their own, one at a time, and decides at every point where one stands
//! who goes on.
//!
//! A [`Baton`] is held by exactly one operation. The operation gives it up only at a [`Place`]: a
//! [`rb_core::SwitchPoint`] of the store, a moment of the simulated device, or a wait for what another
//! operation has. There a [`Chooser`] says which operation goes on: the same, a suspended one, or a new one. So every
//! interleaving of the steps between these places can be run, and a run is a function of the chooser's answers.
//!
//! A chooser that draws from a seed drives the crash harness (`crash/plan.rs`). One that enumerates all answers is in
//! the tests of this module.

mod baton;
mod threads;

#[cfg(test)]
mod tests;

use std::fmt::Debug;

use rb_core::{HeldLock, SwitchPoint};
use rb_testkit::Moment;

pub use baton::Baton;
pub(crate) use baton::words;

/// Where an operation can be suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between two steps of the store.
    At(SwitchPoint),
    /// Before or after the device executes its requests.
    Device(Moment),
    /// It cannot go on before another operation has.
    Waits(Wait),
}

/// What an operation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// What another operation holds over I/O.
    Lock(HeldLock),
    /// The answer of an async operation.
    Answer,
}

/// An operation that has begun and has not ended.
#[derive(Clone, Copy, Debug)]
pub struct Standing<K> {
    /// Its number: operations are counted as they begin.
    pub id: u64,
    /// What it is.
    pub kind: K,
    /// Where it stands.
    pub place: Place,
    /// It waits, and no other operation has advanced since it last looked. It cannot be resumed now.
    pub stuck: bool,
}

/// What an operation does.
pub type Work = Box<dyn FnOnce() + Send>;

/// Who goes on.
pub enum Next<K> {
    /// The running operation.
    GoOn,
    /// A suspended one, by its number.
    Resume(u64),
    /// A new one.
    Start(K, Work),
    /// None: all operations have ended.
    Stop,
}

/// Decides who goes on.
pub trait Chooser<K>: Send {
    /// Decides at a place. `running` is the operation that stands there; none if one has just ended, or at the
    /// beginning. `suspended` are all others, in the order in which they began.
    ///
    /// [`Next::GoOn`] needs a running operation that is not stuck, [`Next::Resume`] a suspended one that is not stuck,
    /// and [`Next::Stop`] that there is none of either.
    fn next(&mut self, running: Option<Standing<K>>, suspended: &[Standing<K>]) -> Next<K>;
}

/// A name for a sort of operation.
pub trait Kind: Copy + Debug + Send + 'static {}

impl<K: Copy + Debug + Send + 'static> Kind for K {}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Panics of operations, and why the run could not go on, in words.
    pub failures: Vec<String>,
    /// The run could not go on. Its suspended operations stay suspended until the process ends, so what they work on
    /// must not be touched any more.
    pub broken: bool,
}
