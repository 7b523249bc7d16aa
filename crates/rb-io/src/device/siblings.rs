//! Finds the block node of an NVMe namespace from its character node, and vice versa.
//!
//! Both appear below the same directory in sysfs (the controller's or, with native multipathing,
//! the subsystem's), and both end in `nH`, where H is the number of the namespace head. The prefix
//! may differ: `ng1n2` can be the sibling of `nvme0n2`. The hidden nodes of single paths
//! (`nvme0c1n2`) have no device number.

use std::fs;
use std::path::{Path, PathBuf};

/// A node as described by sysfs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Node {
    pub(super) fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    pub(super) fn number(&self) -> u64 {
        rustix::fs::makedev(self.major, self.minor)
    }
}

/// Returns whether the character device `number` is an NVMe namespace.
pub(super) fn is_namespace(number: u64) -> bool {
    directory("char", number).is_some_and(|own| class(&own).as_deref() == Some("nvme-generic"))
}

/// Returns the block node of character device `number`.
pub(super) fn block_node(number: u64) -> Option<Node> {
    sibling(&directory("char", number)?, "ng", "nvme", "block")
}

/// Returns the character node of block device `number`, if that is an NVMe namespace.
pub(super) fn char_node(number: u64) -> Option<Node> {
    sibling(&directory("block", number)?, "nvme", "ng", "nvme-generic")
}

fn directory(kind: &str, number: u64) -> Option<PathBuf> {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    fs::canonicalize(format!("/sys/dev/{kind}/{major}:{minor}")).ok()
}

fn sibling(own: &Path, prefix: &str, other: &str, wanted: &str) -> Option<Node> {
    let name = own.file_name()?.to_str()?;
    let head = head_number(name, prefix)?;
    let entries = fs::read_dir(own.parent()?).ok()?.flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| class(path).as_deref() == Some(wanted))
        .find_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            (head_number(&name, other)? == head).then_some(())?;
            let numbers = fs::read_to_string(path.join("dev")).ok()?;
            let (major, minor) = numbers.trim().split_once(':')?;
            let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
            Some(Node { name, major, minor })
        })
}

/// Returns H of `<prefix>CnH`, where C and H are numbers.
fn head_number<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let (instance, head) = name.strip_prefix(prefix)?.split_once('n')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (number(instance) && number(head)).then_some(head)
}

fn class(directory: &Path) -> Option<String> {
    let link = fs::read_link(directory.join("subsystem")).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sysfs directory as a kernel with multipathing presents it: the subsystem's number differs
    /// from the controller's, one path is hidden, and there are a second namespace and a partition.
    #[test]
    fn siblings_are_found_by_directory_and_head() {
        let root = tempfile::tempdir().unwrap();
        let node = |name: &str, class: &str, number: Option<&str>| {
            let path = root.path().join(name);
            fs::create_dir(&path).unwrap();
            let link = format!("../../../class/{class}");
            std::os::unix::fs::symlink(link, path.join("subsystem")).unwrap();
            if let Some(number) = number {
                fs::write(path.join("dev"), format!("{number}\n")).unwrap();
            }
            path
        };
        node("hwmon0", "hwmon", None);
        node("nvme1c0n2", "block", None);
        node("nvme1n1", "block", Some("259:0"));
        let block = node("nvme1n2", "block", Some("259:1"));
        node("ng0n1", "nvme-generic", Some("241:0"));
        let generic = node("ng0n2", "nvme-generic", Some("241:1"));
        let found = sibling(&generic, "ng", "nvme", "block").unwrap();
        let expected = ("nvme1n2", 259, 1);
        assert_eq!((found.name.as_str(), found.major, found.minor), expected);
        let found = sibling(&block, "nvme", "ng", "nvme-generic").unwrap();
        assert_eq!((found.name.as_str(), found.minor), ("ng0n2", 1));
        fs::remove_file(block.join("dev")).unwrap();
        assert_eq!(sibling(&generic, "ng", "nvme", "block"), None);
        assert_eq!(head_number("nvme0n1p1", "nvme"), None);
        assert_eq!(head_number("nvme0c0n1", "nvme"), None);
        assert_eq!(head_number("loop0", "nvme"), None);
    }
}
