//! Boots a machine in software emulation and collects the results of its cells.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::fetch::{Lab, Release};
use super::initramfs;
use super::matrix::{BAD_BYTE, Drive, Kind, Machine, SLOW_BYTES};
use super::results::{Results, id};
use crate::run::wait;

/// Time limit for booting and switching off, and for each cell. A machine that takes longer has hung: the program in it
/// gives up on a test much earlier.
const BOOT_TIME: Duration = Duration::from_mins(3);
const CELL_TIME: Duration = Duration::from_secs(150);

const APPEND: &str = "console=ttyS0 loglevel=5 panic=-1";
/// Linux 6.1 checks copies (`hardened_usercopy`), and mistakes pages that came through the loopback network in one
/// piece for memory that must not be copied: `kernel BUG at mm/usercopy.c` from `nvmet_tcp_io_work`. Others with both
/// ends of NVMe over TCP on one machine hit it, too (openebs/mayastor, issue 1693).
const APPEND_6_1: &str = "console=ttyS0 loglevel=5 panic=-1 hardened_usercopy=off";

/// Boots the machine, which runs its cells and switches itself off. A cell without output is missing in the results,
/// and so a failure.
///
/// # Errors
/// If the machine cannot be made or started.
pub(super) fn run(
    lab: &Lab,
    programs: &[PathBuf],
    machine: &Machine,
    results: &mut Results,
) -> Result<(), String> {
    let start = Instant::now();
    eprintln!("== machine {}: {} cells", machine.name, machine.cells.len());
    let folder = folder(lab, machine);
    // Output of an earlier run must not be taken for this one's.
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    let initrd = folder.join("initrd");
    let archive = initramfs::make(lab, machine, programs, &script(machine))?;
    fs::write(&initrd, archive).map_err(|why| format!("{}: {why}", initrd.display()))?;
    let (console, said) = (folder.join("console.txt"), folder.join("results.txt"));
    let mut qemu = qemu(lab, machine, &initrd)?;
    for serial in [&console, &said] {
        qemu.arg("-serial")
            .arg(format!("file:{}", serial.display()));
    }
    for drive in &machine.drives {
        add_drive(&mut qemu, drive, &image(&folder, drive.serial))?;
    }
    let errors = folder.join("qemu.txt");
    let output = File::create(&errors).map_err(|why| format!("{}: {why}", errors.display()))?;
    let mut child = qemu
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(output)
        .process_group(0)
        .spawn()
        .map_err(|why| format!("QEMU did not start: {why}"))?;
    let time = BOOT_TIME + CELL_TIME * u32::try_from(machine.cells.len()).unwrap_or(u32::MAX);
    let ended = wait(&mut child, time).map_err(|why| format!("QEMU: {why}"))?;
    let text = fs::read(&said).unwrap_or_default();
    results.take(&String::from_utf8_lossy(&text));
    let seconds = start.elapsed().as_secs_f64();
    match ended {
        Some(status) if status.success() => eprintln!("== {seconds:.1} s"),
        Some(status) => eprintln!("== QEMU: {status}, see {}", errors.display()),
        None => eprintln!(
            "== it was killed after {seconds:.0} s, see {}",
            console.display()
        ),
    }
    Ok(())
}

/// Returns the QEMU command with the machine's kernel, without serial lines and drives.
fn qemu(lab: &Lab, machine: &Machine, initrd: &Path) -> Result<Command, String> {
    let mut qemu = lab.tool("usr/bin/qemu-system-x86_64");
    let share = lab.dir.join("root/usr/share");
    qemu.args([
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "2048",
    ]);
    qemu.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ]);
    qemu.arg("-L")
        .arg(share.join("qemu"))
        .arg("-L")
        .arg(share.join("seabios"));
    qemu.arg("-kernel")
        .arg(lab.vmlinuz(machine.release)?)
        .arg("-initrd")
        .arg(initrd);
    qemu.arg("-append").arg(match machine.release {
        Release::Linux6_1 => APPEND_6_1,
        Release::Linux6_12 => APPEND,
    });
    Ok(qemu)
}

/// Returns the folder of a machine's drives and output.
pub(super) fn folder(lab: &Lab, machine: &Machine) -> PathBuf {
    lab.dir.join("machines").join(machine.name)
}

pub(super) fn image(folder: &Path, serial: &str) -> PathBuf {
    folder.join(format!("{serial}.img"))
}

/// Returns the guest's script. It prints results to the second serial line, because the kernel writes to the first.
fn script(machine: &Machine) -> String {
    let mut script = machine.setup.to_owned();
    for cell in &machine.cells {
        let id = id(machine.name, &cell.device, cell.engine);
        script.push_str(&format!(
            "device --cell '{id}' {} > /dev/ttyS1\n",
            cell.command
        ));
    }
    script
}

fn add_drive(qemu: &mut Command, drive: &Drive, path: &Path) -> Result<(), String> {
    let failed = |why: std::io::Error| format!("{}: {why}", path.display());
    let file = File::create(path).map_err(failed)?;
    file.set_len(drive.mib << 20).map_err(failed)?;
    let (serial, shown) = (drive.serial, path.display());
    // A comma ends a value in QEMU's options, so commas are doubled.
    let shown = shown.to_string().replace(',', ",,");
    let bad = |kind: &str| {
        format!(
            "file.driver=blkdebug,file.image.driver=file,file.image.filename={shown},\
             file.inject-error.0.event=none,file.inject-error.0.iotype={kind},\
             file.inject-error.0.errno=5,file.inject-error.0.once=off,\
             file.inject-error.0.sector={}",
            BAD_BYTE / 512
        )
    };
    let below = match drive.kind {
        Kind::BadRead => bad("read"),
        Kind::BadWrite => bad("write"),
        // Flushed data must outlive the guest, not the host.
        _ => format!("file.driver=file,file.filename={shown},cache.no-flush=on"),
    };
    let below = match drive.kind {
        Kind::Slow => {
            qemu.arg("-object").arg(format!(
                r#"{{"qom-type":"throttle-group","id":"t{serial}","limits":{{"bps-read":{SLOW_BYTES}}}}}"#
            ));
            format!("driver=throttle,throttle-group=t{serial},{below}")
        }
        _ => format!("driver=raw,{below}"),
    };
    qemu.arg("-blockdev")
        .arg(format!("{below},node-name=b{serial}"));
    let block = drive.block;
    let sizes = format!("logical_block_size={block},physical_block_size={block}");
    let mdts = drive.mdts;
    if drive.kind == Kind::Placement {
        qemu.arg("-device").arg(format!(
            "nvme-subsys,id=s{serial},fdp=on,fdp.runs=96M,fdp.nrg=1,fdp.nruh=8"
        ));
        qemu.arg("-device").arg(format!(
            "nvme,id=c{serial},serial={serial},subsys=s{serial},mdts={mdts}"
        ));
        qemu.arg("-device").arg(format!(
            "nvme-ns,bus=c{serial},drive=b{serial},fdp.ruhs=0-7,{sizes}"
        ));
    } else if let Some(kind) = match drive.kind {
        Kind::Zoned => Some("zoned=on,zoned.zone_size=16M"),
        Kind::Metadata => Some("ms=16,mset=1"),
        Kind::Protected => Some("ms=8,pi=1"),
        _ => None,
    } {
        qemu.arg("-device")
            .arg(format!("nvme,id=c{serial},serial={serial},mdts={mdts}"));
        qemu.arg("-device").arg(format!(
            "nvme-ns,bus=c{serial},drive=b{serial},{kind},{sizes}"
        ));
    } else {
        qemu.arg("-device").arg(format!(
            "nvme,serial={serial},drive=b{serial},mdts={mdts},{sizes}"
        ));
    }
    Ok(())
}
