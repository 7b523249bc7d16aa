//! A clean Debian in a folder, and commands in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{checked, program_with};

/// Packages in addition to the smallest system: what shows pages and completions, and what runs units.
const PACKAGES: &str = "bash-completion,dbus,man-db,systemd,systemd-sysv";

pub(super) struct Root {
    dir: PathBuf,
}

impl Root {
    /// Makes the system from the archive and the release that this machine's packages come from.
    ///
    /// # Errors
    /// If this is not root, without debootstrap or systemd-nspawn, without a Debian archive among the sources, or without
    /// a network.
    pub(super) fn make(dir: &Path) -> Result<Root, String> {
        if checked(Command::new("id").arg("-u"))?.trim() != "0" {
            return Err("only root can make a clean Debian and run units in it".into());
        }
        let format = "$(REPO_URI) $(CODENAME) $(COMPONENT)";
        let list = ["indextargets", "--format", format, "Created-By: Packages"];
        let sources = checked(Command::new("apt-get").args(list))?;
        let (archive, release) = archive(&sources)
            .ok_or("the package sources of this machine name no Debian archive with main")?;
        let root = Root {
            dir: dir.to_owned(),
        };
        root.remove()?;
        fs::create_dir_all(dir).map_err(|why| format!("{}: {why}", dir.display()))?;
        let include = format!("--include={PACKAGES}");
        let folder = dir.to_string_lossy();
        let args = ["--variant=minbase", &include, release, &folder, archive];
        program_with("debootstrap", "debootstrap", &args, &[]).map_err(|why| {
            format!("{why}; it needs Debian's packages debootstrap and systemd-container")
        })?;
        Ok(root)
    }

    /// Copies a file to the top folder of the system.
    pub(super) fn copy(&self, from: &Path, name: &str) -> Result<(), String> {
        let to = self.dir.join(name);
        let copied = fs::copy(from, &to).map(drop);
        copied.map_err(|why| format!("{} to {}: {why}", from.display(), to.display()))
    }

    /// Writes a file of the system.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.dir.join(name);
        fs::write(&path, text).map_err(|why| format!("{}: {why}", path.display()))
    }

    pub(super) fn read(&self, name: &str) -> Result<String, String> {
        let path = self.dir.join(name);
        fs::read_to_string(&path).map_err(|why| format!("{}: {why}", path.display()))
    }

    /// Runs a shell script in the system, without booting it. Returns both its outputs.
    pub(super) fn shell(&self, script: &str) -> Result<String, String> {
        let script = format!("exec 2>&1\n{script}");
        let mut command = self.container();
        checked(command.args(["--pipe", "/bin/sh", "-ec", &script]))
    }

    /// Boots the system. Returns when it has powered itself off.
    pub(super) fn boot(&self) -> Result<(), String> {
        checked(self.container().arg("--boot")).map(drop)
    }

    pub(super) fn remove(&self) -> Result<(), String> {
        match fs::remove_dir_all(&self.dir) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("{}: {why}", self.dir.display()))
            }
            _ => Ok(()),
        }
    }

    fn container(&self) -> Command {
        // A step that hangs, or a system that does not power itself off.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", "300", "systemd-nspawn"]);
        command.args(["--quiet", "--register=no", "--directory"]);
        command.arg(&self.dir);
        // Without systemd on this machine there is nothing that could make a unit for the container.
        if !Path::new("/run/systemd/system").exists() {
            command.arg("--keep-unit");
        }
        command
    }
}

/// Finds the archive and the release in lines of URI, code name and component. Security updates and such have a suffix and
/// are no whole system.
fn archive(sources: &str) -> Option<(&str, &str)> {
    sources.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (uri, name, component) = (words.next()?, words.next()?, words.next()?);
        let is_whole = component == "main" && !name.is_empty() && !name.contains('-');
        is_whole.then_some((uri, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_the_one_of_a_whole_release() {
        let sources = "http://a.invalid/security/ trixie-security main\n\
                       http://a.invalid/debian/ trixie-updates main\n\
                       http://a.invalid/debian/ trixie contrib\n\
                       http://a.invalid/debian/ trixie main\n";
        let found = Some(("http://a.invalid/debian/", "trixie"));
        assert_eq!(archive(sources), found);
        assert_eq!(archive("http://a.invalid/x/  main\n\n"), None);
    }
}
