//! The part of the steps that is run.

use clap::ValueEnum;

/// An engine that loads the wheel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Host {
    Lmcache,
    Vllm,
    Sglang,
}

impl Host {
    pub(super) const ALL: [Host; 3] = [Host::Lmcache, Host::Vllm, Host::Sglang];

    pub(super) fn name(self) -> &'static str {
        match self {
            Host::Lmcache => "lmcache",
            Host::Vllm => "vllm",
            Host::Sglang => "sglang",
        }
    }
}

/// The engines, and for how long.
pub(super) struct Plan {
    pub(super) quick: bool,
    pub(super) hosts: Vec<Host>,
    pub(super) minutes: f64,
}
