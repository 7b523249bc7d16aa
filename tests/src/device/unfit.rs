//! Drives of a kind that no store can be on: zones, or metadata with each block. They are named, and not called damaged.

use super::cell::{Cell, Outcome};
use super::target::{MIB, Target};

/// Runs the test. What the device is must be said in `expected`.
pub fn unfit(cell: &mut Cell, target: &Target, expected: &str) {
    let (target, expected) = (target.clone(), expected.to_owned());
    cell.test("a drive that cannot hold a store", move || {
        named(&target, &expected)
    });
}

fn named(target: &Target, expected: &str) -> Outcome {
    let refused = [
        target.format(&[(MIB, 4)]).map(drop),
        target.open().map(drop),
    ];
    let mut said = String::new();
    for refused in refused {
        let Err(why) = refused else {
            return Err("it was taken".into());
        };
        if !why.contains(expected) || why.contains("damage") {
            return Err(format!("{expected:?} is not in {why:?}"));
        }
        said = why;
    }
    Ok(said)
}
