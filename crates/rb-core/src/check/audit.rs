//! The audit: reads everything that recovery reads, and more, and reports what it found, what that
//! means and what is lost. It never writes.
//!
//! Recovery itself decides what would be recovered, so the audit and an open cannot disagree. The
//! audit also checks what recovery does not need: the redundant copies, the slot headers and, with
//! `deep`, the payloads.
//!
//! **Damage** is a state that no crash leaves. A state that a crash can leave (a torn end of the
//! log, an unfinished base, an entry whose bytes never landed) is a **remark**. If both are
//! possible it is a remark: an audit with false alarms is not read. So after a crash more remains
//! undecided than in a store that was closed.
//!
//! In a closed store every entry must be whole that was put since the last crash of which the log
//! still has a trace. Traces of older crashes are gone once the log's ring has wrapped; leftovers
//! of such a crash that were neither read, validated nor evicted since are reported as damage.

mod bases;
mod entries;
mod fixed;
mod metadata;
mod report;
mod rings;
mod shared;
mod whole;

use rb_io::Access;

use crate::error::OpenError;
use crate::open::opened::Opened;
use crate::source::Source;
pub use report::{AuditReport, AuditState, Finding, Severity};
pub use shared::AuditOptions;
pub(crate) use whole::{Audited, audit_opened};

/// Audits a store on a device, in a file or behind an engine. Never writes. Unless `in_use` is set,
/// no other process can open the device or file for writing until the audit ends.
///
/// # Errors
/// The source does not hold a store, is in use, has another version, or does not respond. A store
/// that is there but beyond use is not an error but [`AuditState::Unusable`].
///
/// ```
/// use rb_core::{AuditOptions, AuditState, audit};
/// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
/// # let dir = tempfile::tempdir()?;
/// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
/// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
/// # let store = Store::open_or_create(&options, StoreOptions::default())?;
/// store.put(b"key", b"value")?;
/// store.close()?;
///
/// let path = dir.path().join("cache");
/// let thorough = AuditOptions { deep: true, ..AuditOptions::default() };
/// assert_eq!(audit(&path, &thorough)?.state, AuditState::Clean);
///
/// // One damaged byte of the value is found.
/// let geometry = store.geometry();
/// let slot = (0..geometry.slots()).filter_map(|slot| geometry.payload_offset(slot));
/// let file = std::fs::OpenOptions::new().write(true).open(&path)?;
/// for offset in slot {
///     std::os::unix::fs::FileExt::write_all_at(&file, b"!", offset)?;
/// }
/// assert_eq!(audit(&path, &thorough)?.state, AuditState::Damaged);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn audit(source: impl Into<Source>, options: &AuditOptions) -> Result<AuditReport, OpenError> {
    let access = match options.in_use {
        true => Access::ReadOnly,
        false => Access::ReadLocked,
    };
    let opened = Opened::new(source.into(), access, options.engine)?;
    Ok(audit_opened(&opened, options)?.report)
}
