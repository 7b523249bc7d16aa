//! Admission of puts by the write budget, before they take anything: it refuses values that nothing is left for, or that
//! are worth less than a write.
//!
//! As with the policy's admission (`admission.rs`), only keys without an entry are refused, and the first refusal ends the
//! batch. What is not written after all is paid back.

use rb_index::{PutMode, Wanted};

use crate::core::inner::Inner;
use crate::core::pieces::buffer_bytes;
use crate::error::Error;
use crate::ops::locking::have_entries;
use crate::ops::put_plan::{PlannedPut, PutOutcome, PutResult};
use crate::ops::refused::RefusedPut;

/// Pays for the puts of a batch, which are in the order of its keys, and refuses the others: those leave a record at most, and
/// nothing if they would have kept an existing value. Returns the position and the price of each that is paid.
pub(crate) fn pay(
    inner: &Inner,
    planned: &mut Vec<PlannedPut<'_>>,
    mode: PutMode,
    answers: &mut [PutResult],
) -> Vec<(usize, u64)> {
    if !inner.keeping.has_budget() || planned.is_empty() {
        return Vec::new();
    }
    let prices = |planned: &[PlannedPut<'_>]| -> Vec<(usize, u64)> {
        let paid = planned.iter().filter(|put| put.refused.is_none());
        paid.map(|put| (put.at, price(put))).collect()
    };
    let wanted: Vec<Wanted> = planned.iter().map(wanted).collect();
    let bytes: Vec<u64> = planned.iter().map(|put| price(put)).collect();
    let all: u64 = bytes.iter().sum();
    let pays_all = inner.index.admits(&wanted).written == wanted.len()
        && inner.with_budget(|budget| {
            let paid = budget.take(all);
            budget.want(if paid { all } else { 0 });
            paid
        }) == Some(true);
    if pays_all {
        return prices(planned);
    }
    // Puts of keys that have entries decide nothing about the others.
    let exists = have_entries(inner, planned);
    let fresh: Vec<usize> = (0..planned.len()).filter(|&at| !exists[at]).collect();
    let of_fresh: Vec<Wanted> = fresh.iter().map(|&at| wanted[at]).collect();
    let admitted = inner.index.admits(&of_fresh);
    let mut paid = exists.clone();
    inner.with_budget(|budget| {
        for at in (0..planned.len()).filter(|&at| exists[at]) {
            budget.want(bytes[at]);
            budget.charge(bytes[at]);
        }
        // Of those that are paid here the policy may refuse some later: they are paid back, and wanted no more.
        for &at in &fresh[..admitted.worth.max(admitted.written)] {
            budget.want(bytes[at]);
        }
        for &at in &fresh[..admitted.written] {
            if !budget.take(bytes[at]) {
                break;
            }
            paid[at] = true;
        }
    });
    let unpaid = planned.iter_mut().zip(paid).filter(|(_, paid)| !paid);
    for (put, _) in unpaid {
        put.refuse();
    }
    if mode == PutMode::KeepExisting {
        for put in planned.extract_if(.., |put| put.refused.is_some()) {
            let refused = RefusedPut::new(put);
            refused.count(inner);
            answers[refused.at] = Ok(PutOutcome::NotAdmitted);
        }
    }
    prices(planned)
}

/// Pays back for the puts of an ended batch that wrote nothing. One that the device failed may have written its bytes.
pub(crate) fn pay_back(inner: &Inner, paid: &[(usize, u64)], answers: &[PutResult]) {
    let wrote_nothing = |&&(at, _): &&(usize, u64)| match &answers[at] {
        Ok(PutOutcome::Existed | PutOutcome::NotAdmitted) => true,
        Ok(_) | Err(Error::Io(_) | Error::TimedOut { .. }) => false,
        Err(_) => true,
    };
    let unwritten = paid.iter().filter(wrote_nothing);
    let bytes: u64 = unwritten.map(|(_, bytes)| bytes).sum();
    if bytes > 0 {
        inner.with_budget(|budget| budget.pay_back(bytes));
    }
}

/// Bytes that a put writes: its value in whole blocks, and a header for each slot.
fn price(put: &PlannedPut<'_>) -> u64 {
    buffer_bytes(put.payload.len(), put.slots) as u64
}

fn wanted(put: &PlannedPut<'_>) -> Wanted {
    Wanted {
        hash: put.hash,
        class: put.class,
        slots: u32::try_from(put.slots).expect("a value has few slots"),
    }
}
