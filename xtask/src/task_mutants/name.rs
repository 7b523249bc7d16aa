//! Names of items, as the compiler and backtraces spell them, and the matching of a mutant's `in` with them.

use std::fmt::{Display, Formatter, Result};

/// The kinds of items that an edit can name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Fn,
    Struct,
    Enum,
    Const,
}

/// The name of an item and of its surroundings.
pub(crate) struct Name {
    pub(crate) kind: Kind,
    /// Modules and functions around the item.
    pub(crate) around: Vec<String>,
    pub(crate) owner: Option<Owner>,
    pub(crate) last: String,
}

/// The impl or trait of an associated item. The texts are those of the source.
#[derive(Clone)]
pub(crate) struct Owner {
    /// Type of the impl; for a trait's own items, the trait.
    pub(crate) of: String,
    /// Trait that the impl implements.
    pub(crate) as_trait: Option<String>,
}

impl Kind {
    /// Returns the keyword in front of the name. Functions have none.
    fn word(self) -> &'static str {
        match self {
            Kind::Fn => "",
            Kind::Struct => "struct ",
            Kind::Enum => "enum ",
            Kind::Const => "const ",
        }
    }
}

impl Name {
    /// Returns whether `wanted` means this item. It is a path whose first segments may be missing, except the type of
    /// an associated item (`Log::write`, `checkpoint::room`, `struct Log`); or `<Type as Trait>::name`.
    pub(crate) fn is_meant_by(&self, wanted: &str) -> bool {
        let wanted = match self.kind {
            Kind::Fn => wanted,
            kind => match wanted.strip_prefix(kind.word()) {
                Some(rest) => rest,
                None => return false,
            },
        };
        if let Some((owner, last)) = qualified(wanted) {
            return last == self.last && self.owner.as_ref().is_some_and(|own| own.is(owner));
        }
        let mut ours = self.path();
        let wanted: Vec<&str> = wanted.split("::").collect();
        let least = 1 + usize::from(self.owner.is_some());
        if wanted.len() < least || wanted.len() > ours.len() {
            return false;
        }
        ours.split_off(ours.len() - wanted.len()) == wanted
    }

    /// Returns the path of the item in its crate.
    pub(crate) fn path(&self) -> Vec<&str> {
        let around = self.around.iter().map(String::as_str);
        let owner = self.owner.iter().map(|owner| base(&owner.of));
        around.chain(owner).chain([self.last.as_str()]).collect()
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let (word, last) = (self.kind.word(), &self.last);
        match &self.owner {
            None => write!(f, "{word}{last}"),
            Some(Owner { of, as_trait: None }) => write!(f, "{word}{}::{last}", base(of)),
            Some(Owner {
                of,
                as_trait: Some(of_trait),
            }) => {
                write!(f, "{word}<{} as {of_trait}>::{last}", base(of))
            }
        }
    }
}

impl Owner {
    /// Returns whether `wanted`, `Type` or `Type as Trait`, means this owner. Generic arguments and paths may be left
    /// out.
    fn is(&self, wanted: &str) -> bool {
        let same = |own: &str, wanted: &str| wanted == own || wanted == base(own);
        match (wanted.split_once(" as "), &self.as_trait) {
            (Some((of, of_trait)), Some(own)) => same(&self.of, of) && same(own, of_trait),
            (None, None) => same(&self.of, wanted),
            _ => false,
        }
    }
}

/// Splits `<owner>::last` into its parts.
fn qualified(wanted: &str) -> Option<(&str, &str)> {
    wanted.strip_prefix('<')?.rsplit_once(">::")
}

/// Returns the name of a type or trait without its path and generic arguments.
pub(crate) fn base(text: &str) -> &str {
    let path = text.split('<').next().unwrap_or(text);
    path.rsplit("::").next().unwrap_or(path)
}
