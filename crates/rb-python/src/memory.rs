// UNSAFETY: Python names memory by its address. An arena is built over it, as every module does that takes the address of
// a tensor; what the caller promises is in the documentation of `Memory` and of the batches.
#![expect(unsafe_code, reason = "adopted memory")]
//! [`Memory`], and the loans of a batch.

use std::any::Any;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rb_core::{Arena, Loan};

/// Pages of an arena.
const PAGE: usize = 4096;

/// Adopted memory.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) arena: Arena,
    address: usize,
    length: usize,
}

/// The regions that Python has made. One memory must not be in two arenas, whose loans would not know of each other.
static REGIONS: Mutex<Vec<Weak<Region>>> = Mutex::new(Vec::new());

/// The use of a loan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// A put reads the memory.
    Source,
    /// A get writes to it.
    Target,
}

/// Memory of a value that is in no region, until no request holds it: it is the owner of its arena. Arenas do not know of
/// each other, so this finds memory that a get would share.
#[derive(Debug)]
struct Loose {
    range: Range<usize>,
    access: Access,
}

/// The ranges of all `Loose`.
static LOOSE: Mutex<Vec<(Range<usize>, Access)>> = Mutex::new(Vec::new());

impl Loose {
    fn new(range: Range<usize>, access: Access) -> Result<Loose, String> {
        let mut all = LOOSE.lock();
        let shares = |(other, its): &(Range<usize>, Access)| {
            range.start < other.end
                && other.start < range.end
                && (access, *its) != (Access::Source, Access::Source)
        };
        if let Some((other, _)) = all.iter().find(|other| shares(other)) {
            return Err(format!(
                "{} bytes at {:#x} overlap the memory of another value: {} bytes at {:#x}",
                range.len(),
                range.start,
                other.len(),
                other.start
            ));
        }
        all.push((range.clone(), access));
        Ok(Loose { range, access })
    }
}

impl Drop for Loose {
    fn drop(&mut self) {
        let mut all = LOOSE.lock();
        let same = |(range, access): &(Range<usize>, Access)| {
            *range == self.range && *access == self.access
        };
        let at = all
            .iter()
            .position(same)
            .expect("it was added when this was made");
        all.swap_remove(at);
    }
}

/// The memory of one value of a batch: what to wait for if the device keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    arena: Arena,
    offset: usize,
    pub(crate) length: usize,
}

impl Region {
    /// The region of this range: the same one for the same range.
    fn of(address: usize, length: usize, owner: Py<PyAny>) -> Result<Arc<Region>, String> {
        let Some(end) = address.checked_add(length) else {
            return Err(format!(
                "{length} bytes at {address:#x} end behind the address space"
            ));
        };
        let mut regions = REGIONS.lock();
        regions.retain(|region| region.strong_count() > 0);
        for region in regions.iter().filter_map(Weak::upgrade) {
            if (region.address, region.length) == (address, length) {
                return Ok(region);
            }
            if address < region.address + region.length && region.address < end {
                return Err(format!(
                    "{length} bytes at {address:#x} overlap the memory of {} bytes at {:#x}",
                    region.length, region.address
                ));
            }
        }
        let region = Region::adopt(address, length, Box::new(owner))?;
        regions.push(Arc::downgrade(&region));
        Ok(region)
    }

    fn adopt(
        address: usize,
        length: usize,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Result<Arc<Region>, String> {
        let Some(start) = NonNull::new(std::ptr::with_exposed_provenance_mut(address)) else {
            return Err("memory at address 0".into());
        };
        // SAFETY: the caller of the Python function promises that the memory is mapped, readable and writable until the
        // store has returned it, which `owner` or the caller itself ensures. It is initialised as far as Rust is
        // concerned: it was made outside of it. Loans cover only what the caller lent.
        let arena = unsafe { Arena::adopt(start, length, owner) };
        let arena = arena.map_err(|error| error.to_string())?;
        Ok(Arc::new(Region {
            arena,
            address,
            length,
        }))
    }

    /// The pages around memory that is in no region. Values that do not begin on a page are copied.
    fn around(address: usize, length: usize, access: Access) -> Result<Arc<Region>, String> {
        let first = address & !(PAGE - 1);
        let end = address
            .checked_add(length)
            .and_then(|end| end.checked_next_multiple_of(PAGE));
        let Some(end) = end else {
            return Err(format!(
                "{length} bytes at {address:#x} end behind the address space"
            ));
        };
        let loose = Loose::new(address..address + length, access)?;
        Region::adopt(first, end - first, Box::new(loose))
    }

    fn holds(&self, address: usize, length: usize) -> bool {
        address
            .checked_sub(self.address)
            .is_some_and(|offset| offset.saturating_add(length) <= self.length)
    }
}

impl Span {
    /// Lends memory to one value. It is looked for in the regions that Python has made.
    pub(crate) fn lend(
        address: usize,
        length: usize,
        access: Access,
    ) -> Result<(Span, Loan), String> {
        let regions = REGIONS.lock();
        let mut live = regions.iter().filter_map(Weak::upgrade);
        let region = live.find(|region| region.holds(address, length));
        drop(live);
        drop(regions);
        let region = match region {
            Some(region) => region,
            None => Region::around(address, length, access)?,
        };
        let offset = address - region.address;
        let loan = match access {
            Access::Source => region.arena.lend(offset, length),
            Access::Target => region.arena.lend_exclusive(offset, length),
        };
        let span = Span {
            arena: region.arena.clone(),
            offset,
            length,
        };
        match loan {
            Ok(loan) => Ok((span, loan)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Calls `call` once no request holds the memory: immediately, or in the thread that gives it back.
    pub(crate) fn when_free(&self, call: impl FnOnce() + Send + 'static) {
        self.arena.when_free(self.offset, self.length, call);
    }
}

/// Memory of the caller's that the device reads and writes without a copy.
#[pyclass(frozen, module = "raw_block")]
pub(crate) struct Memory {
    pub(crate) region: Arc<Region>,
}

#[pymethods]
impl Memory {
    #[new]
    fn new(address: usize, length: usize, owner: Py<PyAny>) -> PyResult<Memory> {
        let region = Region::of(address, length, owner).map_err(PyValueError::new_err)?;
        Ok(Memory { region })
    }

    #[getter]
    fn address(&self) -> usize {
        self.region.address
    }

    #[getter]
    fn length(&self) -> usize {
        self.region.length
    }

    fn __repr__(&self) -> String {
        format!("Memory({:#x}, {})", self.region.address, self.region.length)
    }
}
