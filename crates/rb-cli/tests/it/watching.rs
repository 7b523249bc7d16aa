//! Watches a store that `rb bench` uses: `rb stats`, `rb top` on a terminal, `rb scrub` and `rb info`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rb_core::{Store, StoreOptions};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::damage::region;
use crate::program::{Place, Ran, arg};

/// Longest time for what takes a moment on an idle machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A process that uses the store of a place.
pub(crate) struct Bench {
    child: Child,
}

impl Bench {
    /// Starts a bench, and waits until it has the store open and is at work.
    pub(crate) fn start(place: &Place, load: &[&str]) -> Bench {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rb"));
        command.args(["bench", "--store", arg(&place.store), "--seconds", "120"]);
        command.args(["--size", "24MiB", "--value-bytes", "64KiB"]);
        command
            .args(load)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let bench = Bench {
            child: command.spawn().unwrap(),
        };
        let start = Instant::now();
        let is_at_work = || {
            let ran = place.rb(&["stats", "--json"], &[]);
            let works = |line: serde_json::Value| {
                load.contains(&"idle") || line["hits"].as_u64().is_some_and(|hits| hits > 500)
            };
            ran.code == Some(0) && works(ran.json())
        };
        while !is_at_work() {
            assert!(start.elapsed() < PATIENCE, "the bench does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        bench
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Kills the process.
    pub(crate) fn end(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// `rb top` on a terminal of its own.
struct Terminal {
    child: Child,
    master: File,
    bytes: mpsc::Receiver<Vec<u8>>,
    screen: vt100::Parser,
}

impl Terminal {
    fn start(place: &Place, rows: u16, columns: u16) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let end = || Stdio::from(OwnedFd::from(slave.try_clone().unwrap()));
        // A session of its own, whose terminal this is.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_rb"), "top"]);
        command.args([arg(&place.store), "--interval", "0.2"]);
        command.env("TERM", "xterm-256color");
        let child = command.stdin(end()).stdout(end()).stderr(end());
        let child = child.spawn().unwrap();
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (sender, bytes) = mpsc::channel();
        std::thread::spawn(move || {
            let mut part = [0; 65536];
            while let Ok(read @ 1..) = reader.read(&mut part) {
                if sender.send(part[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal {
            child,
            master,
            bytes,
            screen: vt100::Parser::new(rows, columns, 0),
        }
    }

    /// Waits until the screen is as it should be. Returns its text.
    fn wait_for(&mut self, is_there: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            if let Ok(bytes) = self.bytes.recv_timeout(Duration::from_millis(100)) {
                self.screen.process(&bytes);
            }
            let text = self.screen.screen().contents();
            if is_there(&text) {
                return text;
            }
            assert!(start.elapsed() < PATIENCE, "{text}");
        }
    }

    /// Presses a key. The program must end, and leave the terminal as it was.
    fn end_by(mut self, key: &[u8]) {
        self.master.write_all(key).unwrap();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "rb top does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(0));
        while let Ok(bytes) = self.bytes.recv_timeout(Duration::from_millis(200)) {
            self.screen.process(&bytes);
        }
        assert!(!self.screen.screen().alternate_screen());
        assert!(!self.screen.screen().hide_cursor());
    }
}

/// Damages a byte of the value that is listed first.
fn damage_a_value(place: &Place) {
    let slots = region(
        &place.rb(&["info", "--json"], &[]).json(),
        "slots",
        "offset_bytes",
    );
    let slot = place.listing()["listing"][0]["slot"].as_u64().unwrap();
    // A header of 4096 bytes is before each value.
    place.overwrite(slots + slot * ((64 << 10) + 4096) + 4096 + 100, &[0xA5; 8]);
}

/// Lines of a screen, for a person who runs the test with `--nocapture`.
fn show(name: &str, screen: &str) {
    eprintln!("{name}:\n{screen}\n");
}

/// The figures fit a small terminal; a wide one has charts next to them. Both change as the store is used.
#[test]
fn top_draws_on_small_and_large_terminals() {
    let place = Place::new();
    let bench = Bench::start(&place, &["--op", "mixed", "--zipf", "0.9"]);
    for (rows, columns, charts, key) in [(24, 80, false, &b"q"[..]), (50, 200, true, b"\x03")] {
        let mut terminal = Terminal::start(&place, rows, columns);
        let ready = |text: &str| text.contains("hit rate") && text.contains("q ends");
        let text = terminal.wait_for(ready);
        show("screen", &text);
        for words in [
            "hit rate",
            "gets",
            "puts",
            "device reads",
            "device writes",
            "in flight",
            "oldest",
            "operation",
            "p99.9",
            "checkpoint",
            "slots of",
            "64 KiB",
            "q ends",
        ] {
            assert!(
                text.contains(words),
                "{words} is not on the screen:\n{text}"
            );
        }
        let process = format!("process {}", bench.child.id());
        assert!(text.contains(&process), "{text}");
        assert_eq!(text.contains("get p99"), charts, "{text}");
        // The next look has other figures.
        terminal.wait_for(|next| ready(next) && next != text);
        terminal.end_by(key);
    }
    bench.end();
}

/// A screen goes on when the process is gone, and when another one has opened the store.
#[test]
fn top_outlives_the_process() {
    let place = Place::new();
    let bench = Bench::start(&place, &["--op", "mixed"]);
    let mut terminal = Terminal::start(&place, 24, 80);
    terminal.wait_for(|text| text.contains("hit rate"));
    bench.end();
    terminal.wait_for(|text| text.contains("no process answers"));
    let bench = Bench::start(&place, &["--op", "mixed"]);
    let process = format!("process {}", bench.child.id());
    terminal.wait_for(|text| text.contains(&process) && text.contains("q ends"));
    terminal.end_by(b"\x1b");
    bench.end();
}

/// A stopped process is not waited for, and a killed one is not in use.
#[test]
fn a_process_that_does_not_answer() {
    let place = Place::new();
    let bench = Bench::start(&place, &["--op", "mixed"]);
    bench.signal(Signal::STOP);
    let start = Instant::now();
    let error = place.rb(&["stats"], &[]).error();
    assert!(error.contains("does not answer within a second"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
    // Its lock says who it is.
    let info = place.rb(&["info", "--json"], &[]).json();
    assert_eq!(info["process"].as_u64(), Some(bench.child.id().into()));
    bench.signal(Signal::CONT);
    let stats = place.rb(&["stats"], &[]).text();
    assert!(
        stats.contains(&format!("by process {}", bench.child.id())),
        "{stats}"
    );
    bench.end();
    let error = place.rb(&["stats"], &[]).error();
    assert!(error.contains("no process answers"), "{error}");
    let info = place.rb(&["info"], &[]).text();
    assert!(info.contains("not clean (killed or crashed"), "{info}");
    assert!(!info.contains("by process"), "{info}");
}

/// `rb top` needs a terminal, unless it prints once.
#[test]
fn top_without_a_terminal() {
    let place = Place::new();
    let bench = Bench::start(&place, &["--op", "mixed"]);
    let error = place.rb(&["top"], &[]).error();
    assert!(error.contains("--once"), "{error}");
    let once = place
        .rb(&["top", "--once", "--interval", "0.2"], &[])
        .text();
    assert!(once.contains("hit rate"), "{once}");
    assert!(once.lines().skip(1).all(|line| line.len() <= 80), "{once}");
    bench.end();
}

/// A damaged value is found by a scrub through the process, and by one without it: the exit code shows it.
#[test]
fn scrubs_with_and_without_a_process() {
    let place = Place::new();
    let bench = Bench::start(&place, &["--op", "get"]);
    let text = place.rb(&["scrub"], &[]).text();
    assert!(
        text.contains("0 dropped as damaged, 0 failed reads"),
        "{text}"
    );
    assert!(
        text.contains(&format!("by process {}", bench.child.id())),
        "{text}"
    );
    bench.end();
    damage_a_value(&place);
    let scrub = || place.rb(&["scrub"], &[]);
    let found: Ran = scrub();
    assert_eq!(found.code, Some(4), "{found:?}");
    assert!(
        String::from_utf8_lossy(&found.stdout).contains("1 dropped as damaged"),
        "{found:?}"
    );
    assert!(scrub().text().contains("0 dropped as damaged"));
}

/// Entries are listed by age and by use, and `rb clear` needs consent to drop them.
#[test]
fn lists_in_order_and_clears() {
    let place = Place::formatted();
    for key in ["c", "a", "b"] {
        crate::program::rb_with_input(place.args(&["put"], &[key, "-"]), b"value").text();
    }
    place.rb(&["get"], &["c"]).text();
    let keys = |order: &str| -> Vec<String> {
        let list = place.rb(&["ls", "--order", order], &[]).text();
        let key = |line: &str| line.split('\t').next().unwrap().to_owned();
        list.lines().map(key).collect()
    };
    assert_eq!(keys("key"), ["a", "b", "c"]);
    assert_eq!(keys("age"), ["c", "a", "b"]);
    let long = place.rb(&["ls", "--long"], &[]).text();
    assert_eq!(long.lines().count(), 4, "{long}");
    assert!(long.starts_with("key\tbytes\t"), "{long}");
    let refused = place.rb(&["clear"], &[]).error();
    assert!(
        refused.contains("3 entries") && refused.contains("--yes"),
        "{refused}"
    );
    assert_eq!(keys("key").len(), 3);
    let cleared = place.rb(&["clear"], &["--yes"]).text();
    assert!(cleared.contains("3 entries"), "{cleared}");
    assert!(keys("key").is_empty());
    // The device is as worn as before.
    let info = place.rb(&["info", "--json"], &[]).json();
    assert_eq!(info["lifetime"]["puts"], 3);
}

/// A store that has stopped writing ends both commands with an exit code of its own, so that a timer notices it.
#[test]
fn an_alarm_is_in_the_exit_code() {
    let place = Place::formatted();
    let store = Store::open(&place.store, StoreOptions::default()).unwrap();
    let looks: [&[&str]; 2] = [&["stats"], &["top", "--once", "--interval", "0.1"]];
    let both = |code| {
        looks.map(|look| {
            let ran = place.rb(look, &[]);
            assert_eq!(ran.code, Some(code), "{ran:?}");
            String::from_utf8(ran.stdout).unwrap()
        })
    };
    for text in both(0) {
        assert!(!text.contains("writing has stopped"), "{text}");
    }
    let file = File::options().write(true).open(&place.store).unwrap();
    file.set_len(file.metadata().unwrap().len() - 4096).unwrap();
    store.put(b"key", b"value").unwrap();
    assert!(store.sync().is_err(), "the file is too short");
    for text in both(4) {
        assert!(text.contains("writing has stopped"), "{text}");
    }
    let info = place.rb(&["info"], &[]).text();
    assert!(info.contains("writing has stopped"), "{info}");
}
