//! Functions of the module.

use std::path::PathBuf;

use pyo3::prelude::*;
use rb_core::FormatOptions;

use crate::errors::of_format;
use crate::options::SlotBytes;

/// Formats a device or file and returns warnings.
#[pyfunction]
#[pyo3(signature = (path, *, slot_bytes=None, bytes=None, key_len_max=512, metadata_len_max=16,
    log_bytes=None, label=None, sparse=false, discard=false, consent=false, force=false))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
#[expect(
    clippy::fn_params_excessive_bools,
    reason = "keyword arguments of Python"
)]
pub(crate) fn format(
    py: Python<'_>,
    path: PathBuf,
    slot_bytes: Option<SlotBytes>,
    bytes: Option<u64>,
    key_len_max: u32,
    metadata_len_max: u32,
    log_bytes: Option<u64>,
    label: Option<Vec<u8>>,
    sparse: bool,
    discard: bool,
    consent: bool,
    force: bool,
) -> PyResult<Vec<String>> {
    let options = FormatOptions {
        bytes,
        key_len_max,
        metadata_len_max,
        log_bytes,
        label: label.unwrap_or_default(),
        sparse,
        discard,
        consent,
        force,
        ..FormatOptions::new(
            path,
            slot_bytes.unwrap_or(SlotBytes::One(1 << 20)).classes(),
        )
    };
    let formatted = py.detach(|| rb_core::format(&options));
    match formatted {
        Ok(formatted) => Ok(formatted.warnings),
        Err(error) => Err(of_format(&error)),
    }
}

/// Returns whether a device or file holds a store.
#[pyfunction]
pub(crate) fn is_store(py: Python<'_>, path: PathBuf) -> bool {
    py.detach(|| rb_core::is_store(&path))
}
