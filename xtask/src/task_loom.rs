//! Runs the concurrency models of rb-index, and prints a table of what each explored.

use crate::run::cargo_with;

/// Depth of the exploration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Few preemptions: takes seconds, for every test run.
    Quick,
    /// All preemptions that add relevant interleavings.
    Full,
}

/// Runs the models whose name contains `filter`.
///
/// # Errors
/// If a model fails, or the filter matches none.
pub(crate) fn run(filter: Option<&str>, form: Form) -> Result<(), String> {
    let folder = std::env::current_dir().map_err(|why| why.to_string())?;
    let table = folder.join("target/loom-table.txt");
    drop(std::fs::remove_file(&table));
    let table = table.to_string_lossy().into_owned();
    let mut env = vec![
        ("RUSTFLAGS", "--cfg rb_loom"),
        ("RB_LOOM_TABLE", table.as_str()),
    ];
    if form == Form::Full {
        env.push(("RB_LOOM_FULL", "1"));
    }
    // The models filter themselves: a filter of the test program would also select tests that are
    // not models, and those do not work on loom's primitives.
    if let Some(filter) = filter {
        env.push(("RB_LOOM_ONLY", filter));
    }
    // A separate target folder: the flag changes every crate, and rebuilding all of them twice in
    // each run would cost more than the disk space.
    let args: Vec<&str> =
        "test -p rb-index --release --lib --target-dir target/loom loom_tests:: -- --quiet"
            .split(' ')
            .collect();
    let outcome = cargo_with(&args, &env);
    let rows = std::fs::read_to_string(&table).unwrap_or_default();
    print_table(&rows);
    outcome?;
    match (filter, rows.is_empty()) {
        (Some(filter), true) => Err(format!("no model has {filter:?} in its name")),
        (None, true) => Err("no model ran".into()),
        (_, false) => Ok(()),
    }
}

/// Prints a table. Each row is the name, interleavings, bound and milliseconds of a model that passed.
fn print_table(rows: &str) {
    let mut rows: Vec<Vec<&str>> = rows.lines().map(|row| row.split(' ').collect()).collect();
    rows.sort_unstable();
    let title = vec!["model", "interleavings", "preemptions at most", "ms"];
    for row in std::iter::once(&title).chain(&rows) {
        if let [name, explored, bound, milliseconds] = row[..] {
            eprintln!("   {name:48} {explored:>13} {bound:>19} {milliseconds:>7}");
        }
    }
}
