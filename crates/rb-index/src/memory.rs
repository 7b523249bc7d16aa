//! Memory that is asked for in one piece, so that a refusal is an error.

/// The allocator has not as much.
#[derive(Debug)]
pub(crate) struct NoMemory;

/// Zeros in a fresh box: pages that are never written to take no memory.
pub(crate) fn zeroed<T: zerocopy::FromZeros>(len: usize) -> Result<Box<[T]>, NoMemory> {
    let zeros = T::new_vec_zeroed(len).map_err(|_| NoMemory)?;
    Ok(zeros.into_boxed_slice())
}

/// `len` times the same.
pub(crate) fn filled<T: Clone>(value: T, len: usize) -> Result<Vec<T>, NoMemory> {
    let mut all = Vec::new();
    all.try_reserve_exact(len).map_err(|_| NoMemory)?;
    all.resize(len, value);
    Ok(all)
}
