//! Horizontal bars of medians with their spread, for comparing a few programs.

use maud::{Markup, html};

/// Widths in the drawing, in pixels.
const NAMES: f64 = 140.0;
const BARS: f64 = 350.0;
const FIGURES: f64 = 230.0;
const ROW: f64 = 22.0;

/// A bar: a median and its spread.
#[derive(Clone, Debug)]
pub struct Spread {
    /// Name of the program.
    pub name: String,
    /// Length of the bar.
    pub median: f64,
    /// Left end of the line over the bar.
    pub min: f64,
    /// Right end of the line.
    pub max: f64,
    /// Figures as text, on the right.
    pub text: String,
    /// Draws the bar in the colour that stands out.
    pub marked: bool,
}

/// Returns the figure; `None` if no bar has a length.
pub(crate) fn figure(caption: &str, rows: &[Spread]) -> Option<Markup> {
    let most = rows.iter().map(|row| row.max).fold(0.0, f64::max);
    if !most.is_finite() || most <= 0.0 {
        return None;
    }
    let (width, height) = (NAMES + BARS + FIGURES, ROW * rows.len() as f64);
    let at = |number: f64| number / most * BARS;
    Some(html! {
        figure {
            figcaption { b { (caption) } }
            svg viewBox=(format!("0 0 {width} {height}")) xmlns="http://www.w3.org/2000/svg" {
                @for (top, row) in (0..).map(|number| ROW * f64::from(number)).zip(rows) {
                    text x="0" y=(top + 15.0) font-size="13" { (row.name) }
                    rect x=(NAMES) y=(top + 3.0) width=(at(row.median)) height="15"
                        fill=(if row.marked { "#0072b2" } else { "#a9b6c2" }) {}
                    path d=(format!("M{:.1} {}H{:.1}", NAMES + at(row.min), top + 10.5, NAMES + at(row.max)))
                        stroke="#333" {}
                    text x=(NAMES + BARS + 10.0) y=(top + 15.0) font-size="13" { (row.text) }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_their_names_as_text_and_nothing_has_no_bars() {
        let row = Spread {
            name: "<b>".to_owned(),
            median: 2.0,
            min: 1.0,
            max: 4.0,
            text: "2 [1–4]".to_owned(),
            marked: true,
        };
        let text = figure("GB/s", std::slice::from_ref(&row))
            .unwrap()
            .into_string();
        assert!(
            text.contains("&lt;b&gt;") && text.contains("width=\"175\""),
            "{text}"
        );
        assert!(figure("GB/s", &[]).is_none());
        assert!(
            figure(
                "GB/s",
                &[Spread {
                    max: f64::NAN,
                    ..row
                }]
            )
            .is_none()
        );
    }
}
