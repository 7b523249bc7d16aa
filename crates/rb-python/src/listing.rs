//! Pages of entries.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use rb_core::{EntryInfo, ListCursor, ListOrder};

/// Where the next page of a listing begins.
#[pyclass(frozen, module = "raw_block")]
pub(crate) struct Cursor(pub(crate) ListCursor);

/// An entry of a page: key, length in bytes, metadata.
pub(crate) type Listed = (Py<PyBytes>, u32, Py<PyBytes>);

pub(crate) fn start(cursor: Option<&Cursor>, order: &str) -> PyResult<ListCursor> {
    match (cursor, order) {
        (Some(cursor), _) => Ok(cursor.0.clone()),
        (None, "any") => Ok(ListOrder::Any.into()),
        (None, "oldest") => Ok(ListOrder::OldestFirst.into()),
        (None, "newest") => Ok(ListOrder::NewestFirst.into()),
        _ => Err(PyValueError::new_err(format!(
            "order={order:?}: one of any, oldest, newest is expected"
        ))),
    }
}

pub(crate) fn listed(py: Python<'_>, entry: &EntryInfo) -> Listed {
    let bytes = |bytes: &[u8]| PyBytes::new(py, bytes).unbind();
    (bytes(&entry.key), entry.len, bytes(&entry.metadata))
}

/// The keys of a page, and the lengths in bytes. Two lists, because a tuple for each entry takes longer than all else.
pub(crate) fn columns<'py>(
    py: Python<'py>,
    page: &[EntryInfo],
) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyList>)> {
    let keys = page.iter().map(|entry| PyBytes::new(py, &entry.key));
    let lengths = page.iter().map(|entry| entry.len);
    Ok((PyList::new(py, keys)?, PyList::new(py, lengths)?))
}
