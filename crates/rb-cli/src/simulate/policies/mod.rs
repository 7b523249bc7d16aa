//! Policies to compare with, plugged into the store's index.

mod arc;
mod fifo;
mod queue;
mod s3_fifo;
mod sieve;

use rb_core::policy::PolicyFactory;
use rb_index::Learned;

use crate::args::PolicyName;

/// Returns what makes the policy; `None` for the index's own.
pub(super) fn factory(name: PolicyName) -> Option<Box<dyn PolicyFactory>> {
    match name {
        PolicyName::Lru => None,
        PolicyName::Learned => Some(Box::new(Learned::default())),
        PolicyName::Fifo => Some(Box::new(fifo::FifoFactory::default())),
        PolicyName::S3fifo => Some(Box::new(s3_fifo::S3FifoFactory)),
        PolicyName::Sieve => Some(Box::new(sieve::SieveFactory)),
        PolicyName::Arc => Some(Box::new(arc::ArcFactory)),
    }
}
