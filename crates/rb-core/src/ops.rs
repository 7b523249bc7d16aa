//! The operations: get, put, remove and queries.

pub(crate) mod async_ops;
pub(crate) mod batch;
pub(crate) mod get;
pub(crate) mod get_wave;
pub(crate) mod put;
pub(crate) mod put_plan;
pub(crate) mod put_wave;
pub(crate) mod query;
pub(crate) mod remove;
pub(crate) mod slots;
