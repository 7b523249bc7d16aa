//! Whole-store tests; see the files in this folder.
