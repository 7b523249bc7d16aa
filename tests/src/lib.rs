//! Whole-store tests; see the files in this folder. The README's example is compiled here.
#![cfg_attr(doctest, doc = include_str!("../../README.md"))]
