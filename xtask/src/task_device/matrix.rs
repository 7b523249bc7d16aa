//! The matrix: the machines, the drives of each, and the cells that run on them.
//!
//! A boot costs more than a drive, so a machine has many drives, and its cells run one after the other. A cell
//! overwrites its drive.

use super::fetch::Release;

/// A machine that is booted once.
pub(super) struct Machine {
    pub(super) name: &'static str,
    pub(super) release: Release,
    pub(super) drives: Vec<Drive>,
    /// Shell commands of the guest that run before the cells.
    pub(super) setup: &'static str,
    /// True if programs are built as they are shipped, not for tests, and `rb` and fio are included.
    pub(super) shipped: bool,
    pub(super) cells: Vec<Cell>,
}

/// An emulated NVMe drive.
#[derive(Clone, Copy)]
pub(super) struct Drive {
    /// Serial number, by which the guest finds the drive.
    pub(super) serial: &'static str,
    pub(super) mib: u64,
    /// Logical block size in bytes.
    pub(super) block: u32,
    /// The largest transfer: 2^mdts pages of 4 KiB.
    pub(super) mdts: u32,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// With eight placement handles.
    Placement,
    /// Reads or writes of [`BAD_BYTE`] fail.
    BadRead,
    BadWrite,
    /// With zones.
    Zoned,
    /// With metadata behind each block, in the same transfer, or with protection information in separate metadata.
    Metadata,
    Protected,
    /// Reads are limited to [`SLOW_BYTES`].
    Slow,
}

/// One engine on one device.
pub(super) struct Cell {
    /// Device name in the table.
    pub(super) device: String,
    pub(super) engine: &'static str,
    /// Arguments of the guest's program.
    pub(super) command: String,
    pub(super) quick: bool,
    /// Step on the host after the machine has ended, on the drives' images.
    pub(super) after: Option<After>,
}

/// Replay of a record of dm-log-writes, on the host because its processors are faster.
#[derive(Clone, Copy)]
pub(super) struct After {
    pub(super) log: &'static str,
    pub(super) data_mib: u64,
}

/// Offset of the bad byte of a drive: in one of the first 64 slots of 1 MiB.
pub(super) const BAD_BYTE: u64 = 40 << 20;

/// Bytes per second of a slow drive: far fewer than an emulated processor can checksum.
pub(super) const SLOW_BYTES: u64 = 32 << 20;

/// The engines of the block layer.
const BLOCK: [&str; 2] = ["posix", "io_uring"];
const PASSTHROUGH: &str = "uring_cmd";
const LIBBLKIO: &str = "libblkio";

const fn drive(serial: &'static str, block: u32, mdts: u32) -> Drive {
    Drive {
        serial,
        mib: 256,
        block,
        mdts,
        kind: Kind::Plain,
    }
}

/// The drives that every engine runs on: both block sizes, and transfers smaller and larger than a value.
const DRIVES: [(Drive, &str); 4] = [
    (drive("A", 512, 7), "nvme 512 mdts 512K"),
    (drive("B", 4096, 3), "nvme 4096 mdts 32K"),
    (drive("C", 512, 3), "nvme 512 mdts 32K"),
    (drive("D", 4096, 7), "nvme 4096 mdts 512K"),
];

/// Sets up the target of NVMe over TCP and its initiator in one machine, over the loopback network. A machine in
/// software emulation may stand still for longer than the usual 5 s after which the two drop the connection.
const TCP_SETUP: &str = "\
cd /sys/kernel/config/nvmet
mkdir subsystems/rb
echo 1 > subsystems/rb/attr_allow_any_host
echo TCP > subsystems/rb/attr_serial
mkdir subsystems/rb/namespaces/1
device node serial:T > /tmp/backing
cp /tmp/backing subsystems/rb/namespaces/1/device_path
echo 1 > subsystems/rb/namespaces/1/enable
mkdir ports/1
echo tcp > ports/1/addr_trtype
echo ipv4 > ports/1/addr_adrfam
echo 127.0.0.1 > ports/1/addr_traddr
echo 4420 > ports/1/addr_trsvcid
ln -s /sys/kernel/config/nvmet/subsystems/rb ports/1/subsystems/rb
cd /
echo transport=tcp,traddr=127.0.0.1,trsvcid=4420,nqn=rb,keep_alive_tmo=300 > /dev/nvme-fabrics
for n in 1 2 3 4 5 6 7 8 9 10; do device node serial:TCP 2>/dev/null && break; sleep 1; done
";

/// Sets up a SCSI disk in memory with two paths, as two hosts would have. The target keeps reservations in a file.
const SCSI_SETUP: &str = "\
mkdir -p /var/target/pr
cd /sys/kernel/config/target
mkdir -p core/rd_mcp_0/disk
echo rd_pages=16384 > core/rd_mcp_0/disk/control
echo rb-disk > core/rd_mcp_0/disk/wwn/vpd_unit_serial
echo 1 > core/rd_mcp_0/disk/enable
for host in 1 2; do
mkdir -p loopback/naa.600140500000000$host/tpgt_1/lun/lun_0
echo naa.600140500000001$host > loopback/naa.600140500000000$host/tpgt_1/nexus
ln -s /sys/kernel/config/target/core/rd_mcp_0/disk loopback/naa.600140500000000$host/tpgt_1/lun/lun_0/port
done
cd /
for n in 1 2 3 4 5 6 7 8 9 10; do test -b /dev/sdb && break; sleep 1; done
";

/// Returns all machines, quick ones first.
pub(super) fn machines() -> Vec<Machine> {
    vec![
        drives_of(Release::Linux6_12, "6.12-drives"),
        faults_of(Release::Linux6_12, "6.12-faults"),
        drives_of(Release::Linux6_1, "6.1-drives"),
        faults_of(Release::Linux6_1, "6.1-faults"),
        shipped_of(Release::Linux6_12, "6.12-shipped"),
        shipped_of(Release::Linux6_1, "6.1-shipped"),
    ]
}

fn node(engine: &str, serial: &str) -> String {
    match engine {
        PASSTHROUGH | LIBBLKIO => format!("generic:{serial}"),
        _ => format!("serial:{serial}"),
    }
}

/// Every engine on every kind of drive, across nodes, over the network, with placement handles.
fn drives_of(release: Release, name: &'static str) -> Machine {
    let newest = release == Release::Linux6_12;
    let engines = [BLOCK[0], BLOCK[1], PASSTHROUGH];
    let mut cells = Vec::new();
    for (drive, device) in DRIVES {
        let all = [engines[0], engines[1], engines[2], LIBBLKIO];
        for engine in all {
            // Quick runs: one drive on the oldest kernel; on the newest, each half of the
            // combinations once.
            let quick = match (drive.serial, engine) {
                ("A", _) => !newest && engine != BLOCK[0],
                (_, LIBBLKIO) => false,
                ("B", _) => newest,
                ("C", PASSTHROUGH) => newest,
                _ => false,
            };
            cells.push(cell(
                device,
                engine,
                &format!("suite {engine} {}", node(engine, drive.serial)),
                quick,
            ));
        }
        let quick = newest && drive.serial == "B";
        let targets: Vec<String> = all
            .iter()
            .map(|engine| format!("{engine}={}", node(engine, drive.serial)))
            .collect();
        cells.push(cell(
            device,
            "cross",
            &format!("cross {}", targets.join(" ")),
            quick,
        ));
    }
    for engine in engines {
        let command = format!("suite {engine} {}", node(engine, "TCP"));
        cells.push(cell(
            "nvme over tcp",
            engine,
            &command,
            newest && engine == BLOCK[1],
        ));
    }
    let mut drives: Vec<Drive> = DRIVES.iter().map(|(drive, _)| *drive).collect();
    drives.push(drive("T", 512, 7));
    if newest {
        // Linux 6.1 does not support placement handles; the passthrough engine does not need kernel
        // support.
        for engine in engines {
            let command = format!("suite {engine} {}", node(engine, "F"));
            cells.push(cell("nvme fdp", engine, &command, false));
        }
    }
    cells.push(cell(
        "nvme fdp handles",
        PASSTHROUGH,
        &format!("fdp {PASSTHROUGH} generic:F"),
        newest,
    ));
    drives.push(Drive {
        kind: Kind::Placement,
        ..drive("F", 4096, 7)
    });
    Machine {
        name,
        release,
        drives,
        setup: TCP_SETUP,
        shipped: false,
        cells,
    }
}

/// Drives and mappings that fail, lose writes, or disappear.
fn faults_of(release: Release, name: &'static str) -> Machine {
    const REMOVED: [(&str, &str); 3] = [("X", BLOCK[0]), ("Y", BLOCK[1]), ("Z", PASSTHROUGH)];
    const DATA_MIB: u64 = 64;
    let newest = release == Release::Linux6_12;
    let small = |serial| Drive {
        mib: DATA_MIB,
        ..drive(serial, 512, 7)
    };
    let bad = |serial, kind| Drive {
        kind,
        mib: 128,
        ..drive(serial, 512, 7)
    };
    let mut drives = vec![
        drive("K", 512, 7),
        small("P"),
        small("U"),
        drive("LP", 512, 7),
        drive("LU", 512, 7),
        bad("R", Kind::BadRead),
        bad("W", Kind::BadWrite),
    ];
    let mut cells = Vec::new();
    for (engine, data, log) in [(BLOCK[1], "U", "LU"), (BLOCK[0], "P", "LP")] {
        let quick = newest && engine == BLOCK[1];
        let command = format!("log-record {engine} serial:{data} serial:{log}");
        cells.push(Cell {
            after: Some(After {
                log,
                data_mib: DATA_MIB,
            }),
            ..cell("dm-log-writes", engine, &command, quick)
        });
        cells.push(cell(
            "dm-flakey",
            engine,
            &format!("flakey {engine} serial:K"),
            quick,
        ));
    }
    for engine in [BLOCK[1], BLOCK[0], PASSTHROUGH] {
        let quick = newest && engine != BLOCK[0];
        for (direction, serial) in [("read", "R"), ("write", "W")] {
            let command = format!(
                "bad-block {engine} {} {direction} {BAD_BYTE}",
                node(engine, serial)
            );
            cells.push(cell(
                &format!("blkdebug {direction}"),
                engine,
                &command,
                quick,
            ));
        }
    }
    for engine in [BLOCK[1], BLOCK[0]] {
        let command = format!("reserved {engine} /dev/sda /dev/sdb");
        let quick = newest && engine == BLOCK[1];
        cells.push(cell("scsi of two hosts", engine, &command, quick));
    }
    for (serial, device, kind, by_kernel, by_drive) in [
        (
            "ZN",
            "nvme zoned",
            Kind::Zoned,
            "it is a zoned device",
            "zone",
        ),
        (
            "MD",
            "nvme metadata",
            Kind::Metadata,
            "0 bytes",
            "metadata with each block",
        ),
        (
            "PI",
            "nvme protected",
            Kind::Protected,
            "",
            "metadata with each block",
        ),
    ] {
        drives.push(Drive {
            kind,
            ..drive(serial, 4096, 7)
        });
        for (engine, words) in [(BLOCK[1], by_kernel), (PASSTHROUGH, by_drive)] {
            // The kernel generates and checks protection information itself, so such a block device
            // can hold a store.
            if !words.is_empty() {
                let command = format!("unfit {engine} {} '{words}'", node(engine, serial));
                cells.push(cell(device, engine, &command, newest));
            }
        }
    }
    for (serial, engine) in REMOVED {
        drives.push(small(serial));
        let command = format!("removal {engine} {}", node(engine, serial));
        cells.push(cell(
            "hot removal",
            engine,
            &command,
            newest && engine != BLOCK[0],
        ));
    }
    Machine {
        name,
        release,
        drives,
        setup: SCSI_SETUP,
        shipped: false,
        cells,
    }
}

/// Programs as they are shipped: `rb` as an operator uses it, and on the newest kernel the store compared with fio.
fn shipped_of(release: Release, name: &'static str) -> Machine {
    let mut drives = vec![drive("O", 4096, 7)];
    let mut cells = vec![cell("nvme, both nodes", "rb", "users O", false)];
    if release == Release::Linux6_12 {
        for (serial, device, kind, least) in [
            ("Q", "nvme mdts 128K", Kind::Plain, ""),
            ("S", "nvme slow mdts 128K", Kind::Slow, " --least 0.9"),
        ] {
            drives.push(Drive {
                kind,
                ..drive(serial, 4096, 5)
            });
            let command = format!("speed {PASSTHROUGH} {}{least}", node(PASSTHROUGH, serial));
            cells.push(cell(device, PASSTHROUGH, &command, false));
        }
    }
    Machine {
        name,
        release,
        drives,
        setup: "",
        shipped: true,
        cells,
    }
}

fn cell(device: &str, engine: &'static str, command: &str, quick: bool) -> Cell {
    Cell {
        device: device.to_owned(),
        engine,
        command: command.to_owned(),
        quick,
        after: None,
    }
}
