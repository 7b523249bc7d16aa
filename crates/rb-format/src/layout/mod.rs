//! Plans a layout: derives a superblock from a device size and the requested classes and limits.
//!
//! ```text
//! | superblocks, incarnations | base A | base B | policy | ring 1 | … 1 MiB | class 0 | … | ring 2 | unused |
//! 0                           2 MiB                                 slots start                1 MiB
//! ```
//!
//! The two log rings lie at both ends of the slots: damage in one place of a device, or an
//! overwritten start or end, leaves one of them intact.
//!
//! The bases grow with the number of slots, and the slots get the space that the bases leave, so
//! the space for slots is found by bisection.

mod error;
mod request;
mod sizes;
mod solve;

#[cfg(test)]
mod tests;

pub use error::LayoutError;
pub use request::{ClassRequest, LayoutRequest, Share};
pub use sizes::policy_region_bytes;

use crate::{Identity, Superblock};

/// Plans a store: sequence 1, member 0 of 1, one run per class, classes numbered by capacity, no
/// features, no label and formatted at 0, for the caller to set.
///
/// The superblock's `device_bytes` is the size that the layout needs, at most
/// `request.device_bytes`.
///
/// # Errors
/// A [`LayoutError`] that names the part of the request that cannot be met.
///
/// ```
/// use rb_format::{ClassRequest, Geometry, Identity, LayoutRequest, Share, StoreUuid, plan};
///
/// let identity = Identity { uuid: StoreUuid([7; 16]), epoch: 1 };
/// let class = |slot_bytes, share| ClassRequest { slot_bytes, share };
/// let request = LayoutRequest {
///     device_bytes: 1 << 30,
///     classes: vec![class(64 << 10, Share::Slots(1000)), class(1 << 20, Share::Rest)],
///     key_len_max: 64,
///     metadata_len_max: 0,
///     log_bytes: None,
/// };
/// let superblock = plan(&request, identity)?;
/// assert!(superblock.device_bytes <= request.device_bytes);
/// let geometry = Geometry::new(&superblock);
/// assert_eq!(geometry.class_slots(0), [0..1000]);
/// assert_eq!(geometry.class_for(100_000), Some(1));
///
/// let too_small = LayoutRequest { device_bytes: 1 << 20, ..request };
/// assert!(plan(&too_small, identity).is_err());
/// # Ok::<(), rb_format::LayoutError>(())
/// ```
pub fn plan(request: &LayoutRequest, identity: Identity) -> Result<Superblock, LayoutError> {
    let wishes = request::check(
        &request.classes,
        request.key_len_max,
        request.metadata_len_max,
        request.log_bytes,
    )?;
    let counts = solve::counts(&wishes, request.device_bytes)?;
    Ok(sizes::Areas::of(&wishes, &counts).superblock(&wishes, &counts, identity))
}

/// Returns the size in bytes of the smallest device on which [`plan`] yields exactly these counts.
///
/// # Errors
/// Those of [`plan`], and [`LayoutError::CountsNeeded`] if a share is not [`Share::Slots`].
///
/// ```
/// use rb_format::{ClassRequest, Share, device_bytes_for};
///
/// let classes = [ClassRequest { slot_bytes: 1 << 20, share: Share::Slots(100) }];
/// let bytes = device_bytes_for(&classes, 512, 0, None)?;
/// // 100 slots, a header block each, and the metadata.
/// assert!(bytes > 100 * ((1 << 20) + 4096));
/// # Ok::<(), rb_format::LayoutError>(())
/// ```
pub fn device_bytes_for(
    classes: &[ClassRequest],
    key_len_max: u32,
    metadata_len_max: u32,
    log_bytes: Option<u64>,
) -> Result<u64, LayoutError> {
    let wishes = request::check(classes, key_len_max, metadata_len_max, log_bytes)?;
    let mut counts = Vec::with_capacity(wishes.classes.len());
    for class in &wishes.classes {
        let Share::Slots(count) = class.share else {
            return Err(LayoutError::CountsNeeded {
                slot_bytes: class.slot_bytes,
            });
        };
        counts.push(count);
    }
    solve::check_counts(&wishes, &counts)?;
    sizes::Areas::of(&wishes, &counts)
        .end(&wishes, &counts)
        .ok_or(LayoutError::TooLarge)
}
