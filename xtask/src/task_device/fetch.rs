//! Fetches the parts of the machines: QEMU, kernels and a few tools, from packages of the machine's own Debian archive,
//! unpacked below `target/device-lab` and not installed.
//!
//! Dependencies are resolved as if nothing were installed, so that the tools come with all their libraries and run on
//! any host.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release that has the tools and the older kernel; its backports have the newer ones.
const SUITE: &str = "bookworm";
const BACKPORTS: &str = "bookworm-backports";

/// Packages whose version in the release is new enough: the guest's tools.
const FROM_RELEASE: [&str; 4] = ["busybox-static", "nvme-cli", "dmsetup", "fio"];
/// QEMU 10 supports placement handles. Listed with all packages that must be of the same version.
const FROM_BACKPORTS: [&str; 5] = [
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "qemu-utils",
    "seabios",
];

/// Debian's library folders, below the root of the unpacked packages.
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
pub(super) const LOADER: &str = "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";

/// The kernels of the matrix, and the suite of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Release {
    Linux6_1,
    Linux6_12,
}

impl Release {
    const ALL: [Release; 2] = [Release::Linux6_1, Release::Linux6_12];

    pub(super) fn name(self) -> &'static str {
        match self {
            Release::Linux6_1 => "6.1",
            Release::Linux6_12 => "6.12",
        }
    }
}

/// The unpacked packages.
pub(super) struct Lab {
    pub(super) dir: PathBuf,
}

impl Lab {
    /// Fetches and unpacks everything that is missing.
    ///
    /// # Errors
    /// If there are no package tools, no Debian archive among the machine's sources, or no network.
    pub(super) fn fetch(dir: &Path) -> Result<Lab, String> {
        fs::create_dir_all(dir).map_err(|why| format!("{}: {why}", dir.display()))?;
        let dir = fs::canonicalize(dir).map_err(|why| format!("{}: {why}", dir.display()))?;
        let lab = Lab { dir };
        // Names what was fetched, so that a changed list is fetched again.
        let wanted = format!(
            "{SUITE} {FROM_RELEASE:?} {FROM_BACKPORTS:?} {:?}",
            Release::ALL
        );
        let stamp = lab.dir.join("fetched");
        if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
            return Ok(lab);
        }
        eprintln!("== fetching QEMU and kernels into {}", lab.dir.display());
        for folder in ["apt/lists/partial", "apt/cache/archives/partial", "debs"] {
            lab.make(folder)?;
        }
        let source = source_line()?;
        let sources = format!("{}\n{}\n", source(SUITE), source(BACKPORTS));
        lab.write("apt/sources.list", &sources)?;
        lab.write("apt/status", "")?;
        lab.apt("apt-get", &["update", "-qq"])?;
        let mut install = vec![
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
            "--download-only",
        ];
        let newer = FROM_BACKPORTS.map(|name| format!("{name}/{BACKPORTS}"));
        install.extend(FROM_RELEASE);
        install.extend(newer.iter().map(String::as_str));
        lab.apt("apt-get", &install)?;
        lab.unpack(&lab.dir.join("apt/cache/archives"), "root")?;
        for release in Release::ALL {
            let package = lab.kernel_package(release)?;
            lab.apt("apt-get", &["download", "-qq", &package])?;
            lab.unpack(&lab.dir.join("debs"), &kernel_folder(release))?;
        }
        lab.write("fetched", &wanted)?;
        Ok(lab)
    }

    /// Returns a command that runs a program of the packages on the host with its own libraries.
    pub(super) fn tool(&self, program: &str) -> Command {
        let root = self.dir.join("root");
        let libraries = LIBRARIES.map(|folder| root.join(folder).display().to_string());
        let mut command = Command::new(root.join(LOADER));
        command.arg("--library-path").arg(libraries.join(":"));
        command.arg(root.join(program));
        command.env("QEMU_MODULE_DIR", root.join(LIBRARIES[1]).join("qemu"));
        command
    }

    /// Returns the libraries that a program of the packages needs.
    pub(super) fn libraries(&self, program: &str) -> Result<Vec<PathBuf>, String> {
        let tool = self.tool(program);
        // The loader's own option comes before the program.
        let mut list = Command::new(tool.get_program());
        let listed = output(list.arg("--list").args(tool.get_args()))?;
        let path = |line: &str| Some(PathBuf::from(line.split_once("=> ")?.1.split(' ').next()?));
        Ok(listed.lines().filter_map(path).collect())
    }

    pub(super) fn kernel(&self, release: Release) -> PathBuf {
        self.dir.join(kernel_folder(release))
    }

    /// Returns the path of the kernel's image.
    pub(super) fn vmlinuz(&self, release: Release) -> Result<PathBuf, String> {
        let boot = self.kernel(release).join("boot");
        let entries = fs::read_dir(&boot).map_err(|why| format!("{}: {why}", boot.display()))?;
        let mut paths = entries.flatten().map(|entry| entry.path());
        let image = paths.find(|path| path.to_string_lossy().contains("vmlinuz-"));
        image.ok_or_else(|| format!("{} has no kernel", boot.display()))
    }

    /// Returns the newest package of a kernel's plain build.
    fn kernel_package(&self, release: Release) -> Result<String, String> {
        let start = format!("linux-image-{}.", release.name());
        let names = self.apt("apt-cache", &["pkgnames", &start])?;
        let plain = |name: &&str| {
            let variants = ["cloud", "rt-", "dbg", "unsigned"];
            name.ends_with("-amd64") && !variants.iter().any(|variant| name.contains(variant))
        };
        // Compared as numbers: 50 comes after 9.
        let numbers = |name: &str| -> Vec<u32> {
            name.split(|c: char| !c.is_ascii_digit())
                .filter_map(|n| n.parse().ok())
                .collect()
        };
        let newest = names.lines().filter(plain).max_by_key(|name| numbers(name));
        newest
            .map(str::to_owned)
            .ok_or_else(|| format!("the archive has no kernel package {start}*-amd64"))
    }

    /// Runs a package tool with folders of the lab.
    fn apt(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let own = |name: &str| self.dir.join("apt").join(name).display().to_string();
        let options = [
            format!("Dir::Etc::sourcelist={}", own("sources.list")),
            "Dir::Etc::sourceparts=/nonexistent".into(),
            format!("Dir::State={}", own("")),
            format!("Dir::State::lists={}", own("lists")),
            format!("Dir::State::status={}", own("status")),
            format!("Dir::Cache={}", own("cache")),
            // The archives belong to the user who runs this, not to the package tool's own user.
            "APT::Sandbox::User=".into(),
            "Acquire::Retries=3".into(),
        ];
        let mut command = Command::new(program);
        command.current_dir(self.dir.join("debs"));
        for option in &options {
            command.args(["-o", option]);
        }
        output(command.args(args))
    }

    /// Unpacks all packages of a folder, and removes them.
    fn unpack(&self, from: &Path, into: &str) -> Result<(), String> {
        self.make(into)?;
        let entries = fs::read_dir(from).map_err(|why| format!("{}: {why}", from.display()))?;
        let packages = entries.flatten().map(|entry| entry.path());
        for package in packages.filter(|path| path.extension() == Some(OsStr::new("deb"))) {
            let mut unpack = Command::new("dpkg-deb");
            output(unpack.arg("-x").arg(&package).arg(self.dir.join(into)))?;
            fs::remove_file(&package).map_err(|why| format!("{}: {why}", package.display()))?;
        }
        Ok(())
    }

    fn make(&self, folder: &str) -> Result<(), String> {
        let path = self.dir.join(folder);
        fs::create_dir_all(&path).map_err(|why| format!("{}: {why}", path.display()))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.dir.join(name);
        fs::write(&path, text).map_err(|why| format!("{}: {why}", path.display()))
    }
}

fn kernel_folder(release: Release) -> String {
    format!("linux-{}", release.name())
}

/// Runs a command and returns its output; its error output becomes the error.
pub(super) fn output(command: &mut Command) -> Result<String, String> {
    let shown = || {
        let args: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        format!(
            "{} {}",
            command.get_program().to_string_lossy(),
            args.join(" ")
        )
    };
    let shown = shown();
    let output = command.output().map_err(|why| format!("{shown}: {why}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{shown}: {}: {}", output.status, said.trim()))
        }
    }
}

/// Finds the machine's own Debian archive, and returns a function that makes a source line for any suite.
fn source_line() -> Result<impl Fn(&str) -> String, String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let more = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .flatten();
    files.extend(more.map(|entry| entry.path()));
    let found = files
        .iter()
        .find_map(|file| archive_in(&fs::read_to_string(file).ok()?));
    let (uri, key) = found.ok_or_else(|| {
        format!(
            "no source in /etc/apt names a Debian archive with {SUITE}: packages cannot be fetched"
        )
    })?;
    let key = key
        .map(|key| format!("[signed-by={key}] "))
        .unwrap_or_default();
    Ok(move |suite: &str| format!("deb {key}{uri} {suite} main"))
}

/// Finds the address and key of the archive that has our release, in either format of sources (sources.list(5)).
fn archive_in(text: &str) -> Option<(String, Option<String>)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    for line in lines.clone().filter(|line| line.starts_with("deb ")) {
        let (options, rest) = match line[4..].trim().strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", &line[4..]),
        };
        let mut words = rest.split_whitespace();
        if let (Some(uri), Some(SUITE)) = (words.next(), words.next()) {
            let mut options = options.split_whitespace();
            let key = options.find_map(|option| option.strip_prefix("signed-by="));
            return Some((uri.to_owned(), key.map(str::to_owned)));
        }
    }
    let joined: Vec<&str> = lines.collect();
    for stanza in joined.join("\n").split("\n\n") {
        let field = |name: &str| {
            let mut lines = stanza.lines();
            lines
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let has_suite = field("Suites:").is_some_and(|all| all.split(' ').any(|one| one == SUITE));
        if has_suite {
            let uri = field("URIs:")?.split(' ').next()?;
            return Some((uri.to_owned(), field("Signed-By:").map(str::to_owned)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::archive_in;

    #[test]
    fn both_forms_of_sources_are_read() {
        let key = Some("/k.gpg".to_owned());
        let new = "# a copy\nTypes: deb\nURIs: http://a/security\nSuites: bookworm-security\n\n\
                   Types: deb\n# old\nURIs: http://a/debian\nSuites: bookworm bookworm-updates\nSigned-By: /k.gpg\n";
        assert_eq!(
            archive_in(new),
            Some(("http://a/debian".into(), key.clone()))
        );
        let old = "deb http://a/x sid main\ndeb [arch=amd64 signed-by=/k.gpg] http://a/debian bookworm main\n";
        assert_eq!(archive_in(old), Some(("http://a/debian".into(), key)));
        assert_eq!(
            archive_in("deb http://a/debian bookworm main"),
            Some(("http://a/debian".into(), None))
        );
        assert_eq!(archive_in("deb http://a/debian stretch main\n"), None);
    }
}
