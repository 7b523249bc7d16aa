//! A metrics exporter: the counters of `Store::stats` as Prometheus text over HTTP.
//!
//! `cargo run -p rb-examples --bin metrics_exporter`
#![expect(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions, StoreStats};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let class = ClassRequest {
        slot_bytes: 64 << 10,
        share: Share::Slots(32),
    };
    let format = FormatOptions::new(dir.path().join("cache"), vec![class]);
    let store = Store::open_or_create(&format, StoreOptions::default())?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let server = thread::spawn({
        let store = store.clone();
        move || serve(&listener, &store, 2)
    });

    let before = scrape(address)?;
    assert_eq!(value(&before, "rawblock_hits_total"), Some(0));
    for number in 0..40_u8 {
        store.put(&[number], &[number; 10_000])?;
    }
    assert!(store.get(&[39])?.is_some());
    assert!(store.get(&[0])?.is_none(), "evicted: 40 values, 32 slots");

    let after = scrape(address)?;
    print!("{after}");
    assert_eq!(value(&after, "rawblock_puts_total"), Some(40));
    assert_eq!(value(&after, "rawblock_hits_total"), Some(1));
    assert_eq!(value(&after, "rawblock_misses_total"), Some(1));
    assert_eq!(value(&after, "rawblock_evictions_total"), Some(8));
    assert_eq!(
        value(&after, r#"rawblock_slots{class="0",state="live"}"#),
        Some(32)
    );
    assert_eq!(value(&after, "rawblock_poisoned"), Some(0));

    server.join().map_err(|_| "the server panicked")??;
    Ok(store.close()?)
}

/// The exposition format of Prometheus, version 0.0.4.
fn exposition(stats: &StoreStats) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, value: u64| {
        let _ = writeln!(text, "# HELP rawblock_{name} {help}");
        let _ = writeln!(text, "# TYPE rawblock_{name} {kind}");
        let _ = writeln!(text, "rawblock_{name} {value}");
    };
    metric(
        "hits_total",
        "counter",
        "Keys that a get found.",
        stats.hits,
    );
    metric(
        "misses_total",
        "counter",
        "Keys that a get did not find.",
        stats.misses,
    );
    metric("puts_total", "counter", "Keys written.", stats.puts);
    metric(
        "put_bytes_total",
        "counter",
        "Payload written.",
        stats.bytes_put,
    );
    metric(
        "got_bytes_total",
        "counter",
        "Payload read and verified.",
        stats.bytes_got,
    );
    metric(
        "evictions_total",
        "counter",
        "Entries evicted.",
        stats.index.evictions,
    );
    metric(
        "dropped_total",
        "counter",
        "Entries whose bytes failed verification.",
        stats.dropped,
    );
    metric(
        "read_errors_total",
        "counter",
        "Reads that the device failed.",
        stats.read_errors,
    );
    metric("commits_total", "counter", "Group commits.", stats.commits);
    metric(
        "replay_blocks",
        "gauge",
        "Log blocks a restart replays.",
        stats.replay_blocks,
    );
    let poisoned = u64::from(stats.poisoned.is_some());
    metric(
        "poisoned",
        "gauge",
        "1 if the store has stopped writing.",
        poisoned,
    );
    text.push_str("# HELP rawblock_slots Slots by class and state.\n# TYPE rawblock_slots gauge\n");
    for (class, slots) in stats.index.classes.iter().enumerate() {
        let states = [
            ("free", slots.free),
            ("live", slots.live),
            ("retired", slots.retired),
            ("quarantined", slots.quarantined),
            ("bad", slots.bad),
        ];
        for (state, count) in states {
            let labels = format!(r#"class="{class}",state="{state}""#);
            let _ = writeln!(text, "rawblock_slots{{{labels}}} {count}");
        }
    }
    text
}

/// Serves `scrapes` requests; the path of a request is ignored.
fn serve(listener: &TcpListener, store: &Store, scrapes: usize) -> io::Result<()> {
    for stream in listener.incoming().take(scrapes) {
        let mut stream = BufReader::new(stream?);
        let mut line = String::new();
        // The end of the request's head is an empty line.
        while stream.read_line(&mut line)? > 0 && line.trim_end() != "" {
            line.clear();
        }
        let body = exposition(&store.stats());
        write!(
            stream.get_mut(),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
    }
    Ok(())
}

fn scrape(address: SocketAddr) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (head, body) = response
        .split_once("\r\n\r\n")
        .ok_or("no end of the head")?;
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    Ok(body.to_owned())
}

/// The value of a metric with its labels.
fn value(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    lines.find(|(found, _)| *found == name)?.1.parse().ok()
}
