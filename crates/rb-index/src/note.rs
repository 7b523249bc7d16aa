//! [`Note`]: a number that a policy leaves on a key.

/// A number that a policy leaves on a key. Only the policy knows its meaning; 0 is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note(pub u16);
