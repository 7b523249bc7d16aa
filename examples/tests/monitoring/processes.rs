//! The example and the programs of Prometheus, run by tests.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rb_testkit::skip;
use tempfile::TempDir;

/// A running exporter with a store of its own.
pub(crate) struct Exporter {
    child: Child,
    pub(crate) address: String,
    /// Kept, because the example prints more later.
    _out: BufReader<ChildStdout>,
    _folder: TempDir,
}

/// A running Prometheus that scrapes one exporter.
pub(crate) struct Prometheus {
    child: Child,
    address: String,
    _folder: TempDir,
}

impl Exporter {
    pub(crate) fn start(args: &[&str]) -> Exporter {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(env!("CARGO_BIN_EXE_metrics_exporter"))
            .arg(folder.path().join("kv"))
            .args(["--port", "0"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let out = child.stdout.take().expect("it is piped");
        let mut out = BufReader::new(out);
        let mut line = String::new();
        out.read_line(&mut line)
            .expect("the example prints its address");
        let address = line.trim().strip_prefix("http://");
        let address = address.and_then(|rest| rest.strip_suffix("/metrics"));
        let address = address.expect("an address").to_owned();
        Exporter {
            child,
            address,
            _out: out,
            _folder: folder,
        }
    }

    pub(crate) fn get(&self, path: &str) -> String {
        get(&self.address, path)
    }

    /// Returns the value of a series.
    pub(crate) fn value(&self, series: &str) -> f64 {
        let text = self.get("/metrics");
        let mut values = text.lines().filter_map(|line| line.strip_prefix(series));
        let value = values.next().expect("the series exists");
        value.trim().parse().expect("a number")
    }
}

impl Prometheus {
    pub(crate) fn start(exporter: &str, rules: &Path) -> Prometheus {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{job_name: kv, static_configs: [{{targets: ['{exporter}']}}]}}]\n",
            rules.display()
        );
        fs::write(path("prometheus.yml"), config).expect("the configuration is written");
        let log = File::create(path("log")).expect("a file for the log");
        let child = Command::new("prometheus")
            .arg(format!(
                "--config.file={}",
                path("prometheus.yml").display()
            ))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .expect("Prometheus starts");
        let log = path("log");
        let mut prometheus = Prometheus {
            child,
            address: String::new(),
            _folder: folder,
        };
        prometheus.address = crate::wait("Prometheus to listen", || {
            let log = fs::read_to_string(&log).ok()?;
            let (_, after) = log.split_once("msg=\"Listening on\" address=")?;
            Some(after.split_once('\n')?.0.to_owned())
        });
        prometheus
    }

    pub(crate) fn get(&self, path: &str) -> String {
        get(&self.address, path)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills a child. It may have ended already.
fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

/// Returns the body of a page.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the server accepts");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").expect("a request is sent");
    let mut response = String::new();
    stream
        .read_to_string(&mut response)
        .expect("a response of text");
    let (_, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    body.to_owned()
}

/// Returns true if a program is installed; if not, reports that `what` is left out.
pub(crate) fn installed(program: &str, what: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        skip::note(what, &format!("{program} is not installed"));
    }
    found
}

/// Runs a program and requires that it succeeds.
#[track_caller]
pub(crate) fn check(program: &str, args: &[&str], input: &str) {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("the program ends");
    let shown = [output.stdout, output.stderr].concat();
    let shown = String::from_utf8_lossy(&shown);
    assert!(output.status.success(), "{program} {args:?}: {shown}");
}
