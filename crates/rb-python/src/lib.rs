//! The Python module `raw_block._native`.
//!
//! No native thread needs the interpreter: Python learns of ended batches through eventfds. Calls that wait for the device
//! release the interpreter.

mod batch;
mod bell;
mod codes;
mod errors;
mod gone;
mod listing;
mod memory;
mod module;
mod options;
mod reports;
mod store;
mod tasks;

use pyo3::prelude::*;

/// The native part of `raw_block`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    module.add("FORMAT_VERSION", rb_format::FORMAT_VERSION)?;
    for (name, code) in codes::ALL {
        module.add(name, code)?;
    }
    errors::add(module)?;
    module.add_class::<memory::Memory>()?;
    module.add_class::<store::Store>()?;
    module.add_class::<store::Done>()?;
    module.add_class::<listing::Cursor>()?;
    let close_all = wrap_pyfunction!(store::close_all, module)?;
    module
        .py()
        .import("atexit")?
        .call_method1("register", (close_all,))?;
    module.add_function(wrap_pyfunction!(module::format, module)?)?;
    module.add_function(wrap_pyfunction!(module::is_store, module)?)
}
