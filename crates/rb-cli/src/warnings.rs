//! Warnings about what recovery found.

use rb_core::RecoveryReport;

/// Returns one warning for each finding; none for a sound store.
pub(crate) fn of(report: &RecoveryReport) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(why) = &report.lost_metadata {
        let then = match report.scanned {
            Some(_) => {
                "the store serves what the headers of its slots show; a removed key may have returned"
            }
            None => "the store starts empty",
        };
        found.push(format!("metadata was lost ({why}); {then}"));
    }
    for damage in &report.base_damage {
        found.push(format!("a checkpoint base is damaged: {damage}"));
    }
    if let Some(bytes) = report.cut_to {
        found.push(format!(
            "the device has {bytes} bytes, less than the store needs. No entry lies behind its end, and opening a file for writing grows it again. If it was cut further and then written to, values in between are gone: rb scrub drops them"
        ));
    }
    for foreign in &report.foreign {
        found.push(format!(
            "the device carries {foreign}, which the store did not write"
        ));
    }
    for copy in &report.superblock_left {
        found.push(format!(
            "the superblock copy {copy}; no crash leaves that, so it is not repaired (`rb fsck --repair --force` writes it again)"
        ));
    }
    if report.superblock_repaired {
        found.push("a damaged or older copy of the superblock was repaired".to_owned());
    }
    if let Some(why) = &report.unallocated {
        found.push(format!(
            "parts of the metadata have no space allocated in the file system ({why}): puts and removes may fail while it is full"
        ));
    }
    if let Some(why) = &report.page_cache {
        found.push(format!(
            "the store is read through the page cache, whose state is unknown ({why}): pages that an earlier flush failed to write may be lost with the power"
        ));
    }
    if let Some(left) = report.few_openings_left() {
        found.push(format!(
            "{left} of {} openings for writing are left; after them the store opens read-only, until it is started empty or formatted",
            RecoveryReport::openings_max()
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_store_has_none() {
        assert_eq!(of(&RecoveryReport::default()), [""; 0]);
    }

    #[test]
    fn every_finding_has_a_warning() {
        let mut report = RecoveryReport::default();
        report.lost_metadata = Some("both bases".to_owned());
        report.base_damage = vec!["base A: rot".to_owned(), "base B: rot".to_owned()];
        report.superblock_repaired = true;
        report.cut_to = Some(4096);
        report.superblock_left = vec!["at byte 0: rot".to_owned()];
        report.foreign = vec![rb_core::Foreign {
            what: "swap".to_owned(),
            offset: 4086,
        }];
        report.unallocated = Some("no fallocate".to_owned());
        report.page_cache = Some("no mincore".to_owned());
        report.openings = RecoveryReport::openings_max() - 5;
        let found = of(&report);
        assert_eq!(found.len(), 10, "{found:?}");
        assert!(found[9].contains("5 of 4194303 openings"), "{found:?}");
        assert!(found[7].contains("no fallocate") && found[8].contains("no mincore"));
        assert!(found[4].contains("swap at byte 4086"), "{found:?}");
        assert!(found[0].contains("both bases") && found[0].contains("starts empty"));
        report.scanned = Some(rb_core::ScanReport::default());
        assert!(of(&report)[0].contains("a removed key may have returned"));
    }
}
