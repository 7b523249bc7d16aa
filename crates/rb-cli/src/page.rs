//! The pages of the commands that measure: where they are written, and what they have in common.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rb_core::Store;
use rb_report::{Operation, Page, charts, date, latency_table, machine, storage};

use crate::failure::Failure;
use crate::key::show_key;
use crate::size::show_size;
use crate::target::{Agreed, OutputTarget, same};

/// Examines the place of a page before anything is measured. `others` are files of the command, which the page does
/// not replace.
pub(crate) fn place<'a>(
    html: Option<&'a Path>,
    others: &[&Path],
) -> Result<Option<OutputTarget<'a>>, Failure> {
    let Some(path) = html else {
        return Ok(None);
    };
    let refused = |why: &str| Err(Failure::usage(format!("--html {}: {why}", path.display())));
    let found = fs::metadata(path).ok();
    if others.iter().any(|other| is_same(path, other)) {
        return refused("it is also the store or the trace, which a page does not replace");
    }
    if found.is_some_and(|found| found.file_type().is_block_device()) {
        return refused("it is a block device, and a page goes to a file");
    }
    let place = OutputTarget::find(path, Path::new(""), Agreed::default())?;
    if matches!(place, OutputTarget::StandardOutput) {
        return refused("standard output has the result, and a page goes to a file");
    }
    place.check()?;
    Ok(Some(place))
}

/// Returns whether two paths are one file, also if it does not exist yet.
fn is_same(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => same(&a, &b),
        (Err(_), Err(_)) => whole(a).is_some_and(|a| whole(b) == Some(a)),
        _ => false,
    }
}

/// The path of a file that does not exist yet, without links.
fn whole(path: &Path) -> Option<PathBuf> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
    Some(folder.join(path.file_name()?))
}

/// Makes the head of a page: date, versions and machine.
pub(crate) fn start(title: &str) -> Page {
    let version = env!("CARGO_PKG_VERSION");
    let format = rb_format::FORMAT_VERSION;
    let mut page = Page::new(title)
        .fact("date", date())
        .fact("version", format!("rb {version}, format version {format}"));
    for (name, fact) in machine() {
        page = page.fact(name, fact);
    }
    page
}

/// Makes the head of a page about a store.
pub(crate) fn head(title: &str, store: &Store, path: &Path) -> Page {
    let superblock = store.superblock();
    let mut described = format!("{}, {}", path.display(), show_size(superblock.device_bytes));
    if !superblock.label().is_empty() {
        described += &format!(", label {}", show_key(superblock.label()));
    }
    start(title)
        .fact("store", described)
        .fact("storage", storage(path))
        .fact("engine", store.engine_name())
}

/// Adds the table and the charts of the operations, if there were any.
pub(crate) fn figures(page: Page, operations: &[Operation]) -> Page {
    if operations.is_empty() {
        return page;
    }
    page.section(latency_table("Latency of a call", operations))
        .section(charts("Charts", operations))
}
