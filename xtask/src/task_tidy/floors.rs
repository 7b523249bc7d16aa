//! Checks that the files of a crate import each other without circles, and the floors of rb-core: a file imports from
//! its own folder or from below.

use std::path::Path;

use super::imports::Imports;

/// Folders of rb-core, from the top down. `store` is the only file of its floor; other files in `src` itself are
/// vocabulary that all floors use.
const FLOORS: [&str; 9] = [
    "check",
    "metrics",
    "store",
    "open",
    "ops",
    "background",
    "core",
    "log",
    "io",
];

/// Checks every crate and prints its figures.
pub(super) fn check(breaches: &mut Vec<String>) -> Result<(), String> {
    let folders = [
        ("rb-format", "crates/rb-format"),
        ("rb-io", "crates/rb-io"),
        ("rb-index", "crates/rb-index"),
        ("rb-core", "crates/rb-core"),
        ("rb-testkit", "crates/rb-testkit"),
        ("rb-report", "crates/rb-report"),
        ("rb-cli", "crates/rb-cli"),
        ("rb-python", "crates/rb-python"),
        ("rb-tests", "tests"),
        ("rb-bench", "benches"),
        ("xtask", "xtask"),
    ];
    for (name, folder) in folders {
        let Some(imports) = Imports::read(name, Path::new(folder))? else {
            return Err(format!("{folder} has neither src/lib.rs nor src/main.rs"));
        };
        check_circles(&imports, breaches);
        if name == "rb-core" {
            check_floors(&imports, breaches);
            check_width(&imports, breaches);
        }
    }
    Ok(())
}

/// Maximum number of files of rb-core that one of them may import, not counting lib.rs, which names everything public.
const IMPORTS_MAX: usize = 12;

fn check_width(imports: &Imports, breaches: &mut Vec<String>) {
    for (file, imported) in &imports.files {
        let (shown, count) = (file.display(), imported.len());
        if count > IMPORTS_MAX && file != Path::new("lib.rs") {
            breaches.push(format!(
                "rb-core: {shown} imports {count} files, more than {IMPORTS_MAX}"
            ));
        }
    }
}

fn check_circles(imports: &Imports, breaches: &mut Vec<String>) {
    let circling = imports.in_circles();
    let (files, count) = (imports.files.len(), imports.count());
    let (widest, most) = imports.widest().unwrap_or((Path::new("-"), 0));
    eprintln!(
        "   {:<10} {files:>3} files, {count:>3} imports, {} in circles; most imports: {most} ({})",
        imports.name,
        circling.len(),
        widest.display()
    );
    let mut said: Vec<&Path> = Vec::new();
    for file in circling {
        // One circle names all its files.
        if said.contains(&file) {
            continue;
        }
        let way = imports.circle(file).unwrap_or_default();
        let words: Vec<_> = way.iter().map(|file| file.display().to_string()).collect();
        breaches.push(format!(
            "{}: a circle of imports: {}",
            imports.name,
            words.join(" -> ")
        ));
        said.extend(way);
    }
}

/// Returns the floor of a file: 0 is the top, and the vocabulary is below all.
fn floor(file: &Path) -> usize {
    let first = file.components().next();
    let name = first.map(|first| Path::new(first.as_os_str()).with_extension(""));
    let at = |name: &Path| FLOORS.iter().position(|floor| Path::new(floor) == name);
    name.and_then(|name| at(&name)).unwrap_or(FLOORS.len())
}

fn check_floors(imports: &Imports, breaches: &mut Vec<String>) {
    let name = |floor: usize| FLOORS.get(floor).copied().unwrap_or("the words");
    for (file, imported) in &imports.files {
        if file == Path::new("lib.rs") {
            continue;
        }
        for import in imported {
            let (from, to) = (floor(file), floor(import));
            if to < from {
                breaches.push(format!(
                    "rb-core: {} ({}) imports {}, which is above it ({})",
                    file.display(),
                    name(from),
                    import.display(),
                    name(to)
                ));
            }
        }
    }
}
