//! Digests that identify states.

use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};

use rb_core::Store;
use xxhash_rust::xxh3::Xxh3;

/// Hashes text.
struct Text(Xxh3);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// Hashes those parts of a store's state whose names are selected.
pub(super) fn parts(store: &Store, wanted: impl Fn(&str) -> bool) -> u64 {
    let mut text = Text(Xxh3::new());
    store.each_part(&mut |name, part| {
        if wanted(name) {
            // Hashing does not fail.
            text.write_fmt(format_args!("{name} {part}\n"))
                .unwrap_or_default();
        }
    });
    text.0.digest()
}

/// Returns a number that identifies a value.
pub(super) fn digest(of: impl Hash) -> u64 {
    let mut hasher = Xxh3::new();
    of.hash(&mut hasher);
    hasher.finish()
}
