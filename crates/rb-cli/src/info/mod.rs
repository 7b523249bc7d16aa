//! `rb info`: shows a store's layout, its content, and how its last session ended.

mod drive;
mod in_use;
mod recovery;

use std::path::Path;

use rb_core::{EngineKind, Store, Superblock, superblock_copies};
use serde::Serialize;

use crate::args::InfoArgs;
use crate::failure::Failure;
use crate::key::show_key;
use crate::open::{close, open_reading};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::probe::{LimitLine, limit_lines};
use crate::size::{counted, show_size};
use crate::watch::LifetimeLine;
use drive::DriveLine;
use recovery::RecoveryLine;

/// Share of the slots in use below which `rb info` warns.
const PAYLOAD_RATIO_MIN: f64 = 0.7;

#[derive(Serialize)]
struct InfoLine {
    path: String,
    uuid: String,
    label: Option<String>,
    epoch: u64,
    member: u32,
    members: u32,
    device_bytes: u64,
    layout_bytes: u64,
    engine: &'static str,
    rejected_engines: Vec<RejectedEngine>,
    in_use: bool,
    process: Option<u32>,
    answers: Option<bool>,
    /// Descriptions by that process of what does not work as it should.
    alarms: Vec<String>,
    limits: Vec<LimitLine>,
    key_bytes_max: u32,
    metadata_bytes_max: u32,
    superblock: SuperblockState,
    regions: Vec<NamedRegion>,
    slots: u32,
    live_slots: u64,
    free_slots: u64,
    shards: usize,
    classes: Vec<ShownClass>,
    recovery: RecoveryLine,
    lifetime: LifetimeLine,
    drive: DriveLine,
}

#[derive(Serialize)]
struct RejectedEngine {
    engine: String,
    reason: String,
}

#[derive(Serialize)]
struct SuperblockState {
    sequence: u64,
    copy_a: String,
    copy_b: String,
}

#[derive(Serialize)]
struct NamedRegion {
    name: &'static str,
    offset_bytes: u64,
    length_bytes: u64,
}

#[derive(Serialize)]
struct ShownClass {
    slot_bytes: u64,
    slots: u64,
    live_slots: u64,
    free_slots: u64,
    bad_slots: u64,
    /// Bytes of values in the live slots.
    payload_bytes: u64,
    space_ratio: f64,
}

pub(crate) fn info(
    args: &InfoArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let store = open_reading(&args.path, engine, output)?;
    let device = store.engine().expect("an open store has its device");
    let info = InfoLine::of(&args.path, &store, device.as_ref());
    drop(device);
    close(&store)?;
    for warning in info.classes.iter().filter_map(ShownClass::warning) {
        output.warn(warning);
    }
    if output.is_json() {
        output.json(&info)?;
    } else {
        info.show(output)?;
    }
    Ok(Outcome::Done)
}

impl InfoLine {
    fn of(path: &Path, store: &Store, device: &dyn rb_io::Engine) -> InfoLine {
        let superblock = store.superblock();
        let classes = classes(store);
        let [copy_a, copy_b] = copy_states(store, device);
        let user = in_use::user(path);
        InfoLine {
            path: path.display().to_string(),
            uuid: superblock.identity.uuid.to_string(),
            label: match superblock.label() {
                [] => None,
                label => Some(show_key(label)),
            },
            epoch: superblock.identity.epoch,
            member: superblock.member_index + 1,
            members: superblock.member_count,
            device_bytes: device.capacity_bytes(),
            layout_bytes: superblock.device_bytes,
            engine: store.engine_name(),
            rejected_engines: rejected_engines(store),
            in_use: user.is_some(),
            process: user.as_ref().map(|user| user.process),
            answers: user.as_ref().map(|user| user.answers),
            alarms: user.map(|user| user.alarms).unwrap_or_default(),
            limits: limit_lines(device.limits()),
            key_bytes_max: superblock.key_len_max,
            metadata_bytes_max: superblock.metadata_len_max,
            superblock: SuperblockState {
                sequence: superblock.sequence,
                copy_a,
                copy_b,
            },
            regions: regions(superblock),
            slots: store.geometry().slots(),
            live_slots: classes.iter().map(|class| class.live_slots).sum(),
            free_slots: classes.iter().map(|class| class.free_slots).sum(),
            shards: store.shards(),
            classes,
            recovery: RecoveryLine::of(store.recovery()),
            lifetime: LifetimeLine::of(&store.stats().lifetime),
            drive: DriveLine::of(path),
        }
    }

    fn show(&self, output: &mut Output) -> Result<(), Failure> {
        output.line(&self.path)?;
        let mut field = |name: &str, text: String| output.line(format!("  {name:<11} {text}"));
        field(
            "uuid",
            format!(
                "{}, epoch {}, member {} of {}",
                self.uuid, self.epoch, self.member, self.members
            ),
        )?;
        if let Some(label) = &self.label {
            field("label", label.clone())?;
        }
        field(
            "device",
            format!(
                "{} ({} bytes), the store uses {}",
                show_size(self.device_bytes),
                self.device_bytes,
                show_size(self.layout_bytes)
            ),
        )?;
        field("engine", self.engine.to_owned())?;
        if let Some(process) = self.process {
            let silent = match self.answers {
                Some(false) => ", which does not answer (no monitor, stopped, or hangs)",
                _ => "",
            };
            let what = "what follows is the state on the device, which changes";
            field("in use", format!("by process {process}{silent}; {what}"))?;
        }
        for rejected in &self.rejected_engines {
            field("", format!("not {}: {}", rejected.engine, rejected.reason))?;
        }
        let limit = |name| {
            let found = self.limits.iter().find(|limit| limit.name == name);
            found.map_or((0, ""), |limit| {
                (limit.value.unwrap_or(0), limit.source.unwrap_or_default())
            })
        };
        let (block, transfer) = (limit("block_bytes"), limit("transfer_bytes_max"));
        field(
            "transfers",
            format!(
                "blocks of {} bytes ({}), at most {} in one ({})",
                block.0,
                block.1,
                show_size(transfer.0),
                transfer.1
            ),
        )?;
        field(
            "limits",
            format!(
                "keys to {}, metadata to {}",
                counted(self.key_bytes_max.into(), "byte"),
                counted(self.metadata_bytes_max.into(), "byte")
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
        for region in &self.regions {
            field(
                region_title(region.name),
                format!(
                    "{} at byte {}",
                    show_size(region.length_bytes),
                    region.offset_bytes
                ),
            )?;
        }
        for class in &self.classes {
            field(
                "class",
                format!(
                    "{} x {}: {} live with {}, {} free, {} bad, {:.1} % of the space",
                    class.slots,
                    show_size(class.slot_bytes),
                    class.live_slots,
                    show_size(class.payload_bytes),
                    class.free_slots,
                    class.bad_slots,
                    100.0 * class.space_ratio
                ),
            )?;
        }
        self.alarms
            .iter()
            .try_for_each(|alarm| field("alarm", alarm.clone()))?;
        self.recovery.show(self.in_use, &mut field)?;
        field("lifetime", self.lifetime.text())?;
        self.drive.show(&mut field)
    }
}

fn rejected_engines(store: &Store) -> Vec<RejectedEngine> {
    let rejected = store.rejected_engines().iter();
    rejected
        .map(|rejected| RejectedEngine {
            engine: rejected.kind.to_string(),
            reason: rejected.reason.clone(),
        })
        .collect()
}

/// Returns the regions in the order of their offsets.
fn regions(superblock: &Superblock) -> Vec<NamedRegion> {
    let runs = &superblock.runs;
    let first = runs.iter().map(|run| run.first_byte).min().unwrap_or(0);
    let ends = runs
        .iter()
        .map(|run| run.first_byte + run.stride * run.count);
    let end = ends.max().unwrap_or(0);
    let fixed = [
        ("base_a", &superblock.base_a),
        ("base_b", &superblock.base_b),
        ("policy", &superblock.policy),
        ("log_1", &superblock.log),
        ("log_2", &superblock.log_2),
    ];
    let mut regions: Vec<NamedRegion> = fixed
        .into_iter()
        .map(|(name, region)| NamedRegion {
            name,
            offset_bytes: region.offset,
            length_bytes: region.bytes,
        })
        .collect();
    regions.push(NamedRegion {
        name: "slots",
        offset_bytes: first,
        length_bytes: end - first,
    });
    regions.sort_by_key(|region| region.offset_bytes);
    regions
}

fn region_title(name: &str) -> &str {
    match name {
        "base_a" => "base A",
        "base_b" => "base B",
        "log_1" => "log ring 1",
        "log_2" => "log ring 2",
        other => other,
    }
}

fn classes(store: &Store) -> Vec<ShownClass> {
    let stats = store.stats().index.classes;
    let payload = payload_of_classes(store, stats.len());
    let runs = &store.superblock().runs;
    let space = |class: Option<u8>| {
        let of_class = runs
            .iter()
            .filter(|run| class.is_none_or(|class| run.class == class));
        of_class.map(|run| run.stride * run.count).sum::<u64>()
    };
    (0_u8..)
        .zip(stats)
        .map(|(class, stats)| ShownClass {
            slot_bytes: store.geometry().class_capacity(class),
            slots: stats.capacity,
            live_slots: stats.live,
            free_slots: stats.free,
            bad_slots: stats.bad,
            payload_bytes: payload[usize::from(class)],
            space_ratio: space(Some(class)) as f64 / space(None).max(1) as f64,
        })
        .collect()
}

/// Returns the bytes of live values by class.
fn payload_of_classes(store: &Store, classes: usize) -> Vec<u64> {
    let mut payload = vec![0; classes];
    store.for_each(|entry| {
        payload[usize::from(entry.class)] += u64::from(entry.len);
        true
    });
    payload
}

impl ShownClass {
    /// Returns a warning if at least an eighth of the slots is in use, and too little of that is
    /// payload.
    fn warning(&self) -> Option<String> {
        // A few values say nothing about those to come.
        if self.live_slots * 8 < self.slots {
            return None;
        }
        let used = self.live_slots * self.slot_bytes;
        let ratio = self.payload_bytes as f64 / used.max(1) as f64;
        (ratio < PAYLOAD_RATIO_MIN).then(|| {
            format!(
                "only {:.0} % of the {} of {} in use is payload: slots closer to the size of the values hold more, see docs/sizing.md",
                100.0 * ratio,
                counted(self.live_slots, "slot"),
                show_size(self.slot_bytes)
            )
        })
    }
}

/// Returns the states of the two superblock copies. The store opened, so at least one is "ok".
fn copy_states(store: &Store, device: &dyn rb_io::Engine) -> [String; 2] {
    superblock_copies(device).map(|copy| match copy {
        Ok(copy) if copy == *store.superblock() => "ok".to_owned(),
        Ok(copy) => format!("older (sequence {})", copy.sequence),
        Err(why) => format!("damaged ({why})"),
    })
}
