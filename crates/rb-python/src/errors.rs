//! Exceptions.

use std::error::Error as StdError;

use pyo3::create_exception;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

create_exception!(raw_block, Error, PyRuntimeError, "An error of a store.");
create_exception!(raw_block, OpenError, Error, "A store could not be opened.");
create_exception!(
    raw_block,
    InUse,
    OpenError,
    "Another process has the store open."
);
create_exception!(raw_block, NotAStore, OpenError, "There is no store.");
create_exception!(
    raw_block,
    Unexpected,
    OpenError,
    "The store has another label, UUID or slot size."
);
create_exception!(
    raw_block,
    FormatError,
    Error,
    "A store could not be formatted."
);
create_exception!(
    raw_block,
    Consent,
    FormatError,
    "Formatting would destroy data."
);
create_exception!(
    raw_block,
    Poisoned,
    Error,
    "Writing has stopped until the store is reopened."
);
create_exception!(raw_block, Closed, Error, "The store is closed.");
create_exception!(
    raw_block,
    Forked,
    Error,
    "The store was opened by the process of which this is a fork."
);

/// The text of an error and of its causes.
pub(crate) fn text(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += ": ";
        text += &cause.to_string();
        source = cause.source();
    }
    text
}

pub(crate) fn of_store(error: &rb_core::Error) -> PyErr {
    let words = text(error);
    match error {
        rb_core::Error::Poisoned { .. } => Poisoned::new_err(words),
        rb_core::Error::Closed => Closed::new_err(words),
        rb_core::Error::Forked { .. } => Forked::new_err(words),
        _ => Error::new_err(words),
    }
}

pub(crate) fn of_open(error: &rb_core::OpenError) -> PyErr {
    let words = text(error);
    match error {
        rb_core::OpenError::Device(device) if device.is_in_use() => InUse::new_err(words),
        rb_core::OpenError::NotAStore { .. } => NotAStore::new_err(words),
        rb_core::OpenError::Geometry { .. } => Unexpected::new_err(words),
        _ => OpenError::new_err(words),
    }
}

pub(crate) fn of_format(error: &rb_core::FormatError) -> PyErr {
    let words = text(error);
    match error {
        rb_core::FormatError::Device(device) if device.is_in_use() => InUse::new_err(words),
        rb_core::FormatError::Consent { .. } | rb_core::FormatError::Occupied { .. } => {
            Consent::new_err(words)
        }
        _ => FormatError::new_err(words),
    }
}

/// Adds the exceptions to the module.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("Error", py.get_type::<Error>())?;
    module.add("OpenError", py.get_type::<OpenError>())?;
    module.add("InUse", py.get_type::<InUse>())?;
    module.add("NotAStore", py.get_type::<NotAStore>())?;
    module.add("Unexpected", py.get_type::<Unexpected>())?;
    module.add("FormatError", py.get_type::<FormatError>())?;
    module.add("Consent", py.get_type::<Consent>())?;
    module.add("Poisoned", py.get_type::<Poisoned>())?;
    module.add("Closed", py.get_type::<Closed>())?;
    module.add("Forked", py.get_type::<Forked>())
}
