//! The page: a head with facts, then sections of sentences, tables and charts. All text is escaped.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::bars::{self, Spread};
use crate::chart::Chart;

/// Forbids scripts and everything that a browser would load.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
const STYLE: &str = "
:root{color-scheme:light}
body{font:15px/1.45 system-ui,sans-serif;color:#222;background:#fff;margin:0 auto;padding:1.5em 2em;max-width:1500px}
h1{font-size:1.5em;margin:0 0 .6em}
h2{font-size:1.15em;margin:1.6em 0 .5em}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15em 1.2em;margin:0;padding:.8em 1em;background:#f5f6f8;border-radius:6px}
dt{color:#666}
dd{margin:0;overflow-wrap:anywhere}
p{margin:.4em 0;max-width:75em;overflow-wrap:anywhere}
table{border-collapse:collapse;margin:.5em 0;font-variant-numeric:tabular-nums}
th,td{padding:.2em .9em .2em 0;text-align:right;border-bottom:1px solid #e4e4e4}
th{color:#666;font-weight:normal}
th:first-child,td:first-child{text-align:left}
.wide{overflow-x:auto}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(560px,100%),1fr));gap:1.2em 2em}
figure{margin:0;min-width:0}
figcaption{margin-bottom:.2em}
figure svg{display:block;width:100%;height:auto}
.key{white-space:nowrap;margin-left:1em}
.swatch{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.35em}
";

/// A page of figures.
#[derive(Debug, Default)]
pub struct Page {
    title: String,
    facts: Vec<(String, String)>,
    sections: Vec<Section>,
}

/// A part of a page.
#[derive(Debug, Default)]
pub struct Section {
    heading: String,
    sentences: Vec<String>,
    table: Option<(Vec<String>, Vec<Vec<String>>)>,
    figures: Vec<Markup>,
}

impl Page {
    /// Makes a page without content.
    #[must_use]
    pub fn new(title: &str) -> Page {
        Page {
            title: title.to_owned(),
            ..Page::default()
        }
    }

    /// Adds a fact to the head.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<String>) -> Page {
        self.facts.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a section.
    #[must_use]
    pub fn section(mut self, section: Section) -> Page {
        self.sections.push(section);
        self
    }

    /// Returns the page as text.
    #[must_use]
    pub fn html(&self) -> String {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    // Without it a browser asks the server for an icon.
                    link rel="icon" href="data:,";
                    title { (self.title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { (self.title) }
                    dl { @for (name, value) in &self.facts { dt { (name) } dd { (value) } } }
                    @for section in &self.sections { (section.markup()) }
                }
            }
        }
        .into_string()
    }
}

impl Section {
    /// Makes a section without content.
    #[must_use]
    pub fn new(heading: &str) -> Section {
        Section {
            heading: heading.to_owned(),
            ..Section::default()
        }
    }

    /// Adds a sentence, which stands above the figures.
    #[must_use]
    pub fn sentence(mut self, text: impl Into<String>) -> Section {
        self.sentences.push(text.into());
        self
    }

    /// Sets the table. The first cell of each row is its name.
    #[must_use]
    pub fn table(mut self, head: &[&str], rows: Vec<Vec<String>>) -> Section {
        let head = head.iter().map(|cell| (*cell).to_owned()).collect();
        self.table = Some((head, rows));
        self
    }

    /// Adds a chart.
    #[must_use]
    pub fn chart(mut self, chart: &Chart) -> Section {
        self.figures.push(chart.figure());
        self
    }

    /// Adds bars, if any has a length.
    #[must_use]
    pub fn bars(mut self, caption: &str, rows: &[Spread]) -> Section {
        self.figures.extend(bars::figure(caption, rows));
        self
    }

    /// Adds the figures of another section.
    #[must_use]
    pub fn with_figures_of(mut self, other: Section) -> Section {
        self.figures.extend(other.figures);
        self
    }

    fn markup(&self) -> Markup {
        html! {
            section {
                h2 { (self.heading) }
                @for sentence in &self.sentences { p { (sentence) } }
                @if let Some((head, rows)) = &self.table {
                    div class="wide" {
                        table {
                            thead { tr { @for cell in head { th { (cell) } } } }
                            tbody { @for row in rows { tr { @for cell in row { td { (cell) } } } } }
                        }
                    }
                }
                @if !self.figures.is_empty() {
                    div class="charts" { @for figure in &self.figures { (figure) } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_escaped() {
        let evil = "\"><script>alert(1)</script><img src=x onerror='a'>&";
        let section = Section::new(evil)
            .sentence(evil)
            .table(&[evil], vec![vec![evil.to_owned()]]);
        let page = Page::new(evil).fact(evil, evil).section(section).html();
        assert!(
            !page.contains("<script") && !page.contains("<img"),
            "{page}"
        );
        assert_eq!(page.matches("&lt;script&gt;").count(), 8, "{page}");
    }
}
