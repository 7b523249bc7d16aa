//! Decisions about which operation runs next.

use std::fmt::Debug;

use super::place::Place;

/// An operation that has begun and has not ended.
#[derive(Clone, Copy, Debug)]
pub struct Standing<K> {
    /// Its number: operations are counted as they begin.
    pub id: u64,
    /// Kind of the operation.
    pub kind: K,
    /// Place at which it stands.
    pub place: Place,
    /// True if it waits, and no other operation has advanced since it last checked. It cannot be resumed now.
    pub stuck: bool,
}

/// The code of an operation.
pub type Work = Box<dyn FnOnce() + Send>;

/// The operation that runs next.
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

/// Decides which operation runs next.
pub trait Chooser<K>: Send {
    /// Decides at a place. `running` is the operation that stands there; `None` if one has just ended, or at the
    /// beginning. `suspended` are all others, in the order in which they began.
    ///
    /// [`Next::GoOn`] needs a running operation that is not stuck, [`Next::Resume`] a suspended one that is not stuck,
    /// and [`Next::Stop`] that there is none of either.
    fn next(&mut self, running: Option<Standing<K>>, suspended: &[Standing<K>]) -> Next<K>;
}

/// Name of a kind of operation.
pub trait Kind: Copy + Debug + Send + 'static {}

impl<K: Copy + Debug + Send + 'static> Kind for K {}
