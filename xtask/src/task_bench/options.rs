//! The options of `cargo xtask bench`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use super::program::FOLDER;
use super::target::Kind;

/// The options of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Measure 3 rounds of 1 s on files of 1 GiB, unless --rounds or --seconds say otherwise.
    #[arg(long)]
    quick: bool,
    /// Location of the stores, or the part of this store that is measured alone.
    #[arg(long, value_enum, default_value_t = Where::All)]
    pub(super) target: Where,
    /// With --target background: measure only the services whose name contains this.
    #[arg(long, value_name = "FILTER")]
    pub(super) service: Option<String>,
    /// Measure only the cases whose name, such as get-64KiB-32, contains this.
    #[arg(
        long = "case",
        value_name = "FILTER",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) filter: String,
    /// Rounds of each case; 5 by default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: Option<u32>,
    /// Seconds of a measurement, 0.1 to 3600; 3 by default, with --target background 4.
    #[arg(long, value_parser = seconds)]
    pub(super) seconds: Option<f64>,
    /// The folder of the files for the target disk.
    #[arg(long, value_name = "PATH", default_value = FOLDER)]
    pub(super) dir: PathBuf,
    /// Print one line of JSON instead of the table.
    #[arg(long)]
    pub(super) json: bool,
    /// Peers to measure, separated by commas: some of fio, foyer, wheel; an empty string for none.
    #[arg(long, value_name = "LIST", default_value = "fio,foyer,wheel")]
    pub(super) peers: Peers,
    /// Also measure the whole core of LMCache: installs torch, 7 GB.
    #[arg(long)]
    pub(super) lmcache: bool,
    /// Measure this program instead of a build of the tree.
    #[arg(long, value_name = "PROGRAM")]
    pub(super) rb: Option<PathBuf>,
}

/// A value of `--target`.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(super) enum Where {
    /// Disk, loop and tmpfs, one after the other.
    All,
    /// Files on a disk.
    Disk,
    /// Loop devices over files in memory: block devices that cost next to nothing.
    Loop,
    /// Files in memory.
    Tmpfs,
    /// This store alone, on an engine that completes immediately: the overhead of async calls.
    Null,
    /// This store alone, on a drive in memory that is the bottleneck: what background work adds to gets.
    Background,
}

/// A peer that this store is measured against.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(super) enum Peer {
    Fio,
    Foyer,
    Wheel,
}

/// A list of peers; may be empty.
#[derive(Clone, Debug)]
pub(super) struct Peers(Vec<Peer>);

impl FromStr for Peers {
    type Err = String;

    fn from_str(names: &str) -> Result<Peers, String> {
        let names = names.split(',').filter(|name| !name.is_empty());
        let peer = |name| {
            Peer::from_str(name, false)
                .map_err(|_| format!("{name:?} is not one of fio, foyer, wheel"))
        };
        names.map(peer).collect::<Result<_, _>>().map(Peers)
    }
}

impl Peers {
    pub(super) fn has(&self, peer: Peer) -> bool {
        self.0.contains(&peer)
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().map_err(|why| why.to_string())?;
    match (0.1..=3600.0).contains(&seconds) {
        true => Ok(seconds),
        false => Err("not from 0.1 to 3600".to_owned()),
    }
}

impl Options {
    /// Rejects options that the target does not use.
    ///
    /// # Errors
    /// If one of them was given.
    pub(super) fn check(&self) -> Result<(), String> {
        let against_peers = self.quick
            || self.lmcache
            || self.rb.is_some()
            || !self.filter.is_empty()
            || self.dir.as_os_str() != FOLDER;
        let any = against_peers || self.rounds.is_some() || self.seconds.is_some() || self.json;
        match self.target {
            Where::Background if against_peers => Err(
                "--target background takes --service, --rounds, --seconds and --json alone".into(),
            ),
            Where::Null if any => Err("--target null takes no other option".into()),
            Where::Background => Ok(()),
            _ if self.service.is_some() => Err("--service is for --target background".into()),
            _ => Ok(()),
        }
    }

    /// Returns the kinds of targets to measure on.
    pub(super) fn kinds(&self) -> &'static [Kind] {
        match self.target {
            Where::All => &[Kind::Disk, Kind::Loop, Kind::Tmpfs],
            Where::Disk => &[Kind::Disk],
            Where::Loop => &[Kind::Loop],
            Where::Tmpfs => &[Kind::Tmpfs],
            Where::Null | Where::Background => &[],
        }
    }

    pub(super) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 })
    }

    pub(super) fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick { 1.0 } else { 3.0 })
    }

    /// Returns the bytes of each of the two files of a target.
    pub(super) fn file_bytes(&self) -> u64 {
        if self.quick { 1 << 30 } else { 4 << 30 }
    }
}
