//! Large allocations that return an error instead of aborting.

/// The allocation failed.
#[derive(Debug)]
pub(crate) struct NoMemory;

/// Allocates a box of zeros; pages that are never written take no memory.
pub(crate) fn zeroed<T: zerocopy::FromZeros>(len: usize) -> Result<Box<[T]>, NoMemory> {
    let zeros = T::new_vec_zeroed(len).map_err(|_| NoMemory)?;
    Ok(zeros.into_boxed_slice())
}

/// Allocates `len` copies of a value.
pub(crate) fn filled<T: Clone>(value: T, len: usize) -> Result<Vec<T>, NoMemory> {
    let mut all = Vec::new();
    all.try_reserve_exact(len).map_err(|_| NoMemory)?;
    all.resize(len, value);
    Ok(all)
}
