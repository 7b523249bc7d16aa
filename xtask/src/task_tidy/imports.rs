//! Finds which files of a crate use which others, from the paths in their source; tests are left out.
//!
//! A path counts as far as it names modules: `crate::log::delta::DeltaLog` is an import of `log/delta.rs`, regardless
//! of re-exports. Declaring a module does not import it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// Files of one crate, by their path below its `src`, and the imports of each.
pub(super) struct Imports {
    pub(super) name: String,
    pub(super) files: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

impl Imports {
    /// Reads the crate whose root is `src/lib.rs` or `src/main.rs` in `folder`; `None` if there is neither.
    pub(super) fn read(name: &str, folder: &Path) -> Result<Option<Imports>, String> {
        let src = folder.join("src");
        let roots = ["lib.rs", "main.rs"].map(|file| src.join(file));
        let Some(root) = roots.iter().find(|root| root.exists()) else {
            return Ok(None);
        };
        let mut tree = Tree {
            src,
            files: BTreeMap::new(),
            parsed: Vec::new(),
        };
        tree.read_file(root, Vec::new())?;
        let mut files = BTreeMap::new();
        for (file, module, parsed) in &tree.parsed {
            let mut paths = Paths {
                tree: &tree,
                module: module.clone(),
                file,
                found: BTreeSet::new(),
            };
            paths.visit_file(parsed);
            files.insert(file.clone(), paths.found);
        }
        let name = name.to_owned();
        Ok(Some(Imports { name, files }))
    }

    pub(super) fn count(&self) -> usize {
        self.files.values().map(BTreeSet::len).sum()
    }

    /// Returns the file that imports the most others.
    pub(super) fn widest(&self) -> Option<(&Path, usize)> {
        let widest = self.files.iter().max_by_key(|(_, imports)| imports.len());
        widest.map(|(file, imports)| (file.as_path(), imports.len()))
    }

    /// Returns the files that import themselves, directly or through others.
    pub(super) fn in_circles(&self) -> Vec<&Path> {
        let files = self.files.keys().map(PathBuf::as_path);
        files.filter(|file| self.circle(file).is_some()).collect()
    }

    /// Returns the shortest path from a file back to itself.
    pub(super) fn circle(&self, start: &Path) -> Option<Vec<&Path>> {
        let mut came_from: BTreeMap<&Path, &Path> = BTreeMap::new();
        let (start, _) = self.files.get_key_value(start)?;
        let mut edge: Vec<&Path> = vec![start];
        while !edge.is_empty() {
            let mut next = Vec::new();
            for file in edge {
                for import in &self.files[file] {
                    if import == start {
                        let mut way = vec![start.as_path(), file];
                        while let Some(before) = came_from.get(way[way.len() - 1]) {
                            way.push(before);
                        }
                        way.dedup();
                        if way.len() > 1 && way[way.len() - 1] != start {
                            way.push(start);
                        }
                        way.reverse();
                        return Some(way);
                    }
                    if !came_from.contains_key(import.as_path()) {
                        came_from.insert(import, file);
                        next.push(import.as_path());
                    }
                }
            }
            edge = next;
        }
        None
    }
}

struct Tree {
    src: PathBuf,
    /// The file of each module.
    files: BTreeMap<Vec<String>, PathBuf>,
    parsed: Vec<(PathBuf, Vec<String>, syn::File)>,
}

impl Tree {
    fn read_file(&mut self, path: &Path, module: Vec<String>) -> Result<(), String> {
        let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let text = fs::read_to_string(path).map_err(|why| failed(&why))?;
        let parsed = syn::parse_file(&text).map_err(|why| failed(&why))?;
        let file = path.strip_prefix(&self.src).unwrap_or(path).to_path_buf();
        self.read_modules(&parsed.items, &file, &module)?;
        self.files.insert(module.clone(), file.clone());
        self.parsed.push((file, module, parsed));
        Ok(())
    }

    fn read_modules(
        &mut self,
        items: &[Item],
        file: &Path,
        module: &[String],
    ) -> Result<(), String> {
        for item in items {
            let Item::Mod(child) = item else { continue };
            if is_for_tests(&child.attrs) {
                continue;
            }
            let mut inner = module.to_vec();
            inner.push(child.ident.to_string());
            if let Some((_, items)) = &child.content {
                self.files.insert(inner.clone(), file.to_path_buf());
                self.read_modules(items, file, &inner)?;
                continue;
            }
            let stem: PathBuf = inner.iter().collect();
            let places = [stem.with_extension("rs"), stem.join("mod.rs")];
            let place = places.into_iter().map(|place| self.src.join(place));
            if let Some(place) = place.into_iter().find(|place| place.exists()) {
                self.read_file(&place, inner)?;
            }
        }
        Ok(())
    }

    /// Returns the file of the deepest module that a path from the crate's root names.
    fn file_of(&self, path: &[String]) -> Option<&PathBuf> {
        (1..=path.len())
            .rev()
            .find_map(|len| self.files.get(&path[..len]))
    }
}

struct Paths<'a> {
    tree: &'a Tree,
    module: Vec<String>,
    file: &'a Path,
    found: BTreeSet<PathBuf>,
}

impl Paths<'_> {
    fn add(&mut self, path: &[String]) {
        let mut from = Vec::new();
        let mut rest = path;
        match path.first().map(String::as_str) {
            Some("crate") => rest = &path[1..],
            Some("self" | "super") => from.clone_from(&self.module),
            Some(first) => {
                let mut child = self.module.clone();
                child.push(first.to_owned());
                if !self.tree.files.contains_key(&child) {
                    return;
                }
                from.clone_from(&self.module);
            }
            None => return,
        }
        while let Some(step @ ("self" | "super")) = rest.first().map(String::as_str) {
            if step == "super" {
                from.pop();
            }
            rest = &rest[1..];
        }
        from.extend_from_slice(rest);
        if let Some(file) = self.tree.file_of(&from)
            && file != self.file
        {
            self.found.insert(file.clone());
        }
    }

    fn add_use(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add_use(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_use(tree, before);
                }
            }
            UseTree::Name(name) => {
                before.push(name.ident.to_string());
                self.add(before);
                before.pop();
            }
            UseTree::Rename(name) => {
                before.push(name.ident.to_string());
                self.add(before);
                before.pop();
            }
            UseTree::Glob(_) => self.add(before),
        }
    }

    /// A macro's input is tokens: paths in it begin with `crate` or `super`.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if path.last().is_none_or(|last| last == ":") => {
                    path.retain(|step| step != ":");
                    path.push(ident.to_string());
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    path.push(":".into());
                    continue;
                }
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                _ => {}
            }
            path.retain(|step| step != ":");
            if path.len() > 1 {
                self.add(&path);
            }
            path.clear();
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attrs = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_for_tests(attrs) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_use(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path
            .segments
            .iter()
            .map(|step| step.ident.to_string())
            .collect();
        if names.len() > 1 {
            self.add(&names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, of: &'ast syn::Macro) {
        self.add_tokens(of.tokens.clone());
    }
}

fn is_for_tests(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        attr.path().is_ident("test")
            || attr.path().is_ident("cfg")
                && attr
                    .parse_args::<syn::Path>()
                    .is_ok_and(|path| path.is_ident("test"))
    })
}
