//! Tests of the matching of mutants, with sources written for them.

use std::path::{Path, PathBuf};

use super::harness::Harness;
use super::mutant::Mutant;
use super::sources::Sources;

/// Makes a crate of these files; the first is its root.
fn sources(files: &[(&str, &str)]) -> Sources {
    let read = |path: &Path| {
        let (_, text) = files.iter().find(|(name, _)| path == Path::new(name))?;
        Some((*text).to_owned())
    };
    Sources::read(vec![PathBuf::from(files[0].0)], None, &read).unwrap()
}

fn edit(item: &str, find: &str, replace: &str) -> String {
    format!("[[edit]]\nin = '{item}'\nfind = '''{find}'''\nreplace = '{replace}'\n")
}

fn mutant(edits: &str) -> Mutant {
    let head = "what = 'w'\nfound-by = ['cargo xtask crash']\ncrate = 'c'\n";
    Mutant::read(Path::new("m.toml"), &format!("{head}{edits}")).unwrap()
}

/// Returns the only file that the edits change.
fn changed(sources: &Sources, edits: &str) -> String {
    let mut files = mutant(edits).apply(sources).unwrap();
    assert_eq!(files.len(), 1);
    files.remove(0).1
}

/// Returns the message for edits that do not match.
fn misfit(sources: &Sources, edits: &str) -> String {
    let why = mutant(edits).apply(sources).unwrap_err();
    assert_eq!(why.len(), 1, "{why:?}");
    why[0].clone()
}

fn has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn white_space_comments_and_wrapping_do_not_matter() {
    let text = "
fn f() {
    // Größe: bytes are not characters.
    self // the receiver
        .flush(
            io, /* which */
            failed,
        )?;
    rest();
}";
    let sources = sources(&[("lib.rs", text)]);
    let changed = changed(&sources, &edit("f", "self.flush(io, failed)?;", ""));
    has(&changed, &["bytes are not characters.\n    \n    rest();"]);
    // The other way round: the pattern is wrapped, the source is not.
    let sources = self::sources(&[("lib.rs", "fn f() { a(b, c); }")]);
    let wrapped = edit("f", "\na(\n    b, // why\n    c,\n);\n", "d();");
    assert_eq!(self::changed(&sources, &wrapped), "fn f() { d(); }");
    let documented = "struct A {\n    a: u8,\n    /// Why.\n    b: u8,\n}";
    let sources = self::sources(&[("lib.rs", documented)]);
    let both = edit("struct A", "a: u8, b: u8", "c: u8");
    assert_eq!(self::changed(&sources, &both), "struct A {\n    c: u8,\n}");
}

#[test]
fn dots_stand_for_the_rest_of_a_group() {
    let sources = sources(&[(
        "lib.rs",
        "fn f() { a(b(1), [2]); a(c, d); if x { y(); z } }",
    )]);
    let all = |find| changed(&sources, &edit("f", find, "w;"));
    assert_eq!(
        all("a(b(...), [...]);"),
        "fn f() { w; a(c, d); if x { y(); z } }"
    );
    assert_eq!(
        all("a(c, ...);"),
        "fn f() { a(b(1), [2]); w; if x { y(); z } }"
    );
    assert_eq!(all("if x {...}"), "fn f() { a(b(1), [2]); a(c, d); w; }");
    has(&misfit(&sources, &edit("f", "a(...)", "")), &["2 times"]);
    assert_eq!(
        all("a(b(1, ...), ...);"),
        "fn f() { w; a(c, d); if x { y(); z } }"
    );
    has(
        &misfit(&sources, &edit("f", "b(2, ...)", "")),
        &["no `b(2, ...)`"],
    );
}

#[test]
fn a_statement_that_is_not_there_is_refused_with_the_nearest() {
    let text = "struct A;\nimpl A {\n    fn f() { io.flush(1)?; rest(); }\n}\nfn g() {\n    io.sync()?;\n}";
    let sources = sources(&[("lib.rs", text)]);
    let why = misfit(&sources, &edit("A::f", "io.flush(2)?;", ""));
    has(
        &why,
        &[
            "`A::f` (lib.rs:3) has no `io.flush(2)?;`",
            "nearest: `io.flush(1)?;` (lib.rs:3)",
        ],
    );
    let moved = misfit(&sources, &edit("A::f", "io.sync()?;", ""));
    has(&moved, &["its statement is in `g` (lib.rs:5)"]);
}

#[test]
fn a_statement_that_is_there_twice_needs_a_number() {
    let sources = sources(&[("lib.rs", "fn f() {\n    x();\n    x();\n}")]);
    let once = edit("f", "x();", "y();");
    has(
        &misfit(&sources, &once),
        &["has `x();` 2 times, not 1: lib.rs:2, lib.rs:3"],
    );
    let second = format!("{once}nth = '2 of 2'\n");
    assert_eq!(
        changed(&sources, &second),
        "fn f() {\n    x();\n    y();\n}"
    );
    // An occurrence that was added or removed may have shifted the number.
    has(
        &misfit(&sources, &format!("{once}nth = '2 of 3'\n")),
        &["2 times, not 3"],
    );
    has(
        &misfit(&sources, &format!("{once}nth = '3 of 2'\n")),
        &["is not like"],
    );
}

#[test]
fn functions_are_named_by_type_and_trait() {
    let text = "
trait Wave { fn complete(self); fn sent(&self) { x(0); } }
struct Put<T>(T);
impl<T> Put<T> { fn complete() { x(1); } fn outer() { fn deep() { x(7); } } }
impl<T: Send> crate::Wave for Put<T> { fn complete(self) { x(2); } }
impl From<u8> for Put<u8> { fn from(_: u8) -> Self { x(3) } }
impl From<u16> for Put<u16> { fn from(_: u16) -> Self { x(4) } }
fn complete() { x(5); fn inner() { x(6); } }";
    let sources = sources(&[("lib.rs", text)]);
    let number = |item| {
        let changed = changed(&sources, &edit(item, "x(...)", "HERE"));
        let at = changed.find("HERE").unwrap();
        text[at..].chars().nth(2).unwrap()
    };
    assert_eq!(number("Wave::sent"), '0');
    assert_eq!(number("<Put>::complete"), '1');
    assert_eq!(number("<Put as Wave>::complete"), '2');
    assert_eq!(number("<Put as From<u8>>::from"), '3');
    assert_eq!(number("<Put<u16> as From<u16>>::from"), '4');
    assert_eq!(number("complete::inner"), '6');
    assert_eq!(number("deep"), '7');
    assert_eq!(number("Put::outer::deep"), '7');
    let both = misfit(&sources, &edit("Put::complete", "x(...)", ""));
    has(
        &both,
        &[
            "means 2 items",
            "`<Put as crate::Wave>::complete` (lib.rs:5)",
            "`Put::complete` (lib.rs:4)",
        ],
    );
    // A method's last name alone does not name it.
    let none = misfit(&sources, &edit("sent", "x(0)", ""));
    has(
        &none,
        &[
            "c has no `sent`; nearest `Wave::sent` (lib.rs:2)",
            "its statement is in `Wave::sent`",
        ],
    );
}

#[test]
fn modules_distinguish_functions_of_one_name() {
    let files = [
        (
            "src/lib.rs",
            "mod a; mod b { pub(crate) mod deep; fn run() { x(1); } }",
        ),
        ("src/a.rs", "mod c; fn run() { x(2); }"),
        ("src/a/c.rs", "fn run() { x(3); }"),
        ("src/b/deep/mod.rs", "mod e; fn run() { x(4); }"),
        ("src/b/deep/e.rs", "fn run() { x(5); }"),
    ];
    let sources = sources(&files);
    for (item, number) in [
        ("b::run", 1),
        ("a::run", 2),
        ("a::c::run", 3),
        ("deep::run", 4),
        ("e::run", 5),
    ] {
        let changed = changed(&sources, &edit(item, "x(...)", "y()"));
        let from = files
            .iter()
            .find(|(_, text)| text.contains(&format!("x({number})")));
        assert_eq!(
            changed,
            from.unwrap().1.replace(&format!("x({number})"), "y()")
        );
    }
    has(
        &misfit(&sources, &edit("run", "x(...)", "")),
        &["means 5 items", "`b::deep::e::run`"],
    );
}

#[test]
fn code_that_moves_to_another_file_still_matches() {
    let function = "impl Log { fn write(&self) { self.put(); self.flush(); } }";
    let cut = edit("Log::write", "self.flush();", "");
    let expected = function.replace("self.flush();", "");
    let before = sources(&[("src/lib.rs", "mod log;"), ("src/log.rs", function)]);
    assert_eq!(changed(&before, &cut), expected);
    let around = format!("//! Moved.\nuse x::Log;\nfn new() {{}}\n{function}\n");
    let after = sources(&[
        ("src/lib.rs", "mod durable;"),
        ("src/durable/mod.rs", "mod commit;"),
        ("src/durable/commit.rs", &around),
    ]);
    has(&changed(&after, &cut), &["fn new() {}", &expected]);
}

#[test]
fn tests_are_not_part_of_a_crate() {
    let text = "
fn f() { x(); }
#[cfg(test)] mod tests;
#[cfg(all(test, loom))] mod loom { fn f() { x(); } }
#[cfg(test)] fn g() {}
#[cfg(not(test))] fn h() { x(); }
#[cfg(any(test, feature = \"a\"))] fn i() { x(); }
#[test] fn j() {}";
    let sources = sources(&[("lib.rs", text)]);
    for item in ["f", "h", "i"] {
        changed(&sources, &edit(item, "x();", ""));
    }
    for item in ["g", "j"] {
        has(&misfit(&sources, &edit(item, "x();", "")), &["c has no"]);
    }
}

#[test]
fn edits_of_one_mutant_are_made_together() {
    let text = "struct A { a: u8 }\nconst N: u8 = 1;\nimpl A { fn f(a: u8) { b(); c(); } }";
    let sources = sources(&[("lib.rs", text)]);
    let edits = [
        edit("A::f", "c();", ""),
        edit("struct A", "a: u8", "a: u8, b: u8"),
        edit("A::f", "a: u8", "_: u8"),
        edit("const N", "1", "2"),
    ];
    let expected = "struct A { a: u8, b: u8 }\nconst N: u8 = 2;\nimpl A { fn f(_: u8) { b();  } }";
    assert_eq!(changed(&sources, &edits.concat()), expected);
    let overlapping = edit("A::f", "c();", "") + &edit("A::f", "b(); c();", "");
    has(&misfit(&sources, &overlapping), &["two edits overlap"]);
    // The message names each edit that does not match.
    let both = edit("g", "b();", "") + &edit("A::f", "d();", "");
    let why = mutant(&both).apply(&sources).map(drop).unwrap_err();
    assert_eq!(why.len(), 2);
}

#[test]
fn an_edit_must_change_what_parses_to_what_parses() {
    let sources = sources(&[("lib.rs", "fn f() { a(b); }")]);
    has(
        &misfit(&sources, &edit("f", "a(b);", "a ( b ) ;")),
        &["changes nothing"],
    );
    has(
        &misfit(&sources, &edit("f", "", "x();")),
        &["changes nothing"],
    );
    has(
        &misfit(&sources, &edit("f", "(b)", "x y")),
        &["lib.rs does not parse with the edits"],
    );
    has(&misfit(&sources, &edit("f", "a(", "")), &["a("]);
}

#[test]
fn a_file_says_all_that_is_needed_and_no_more() {
    let read = |name: &str, text: &str| Mutant::read(Path::new(name), text).err().unwrap();
    let head = "what = 'w'\nfound-by = ['cargo xtask crash']\ncrate = 'c'\n";
    let good = format!("{head}{}", edit("f", "a", "b"));
    assert!(Mutant::read(Path::new("m.toml"), &good).is_ok());
    has(&read("m.patch", &good), &["not a .toml file"]);
    has(&read("m.toml", &good.replace("crate", "file")), &["file"]);
    has(
        &read("m.toml", &good.replace("replace = 'b'", "")),
        &["replace"],
    );
    has(&read("m.toml", &good.replace("'w'", "''")), &["`what`"]);
    has(
        &read("m.toml", &good.replace("['cargo xtask crash']", "[]")),
        &["harness"],
    );
    has(
        &read("m.toml", &good.replace("xtask crash", "xtask crush")),
        &["\"crush\""],
    );
    has(
        &read("m.toml", &good.replace("cargo xtask", "cargo")),
        &["neither `cargo xtask"],
    );
}

#[test]
fn a_harness_is_bounded_and_its_report_read() {
    let harness = |line: &str| Harness::read(&format!("cargo xtask {line}")).unwrap();
    let crash = harness("crash --runs 5");
    assert_eq!(
        crash.words(30),
        [
            "xtask",
            "crash",
            "--runs",
            "5",
            "--json",
            "--minutes",
            "0.5"
        ]
    );
    assert_eq!(
        harness("race").words(30),
        ["xtask", "race", "--json", "--seconds", "30"]
    );
    assert_eq!(
        harness("loom free_list").words(30),
        ["xtask", "loom", "free_list"]
    );
    let test = Harness::read("cargo test -p rb-tests --test it -- rings::").unwrap();
    assert_eq!(
        test.build().0,
        ["test", "-p", "rb-tests", "--test", "it", "--no-run"]
    );
    assert_eq!(test.words(30).last().unwrap(), "rings::");
    let output = "noise\n{\"violations\":1,\"violation\":\"it is\\ngone\"}\n";
    assert_eq!(crash.violation(output).unwrap(), "it is");
    assert_eq!(
        crash.violation("{\"violations\":0,\"violation\":null}"),
        None
    );
    let reports = "{\"violations\":[]}\n{\"violations\":[\"torn\",\"lost\"]}\n";
    assert_eq!(harness("race").violation(reports).unwrap(), "torn");
    let tests = "{\"status\":\"ok\",\"said\":\"a\"}\n{\"status\":\"fail\",\"said\":\"b\"}\n";
    assert_eq!(harness("device-test").violation(tests).unwrap(), "b");
    let panic = "thread panicked at src/x.rs:1:\ntwo leases\n";
    assert_eq!(harness("loom").violation(panic).unwrap(), "two leases");
    assert_eq!(harness("crash").violation(panic), None);
}
