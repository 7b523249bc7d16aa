//! Statistics by their parts, under the names that metrics and programs show.

use rb_io::{Latency, Requests};

use crate::stats::{
    DeviceStats, DropStats, FailureStats, KindStats, LatencyStats, RefusedPuts, RefusedStats,
    WaitStats, WaitsStats,
};

impl LatencyStats {
    /// The durations by operation.
    #[must_use]
    pub fn by_operation(&self) -> [(&'static str, &Latency); 6] {
        [
            ("get", &self.get),
            ("put", &self.put),
            ("remove", &self.remove),
            ("sync", &self.sync),
            ("commit", &self.commit),
            ("checkpoint", &self.checkpoint),
        ]
    }
}

impl DeviceStats {
    /// The requests by what they were for.
    #[must_use]
    pub fn by_purpose(&self) -> [(&'static str, &KindStats); 4] {
        [
            ("values", &self.values),
            ("log", &self.log),
            ("base", &self.base),
            ("upkeep", &self.upkeep),
        ]
    }
}

impl KindStats {
    /// The requests by operation of the device.
    #[must_use]
    pub fn by_operation(&self) -> [(&'static str, &Requests); 4] {
        [
            ("read", &self.read),
            ("write", &self.write),
            ("flush", &self.flush),
            ("discard", &self.discard),
        ]
    }
}

impl DropStats {
    /// The dropped entries by the check that they failed.
    #[must_use]
    pub fn by_check(&self) -> [(&'static str, u64); 3] {
        [
            ("get", self.get),
            ("validation", self.validation),
            ("scrub", self.scrub),
        ]
    }
}

impl FailureStats {
    /// The keys by the error.
    #[must_use]
    pub fn by_error(&self) -> [(&'static str, u64); 7] {
        [
            ("no_space", self.no_space),
            ("busy", self.busy),
            ("timed_out", self.timed_out),
            ("out_of_space", self.out_of_space),
            ("io", self.io),
            ("poisoned", self.poisoned),
            ("other", self.other),
        ]
    }
}

impl RefusedStats {
    /// The puts by who refused them.
    #[must_use]
    pub fn by_reason(&self) -> [(&'static str, RefusedPuts); 2] {
        [("policy", self.policy), ("budget", self.budget)]
    }
}

impl WaitsStats {
    /// The waits by cause.
    #[must_use]
    pub fn by_cause(&self) -> [(&'static str, WaitStats); 4] {
        [
            ("buffers", self.buffers),
            ("queues", self.queues),
            ("log_space", self.log_space),
            ("slots", self.slots),
        ]
    }
}
