// UNSAFETY: the instruction is reached through an intrinsic, whose call is unsafe.
#![expect(unsafe_code, reason = "the prefetch intrinsic")]
//! Prefetches cache lines.

/// Prefetches the cache line at `address` without waiting for it. Any address is allowed: an
/// unmapped one is ignored. Does nothing on processors other than x86-64.
#[inline]
pub fn prefetch(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction is a hint that changes nothing a program can observe and never
        // faults, for any address; every x86-64 processor supports it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}
