// UNSAFETY: the memory is read by its address, because its owner may write it meanwhile: it can be
// neither a slice nor read by instructions of the language.
#![expect(unsafe_code, reason = "reads of memory that its owner may write")]
//! The CRC-32 of memory that its owner may write meanwhile.
//!
//! A CRC is the remainder of the bytes, taken as a polynomial, and so a block of them may be replaced
//! by another one with the same remainder. All of the memory is folded to one block that way, which
//! is an ordinary array. Source: V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using
//! PCLMULQDQ Instruction", Intel, 2009.

use super::prefetch::prefetch;

/// Bytes of the block to which memory is folded: eight registers of 32 bytes.
const FOLDED: usize = 256;
/// Bytes that are copied and summed together where the processor cannot fold: they stay in the
/// nearest cache, and a copy of so few does not pay for the start of the long copy instruction.
const STEP: usize = 1 << 10;
/// Memory is prefetched this many bytes ahead of the copy, because the processor's own prefetcher
/// stops at each step: 4.5 GB/s without this, 8 GB/s with it.
const PREFETCH_AHEAD: usize = 4 << 10;
/// Bytes that a processor fetches together.
const CACHE_LINE: usize = 64;

/// Returns the CRC-32 (IEEE 802.3) of `len` bytes. If they change meanwhile, the result is that of
/// no particular bytes.
///
/// # Safety
/// The bytes must be mapped and initialised until this returns.
pub(crate) unsafe fn crc32(from: *const u8, len: usize) -> u32 {
    let whole = len - len % FOLDED;
    if whole > 0 && can_fold() {
        // SAFETY: the processor has the instructions; `whole` bytes are among those of the caller.
        let folded = unsafe { fold(from, whole) };
        // The inverted state is zero: `fold` has put the initial state into the first bytes.
        let mut sum = crc32fast::Hasher::new_with_initial(u32::MAX);
        sum.update(&folded);
        // SAFETY: the caller keeps its promise for all of its bytes.
        unsafe { copy_and_sum(from.wrapping_add(whole), len - whole, &mut sum) };
        return sum.finalize();
    }
    let mut sum = crc32fast::Hasher::new();
    // SAFETY: the caller's promise.
    unsafe { copy_and_sum(from, len, &mut sum) };
    sum.finalize()
}

/// Adds `len` bytes to `sum` by copies.
///
/// # Safety
/// As for [`crc32`].
unsafe fn copy_and_sum(from: *const u8, len: usize, sum: &mut crc32fast::Hasher) {
    let mut step = [0; STEP];
    for at in (0..len).step_by(STEP) {
        let step = &mut step[..STEP.min(len - at)];
        for line in (at + PREFETCH_AHEAD..len.min(at + PREFETCH_AHEAD + STEP)).step_by(CACHE_LINE) {
            prefetch(from.wrapping_add(line));
        }
        // SAFETY: `at` and the step lie within the caller's bytes; `step` is an array of this call.
        unsafe {
            std::ptr::copy_nonoverlapping(from.wrapping_add(at), step.as_mut_ptr(), step.len());
        };
        sum.update(step);
    }
}

/// Returns x^`n` modulo the polynomial of CRC-32, its lowest power in the highest bit.
#[cfg(any(test, all(target_arch = "x86_64", not(miri))))]
const fn power(n: u32) -> u32 {
    let mut power = 1 << 31;
    let mut done = 0;
    while done < n {
        let carry = power & 1 != 0;
        power >>= 1;
        if carry {
            power ^= 0xEDB8_8320;
        }
        done += 1;
    }
    power
}

/// The factors that move the halves of 16 bytes over `bits` bits.
#[cfg(any(test, all(target_arch = "x86_64", not(miri))))]
const fn factors(bits: u32) -> [u64; 2] {
    [
        (power(bits + 32) as u64) << 1,
        (power(bits - 32) as u64) << 1,
    ]
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn can_fold() -> bool {
    is_x86_feature_detected!("vpclmulqdq") && is_x86_feature_detected!("avx2")
}

/// Folds `len` bytes, a multiple of [`FOLDED`] and not 0, after inverting the first 4: that is the
/// initial state of a CRC-32.
///
/// # Safety
/// As for [`crc32`]; and the processor must have the instructions ([`can_fold`]).
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx2,vpclmulqdq")]
unsafe fn fold(from: *const u8, len: usize) -> [u8; FOLDED] {
    const FACTORS: [u64; 2] = factors(8 * FOLDED as u32);
    debug_assert!(len > 0 && len.is_multiple_of(FOLDED));
    let mut folded = [0; FOLDED];
    // SAFETY: reads `FACTORS` and the caller's bytes from `from` to `end`, writes `folded`, and
    // changes no other memory and no stack. The registers are declared.
    unsafe {
        std::arch::asm!(
            "vbroadcasti128 {k}, [{factors}]",
            ".irp i,0,1,2,3,4,5,6,7",
            "vmovdqu ymm\\i, [{from} + 32*\\i]",
            ".endr",
            "vmovd {t:x}, {initial:e}",
            "vpxor ymm0, ymm0, {t}",
            "2:",
            "add {from}, 256",
            "cmp {from}, {end}",
            "jae 3f",
            ".irp i,0,1,2,3,4,5,6,7",
            "vpclmulqdq {t}, ymm\\i, {k}, 0x11",
            "vpclmulqdq ymm\\i, ymm\\i, {k}, 0x00",
            "vpxor {t}, {t}, [{from} + 32*\\i]",
            "vpxor ymm\\i, ymm\\i, {t}",
            ".endr",
            "jmp 2b",
            "3:",
            ".irp i,0,1,2,3,4,5,6,7",
            "vmovdqu [{folded} + 32*\\i], ymm\\i",
            ".endr",
            "vzeroupper",
            from = inout(reg) from => _,
            end = in(reg) from.wrapping_add(len),
            factors = in(reg) FACTORS.as_ptr(),
            initial = in(reg) u32::MAX,
            folded = in(reg) folded.as_mut_ptr(),
            k = out(ymm_reg) _,
            t = out(ymm_reg) _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
            out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
            options(nostack),
        );
    }
    folded
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn can_fold() -> bool {
    false
}

/// # Safety
/// Never called: [`can_fold`] returns false.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
unsafe fn fold(_: *const u8, _: usize) -> [u8; FOLDED] {
    unreachable!("this processor cannot fold")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_those_of_the_source() {
        // The factors over 512 and 128 bits, as published for this polynomial.
        assert_eq!(factors(512), [0x1_5444_2BD4, 0x1_C6E4_1596]);
        assert_eq!(factors(128), [0x1_7519_97D0, 0x0_CCAA_009E]);
    }

    /// Lengths around the block, at every alignment, with and without the instructions.
    #[test]
    fn agrees_with_the_crate() {
        let bytes: Vec<u8> = (0..70_000_u64)
            .map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
            .collect();
        for len in [0, 1, 255, 256, 257, 511, 512, 1000, 1024, 4096, 65_535] {
            for start in [0, 1, 15, 31, 63, 64] {
                let part = &bytes[start..start + len];
                // SAFETY: the bytes are those of a slice that lives on.
                let sum = unsafe { crc32(part.as_ptr(), part.len()) };
                assert_eq!(sum, crc32fast::hash(part), "{len} bytes at {start}");
                let mut copied = crc32fast::Hasher::new();
                // SAFETY: as above.
                unsafe { copy_and_sum(part.as_ptr(), part.len(), &mut copied) };
                assert_eq!(
                    copied.finalize(),
                    crc32fast::hash(part),
                    "{len} bytes at {start}, copied"
                );
            }
        }
    }
}
