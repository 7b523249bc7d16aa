//! Reads the file of a mutant, and makes the source with its edits.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::harness::Harness;
use super::misfit::Misfit;
use super::sources::{Item, Sources};
use super::tokens::{places, tokens};

pub(crate) const FOLDER: &str = "tests/mutants";

/// A fault in the code, and the harnesses that must find it.
pub(crate) struct Mutant {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) found_by: Vec<Harness>,
    pub(crate) package: String,
    pub(crate) tests: Option<String>,
    edits: Vec<Edit>,
}

/// A file of [`FOLDER`], in TOML.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Text {
    what: String,
    found_by: Vec<String>,
    #[serde(rename = "crate")]
    package: String,
    /// A module that is compiled for tests only and may be edited anyway: a model of a caller's behaviour.
    tests: Option<String>,
    edit: Vec<Edit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    /// The item, see [`super::name::Name::is_meant_by`].
    #[serde(rename = "in")]
    item: String,
    find: String,
    replace: String,
    /// `I of N`: the statement occurs N times, and the edit applies to the I-th occurrence.
    nth: Option<String>,
}

/// Returns all mutants in the order of their names, or the error of each file.
///
/// # Errors
/// If the folder cannot be read.
pub(crate) fn all() -> Result<Vec<Result<Mutant, String>>, String> {
    let failed = |why: std::io::Error| format!("{FOLDER}: {why}");
    let mut paths = Vec::new();
    for entry in fs::read_dir(FOLDER).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort_unstable();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).map_err(|why| why.to_string());
        let mutant = text.and_then(|text| Mutant::read(&path, &text));
        mutant.map_err(|why| format!("{}: {why}", path.display()))
    };
    Ok(paths.into_iter().map(read).collect())
}

impl Mutant {
    /// Reads the text of a file at `path`.
    ///
    /// # Errors
    /// If a field is missing, unknown or unusable.
    pub(crate) fn read(path: &Path, text: &str) -> Result<Mutant, String> {
        if path.extension().is_none_or(|ext| ext != "toml") {
            return Err("not a .toml file".into());
        }
        let text: Text = toml::from_str(text).map_err(|why| why.to_string())?;
        if text.what.is_empty() || text.what.contains('\n') {
            return Err("`what` is not one line".into());
        }
        if text.found_by.is_empty() || text.edit.is_empty() {
            return Err("needs a harness and an edit".into());
        }
        let found_by: Result<Vec<Harness>, String> = text
            .found_by
            .iter()
            .map(|line| Harness::read(line))
            .collect();
        Ok(Mutant {
            name: path.file_stem().unwrap_or_default().display().to_string(),
            what: text.what,
            found_by: found_by?,
            package: text.package,
            tests: text.tests,
            edits: text.edit,
        })
    }

    /// Returns the path and new text of each file that the edits change.
    ///
    /// # Errors
    /// If an edit does not match exactly, overlaps another one, or makes text that does not parse.
    pub(crate) fn apply(&self, sources: &Sources) -> Result<Vec<(PathBuf, String)>, Vec<String>> {
        let (mut changes, mut misfits) = (Vec::new(), Vec::new());
        for edit in &self.edits {
            match edit.place(sources, &self.package) {
                Ok((file, bytes)) => changes.push((file, bytes, edit.replace.as_str())),
                Err(why) => misfits.push(why),
            }
        }
        if !misfits.is_empty() {
            return Err(misfits);
        }
        // From the last to the first, so that the positions of the remaining edits stay valid.
        changes.sort_unstable_by_key(|(file, bytes, _)| (*file, bytes.start));
        let overlap = |pair: &[(usize, Range<usize>, &str)]| {
            pair[0].0 == pair[1].0 && pair[0].1.end > pair[1].1.start
        };
        if changes.windows(2).any(overlap) {
            return Err(vec!["two edits overlap".into()]);
        }
        let mut changed: Vec<(usize, String)> = Vec::new();
        for (file, bytes, replace) in changes.into_iter().rev() {
            if changed.last().is_none_or(|(last, _)| *last != file) {
                changed.push((file, sources.files[file].text.clone()));
            }
            if let Some((_, text)) = changed.last_mut() {
                text.replace_range(bytes, replace);
            }
        }
        let mut files = Vec::new();
        for (file, text) in changed {
            let path = &sources.files[file].path;
            if let Err(why) = syn::parse_file(&text) {
                let (path, at) = (path.display(), why.span().start());
                misfits.push(format!(
                    "{path} does not parse with the edits: {why}, line {}",
                    at.line
                ));
            }
            files.push((path.clone(), text));
        }
        match misfits.is_empty() {
            true => Ok(files),
            false => Err(misfits),
        }
    }
}

impl Edit {
    /// Returns the file and the bytes that the edit replaces.
    fn place(&self, sources: &Sources, package: &str) -> Result<(usize, Range<usize>), String> {
        let pattern = tokens(&self.find)?;
        if pattern.is_empty() || pattern == tokens(&self.replace)? {
            return Err(format!("the edit in `{}` changes nothing", self.item));
        }
        let misfit = Misfit {
            sources,
            wanted: &self.item,
            find: &self.find,
            pattern: &pattern,
        };
        let meant = |item: &&Item| item.name.is_meant_by(&self.item);
        let items: Vec<&Item> = sources.items.iter().filter(meant).collect();
        let item = match items[..] {
            [] => return Err(misfit.no_item(package)),
            [item] => item,
            _ => return Err(misfit.many_items(&items)),
        };
        let (nth, of) = self.nth()?;
        let found = places(sources.tokens(item), &pattern);
        match found.len() {
            count if count == of => Ok((item.file, found[nth - 1].clone())),
            0 => Err(misfit.no_statement(item)),
            _ => Err(misfit.many_statements(item, &found, of)),
        }
    }

    /// Returns which match is meant, from 1, and how many there must be.
    fn nth(&self) -> Result<(usize, usize), String> {
        let Some(text) = &self.nth else {
            return Ok((1, 1));
        };
        let numbers = text.split_once(" of ").and_then(|(nth, of)| {
            let numbers: (usize, usize) = (nth.parse().ok()?, of.parse().ok()?);
            ((1..=numbers.1).contains(&numbers.0)).then_some(numbers)
        });
        numbers.ok_or_else(|| format!("nth = {text:?} is not like \"1 of 2\""))
    }
}
