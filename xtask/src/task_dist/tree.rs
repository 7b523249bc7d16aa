//! The files of a release in the places that they have below `/usr`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const DOC: &str = "share/doc/raw-block";
const DOC_MONITORING: &str = "share/doc/raw-block/monitoring";

/// Files of the repository, and the folder that each goes to.
const FILES: [(&str, &str); 22] = [
    ("packaging/rb-check@.service", "lib/systemd/system"),
    ("packaging/raw-block.sysusers", "lib/sysusers.d"),
    ("packaging/raw-block.conf", "share/doc/raw-block/examples"),
    (
        "packaging/60-raw-block.rules",
        "share/doc/raw-block/examples",
    ),
    ("packaging/Containerfile", "share/doc/raw-block/examples"),
    ("README.md", DOC),
    ("CHANGELOG.md", DOC),
    ("LICENSE-MIT", DOC),
    ("LICENSE-APACHE", DOC),
    ("docs/operations.md", DOC),
    ("docs/sizing.md", DOC),
    ("docs/monitoring/README.md", DOC_MONITORING),
    ("docs/monitoring/logging.md", DOC_MONITORING),
    ("docs/monitoring/alerts.yml", DOC_MONITORING),
    ("docs/monitoring/alerts_test.yml", DOC_MONITORING),
    ("docs/monitoring/dashboard.json", DOC_MONITORING),
    ("docs/engines.md", DOC),
    ("docs/contract.md", DOC),
    ("docs/durability.md", DOC),
    ("docs/format.md", DOC),
    ("docs/json.md", DOC),
    ("docs/glossary.md", DOC),
];

/// Files whose name differs in its place.
const NAMES: [(&str, &str); 1] = [("raw-block.sysusers", "raw-block.conf")];

/// Completions, and the folder in which each shell looks for them.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash/rb", "share/bash-completion/completions"),
    ("zsh/_rb", "share/zsh/vendor-completions"),
    ("fish/rb.fish", "share/fish/vendor_completions.d"),
];

/// Copies the program, the pages and the files of the repository.
pub(super) fn lay_out(program: &Path, pages: &Path, tree: &Path) -> Result<(), String> {
    copy(program, &tree.join("bin"), 0o755)?;
    let man = pages.join("man");
    let entries = fs::read_dir(&man).map_err(|why| format!("{}: {why}", man.display()))?;
    for entry in entries {
        let path = entry.map_err(|why| why.to_string())?.path();
        copy(&path, &tree.join("share/man/man1"), 0o644)?;
    }
    for (file, folder) in COMPLETIONS {
        let path = pages.join("completions").join(file);
        copy(&path, &tree.join(folder), 0o644)?;
    }
    for (file, folder) in FILES {
        copy(Path::new(file), &tree.join(folder), 0o644)?;
    }
    Ok(())
}

fn copy(from: &Path, folder: &Path, mode: u32) -> Result<(), String> {
    let name = from.file_name().unwrap_or_default();
    let placed = NAMES.iter().find(|(source, _)| name == *source);
    let to = folder.join(placed.map_or(name, |(_, name)| name.as_ref()));
    let copied = fs::create_dir_all(folder)
        .and_then(|()| fs::copy(from, &to))
        .and_then(|_| fs::set_permissions(&to, fs::Permissions::from_mode(mode)));
    copied.map_err(|why| format!("{} to {}: {why}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

    fn read(path: &str) -> String {
        let path = format!("{ROOT}/{path}");
        fs::read_to_string(&path).unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    #[test]
    fn every_sample_is_shipped_and_every_file_exists() {
        for (file, _) in FILES {
            assert!(!read(file).is_empty(), "{file}");
        }
        for entry in fs::read_dir(format!("{ROOT}/packaging")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let shipped = FILES
                .iter()
                .any(|(file, _)| file.strip_prefix("packaging/") == Some(name));
            assert!(shipped || path.is_dir(), "{name} is in no package");
        }
    }

    /// The program of lrzsz has the same path, and dpkg refuses two packages with one file.
    #[test]
    fn the_debian_package_takes_the_tree_and_excludes_lrzsz() {
        let manifest: toml::Value = toml::from_str(&read("crates/rb-cli/Cargo.toml")).unwrap();
        let deb = &manifest["package"]["metadata"]["deb"];
        assert_eq!(deb["conflicts"].as_str(), Some("lrzsz"));
        let assets = deb["assets"].as_array().unwrap();
        let from = |at: usize| assets[at][0].as_str().unwrap();
        for (at, part) in ["bin/rb", "lib/**/*", "share/**/*"].into_iter().enumerate() {
            assert_eq!(from(at), format!("../../target/dist/tree/{part}"));
        }
        assert_eq!(assets.len(), 3);
    }

    /// Names that one sample uses and another defines.
    #[test]
    fn samples_agree_on_units_groups_and_limits() {
        let unit = read("packaging/rb-check@.service");
        let drop_in = read("packaging/raw-block.conf");
        let rules = read("packaging/60-raw-block.rules");
        assert!(unit.contains("ExecStart=/usr/bin/rb fsck --json %f\n"));
        assert!(unit.contains("RemainAfterExit=yes"));
        for line in [
            "Wants=rb-check@dev-nvme1n1.service",
            "LimitMEMLOCK=infinity",
        ] {
            assert!(drop_in.lines().any(|found| found == line), "{line}");
        }
        assert!(drop_in.contains("DeviceAllow=/dev/nvme1n1 rw\n"));
        assert!(drop_in.contains("SupplementaryGroups=raw-block\n"));
        let rules: Vec<&str> = rules
            .lines()
            .filter(|line| line.starts_with("SUB"))
            .collect();
        assert_eq!(rules.len(), 2, "{rules:?}");
        for rule in rules {
            assert!(
                rule.contains("GROUP=\"raw-block\", MODE=\"0660\""),
                "{rule}"
            );
        }
        assert!(read("packaging/raw-block.sysusers").contains("\ng raw-block -\n"));
    }
}
