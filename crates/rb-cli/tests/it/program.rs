//! Runs `rb` and examines its output.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Result of a run of `rb`.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stdout = String::from_utf8_lossy(&self.stdout);
        write!(
            f,
            "exit code {:?}; stdout: {stdout}; stderr: {}",
            self.code, self.stderr
        )
    }
}

impl Ran {
    /// Runs a command with standard input.
    pub(crate) fn of(command: &mut Command, input: &[u8]) -> Ran {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // The program may end before it has read all of it.
        drop(stdin.write_all(input));
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        Ran {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Expects success. Returns the output as text.
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// Expects success. Returns the output, which must be one line of JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.json_line()
    }

    /// Expects failure. Returns the error, which must be one line of JSON on standard output.
    #[track_caller]
    pub(crate) fn json_error(&self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.stderr, "", "{self:?}");
        self.json_line()["error"].as_str().unwrap().to_owned()
    }

    /// Expects failure. Returns the error, which must be one line on standard error.
    #[track_caller]
    pub(crate) fn error(&self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.stdout, b"", "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        self.stderr.trim().to_owned()
    }

    #[track_caller]
    pub(crate) fn json_line(&self) -> Value {
        let text = std::str::from_utf8(&self.stdout).unwrap();
        assert_eq!(text.lines().count(), 1, "{self:?}");
        serde_json::from_str(text).unwrap()
    }
}

/// Runs `rb`.
pub(crate) fn rb<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    rb_with_input(args, b"")
}

/// Runs `rb` with standard input.
pub(crate) fn rb_with_input<S: AsRef<OsStr>>(
    args: impl IntoIterator<Item = S>,
    input: &[u8],
) -> Ran {
    Ran::of(Command::new(env!("CARGO_BIN_EXE_rb")).args(args), input)
}

/// A folder with a path for a store.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) store: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        Place { folder, store }
    }

    /// Makes a folder with a small store of 64 slots of 64 KiB, keys to 512 bytes and metadata to 64.
    pub(crate) fn formatted() -> Place {
        let place = Place::new();
        let args = [
            "--slot-bytes",
            "64KiB",
            "--slots",
            "64",
            "--metadata-bytes",
            "64",
        ];
        place.rb(&["format"], &args).text();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Overwrites bytes of the store's file.
    pub(crate) fn overwrite(&self, offset: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(&self.store).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }

    /// Runs `rb`, with the store's path between the two lists.
    pub(crate) fn rb(&self, before: &[&str], after: &[&str]) -> Ran {
        rb(self.args(before, after))
    }

    pub(crate) fn args(&self, before: &[&str], after: &[&str]) -> Vec<String> {
        let text = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
        let store = self.store.to_str().unwrap().to_owned();
        [text(before), vec![store], text(after)].concat()
    }

    /// Returns the output of `rb ls --json`, to compare contents.
    #[track_caller]
    pub(crate) fn listing(&self) -> Value {
        self.rb(&["ls", "--json"], &[]).json()
    }
}

/// A path as an argument.
pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}
