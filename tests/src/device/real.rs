//! Runs the suite on real hardware. Everything on the device is lost, so the user must type the serial number.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rb_core::EngineKind;
use rb_io::{Access, Device};

use super::cell::Cell;
use super::cross::cross;
use super::suite::suite;
use super::target::Target;
use crate::tally::words;

/// Prints what the device is, asks for its serial number unless `serial` matches, and runs the suite with each engine
/// that supports its node, each as a cell `NAME/ENGINE`. Returns whether all tests passed.
///
/// # Errors
/// If the device is in use, or the serial number does not match.
pub fn real(
    name: &str,
    path: &Path,
    serial: Option<&str>,
    engines: &[EngineKind],
) -> Result<bool, String> {
    // Mounted or otherwise used devices are refused here, before the prompt.
    let device = Device::open(path, Access::ReadLocked).map_err(|why| words(&why))?;
    let bytes = device.capacity_bytes();
    let foreign = device.signature().map_err(|why| words(&why))?;
    drop(device);
    let about = About::of(path)?;
    let mut err = std::io::stderr();
    let mut show = |text: String| drop(writeln!(err, "{text}"));
    show(format!("device  {}", path.display()));
    show(format!("model   {}", about.model));
    show(format!("serial  {}", about.serial));
    show(format!("size    {bytes} bytes"));
    if let Some(foreign) = foreign {
        show(format!(
            "content {} at byte {}",
            foreign.name, foreign.offset
        ));
    }
    let answer = match serial {
        Some(serial) => serial.to_owned(),
        None => {
            show(
                "Everything on it will be overwritten. Type its serial number to continue:".into(),
            );
            let mut line = String::new();
            std::io::stdin()
                .read_line(&mut line)
                .map_err(|why| why.to_string())?;
            line
        }
    };
    if answer.trim() != about.serial {
        return Err(format!(
            "the serial number of {} is {:?}, not {:?}: nothing was written",
            path.display(),
            about.serial,
            answer.trim()
        ));
    }
    let targets: Vec<Target> = engines
        .iter()
        .map(|&engine| Target {
            engine,
            path: path.into(),
        })
        .collect();
    let mut good = true;
    for target in &targets {
        let mut cell = Cell::new(&format!("{name}/{}", target.engine));
        suite(&mut cell, target);
        good &= cell.end();
    }
    let mut cell = Cell::new(&format!("{name}/cross"));
    cross(&mut cell, &targets);
    Ok(good & cell.end())
}

struct About {
    model: String,
    serial: String,
}

impl About {
    /// Reads sysfs for the drive behind a block node, partition or NVMe character node.
    fn of(path: &Path) -> Result<About, String> {
        let found = fs::metadata(path).map_err(|why| format!("{}: {why}", path.display()))?;
        let number = |number: u64| {
            // The kernel's dev_t as user space sees it (makedev(3)).
            let major = number >> 8 & 0xfff | number >> 32 & 0xffff_f000;
            let minor = number & 0xff | number >> 12 & 0xffff_ff00;
            format!("{major}:{minor}")
        };
        let number = number(found.rdev());
        let folders =
            ["block", "char"].map(|kind| PathBuf::from(format!("/sys/dev/{kind}/{number}")));
        let read = |name: &str| {
            // The namespace, its controller, and for a partition the same of its drive; a virtual
            // drive has the attributes itself.
            let places = ["device", ".", "../device", ".."];
            let mut files = folders
                .iter()
                .flat_map(|folder| places.map(|place| folder.join(place).join(name)));
            let text = files.find_map(|file| fs::read_to_string(file).ok());
            text.map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty())
        };
        let serial = read("serial").ok_or_else(|| {
            format!(
                "{} has no serial number that could be asked for",
                path.display()
            )
        })?;
        Ok(About {
            model: read("model").unwrap_or_else(|| "unknown".into()),
            serial,
        })
    }
}
