//! A batch of keys with memory for their values: what Python passes, and what it gets back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyTuple};
use rb_core::{Error, Loan, LookupAt, PutResult};

use crate::codes;
use crate::errors::text;
use crate::memory::{Access, Span};

/// The keys of a batch, and the loans of those that have memory. Positions are those of the caller's lists.
pub(crate) struct Batch {
    pub(crate) keys: Vec<PyBackedBytes>,
    pub(crate) loans: Vec<Loan>,
    /// The position of each loan.
    pub(crate) at: Vec<usize>,
    pub(crate) borrowed: Borrowed,
    pub(crate) ended: Ended,
}

/// The memory of a batch.
#[derive(Default)]
pub(crate) struct Borrowed {
    /// One for each loan.
    pub(crate) spans: Vec<Span>,
    /// Objects that keep the memory alive. They must be dropped by a thread that has the interpreter.
    keep: Vec<Py<PyAny>>,
}

/// The answers to a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    pub(crate) codes: Vec<i8>,
    pub(crate) lengths: Vec<usize>,
    pub(crate) error: Option<String>,
}

/// The value that a get expects.
pub(crate) struct Wanted {
    pub(crate) metadata: Option<Vec<Option<PyBackedBytes>>>,
    /// If true, a value that is not as long as its memory is a mismatch.
    pub(crate) exact: bool,
}

impl Batch {
    pub(crate) fn new(
        keys: Vec<PyBackedBytes>,
        spans: &Bound<'_, PyAny>,
        access: Access,
    ) -> PyResult<Batch> {
        let count = spans.len()?;
        if count != keys.len() {
            return Err(PyValueError::new_err(format!(
                "{} keys and {count} spans",
                keys.len()
            )));
        }
        let mut batch = Batch {
            ended: Ended::new(keys.len()),
            keys,
            loans: Vec::with_capacity(count),
            at: Vec::with_capacity(count),
            borrowed: Borrowed::default(),
        };
        let mut placed = 0;
        for (at, span) in spans.try_iter()?.enumerate() {
            // Exports run code of Python, which may change the list.
            if at == count {
                return Err(PyValueError::new_err("the spans have changed"));
            }
            placed += 1;
            let (address, length) = batch.borrowed.place(&span?, access)?;
            match Span::lend(address, length, access) {
                Ok((span, loan)) => {
                    batch.borrowed.spans.push(span);
                    batch.loans.push(loan);
                    batch.at.push(at);
                }
                Err(words) => batch.ended.fail(at, codes::REFUSED, || words),
            }
        }
        if placed < count {
            return Err(PyValueError::new_err("the spans have changed"));
        }
        Ok(batch)
    }

    /// Answers all keys that have a loan with one code, and ends the loans: no request is made of them.
    pub(crate) fn refuse(&mut self, code: i8, words: &str) -> Ended {
        self.ended.fail_all(&self.at, code, words);
        self.loans.clear();
        self.borrowed.spans.clear();
        self.ended.take()
    }

    /// The keys that have loans, in the order of the loans.
    pub(crate) fn lent_keys(&self) -> Vec<&[u8]> {
        self.at.iter().map(|at| &*self.keys[*at]).collect()
    }
}

impl Borrowed {
    /// The address and length of an element of a list of spans.
    fn place(&mut self, span: &Bound<'_, PyAny>, access: Access) -> PyResult<(usize, usize)> {
        if let Ok(pair) = span.cast::<PyTuple>() {
            return pair.extract();
        }
        if let Ok(bytes) = span.cast::<PyBytes>() {
            if access == Access::Target {
                return Err(PyTypeError::new_err("bytes cannot be read into"));
            }
            self.keep.push(span.clone().unbind());
            let bytes = bytes.as_bytes();
            return Ok((bytes.as_ptr().expose_provenance(), bytes.len()));
        }
        let export = span.py().import("raw_block._buffers")?.getattr("export")?;
        let (address, length, kept): (usize, usize, Py<PyAny>) =
            export.call1((span, access == Access::Target))?.extract()?;
        self.keep.push(kept);
        Ok((address, length))
    }

    /// Calls `freed` once the device holds none of the memory of values whose requests may not have ended with their answer:
    /// it did not answer, failed, or the store was closed meanwhile. Returns false, and does not call it, if there are none.
    pub(crate) fn when_free(
        &self,
        at: &[usize],
        ended: &Ended,
        freed: impl Fn() + Send + Sync + 'static,
    ) -> bool {
        let open = [codes::TIMED_OUT, codes::IO_ERROR, codes::CLOSED];
        let late = |(_, at): &(&Span, &usize)| open.contains(&ended.codes[**at]);
        let late: Vec<_> = self.spans.iter().zip(at).filter(late).collect();
        let left = Arc::new((AtomicUsize::new(late.len()), freed));
        for (span, _) in &late {
            let left = Arc::clone(&left);
            // AcqRel: the last one has seen the end of all requests.
            span.when_free(move || {
                if left.0.fetch_sub(1, Ordering::AcqRel) == 1 {
                    (left.1)();
                }
            });
        }
        !late.is_empty()
    }
}

impl Wanted {
    pub(crate) fn new(
        keys: usize,
        metadata: Option<Vec<Option<PyBackedBytes>>>,
        exact: bool,
    ) -> PyResult<Wanted> {
        match &metadata {
            Some(list) if list.len() != keys => Err(PyValueError::new_err(format!(
                "{keys} keys and {} metadata",
                list.len()
            ))),
            _ => Ok(Wanted { metadata, exact }),
        }
    }
}

impl Ended {
    pub(crate) fn take(&mut self) -> Ended {
        std::mem::take(self)
    }

    fn new(keys: usize) -> Ended {
        Ended {
            codes: vec![codes::MISS; keys],
            lengths: vec![0; keys],
            error: None,
        }
    }

    fn fail(&mut self, at: usize, code: i8, words: impl FnOnce() -> String) {
        self.codes[at] = code;
        self.error.get_or_insert_with(words);
    }

    fn fail_with(&mut self, at: usize, error: &Error) {
        self.fail(at, codes::of_error(error), || text(error));
    }

    fn fail_all(&mut self, at: &[usize], code: i8, words: &str) {
        for at in at {
            self.fail(*at, code, || words.to_owned());
        }
    }

    pub(crate) fn of_puts(
        mut self,
        at: &[usize],
        spans: &[Span],
        answers: Vec<PutResult>,
    ) -> Ended {
        for ((at, span), answer) in at.iter().zip(spans).zip(answers) {
            match answer {
                Ok(outcome) => {
                    self.codes[*at] = codes::of_put(outcome);
                    if outcome.is_written() {
                        self.lengths[*at] = span.length;
                    }
                }
                Err(error) => self.fail_with(*at, &error),
            }
        }
        self
    }

    pub(crate) fn of_gets(
        mut self,
        at: &[usize],
        spans: &[Span],
        answers: Vec<LookupAt>,
        wanted: &Wanted,
    ) -> Ended {
        for ((at, span), answer) in at.iter().zip(spans).zip(answers) {
            match answer {
                Ok(None) => {}
                Ok(Some(value)) => {
                    let expected = wanted
                        .metadata
                        .as_ref()
                        .and_then(|list| list[*at].as_deref());
                    let is_other = expected.is_some_and(|expected| *expected != *value.metadata);
                    if is_other || wanted.exact && value.len != span.length {
                        self.codes[*at] = codes::MISMATCH;
                    } else {
                        self.codes[*at] = codes::DONE;
                        self.lengths[*at] = value.len;
                    }
                }
                Err(error) => self.fail_with(*at, &error),
            }
        }
        self
    }
}
