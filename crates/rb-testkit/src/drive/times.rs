//! How long a drive takes.

use std::time::Duration;

use rb_io::OpKind;

/// What a drive can do. Requests are served in the order in which they come.
#[derive(Clone, Copy, Debug)]
pub struct DriveSpeed {
    /// Requests that it works on at a time; the others wait.
    pub channels: usize,
    /// Work on a transfer in its channel, before its bytes move.
    pub transfer: Duration,
    /// Bytes that move per second, of all channels together.
    pub bytes_per_second: u64,
    /// Work on a flush. It does not wait for its channel's turn alone: nothing else moves meanwhile.
    pub flush: Duration,
    /// Work on a discard in its channel.
    pub discard: Duration,
    /// Bytes that are discarded per second, while nothing else moves.
    pub discarded_per_second: u64,
}

impl DriveSpeed {
    /// An NVMe drive as data sheets and benchmarks describe them, slower by `factor`: 8 channels, 2 GB/s, a read of
    /// 64 KiB in 0.1 ms, a flush in 0.2 ms, a discard in 0.1 ms and 0.01 ms for each MiB.
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

/// When each request ends. Time is what the caller says: of a clock, or simulated.
#[derive(Clone, Debug)]
pub struct DriveTimes {
    speed: DriveSpeed,
    /// When each channel is free.
    channels: Vec<Duration>,
    /// When the bytes of the next request can move.
    moves: Duration,
}

impl DriveTimes {
    /// A drive that has nothing to do.
    ///
    /// # Panics
    /// It has no channel.
    #[must_use]
    pub fn new(speed: DriveSpeed) -> DriveTimes {
        assert!(speed.channels > 0, "a drive has a channel");
        DriveTimes {
            speed,
            channels: vec![Duration::ZERO; speed.channels],
            moves: Duration::ZERO,
        }
    }

    /// When a request that comes `now` ends. Those that came before go first.
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
