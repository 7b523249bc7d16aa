//! Runs the cells that need no machine: loop devices, a vhost-user disk, and the replay of records.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::fetch::{Lab, output};
use super::machine;
use super::matrix::{Cell, Machine};
use super::results::{Results, id};
use crate::run::wait;

pub(super) const MACHINE: &str = "host";

const MIB: u64 = 256;
/// A program that takes longer has hung.
const TIME: Duration = Duration::from_mins(10);

/// Block sizes of the loop devices.
const LOOPS: [u32; 2] = [512, 4096];
const ENGINES: [&str; 2] = ["posix", "io_uring"];
const VHOST: (&str, &str) = ("vhost-user-blk", "libblkio");

/// Adds the cells of the host.
pub(super) fn expect(results: &mut Results) {
    for block in LOOPS {
        let engines = ENGINES.iter().chain(&["cross"]);
        engines.for_each(|engine| results.expect(MACHINE, &loop_name(block), engine, 1));
    }
    results.expect(MACHINE, VHOST.0, VHOST.1, 1);
}

/// Runs the cells of the host.
pub(super) fn run(lab: &Lab, program: &Path, results: &mut Results) -> Result<(), String> {
    let folder = lab.dir.join("machines").join(MACHINE);
    fs::create_dir_all(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    eprintln!("== loop devices and a vhost-user disk");
    let start = Instant::now();
    for block in LOOPS {
        loops(program, &folder, block, results)?;
    }
    vhost(lab, program, &folder, results)?;
    eprintln!("== {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn loop_name(block: u32) -> String {
    format!("loop {block}")
}

fn loops(program: &Path, folder: &Path, block: u32, results: &mut Results) -> Result<(), String> {
    let name = loop_name(block);
    let image = image(folder, &format!("loop-{block}"))?;
    let cells = || ENGINES.iter().chain(&["cross"]);
    let attached = match Loop::attach(&image, block) {
        Ok(attached) => attached,
        Err(why) => {
            let why = format!("no loop device can be set up here: {why}");
            cells().for_each(|engine| results.skip(&id(MACHINE, &name, engine), &why));
            return Ok(());
        }
    };
    let device = attached.0.as_str();
    for engine in ENGINES {
        run_cell(
            program,
            &id(MACHINE, &name, engine),
            &["suite", engine, device],
            results,
        )?;
    }
    let both = ENGINES.map(|engine| format!("{engine}={device}"));
    let cross = id(MACHINE, &name, "cross");
    run_cell(program, &cross, &["cross", &both[0], &both[1]], results)
}

/// A loop device; dropping it detaches it.
struct Loop(String);

impl Loop {
    fn attach(image: &Path, block: u32) -> Result<Loop, String> {
        let mut attach = Command::new("losetup");
        attach.args([
            "--find",
            "--show",
            "--direct-io=on",
            "--sector-size",
            &block.to_string(),
        ]);
        let device = output(attach.arg(image))?;
        Ok(Loop(device.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // The device stays until its last user closes it.
        drop(output(Command::new("losetup").args(["-d", &self.0])));
    }
}

/// A disk served by QEMU's storage daemon; dropping it ends the daemon.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn vhost(lab: &Lab, program: &Path, folder: &Path, results: &mut Results) -> Result<(), String> {
    let image = image(folder, "vhost")?;
    let socket = folder.join("vhost.sock");
    drop(fs::remove_file(&socket));
    let mut command = lab.tool("usr/bin/qemu-storage-daemon");
    let file = format!("driver=file,node-name=f,filename={}", image.display());
    let export = format!(
        "type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path={},writable=on",
        socket.display()
    );
    command.args(["--blockdev", &file, "--export", &export]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let daemon = Daemon(child.map_err(|why| format!("qemu-storage-daemon: {why}"))?);
    let start = Instant::now();
    while !socket.exists() && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (device, engine) = VHOST;
    let node = socket.display().to_string();
    run_cell(
        program,
        &id(MACHINE, device, engine),
        &["suite", engine, &node],
        results,
    )?;
    drop(daemon);
    Ok(())
}

/// Replays a record that a machine left.
pub(super) fn replay(
    lab: &Lab,
    program: &Path,
    (machine, cell): (&Machine, &Cell),
    points: u32,
    results: &mut Results,
) -> Result<(), String> {
    let Some(after) = cell.after else {
        return Ok(());
    };
    let log = machine::image(&machine::folder(lab, machine), after.log);
    let log = log.display().to_string();
    let (capacity, points) = ((after.data_mib << 20).to_string(), points.to_string());
    let words = [
        "log-replay",
        &log,
        "--capacity",
        &capacity,
        "--points",
        &points,
    ];
    run_cell(
        program,
        &id(machine.name, &cell.device, cell.engine),
        &words,
        results,
    )
}

/// Runs the program for a cell and records its output.
fn run_cell(
    program: &Path,
    cell: &str,
    words: &[&str],
    results: &mut Results,
) -> Result<(), String> {
    use std::os::unix::process::CommandExt;
    let failed = |why: std::io::Error| format!("{}: {why}", program.display());
    let said = program.with_file_name("device-said.txt");
    let file = File::create(&said).map_err(failed)?;
    let mut command = Command::new(program);
    command
        .args(["--cell", cell])
        .args(words)
        .stdin(Stdio::null());
    let mut child = command
        .stdout(file)
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    wait(&mut child, TIME).map_err(failed)?;
    let text = fs::read(&said).map_err(failed)?;
    results.take(&String::from_utf8_lossy(&text));
    Ok(())
}

fn image(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let path = folder.join(format!("{name}.img"));
    let made = File::create(&path).and_then(|file| file.set_len(MIB << 20));
    made.map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(path)
}
