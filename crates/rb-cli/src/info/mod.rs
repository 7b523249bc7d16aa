//! `rb info`: what a store is, what it holds, and how its last shutdown was.

mod recovery;

use std::path::Path;

use rb_core::{EngineKind, Store, Superblock, superblock_copies};
use serde::Serialize;

use crate::args::InfoArgs;
use crate::failure::Failure;
use crate::open::{close, open_reading};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::size::show_size;
use recovery::Recovery;

#[derive(Serialize)]
struct Info {
    path: String,
    uuid: String,
    epoch: u64,
    member: String,
    device_bytes: u64,
    layout_bytes: u64,
    engine: Engine,
    limits: Limits,
    key_bytes: u32,
    metadata_bytes: u32,
    superblock: SuperblockState,
    regions: Regions,
    slots: u32,
    live: u64,
    free: u64,
    shards: usize,
    classes: Vec<Class>,
    recovery: Recovery,
}

#[derive(Serialize)]
struct Engine {
    name: &'static str,
    rejected: Vec<Rejected>,
}

#[derive(Serialize)]
struct Rejected {
    engine: String,
    reason: String,
}

#[derive(Serialize)]
struct Limits {
    block_bytes: u32,
    block_source: &'static str,
    transfer_bytes: u64,
    transfer_source: &'static str,
}

#[derive(Serialize)]
struct SuperblockState {
    sequence: u64,
    copy_a: String,
    copy_b: String,
}

#[derive(Serialize)]
struct Regions {
    base_a: Region,
    base_b: Region,
    policy: Region,
    log_1: Region,
    log_2: Region,
    slots: Region,
}

#[derive(Serialize)]
struct Region {
    offset: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Class {
    slot_bytes: u64,
    slots: u64,
    live: u64,
    free: u64,
    bad: u64,
    share_percent: f64,
}

pub(crate) fn info(
    args: &InfoArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let store = open_reading(&args.path, engine, output)?;
    let device = store.engine().expect("an open store has its device");
    let info = Info::of(&args.path, &store, device.as_ref());
    drop(device);
    close(&store)?;
    if output.is_json() {
        output.json(&info)?;
    } else {
        info.show(output)?;
    }
    Ok(Outcome::Done)
}

impl Info {
    fn of(path: &Path, store: &Store, device: &dyn rb_io::Engine) -> Info {
        let superblock = store.superblock();
        let classes = classes(store);
        let [copy_a, copy_b] = copy_states(store, device);
        Info {
            path: path.display().to_string(),
            uuid: superblock.identity.uuid.to_string(),
            epoch: superblock.identity.epoch,
            member: format!(
                "{} of {}",
                superblock.member_index + 1,
                superblock.member_count
            ),
            device_bytes: device.capacity_bytes(),
            layout_bytes: superblock.device_bytes,
            engine: Engine::of(store),
            limits: Limits::of(device.limits()),
            key_bytes: superblock.key_len_max,
            metadata_bytes: superblock.metadata_len_max,
            superblock: SuperblockState {
                sequence: superblock.sequence,
                copy_a,
                copy_b,
            },
            regions: Regions::of(superblock),
            slots: store.geometry().slots(),
            live: classes.iter().map(|class| class.live).sum(),
            free: classes.iter().map(|class| class.free).sum(),
            shards: store.shards(),
            classes,
            recovery: Recovery::of(store.recovery()),
        }
    }

    fn show(&self, output: &mut Output) -> Result<(), Failure> {
        output.line(&self.path)?;
        let mut field = |name: &str, text: String| output.line(format!("  {name:<11} {text}"));
        field(
            "uuid",
            format!(
                "{}, epoch {}, member {}",
                self.uuid, self.epoch, self.member
            ),
        )?;
        field(
            "device",
            format!(
                "{} ({} bytes), the store uses {}",
                show_size(self.device_bytes),
                self.device_bytes,
                show_size(self.layout_bytes)
            ),
        )?;
        field("engine", self.engine.name.to_owned())?;
        for rejected in &self.engine.rejected {
            field("", format!("not {}: {}", rejected.engine, rejected.reason))?;
        }
        let limits = &self.limits;
        field(
            "transfers",
            format!(
                "blocks of {} bytes ({}), at most {} in one ({})",
                limits.block_bytes,
                limits.block_source,
                show_size(limits.transfer_bytes),
                limits.transfer_source
            ),
        )?;
        field(
            "limits",
            format!(
                "keys to {} bytes, metadata to {} bytes",
                self.key_bytes, self.metadata_bytes
            ),
        )?;
        let superblock = &self.superblock;
        field(
            "superblock",
            format!(
                "sequence {}; copy A {}; copy B {}",
                superblock.sequence, superblock.copy_a, superblock.copy_b
            ),
        )?;
        let regions = &self.regions;
        for (name, region) in [
            ("base A", &regions.base_a),
            ("base B", &regions.base_b),
            ("policy", &regions.policy),
            ("log ring 1", &regions.log_1),
            ("slots", &regions.slots),
            ("log ring 2", &regions.log_2),
        ] {
            field(
                name,
                format!("{} at byte {}", show_size(region.bytes), region.offset),
            )?;
        }
        for class in &self.classes {
            field(
                "class",
                format!(
                    "{} x {}: {} live, {} free, {} bad, {:.1} % of the space",
                    class.slots,
                    show_size(class.slot_bytes),
                    class.live,
                    class.free,
                    class.bad,
                    class.share_percent
                ),
            )?;
        }
        self.recovery.show(&mut field)
    }
}

impl Engine {
    fn of(store: &Store) -> Engine {
        let rejected = store
            .rejected_engines()
            .iter()
            .map(|r| Rejected {
                engine: r.kind.to_string(),
                reason: r.reason.clone(),
            })
            .collect();
        Engine {
            name: store.engine_name(),
            rejected,
        }
    }
}

impl Limits {
    fn of(limits: &rb_io::Limits) -> Limits {
        Limits {
            block_bytes: limits.block.value,
            block_source: limits.block.source,
            transfer_bytes: limits.transfer_max.value,
            transfer_source: limits.transfer_max.source,
        }
    }
}

impl Regions {
    fn of(superblock: &Superblock) -> Regions {
        let region = |region: &rb_format::Region| Region {
            offset: region.offset,
            bytes: region.bytes,
        };
        let runs = &superblock.runs;
        let first = runs.iter().map(|run| run.first_byte).min().unwrap_or(0);
        let ends = runs
            .iter()
            .map(|run| run.first_byte + run.stride * run.count);
        let end = ends.max().unwrap_or(0);
        Regions {
            base_a: region(&superblock.base_a),
            base_b: region(&superblock.base_b),
            policy: region(&superblock.policy),
            log_1: region(&superblock.log),
            log_2: region(&superblock.log_2),
            slots: Region {
                offset: first,
                bytes: end - first,
            },
        }
    }
}

fn classes(store: &Store) -> Vec<Class> {
    let stats = store.stats().index.classes;
    let runs = &store.superblock().runs;
    let space = |class: Option<u8>| {
        let of_class = runs
            .iter()
            .filter(|run| class.is_none_or(|class| run.class == class));
        of_class.map(|run| run.stride * run.count).sum::<u64>()
    };
    (0_u8..)
        .zip(stats)
        .map(|(class, stats)| Class {
            slot_bytes: store.geometry().class_capacity(class),
            slots: stats.capacity,
            live: stats.live,
            free: stats.free,
            bad: stats.bad,
            share_percent: 100.0 * space(Some(class)) as f64 / space(None).max(1) as f64,
        })
        .collect()
}

/// What is in the places of the superblock copies. The store opened, so at least one is good.
fn copy_states(store: &Store, device: &dyn rb_io::Engine) -> [String; 2] {
    superblock_copies(device).map(|copy| match copy {
        Ok(copy) if copy == *store.superblock() => "ok".to_owned(),
        Ok(copy) => format!("older (sequence {})", copy.sequence),
        Err(why) => format!("damaged ({why})"),
    })
}
