//! Tries the Debian package as a user would, in a clean Debian.

use std::path::Path;

use super::root::Root;

/// The folder of the system. It stays after a failure, to look at.
const DIR: &str = "target/dist-check";

/// A script that runs in the system, and parts of its output.
struct Step {
    name: &'static str,
    script: &'static str,
    shows: &'static [&'static str],
}

const STEPS: [Step; 8] = [
    Step {
        name: "the package installs, with its group",
        script: "dpkg -i /raw-block.deb; dpkg -s raw-block | grep Status; getent group raw-block",
        shows: &["install ok installed", "raw-block:x:"],
    },
    Step {
        name: "rb --version",
        script: "rb --version",
        shows: &["format    1", "features  io_uring, zstd"],
    },
    Step {
        name: "rb probe",
        script: "truncate -s 1M /tmp/file; rb probe /tmp/file || test $? = 8",
        shows: &["posix", "io_uring"],
    },
    Step {
        name: "rb demo",
        script: "rb demo",
        shows: &["0 lost, 0 wrong", "4000 of 4000 blocks there"],
    },
    Step {
        name: "man rb-format",
        script: "whatis rb-format; man rb-format | cat",
        shows: &["rb-format - Make an empty store", "--slot-bytes"],
    },
    Step {
        name: "no page has an error",
        script: "cd /usr/share/man/man1; for page in rb.1.gz rb-*.1.gz; do\n\
                 errors=$(man --warnings -l $page 2>&1 >/dev/null); echo \"$page $errors\"; test -z \"$errors\"\n\
                 done",
        shows: &["rb-recover-bench.1.gz"],
    },
    Step {
        name: "bash completes commands and options",
        // A login shell on a terminal loads completions as it does for a user. It runs the completed line.
        script: "printf 'rb for\\t--hel\\t\\nexit\\n' | TERM=dumb script -qec 'bash -il' /dev/null",
        shows: &["rb format --help", "Usage: rb format"],
    },
    Step {
        name: "systemd accepts the unit",
        script: "systemd-analyze verify rb-check@var-lib-kv.service; echo verified",
        shows: &["verified"],
    },
];

/// The unit that runs the script at the end of the boot, and powers the system off.
const TRY_UNIT: &str = "[Unit]\nDescription=Try of the units\n\n[Service]\nType=oneshot\n\
    ExecStart=-/bin/sh /try-unit.sh\nExecStopPost=/bin/systemctl poweroff --no-block\n";
const WANTS: &str = "etc/systemd/system/multi-user.target.d/try.conf";

/// Makes the system, runs every step and removes the system.
///
/// # Errors
/// The first step that fails, with its output.
pub(super) fn run(package: &Path) -> Result<(), String> {
    let root = Root::make(Path::new(DIR))?;
    root.copy(package, "raw-block.deb")?;
    for step in &STEPS {
        eprintln!("== check: {}", step.name);
        let text = root.shell(step.script)?;
        show(&text);
        expect(step.name, &text, step.shows)?;
    }
    eprintln!("== check: a booted system starts and stops the unit");
    root.write("try-unit.sh", include_str!("try_unit.sh"))?;
    root.write("etc/systemd/system/try.service", TRY_UNIT)?;
    root.shell("mkdir -p /etc/systemd/system/multi-user.target.d")?;
    root.write(WANTS, "[Unit]\nWants=try.service\n")?;
    root.boot()?;
    let text = root.read("try-unit.log")?;
    show(&text);
    expect("the unit", &text, &["== all tried"])?;
    root.remove()
}

/// Shows the end of an output.
fn show(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len().saturating_sub(20);
    lines[start..]
        .iter()
        .for_each(|line| eprintln!("   {line}"));
}

fn expect(name: &str, text: &str, shows: &[&str]) -> Result<(), String> {
    // `man` shows a hyphen of a page as U+2010.
    let text = text.replace('\u{2010}', "-");
    match shows.iter().find(|part| !text.contains(*part)) {
        Some(part) => Err(format!("{name}: {part:?} is not in the output:\n{text}")),
        None => Ok(()),
    }
}
