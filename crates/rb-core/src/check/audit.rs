//! The audit: reads everything that recovery reads, and more, and says what it found, what that means and
//! what is lost. It never writes.
//!
//! What would be recovered is decided by recovery itself, so the audit and an opening cannot disagree.
//! The audit adds what recovery has no need to look at: the copy that was not needed, the slots'
//! headers, with `deep` the payloads.
//!
//! **Damage** is what no crash leaves behind, wherever it strikes. What a crash can leave (a torn end
//! of the log, an unfinished base, an entry whose bytes never landed) is a **remark**. Where both are
//! possible it is a remark: an audit that cries wolf is not read. So after a crash more remains
//! undecided than in a store that was closed.
//!
//! In a store that was closed every entry must be whole that was put since the last crash of which the
//! log still knows. A crash so long ago that the log's ring has come round since is not known, and what
//! it left that was neither read nor validated nor evicted since passes for damage.

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

/// Audits the store on a device, in a file, or on what an engine reaches. Never writes. No other process can open a device
/// or file for writing until it ends, unless `in_use` is set.
///
/// # Errors
/// What makes an answer impossible: nothing of ours is there, it is in use, of another version, or
/// the device does not answer. A store that is there and beyond use is not an error but
/// [`AuditState::Unusable`].
pub fn audit(source: impl Into<Source>, options: &AuditOptions) -> Result<AuditReport, OpenError> {
    let access = match options.in_use {
        true => Access::ReadOnly,
        false => Access::ReadLocked,
    };
    let opened = Opened::new(source.into(), access, options.engine)?;
    Ok(audit_opened(&opened, options)?.report)
}
