//! Computes how long the requests of a drive take.

use std::time::Duration;

use rb_io::OpKind;

/// The speed of a drive. Requests are served in arrival order.
#[derive(Clone, Copy, Debug)]
pub struct DriveSpeed {
    /// Number of requests that it processes concurrently; the others wait.
    pub channels: usize,
    /// Processing time of a transfer in its channel, before its bytes move.
    pub transfer: Duration,
    /// Bytes transferred per second, over all channels together.
    pub bytes_per_second: u64,
    /// Processing time of a flush. It occupies the whole drive: no bytes of other requests move
    /// during that time.
    pub flush: Duration,
    /// Processing time of a discard in its channel.
    pub discard: Duration,
    /// Bytes discarded per second; no bytes of other requests move in that time.
    pub discarded_per_second: u64,
}

impl DriveSpeed {
    /// Returns the speed of an NVMe drive according to data sheets and benchmarks, divided by
    /// `factor`: 8 channels, 2 GB/s, a read of 64 KiB in 0.1 ms, a flush in 0.2 ms, a discard in
    /// 0.1 ms and 0.01 ms per MiB.
    #[must_use]
    pub fn ssd(factor: u32) -> DriveSpeed {
        DriveSpeed {
            channels: 8,
            transfer: Duration::from_micros(68) * factor,
            bytes_per_second: 2_000_000_000 / u64::from(factor),
            flush: Duration::from_micros(200) * factor,
            discard: Duration::from_micros(100) * factor,
            discarded_per_second: 100_000_000_000 / u64::from(factor),
        }
    }
}

/// Computes the completion time of each request. The caller supplies the time: from a clock, or
/// simulated.
#[derive(Clone, Debug)]
pub struct DriveTimes {
    speed: DriveSpeed,
    /// When each channel becomes free.
    channels: Vec<Duration>,
    /// When the bytes of the next request can move.
    moves: Duration,
}

impl DriveTimes {
    /// Creates an idle drive.
    ///
    /// # Panics
    /// If `speed` has no channel.
    #[must_use]
    pub fn new(speed: DriveSpeed) -> DriveTimes {
        assert!(speed.channels > 0, "a drive has a channel");
        DriveTimes {
            speed,
            channels: vec![Duration::ZERO; speed.channels],
            moves: Duration::ZERO,
        }
    }

    /// Returns when a request that arrives at `now` completes. Earlier requests are served first.
    pub fn ends(&mut self, now: Duration, op: OpKind, bytes: u64) -> Duration {
        let speed = &self.speed;
        let over = |rate: u64| Duration::from_secs_f64(bytes as f64 / rate as f64);
        let (work, moving) = match op {
            OpKind::Read | OpKind::Write => (speed.transfer, over(speed.bytes_per_second)),
            OpKind::Flush => (Duration::ZERO, speed.flush),
            OpKind::Discard => (speed.discard, over(speed.discarded_per_second)),
        };
        let mut first = 0;
        for (at, free) in self.channels.iter().enumerate() {
            if *free < self.channels[first] {
                first = at;
            }
        }
        let worked = now.max(self.channels[first]) + work;
        let ends = worked.max(self.moves) + moving;
        (self.channels[first], self.moves) = (ends, ends);
        ends
    }
}
