//! Words and numbers of Python's keyword arguments as options.

use std::num::{NonZeroU16, NonZeroU64};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rb_core::policy::{Learned, PolicyFactory};
use rb_core::{
    ClassRequest, Durability, EngineKind, OnLostMetadata, Placement, PlacementId, Scrub, Share,
    StoreUuid, Validate,
};

/// One of several words.
fn one_of<T: Copy>(name: &str, word: &str, known: &[(&str, T)]) -> PyResult<T> {
    let found = known.iter().find(|(known, _)| *known == word);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = known.iter().map(|(known, _)| *known).collect();
        PyValueError::new_err(format!(
            "{name}={word:?}: one of {} is expected",
            known.join(", ")
        ))
    })
}

pub(crate) fn engine(word: &str) -> PyResult<EngineKind> {
    word.parse::<EngineKind>()
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

pub(crate) fn durability(word: &str) -> PyResult<Durability> {
    let known = [
        ("interval", Durability::Interval),
        ("batch", Durability::EachBatch),
    ];
    one_of("durability", word, &known)
}

pub(crate) fn validate(word: &str) -> PyResult<Validate> {
    let known = [
        ("background", Validate::Background),
        ("eager", Validate::Eager),
        ("off", Validate::Off),
    ];
    one_of("validate", word, &known)
}

pub(crate) fn on_lost_metadata(word: &str) -> PyResult<OnLostMetadata> {
    let known = [
        ("empty", OnLostMetadata::Empty),
        ("scan", OnLostMetadata::Scan),
    ];
    one_of("on_lost_metadata", word, &known)
}

pub(crate) fn policy(word: &str) -> PyResult<Option<Arc<dyn PolicyFactory>>> {
    let learned = one_of("policy", word, &[("lru", false), ("learned", true)])?;
    Ok(learned.then(|| Arc::new(Learned::default()) as _))
}

pub(crate) fn write_budget(per_day: Option<u64>) -> PyResult<Option<NonZeroU64>> {
    let Some(per_day) = per_day else {
        return Ok(None);
    };
    let per_day = NonZeroU64::new(per_day).ok_or_else(|| {
        PyValueError::new_err("write_budget_per_day=0: at least 1, or None for no budget")
    })?;
    Ok(Some(per_day))
}

pub(crate) fn placement(metadata: Option<u16>, lifetimes: Option<Vec<u16>>) -> PyResult<Placement> {
    let id = |number| {
        let id = NonZeroU16::new(number).map(PlacementId);
        id.ok_or_else(|| PyValueError::new_err("placement id 0: ids begin with 1"))
    };
    let lifetimes = lifetimes.unwrap_or_default().into_iter();
    Ok(Placement {
        metadata: metadata.map(id).transpose()?,
        lifetimes: lifetimes.map(id).collect::<PyResult<_>>()?,
    })
}

pub(crate) fn scrub(bytes_per_second: Option<u64>) -> PyResult<Option<Scrub>> {
    let Some(rate) = bytes_per_second else {
        return Ok(None);
    };
    let rate = NonZeroU64::new(rate).ok_or_else(|| {
        PyValueError::new_err("scrub_bytes_per_second=0: at least 1, or None for no scrubbing")
    })?;
    Ok(Some(Scrub::daily(rate)))
}

pub(crate) fn milliseconds(name: &str, count: u64) -> PyResult<Duration> {
    match count {
        0 => Err(PyValueError::new_err(format!("{name}=0: at least 1"))),
        count => Ok(Duration::from_millis(count)),
    }
}

/// A UUID in its usual form.
pub(crate) fn uuid(text: Option<&str>) -> PyResult<Option<StoreUuid>> {
    let Some(text) = text else {
        return Ok(None);
    };
    let digits = text.replace('-', "");
    match u128::from_str_radix(&digits, 16) {
        // It is written in the order of its bytes.
        Ok(number) if digits.len() == 32 => Ok(Some(StoreUuid(number.swap_bytes().to_le_bytes()))),
        _ => Err(PyValueError::new_err(format!("uuid={text:?} is no UUID"))),
    }
}

/// A time in seconds since 1970.
pub(crate) fn expiry(seconds: Option<f64>) -> PyResult<Option<SystemTime>> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    let time = Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    match time {
        Some(time) => Ok(Some(time)),
        None => Err(PyValueError::new_err(format!(
            "expires={seconds}: no time after 1970"
        ))),
    }
}

/// The capacity of all slots, or capacities with the percentage of the space for each.
#[derive(FromPyObject)]
pub(crate) enum SlotBytes {
    One(u64),
    Several(Vec<(u64, u32)>),
}

impl SlotBytes {
    pub(crate) fn classes(self) -> Vec<ClassRequest> {
        match self {
            SlotBytes::One(slot_bytes) => vec![ClassRequest {
                slot_bytes,
                share: Share::Rest,
            }],
            SlotBytes::Several(classes) => classes
                .into_iter()
                .map(|(slot_bytes, percent)| ClassRequest {
                    slot_bytes,
                    share: Share::Percent(percent),
                })
                .collect(),
        }
    }
}
