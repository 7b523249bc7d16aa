//! Features of a store that a program may not know.
//!
//! A program does not know the meaning of an unknown bit; the word that contains the bit determines
//! what the program may still do. Every rewrite of a superblock keeps all words.

/// The three feature words of a superblock. Version 1 defines no bits yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// A program that does not know one of these bits may read and write the store.
    pub compatible: u64,
    /// A program that does not know one of these bits may read the store but must not write it.
    pub read_only_compatible: u64,
    /// A program that does not know one of these bits must not open the store.
    pub incompatible: u64,
}

/// The error returned if a store uses features that this program does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store uses {word} features that this program does not know: {}", bits(*.unknown))]
pub struct UnknownFeatures {
    /// The word that contains them: "incompatible" or "read-only compatible".
    pub word: &'static str,
    /// The unknown bits.
    pub unknown: u64,
}

impl Features {
    /// The bits that this program knows.
    pub const KNOWN: Features = Features {
        compatible: 0,
        read_only_compatible: 0,
        incompatible: 0,
    };

    /// Checks whether this program may open the store at all.
    ///
    /// # Errors
    /// The unknown incompatible bits.
    pub fn check_read(&self) -> Result<(), UnknownFeatures> {
        unknown(
            "incompatible",
            self.incompatible,
            Features::KNOWN.incompatible,
        )
    }

    /// Checks whether this program may write the store.
    ///
    /// # Errors
    /// The unknown incompatible bits, or otherwise the unknown read-only compatible ones.
    pub fn check_write(&self) -> Result<(), UnknownFeatures> {
        self.check_read()?;
        unknown(
            "read-only compatible",
            self.read_only_compatible,
            Features::KNOWN.read_only_compatible,
        )
    }
}

fn unknown(word: &'static str, found: u64, known: u64) -> Result<(), UnknownFeatures> {
    match found & !known {
        0 => Ok(()),
        unknown => Err(UnknownFeatures { word, unknown }),
    }
}

/// Formats bits as "bits 0, 17 (0x20001)".
fn bits(unknown: u64) -> String {
    let numbers: Vec<String> = (0..u64::BITS)
        .filter(|bit| unknown >> bit & 1 == 1)
        .map(|bit| bit.to_string())
        .collect();
    let name = if numbers.len() == 1 { "bit" } else { "bits" };
    format!("{name} {} ({unknown:#x})", numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_an_unknown_bit_says_what_is_allowed() {
        let of = |compatible, read_only_compatible, incompatible| Features {
            compatible,
            read_only_compatible,
            incompatible,
        };
        let none = of(0, 0, 0);
        assert_eq!((none.check_read(), none.check_write()), (Ok(()), Ok(())));
        let ignored = of(u64::MAX, 0, 0);
        assert_eq!(
            (ignored.check_read(), ignored.check_write()),
            (Ok(()), Ok(()))
        );
        let read_only = of(0, 1 << 63, 0);
        assert_eq!(read_only.check_read(), Ok(()));
        assert_eq!(
            read_only.check_write().unwrap_err().to_string(),
            "the store uses read-only compatible features that this program does not know: \
             bit 63 (0x8000000000000000)"
        );
        let refused = of(0, 1, 0x2_0001);
        let why = refused.check_read().unwrap_err();
        assert_eq!(refused.check_write(), Err(why));
        assert_eq!(
            why.to_string(),
            "the store uses incompatible features that this program does not know: \
             bits 0, 17 (0x20001)"
        );
    }

    #[test]
    fn a_known_bit_is_not_named() {
        assert_eq!(unknown("incompatible", 0b101, 0b101), Ok(()));
        let found = unknown("incompatible", 0b101, 0b100).unwrap_err();
        assert_eq!(found.unknown, 1);
    }
}
