//! Rust text as a flat sequence of tokens, and the search for one sequence in another.
//!
//! White space, line breaks and comments are not tokens, so code that is wrapped or commented differently compares
//! equal. A comma before a closing delimiter is optional, because rustfmt adds one when it wraps a list. In a pattern,
//! `...` before a closing delimiter stands for everything in the delimiters up to there.

use std::ops::Range;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// Number of tokens of `...`.
const REST: usize = 3;

/// One token and its bytes in the text. Every punctuation character is a separate token.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) bytes: Range<usize>,
}

/// Splits text whose delimiters are balanced.
///
/// # Errors
/// The first position that is not a Rust token, or a delimiter without a partner.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let stream: TokenStream = text.parse().map_err(|why| format!("{text:?}: {why}"))?;
    Ok(flat(stream))
}

/// Returns the tokens of a stream, with delimiters as tokens and without doc comments.
pub(crate) fn flat(stream: TokenStream) -> Vec<Token> {
    let mut into = Vec::new();
    flatten(stream, &mut into);
    into
}

fn flatten(stream: TokenStream, into: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let bytes = tree.span().byte_range();
        match tree {
            TokenTree::Punct(mark) if mark.as_char() == '#' && mark.spacing() == Spacing::Alone => {
                if trees.next_if(is_doc).is_none() {
                    into.push(Token::new("#", bytes));
                }
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                into.push(Token::new(open, group.span_open().byte_range()));
                flatten(group.stream(), into);
                into.push(Token::new(close, group.span_close().byte_range()));
            }
            other => into.push(Token::new(&other.to_string(), bytes)),
        }
    }
}

/// Returns whether this is the part of a doc comment after its `#`.
fn is_doc(tree: &TokenTree) -> bool {
    let TokenTree::Group(group) = tree else {
        return false;
    };
    let mut trees = group.stream().into_iter();
    matches!(trees.next(), Some(TokenTree::Ident(name)) if name == "doc")
        && matches!(trees.next(), Some(TokenTree::Punct(mark)) if mark.as_char() == '=')
}

impl Token {
    fn new(text: &str, bytes: Range<usize>) -> Token {
        let text = text.to_owned();
        Token { text, bytes }
    }

    fn opens(&self) -> bool {
        matches!(self.text.as_str(), "(" | "{" | "[")
    }

    fn closes(&self) -> bool {
        matches!(self.text.as_str(), ")" | "}" | "]")
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Token) -> bool {
        self.text == other.text
    }
}

/// Returns the bytes of each position in `text` that has the tokens of `pattern`.
pub(crate) fn places(text: &[Token], pattern: &[Token]) -> Vec<Range<usize>> {
    let starts = 0..text.len();
    let each = |start| end_of_match(text, start, pattern).map(|end| bytes(text, start..end));
    starts.filter_map(each).collect()
}

/// Returns the end of a match of `pattern` that begins with the token at `start`.
fn end_of_match(text: &[Token], start: usize, pattern: &[Token]) -> Option<usize> {
    let (mut at, mut due) = (start, 0);
    while due < pattern.len() {
        if is_rest(&pattern[due..]) {
            at = end_of_group(text, at)?;
            due += REST;
        } else if text.get(at)? == &pattern[due] {
            (at, due) = (at + 1, due + 1);
        } else if pattern[due].text == "," && text[at].closes() {
            due += 1;
        } else if text[at].text == "," && pattern[due].closes() {
            at += 1;
        } else {
            return None;
        }
    }
    (at > start).then_some(at)
}

/// Returns whether these tokens begin with `...` and the end of a group.
fn is_rest(pattern: &[Token]) -> bool {
    let (dots, after) = pattern.split_at(REST.min(pattern.len()));
    dots.iter().all(|dot| dot.text == ".") && after.first().is_some_and(Token::closes)
}

/// Returns the position of the delimiter that closes the group of the token at `at`.
fn end_of_group(text: &[Token], mut at: usize) -> Option<usize> {
    let mut open = 0;
    loop {
        let token = text.get(at)?;
        match open {
            0 if token.closes() => return Some(at),
            _ if token.closes() => open -= 1,
            _ if token.opens() => open += 1,
            _ => {}
        }
        at += 1;
    }
}

/// Returns the bytes of the part of `text` that differs least from `pattern`, if they have at least half in common.
pub(crate) fn nearest(text: &[Token], pattern: &[Token]) -> Option<Range<usize>> {
    let (part, distance) = closest(text, pattern);
    (distance * 2 <= pattern.len()).then(|| bytes(text, part))
}

fn bytes(text: &[Token], part: Range<usize>) -> Range<usize> {
    let first = text.get(part.start).map_or(0, |token| token.bytes.start);
    let end = part.end.checked_sub(1).and_then(|last| text.get(last));
    first..end.map_or(first, |token| token.bytes.end)
}

/// Returns the part of `text` that becomes `pattern` by the fewest insertions, deletions and replacements, and their
/// number (Sellers' algorithm).
pub(crate) fn closest<T: PartialEq>(text: &[T], pattern: &[T]) -> (Range<usize>, usize) {
    // For each end in the text: the fewest edits to the pattern so far, and the start of that part.
    let mut row: Vec<(usize, usize)> = (0..=text.len()).map(|end| (0, end)).collect();
    for (done, wanted) in pattern.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = (done + 1, 0);
        for (at, present) in text.iter().enumerate() {
            let replaced = (diagonal.0 + usize::from(present != wanted), diagonal.1);
            diagonal = row[at + 1];
            let missing = (diagonal.0 + 1, diagonal.1);
            let surplus = (row[at].0 + 1, row[at].1);
            let fewest = [replaced, missing, surplus].into_iter();
            row[at + 1] = fewest.min_by_key(|way| way.0).unwrap_or(replaced);
        }
    }
    let ends = row.into_iter().enumerate();
    let best = ends.min_by_key(|(_, (distance, _))| *distance);
    best.map_or((0..0, pattern.len()), |(end, (distance, start))| {
        (start..end, distance)
    })
}
