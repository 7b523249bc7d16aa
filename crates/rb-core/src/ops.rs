//! The operations: get, put, remove and queries.

pub(crate) mod admission;
pub(crate) mod batch;
pub(crate) mod budgeting;
pub(crate) mod collect;
pub(crate) mod driver;
pub(crate) mod get;
pub(crate) mod get_batch;
pub(crate) mod get_hit;
pub(crate) mod get_lease;
pub(crate) mod groups;
pub(crate) mod judging;
pub(crate) mod list;
pub(crate) mod locking;
pub(crate) mod put;
pub(crate) mod put_async;
pub(crate) mod put_batch;
pub(crate) mod put_pending;
pub(crate) mod put_plan;
pub(crate) mod put_publish;
pub(crate) mod query;
pub(crate) mod refused;
pub(crate) mod remove;
pub(crate) mod slots;
pub(crate) mod sync;
pub(crate) mod turns;
pub(crate) mod worker;
