//! The text of each page and each completion. Hidden commands and options are in none.

use std::io;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use rb_cli::args::Cli;

/// Each shell, and the file in which it looks for the completions of `rb`.
pub(crate) const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "completions/bash/rb"),
    (Shell::Zsh, "completions/zsh/_rb"),
    (Shell::Fish, "completions/fish/rb.fish"),
];

/// Returns the path of each file in its folder, and its text.
pub(crate) fn all() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for (shell, path) in SHELLS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command(), "rb", &mut text);
        files.push((path.to_owned(), text));
    }
    // `rb help` has no page.
    let mut program = command().disable_help_subcommand(true);
    program.build();
    let names: Vec<String> = program.get_subcommands().map(page_name).collect();
    for command in program.get_subcommands() {
        let page = page(command.clone(), &["rb".to_owned()])?;
        files.push((format!("man/{}.1", page_name(command)), page));
    }
    files.push(("man/rb.1".to_owned(), page(program, &names)?));
    Ok(files)
}

/// Returns the command line of `rb` without hidden commands and options. The generators of completions write them out.
pub(crate) fn command() -> Command {
    visible(&Cli::command())
}

fn visible(full: &Command) -> Command {
    let about = full.get_about().map(ToString::to_string);
    let about = about.unwrap_or_default();
    let options = full.get_arguments().filter(|option| !option.is_hide_set());
    let commands = full.get_subcommands();
    let commands = commands.filter(|command| !command.is_hide_set());
    let mut shown = Command::new(full.get_name().to_owned())
        .about(first_sentence(&about).to_owned())
        .long_about(format!("{about}."))
        .args(options.cloned())
        .subcommands(commands.map(visible));
    if let Some(notes) = full.get_after_help() {
        shown = shown.after_help(notes.clone());
    }
    if full.get_version().is_some() {
        shown = shown.version(env!("CARGO_PKG_VERSION"));
    }
    shown
}

/// Returns the first sentence without its full stop: the lists of whatis(1) and of the shells have one line for each
/// command.
fn first_sentence(text: &str) -> &str {
    let end = text.find(". ").unwrap_or(text.len());
    text[..end].trim_end_matches('.')
}

fn page_name(command: &Command) -> String {
    format!("rb-{}", command.get_name())
}

/// Renders a page. The sections are those of `clap_mangen`, except that its EXTRA is NOTES and that `others` are named.
fn page(command: Command, others: &[String]) -> io::Result<Vec<u8>> {
    let notes = command.get_after_help().map(ToString::to_string);
    let has_commands = command.has_subcommands();
    let source = concat!("raw-block ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).source(source).manual("raw-block");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if has_commands {
        man.render_subcommands_section(&mut text)?;
    }
    let mut roff = Roff::new();
    if let Some(notes) = notes {
        roff.control("SH", ["NOTES"]);
        for paragraph in notes.split("\n\n") {
            roff.control("PP", []);
            roff.text([roman(paragraph)]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    for (at, name) in others.iter().enumerate() {
        let end = if at + 1 < others.len() { "," } else { "" };
        roff.text([bold(name), roman(format!("(1){end}"))]);
    }
    roff.control("PP", []);
    roff.text([roman(
        "The page operations.md of the documentation explains every command with samples.",
    )]);
    roff.to_writer(&mut text)?;
    Ok(text)
}
