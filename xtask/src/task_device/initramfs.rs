//! Builds the guest's whole system: a static busybox, the modules, the program under test, and two tools with their
//! libraries, in an archive that the kernel unpacks into memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::fetch::{LOADER, Lab, Release, output};
use super::matrix::Machine;

/// Modules to load, each after those it needs.
const MODULES: [&str; 11] = [
    "nvme",
    "nvme_tcp",
    "nvmet",
    "nvmet_tcp",
    "dm_flakey",
    "dm_log_writes",
    "loop",
    "configfs",
    "sd_mod",
    "target_core_mod",
    "tcm_loop",
];

/// Programs of the packages that are included.
const TOOLS: [&str; 2] = ["usr/sbin/nvme", "sbin/dmsetup"];

/// Additional modules of machines with release builds. The file system requests the checksum by name at mount time, so
/// no dependency lists its module.
const SHIPPED_MODULES: [&str; 2] = ["crc32c_generic", "ext4"];
const SHIPPED_TOOLS: [&str; 1] = ["usr/bin/fio"];

const REGULAR: u32 = 0o100_755;
const FOLDER: u32 = 0o040_755;

/// Makes the archive for a machine; `script` runs when all modules are loaded, and then the guest is switched off.
pub(super) fn make(
    lab: &Lab,
    machine: &Machine,
    programs: &[PathBuf],
    script: &str,
) -> Result<Vec<u8>, String> {
    let mut archive = Archive::default();
    for folder in [
        "bin", "proc", "sys", "dev", "tmp", "lib", "lib64", "modules", "run",
    ] {
        archive.add(folder, FOLDER, &[]);
    }
    let root = lab.dir.join("root");
    archive.add("bin/busybox", REGULAR, &read(&root.join("bin/busybox"))?);
    for program in programs {
        archive.add_into("bin", program)?;
    }
    let (mut tools, mut wanted) = (TOOLS.to_vec(), MODULES.to_vec());
    if machine.shipped {
        tools.extend(SHIPPED_TOOLS);
        wanted.extend(SHIPPED_MODULES);
    }
    let mut libraries = BTreeSet::new();
    for tool in tools {
        archive.add_into("bin", &root.join(tool))?;
        libraries.extend(lab.libraries(tool)?);
    }
    for library in libraries {
        archive.add_into("lib", &library)?;
    }
    archive.add(
        "lib64/ld-linux-x86-64.so.2",
        REGULAR,
        &read(&root.join(LOADER))?,
    );
    let mut load = String::new();
    for (name, bytes) in modules(lab, machine.release, &wanted)? {
        archive.add(&format!("modules/{name}.ko"), REGULAR, &bytes);
        load.push_str(&format!("insmod /modules/{name}.ko\n"));
    }
    let init = format!(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin LD_LIBRARY_PATH=/lib DM_DISABLE_UDEV=1\n\
         mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp\n\
         ip link set lo up\n\
         {load}\
         mount -t configfs config /sys/kernel/config\n\
         sh /script\n\
         poweroff -f\n"
    );
    archive.add("init", REGULAR, init.as_bytes());
    archive.add("script", REGULAR, script.as_bytes());
    Ok(archive.finish())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|why| format!("{}: {why}", path.display()))
}

/// Returns the modules in load order. A module that is built into the kernel has no file.
fn modules(lab: &Lab, release: Release, wanted: &[&str]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut files = BTreeMap::new();
    find(&lab.kernel(release).join("lib/modules"), &mut files)?;
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for name in wanted {
        load(lab, &files, name, &mut seen, &mut order)?;
    }
    Ok(order)
}

fn load(
    lab: &Lab,
    files: &BTreeMap<String, PathBuf>,
    name: &str,
    seen: &mut BTreeSet<String>,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), String> {
    let Some(file) = files.get(name).filter(|_| seen.insert(name.to_owned())) else {
        return Ok(());
    };
    let bytes = match file.extension().is_some_and(|ext| ext == "xz") {
        true => unpacked(lab, file)?,
        false => read(file)?,
    };
    for needed in needs(&bytes) {
        load(lab, files, &needed, seen, order)?;
    }
    order.push((name.to_owned(), bytes));
    Ok(())
}

/// Unpacks a module here, because the kernel's own unpacker supports only some of the xz formats.
fn unpacked(lab: &Lab, file: &Path) -> Result<Vec<u8>, String> {
    let plain = file.with_extension("");
    if !plain.exists() {
        let busybox = lab.dir.join("root/bin/busybox");
        output(
            std::process::Command::new(busybox)
                .arg("unxz")
                .arg("-k")
                .arg(file),
        )?;
    }
    read(&plain)
}

/// Returns the modules that a module depends on: the string `depends=a,b` in its section `.modinfo`.
fn needs(module: &[u8]) -> Vec<String> {
    const MARK: &[u8] = b"depends=";
    let mut strings = module.split(|byte| !(b' '..=b'~').contains(byte));
    let names = strings.find_map(|string| string.strip_prefix(MARK));
    let names = String::from_utf8_lossy(names.unwrap_or_default());
    let names = names.split(',').filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}

/// Collects all modules below a folder, by the kernel's name of each.
fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&path, files)?;
        } else if let Some((name, "ko" | "ko.xz")) =
            entry.file_name().to_string_lossy().split_once('.')
        {
            // The packed file, if both exist.
            let packed = path.extension().is_some_and(|ext| ext == "xz");
            let name = name.replace('-', "_");
            if packed || !files.contains_key(&name) {
                files.insert(name, path);
            }
        }
    }
    Ok(())
}

/// The "newc" form of cpio (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

impl Archive {
    /// Adds a program or a library under its own name.
    fn add_into(&mut self, folder: &str, file: &Path) -> Result<(), String> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        self.add(&format!("{folder}/{name}"), REGULAR, &read(file)?);
        Ok(())
    }

    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.files += 1;
        let links = 1;
        let sizes = [content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        self.bytes.extend(b"070701");
        for number in [self.files, mode, 0, 0, links, 0] {
            self.bytes.extend(format!("{number:08x}").bytes());
        }
        for number in sizes {
            self.bytes.extend(format!("{number:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
