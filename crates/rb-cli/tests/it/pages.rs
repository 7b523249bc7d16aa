//! Loads the pages of `rb bench`, `rb replay` and `rb simulate` in a browser, and checks what they may replace.

use std::path::{Path, PathBuf};
use std::process::Command;

use rb_testkit::skip;

use crate::bad_input::says;
use crate::program::{Place, Ran, arg, rb};

/// Names of a browser without a window, all with the same arguments.
const BROWSERS: [&str; 4] = [
    "chromium-headless-shell",
    "chromium",
    "google-chrome",
    "chromium-browser",
];
/// Widths of the window in pixels.
const WIDTHS: [u32; 2] = [800, 1600];
/// Label that would end the page's text, and load and run something, if it were not escaped.
const EVIL: &str =
    "</title><script>console.error('ran')</script><img src=/nothing.png onerror=alert(1)>\"'&";

/// Returns the browser of this machine; `None` and a note if it has none.
fn browser(what: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    let mut names = BROWSERS
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = names.find(|path| path.is_file());
    if found.is_none() {
        skip::note(what, "no Chromium is installed");
    }
    found
}

/// Loads a page. Returns the document after that, and the lines of the browser's console.
fn load(browser: &Path, page: &Path, width: u32, profile: &Path) -> (String, Vec<String>) {
    let mut command = Command::new(browser);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        "--v=0",
        "--dump-dom",
    ]);
    command.arg(format!("--user-data-dir={}", arg(profile)));
    command.arg(format!("--window-size={width},1200"));
    command.arg(format!("file://{}", arg(page)));
    let ran = Ran::of(&mut command, b"");
    let console = ran.stderr.lines().filter(|line| line.contains("CONSOLE"));
    let console = console.map(str::to_owned).collect();
    (ran.text(), console)
}

/// Checks a page in the browser: its console, its charts, and that nothing is wider than the window.
fn check(browser: &Path, place: &Place, page: &Path, charts: usize) {
    let text = std::fs::read_to_string(page).unwrap();
    // The name of SVG's elements is no address to load.
    let addresses = text.replace("http://www.w3.org/2000/svg", "");
    for word in ["<script", "://", "url(", "<img", "@import"] {
        assert!(!addresses.contains(word), "{word}");
    }
    let profile = place.path("profile");
    // A copy with a script that measures the page, which the page itself forbids.
    let measuring = "<script>console.log('loaded');document.title=[document.documentElement.scrollWidth,innerWidth,\
        [...document.querySelectorAll('figure svg')].filter(svg=>svg.getBoundingClientRect().width>500).length,\
        [...document.querySelectorAll('svg text')].filter(text=>{let t=text.getBoundingClientRect(),\
        s=text.closest('svg').getBoundingClientRect();return t.left<s.left-1||t.right>s.right+1||t.bottom>s.bottom+1})\
        .length].join(' ')</script></body>";
    let policy = text.find("<meta http-equiv").unwrap();
    let end = policy + text[policy..].find('>').unwrap() + 1;
    let copy = [&text[..policy], &text[end..]].concat();
    let copy = place.file(
        "measured.html",
        copy.replace("</body>", measuring).as_bytes(),
    );
    for width in WIDTHS {
        let (document, console) = load(browser, page, width, &profile);
        assert_eq!(console, [""; 0], "{width}");
        assert_eq!(document.matches("<figure>").count(), charts, "{width}");
        assert!(!document.contains("could not be drawn"), "{width}");
        let (document, console) = load(browser, &copy, width, &profile);
        // The console is read: it has the line of the copy.
        assert_eq!(console.len(), 1, "{console:?}");
        let title = document.split("<title>").nth(1).unwrap();
        let title = title.split("</title>").next().unwrap();
        let wanted = format!("{width} {width} {charts} 0");
        assert_eq!(
            title, wanted,
            "width of the content, of the window, charts, texts outside"
        );
    }
}

fn bench(place: &Place, page: &Path, more: &[&str]) -> Ran {
    let args = ["--size", "24MiB", "--depth", "4", "--html", arg(page)];
    place.rb(&["bench", "--json", "--store"], &[&args, more].concat())
}

#[test]
fn the_page_of_a_bench_is_shown_by_a_browser_without_an_error() {
    let place = Place::new();
    let page = place.path("bench.html");
    let args = [
        "--op",
        "mixed",
        "--zipf",
        "0.99",
        "--seconds",
        "1",
        "--threads",
        "2",
    ];
    let line = bench(&place, &page, &args).json();
    let text = std::fs::read_to_string(&page).unwrap();
    for words in [
        "rb bench",
        "format version 1",
        "CPU",
        "kernel",
        "memory",
        "storage",
        "engine",
        "GB/s",
        "99.9 %",
    ] {
        assert!(text.contains(words), "{words}");
    }
    // Both operations have their calls in the page and in the JSON.
    let operations = line["operations"].as_array().unwrap();
    assert_eq!(operations.len(), 2, "{line}");
    for operation in operations {
        let count = |name: &str| -> u64 {
            let parts = operation[name].as_array().unwrap().iter();
            parts.map(|part| part["calls"].as_u64().unwrap()).sum()
        };
        assert_eq!(operation["calls"], count("intervals"), "{operation}");
        assert_eq!(operation["calls"], count("histogram"), "{operation}");
        assert!(
            text.contains(&format!("<td>{}</td>", operation["calls"])),
            "{operation}"
        );
    }
    if let Some(browser) = browser("the page of a bench in a browser") {
        check(&browser, &place, &page, 6);
    }
}

#[test]
fn the_pages_of_a_replay_and_a_simulation_are_shown_by_a_browser_without_an_error() {
    let place = Place::new();
    let requests: String = (0..400)
        .map(|n| format!("{{\"hash_ids\": [{}, {}, {n}]}}\n", n % 7, n % 40 + 1000))
        .collect();
    // A path is the user's text.
    let trace = place.file("a<b>&\"c\".jsonl", requests.as_bytes());
    let page = place.path("replay.html");
    let args = [
        "--slots",
        "64",
        "--slot-bytes",
        "16KiB",
        "--html",
        arg(&page),
    ];
    place.rb(&["replay", arg(&trace), "--store"], &args).text();
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(
        text.contains("a&lt;b&gt;&amp;&quot;c&quot;.jsonl, 400 requests"),
        "{text}"
    );
    assert!(!text.contains("a<b>"));
    if let Some(browser) = browser("the page of a replay in a browser") {
        check(&browser, &place, &page, 6);
    }
    let page = place.path("simulate.html");
    let args = ["simulate", arg(&trace), "--policy", "lru,sieve", "--html"];
    rb([&args[..], &[arg(&page)]].concat()).text();
    if let Some(browser) = browser("the page of a simulation in a browser") {
        check(&browser, &place, &page, 2);
    }
}

/// The label of a store and its path are text of the page, not markup.
#[test]
fn text_of_the_user_is_not_markup() {
    let mut place = Place::new();
    place.store = place.path("<script>alert(1)");
    let slots = ["--slot-bytes", "64KiB", "--slots", "100", "--label", EVIL];
    place.rb(&["format"], &slots).text();
    let page = place.path("page.html");
    let args = [
        "--op",
        "get",
        "--seconds",
        "0.1",
        "--yes",
        "--depth",
        "4",
        "--html",
        arg(&page),
    ];
    place.rb(&["bench", "--store"], &args).text();
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(
        !text.contains("<script") && !text.contains("<img"),
        "{text}"
    );
    assert!(
        text.contains("&lt;script&gt;console.error('ran')"),
        "{text}"
    );
    if let Some(browser) = browser("a page with markup in a label") {
        check(&browser, &place, &page, 4);
    }
}

/// A page replaces an older file as `rb get -o` does, but no store, trace or device, and a place that takes no file is
/// found before the measurement.
#[test]
fn a_page_replaces_a_file_and_nothing_else() {
    let place = Place::new();
    let page = place.file("page.html", b"older");
    bench(&place, &page, &["--op", "get", "--seconds", "0.1"]).json();
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.starts_with("<!DOCTYPE html>"), "{text}");
    assert_eq!(text.matches("<figure>").count(), 4, "{text}");

    let before = std::fs::read(&place.store).unwrap();
    let other = Place::formatted();
    let missing = place.path("no/such/page.html");
    for (to, words) in [
        (&*place.store, "also the store"),
        (&*other.store, "another one"),
        (&*missing, "No such file"),
        (Path::new("/dev/stdout"), "standard output has the result"),
    ] {
        let said = bench(&place, to, &["--op", "get", "--seconds", "9"]).json_error();
        says(&said, &[words]);
    }
    assert!(std::fs::read(&place.store).unwrap() == before);
    // The store does not exist yet, and has another name here.
    let new = Place::new();
    let link = new.path(".").join("store");
    let said = bench(&new, &link, &["--op", "get"]).json_error();
    says(&said, &["also the store"]);
    assert!(!new.store.exists());
    let trace = new.file("trace", b"{\"hash_ids\": [1]}\n");
    let args = [
        "--slots",
        "64",
        "--slot-bytes",
        "4KiB",
        "--html",
        arg(&trace),
    ];
    let said = new.rb(&["replay", arg(&trace), "--store"], &args).error();
    says(&said, &["the trace"]);
}

#[test]
fn a_bench_of_nothing_has_a_page_without_charts() {
    let place = Place::new();
    let page = place.path("page.html");
    let line = bench(&place, &page, &["--op", "idle", "--seconds", "0.1"]).json();
    assert_eq!(
        line["operations"].as_array().map(Vec::len),
        Some(0),
        "{line}"
    );
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(
        text.contains("an open store without callers") && !text.contains("<svg"),
        "{text}"
    );
}
