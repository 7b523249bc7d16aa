//! The targets of `rb get`.

use std::fs::{File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::bad_input::says;
use crate::program::{Place, arg, rb_with_input};

fn filled() -> Place {
    let place = Place::formatted();
    rb_with_input(place.args(&["put"], &["k", "-"]), b"value").text();
    place
}

#[test]
fn the_store_is_never_the_output() {
    let place = filled();
    let before = std::fs::read(&place.store).unwrap();
    let (link, hard) = (place.path("link"), place.path("hard"));
    symlink(&place.store, &link).unwrap();
    std::fs::hard_link(&place.store, &hard).unwrap();
    // A store under an unrelated name: `rb get /dev/ng0n1 KEY -o /dev/nvme0n1` wrote the value over the store that it
    // came from.
    let other = place.path("other");
    std::fs::copy(&place.store, &other).unwrap();
    for output in [&place.store, &link, &hard, &other] {
        for key in ["k", "absent"] {
            let error = place.rb(&["get"], &[key, "-o", arg(output)]).error();
            says(&error, &[arg(output), "the store itself"]);
        }
        place
            .rb(&["get", "--json"], &["k", "-o", arg(output)])
            .json_error();
    }
    assert!(std::fs::read(&place.store).unwrap() == before);
    assert!(std::fs::read(&hard).unwrap() == before);
    assert!(std::fs::read(&other).unwrap() == before);
}

#[test]
fn an_output_file_is_replaced_whole() {
    let place = filled();
    let output = place.path("output");
    // A reader that has the old file open keeps its content.
    std::fs::write(&output, b"what was there before").unwrap();
    std::fs::set_permissions(&output, Permissions::from_mode(0o644)).unwrap();
    let old = place.path("old");
    std::fs::hard_link(&output, &old).unwrap();
    place.rb(&["get"], &["k", "-o", arg(&output)]).text();
    assert_eq!(std::fs::read(&output).unwrap(), b"value");
    assert_eq!(std::fs::read(&old).unwrap(), b"what was there before");
    let mode = std::fs::metadata(&output).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let link = place.path("link");
    symlink(&output, &link).unwrap();
    std::fs::write(&output, b"other").unwrap();
    place.rb(&["get"], &["k", "-o", arg(&link)]).text();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(std::fs::read(&output).unwrap(), b"value");

    let mut names: Vec<_> = std::fs::read_dir(place.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["link", "old", "output", "store"]);
}

#[test]
fn a_name_without_a_folder_is_in_the_current_one() {
    let place = filled();
    let status = Command::new(env!("CARGO_BIN_EXE_rb"))
        .current_dir(place.folder.path())
        .args(["get", "store", "k", "-o", "output"])
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(std::fs::read(place.path("output")).unwrap(), b"value");
}

#[test]
fn what_cannot_be_written_is_an_error_that_leaves_nothing() {
    let place = filled();
    let folder = arg(place.folder.path());
    for output in [folder, "/nonexistent/output"] {
        says(
            &place.rb(&["get"], &["k", "-o", output]).error(),
            &["writing", output],
        );
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
}

#[test]
fn devices_pipes_and_open_files_are_written_straight() {
    let place = filled();
    place.rb(&["get"], &["k", "-o", "/dev/null"]).text();
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let ran = place.rb(&["get"], &["k", "-o", name]);
        assert_eq!(
            (ran.code, &ran.stdout[..]),
            (Some(0), &b"value"[..]),
            "{ran:?}"
        );
    }
    // A redirected standard output keeps its earlier content.
    let path = place.file("redirected", b"before ");
    let file = File::options().append(true).open(&path).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_rb"))
        .args(place.args(&["get", "--json"], &["k", "-o", "/dev/stdout"]))
        .stdout(file)
        .status()
        .unwrap();
    assert!(status.success());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("before value{"), "{text}");
}
