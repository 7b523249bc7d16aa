//! A small mutator for the quick form: mutates as libFuzzer does, without guidance by coverage.

use rb_testkit::values::next_number;

/// Returns a changed copy of `data`, determined by `state`.
#[must_use]
pub fn mutate(data: &[u8], state: &mut u64) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let mut below = |limit: usize| next_number(state) as usize % limit.max(1);
    for _ in 0..=below(4) {
        let at = below(bytes.len());
        match below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
            1 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][below(5)],
            2 => bytes.insert(at, below(256) as u8),
            3 => bytes.truncate(at),
            4 => {
                // Copies a piece of the input to another position.
                let from = below(bytes.len());
                let end = (from + 1 + below(16)).min(bytes.len());
                let piece = bytes[from.min(end)..end].to_vec();
                bytes.splice(at..at, piece);
            }
            5 if !bytes.is_empty() => drop(bytes.remove(at)),
            _ => bytes.extend(
                (0..=below(12))
                    .map(|_| below(256) as u8)
                    .collect::<Vec<_>>(),
            ),
        }
    }
    bytes
}
