//! The oracle against hand-made histories.
