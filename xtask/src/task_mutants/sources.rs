//! Sources of one crate: its files, and the start and end of each item in them. Code that is compiled for tests only is
//! left out.

use std::ops::Range;
use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Meta, Token};

use super::name::{Kind, Name, Owner};
use super::tokens::{self, Token};

/// A crate without its tests.
pub(crate) struct Sources {
    pub(crate) files: Vec<SourceFile>,
    pub(crate) items: Vec<Item>,
}

pub(crate) struct SourceFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    tokens: Vec<Token>,
}

pub(crate) struct Item {
    pub(crate) name: Name,
    /// Index in [`Sources::files`].
    pub(crate) file: usize,
    bytes: Range<usize>,
}

/// A module file that was declared but not yet read.
struct Due {
    modules: Vec<String>,
    /// Possible paths of the file; the first that exists is used.
    paths: Vec<PathBuf>,
}

impl Sources {
    /// Reads the library and the main program of a crate of `crates/`; of test-only code, only the module `tests`.
    ///
    /// # Errors
    /// If there is no such crate, a module has no file, or a file does not parse.
    pub(crate) fn load(package: &str, tests: Option<&str>) -> Result<Sources, String> {
        let source = Path::new("crates").join(package).join("src");
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        let roots = [source.join("lib.rs"), source.join("main.rs")];
        let present: Vec<PathBuf> = roots.into_iter().filter(|root| root.exists()).collect();
        if present.is_empty() {
            return Err(format!("no crate {package:?} in crates/"));
        }
        Sources::read(present, tests, &read)
    }

    /// Reads the roots, the files that they declare as modules, and so on.
    pub(crate) fn read(
        roots: Vec<PathBuf>,
        tests: Option<&str>,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> Result<Sources, String> {
        let (files, items) = (Vec::new(), Vec::new());
        let mut sources = Sources { files, items };
        let root = |path| Due {
            modules: Vec::new(),
            paths: vec![path],
        };
        let mut due: Vec<Due> = roots.into_iter().map(root).collect();
        while let Some(Due { modules, paths }) = due.pop() {
            let found = paths.iter().find_map(|path| Some((path, read(path)?)));
            let (path, text) = found.ok_or_else(|| format!("no file {paths:?}"))?;
            let at = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
            let stream: TokenStream = text.parse().map_err(|why| at(&why))?;
            let tokens = tokens::flat(stream.clone());
            let parsed: syn::File = syn::parse2(stream).map_err(|why| at(&why))?;
            let path = path.clone();
            let mut reader = Reader {
                text: &text,
                path: &path,
                file: sources.files.len(),
                file_depth: modules.len(),
                around: modules,
                owner: None,
                tests,
                items: &mut sources.items,
                due: &mut due,
            };
            reader.visit_file(&parsed);
            sources.files.push(SourceFile { path, text, tokens });
        }
        Ok(sources)
    }

    /// Returns the tokens of an item.
    pub(crate) fn tokens(&self, item: &Item) -> &[Token] {
        let tokens = &self.files[item.file].tokens;
        let start = tokens.partition_point(|token| token.bytes.start < item.bytes.start);
        let end = tokens.partition_point(|token| token.bytes.end <= item.bytes.end);
        &tokens[start..end]
    }

    /// Returns the file and line of a byte in the file of an item.
    pub(crate) fn place(&self, item: &Item, byte: usize) -> String {
        let file = &self.files[item.file];
        let line = 1 + file.text[..byte].matches('\n').count();
        format!("{}:{line}", file.path.display())
    }

    /// Returns an item's name and location, for messages.
    pub(crate) fn shown(&self, item: &Item) -> String {
        format!("`{}` ({})", item.name, self.place(item, item.bytes.start))
    }
}

/// Collects the items of one file and the modules that it declares.
struct Reader<'a> {
    text: &'a str,
    path: &'a Path,
    file: usize,
    /// Number of leading elements of `around` that are modules of the file itself.
    file_depth: usize,
    around: Vec<String>,
    owner: Option<Owner>,
    tests: Option<&'a str>,
    items: &'a mut Vec<Item>,
    due: &'a mut Vec<Due>,
}

impl Reader<'_> {
    fn note(&mut self, kind: Kind, last: &syn::Ident, bytes: Range<usize>) {
        let name = Name {
            kind,
            around: self.around.clone(),
            owner: self.owner.clone(),
            last: last.to_string(),
        };
        let file = self.file;
        self.items.push(Item { name, file, bytes });
    }

    fn function(&mut self, signature: &syn::Signature, body: Option<&syn::Block>) {
        let mut bytes = signature.span().byte_range();
        if let Some(body) = body {
            bytes.end = body.span().byte_range().end;
        }
        self.note(Kind::Fn, &signature.ident, bytes);
        let Some(body) = body else {
            return;
        };
        // Items in the body do not belong to the type.
        let owner = self.owner.take();
        let depth = self.around.len();
        let of = owner.iter().map(|owner| super::name::base(&owner.of));
        self.around.extend(of.map(str::to_owned));
        self.around.push(signature.ident.to_string());
        self.visit_block(body);
        self.around.truncate(depth);
        self.owner = owner;
    }

    fn text_of(&self, node: &impl Spanned) -> String {
        let bytes = node.span().byte_range();
        self.text.get(bytes).unwrap_or_default().to_owned()
    }

    fn with_owner(&mut self, owner: Owner, visit: impl FnOnce(&mut Self)) {
        let outer = self.owner.replace(owner);
        visit(self);
        self.owner = outer;
    }

    /// Returns the possible paths of a module that this file declares.
    fn files_of(&self, module: &str) -> Vec<PathBuf> {
        let mut folder = self.path.with_extension("");
        let stem = folder.file_name().unwrap_or_default();
        if stem == "lib" || stem == "main" || stem == "mod" {
            folder.pop();
        }
        folder.extend(&self.around[self.file_depth..]);
        let module = folder.join(module);
        vec![module.with_extension("rs"), module.join("mod.rs")]
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let name = module.ident.to_string();
        if is_for_tests(&module.attrs) && self.tests != Some(&name) {
            return;
        }
        let paths = self.files_of(&name);
        self.around.push(name);
        if module.content.is_some() {
            visit::visit_item_mod(self, module);
        } else {
            let modules = self.around.clone();
            self.due.push(Due { modules, paths });
        }
        self.around.pop();
    }

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        if is_for_tests(&block.attrs) {
            return;
        }
        let of_trait = block.trait_.as_ref();
        let owner = Owner {
            of: self.text_of(&*block.self_ty),
            as_trait: of_trait.map(|(path, _)| self.text_of(path)),
        };
        self.with_owner(owner, |reader| visit::visit_item_impl(reader, block));
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        let (of, as_trait) = (item.ident.to_string(), None);
        let owner = Owner { of, as_trait };
        self.with_owner(owner, |reader| visit::visit_item_trait(reader, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            self.function(&item.sig, Some(&item.block));
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            self.function(&item.sig, Some(&item.block));
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.function(&item.sig, item.default.as_ref());
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.note(Kind::Struct, &item.ident, item.span().byte_range());
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.note(Kind::Enum, &item.ident, item.span().byte_range());
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.note(Kind::Const, &item.ident, item.span().byte_range());
        visit::visit_item_const(self, item);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.note(Kind::Const, &item.ident, item.span().byte_range());
    }
}

/// Returns whether an item with these attributes is compiled for tests only.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args().is_ok_and(|meta| needs_test(&meta))
    })
}

/// Returns whether a condition cannot hold without `test`.
fn needs_test(condition: &Meta) -> bool {
    let Meta::List(list) = condition else {
        return condition.path().is_ident("test");
    };
    let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    let mut parts = parts.into_iter().flatten();
    match list.path.get_ident() {
        Some(word) if word == "all" => parts.any(|part| needs_test(&part)),
        Some(word) if word == "any" => parts.all(|part| needs_test(&part)),
        _ => false,
    }
}
