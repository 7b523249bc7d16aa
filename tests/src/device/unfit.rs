//! Tests drives of a kind that cannot hold a store: zones, or metadata with each block. The error names the reason and
//! does not call the drive damaged.

use super::cell::{Cell, Outcome};
use super::target::{MIB, Target};

/// Runs the test. The error must contain `expected`.
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
