//! The man pages and completions that `cargo xtask dist` ships.

#[path = "../../examples/pages/pages.rs"]
mod written;

use std::collections::BTreeMap;

use clap::{Command, CommandFactory};
use rb_cli::args::Cli;

use written::SHELLS;

/// All files, with roff's escapes of hyphens and apostrophes undone.
fn files() -> BTreeMap<String, String> {
    let plain = |text: Vec<u8>| {
        let text = String::from_utf8(text).unwrap();
        text.replace(r"\-", "-").replace(r"\*(Aq", "'")
    };
    let all = written::all().unwrap();
    all.into_iter()
        .map(|(path, text)| (path, plain(text)))
        .collect()
}

fn program() -> Command {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    program
}

fn section<'a>(page: &'a str, name: &str) -> &'a str {
    let heading = format!(".SH {name}\n");
    let (_, rest) = page.split_once(&heading).unwrap_or_else(|| {
        let quoted = format!(".SH \"{name}\"\n");
        page.split_once(&quoted)
            .unwrap_or_else(|| panic!("no {name}:\n{page}"))
    });
    rest.split_once("\n.SH").map_or(rest, |(text, _)| text)
}

/// Checks that a page has its name, every option that is shown, and none that is hidden.
fn check(page: &str, name: &str, command: &Command) {
    let named = section(page, "NAME").lines().next().unwrap();
    assert!(named.contains(&format!("{name} - ")), "{named}");
    // whatis(1) shows one line.
    assert!(named.len() < 140, "{named}");
    for option in command.get_arguments() {
        let Some(long) = option.get_long() else {
            continue;
        };
        let header = format!(r"\fB--{long}\fR");
        let is_there = section(page, "OPTIONS").contains(&header);
        assert_eq!(is_there, !option.is_hide_set(), "{name} --{long}:\n{page}");
    }
}

#[test]
fn every_command_has_a_page_with_its_name_and_options() {
    let mut files = files();
    let program = program();
    let mut count = 0;
    let main = files.remove("man/rb.1").unwrap();
    check(&main, "rb", &program);
    for command in program.get_subcommands() {
        let name = format!("rb-{}", command.get_name());
        let page = files.remove(&format!("man/{name}.1"));
        assert_eq!(page.is_some(), !command.is_hide_set(), "{name}");
        let Some(page) = page else {
            assert!(!main.contains(&name), "{name}:\n{main}");
            continue;
        };
        check(&page, &name, command);
        assert!(section(&main, "SUBCOMMANDS").contains(&name), "{main}");
        assert!(section(&main, "SEE ALSO").contains(&name), "{main}");
        assert!(
            section(&page, "SEE ALSO").contains(r"\fBrb\fR(1)"),
            "{page}"
        );
        count += 1;
    }
    assert_eq!(count, 18);
    // Nothing remains but the completions.
    assert_eq!(files.len(), SHELLS.len(), "{:?}", files.keys());
}

#[test]
fn completions_name_every_command_and_option_that_is_shown() {
    let files = files();
    for (_, path) in SHELLS {
        let text = &files[path];
        for command in program().get_subcommands() {
            let name = command.get_name();
            // As bash, zsh and fish write a command.
            let forms = [
                format!("rb,{name})"),
                format!("'{name}:"),
                format!("-a \"{name}\""),
            ];
            let is_there = forms.iter().any(|form| text.contains(form));
            assert_eq!(is_there, !command.is_hide_set(), "{path}: {name}");
            for option in command.get_arguments() {
                let Some(long) = option.get_long() else {
                    continue;
                };
                // Bash and zsh write the hyphens, fish writes `-l NAME`.
                let forms = [format!("--{long}"), format!("-l {long}")];
                let is_there = forms.iter().any(|form| text.contains(form));
                let is_hidden = command.is_hide_set() || option.is_hide_set();
                assert!(is_there || is_hidden, "{path}: {name} --{long}");
            }
        }
        // Of `rb demo`.
        for form in ["--turns", "-l turns"] {
            assert!(!text.contains(form), "{path} has {form}, which is hidden");
        }
    }
}
