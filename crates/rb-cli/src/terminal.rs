//! Makes text safe for a terminal. Paths, keys and arguments may have characters that move the cursor, change
//! colours, or hide or reorder text: these are replaced by their numbers.

use std::borrow::Cow;

/// Returns whether a terminal shows the character as itself. Tabs and line ends count as such.
pub(crate) fn is_plain(char: char) -> bool {
    match char {
        ' '..='~' | '\t' | '\n' => true,
        _ if char.is_ascii() => false,
        // Letters and marks that are drawn as nothing or as a blank: two different keys would look the same.
        '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{ffa0}' => false,
        // The standard library's definition of printable. An accent is printable only after a letter.
        _ => String::from_iter(['a', char]).escape_debug().count() == 2,
    }
}

/// Returns the text with all other characters as `\u{202e}`.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    replace(text, |char, out| out.extend(char.escape_unicode()))
}

/// Returns a line of JSON with all other characters as `\u202e`, which JSON parses to the same text. They can
/// only be in strings.
pub(crate) fn plain_json(line: &str) -> Cow<'_, str> {
    replace(line, |char, out| {
        for unit in char.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    })
}

fn replace(text: &str, with: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match is_plain(char) {
            true => out.push(char),
            false => with(char, &mut out),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_hides_or_reorders_is_shown_by_number() {
        for (given, shown) in [
            ("chat/é 7", "chat/é 7"),
            ("e\u{301} 日本 🦀", "e\u{301} 日本 🦀"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("a\u{200b}\u{2028}\u{feff}", "a\\u{200b}\\u{2028}\\u{feff}"),
            (
                "\u{1b}[31m\r\u{7f}\u{9b}",
                "\\u{1b}[31m\\u{d}\\u{7f}\\u{9b}",
            ),
            ("\u{e0041}", "\\u{e0041}"),
            ("a\u{3164}\u{115f}", "a\\u{3164}\\u{115f}"),
            ("a\u{2800}\u{fe0f}\u{34f}", "a\\u{2800}\\u{fe0f}\\u{34f}"),
        ] {
            assert_eq!(plain(given), shown, "{given:?}");
        }
    }

    #[test]
    fn a_line_of_json_means_the_same() {
        let text = "a\u{202e}\u{e0041}é\"\\";
        let line = serde_json::to_string(text).unwrap();
        let shown = plain_json(&line);
        assert!(shown.chars().all(is_plain) && shown != line);
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
    }
}
