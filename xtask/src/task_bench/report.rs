//! Presents the figures to a reader: a table in plain text, and bars in a page that loads nothing.

use std::fmt::Write;

use super::contender::Contender;
use super::summary::{METRICS, Rounds, Spread};

/// Widths in the drawing, in pixels.
const NAMES: f64 = 130.0;
const BARS: f64 = 380.0;
const FIGURES: f64 = 220.0;
const ROW: f64 = 20.0;

/// Returns a table of one case. Below a median are its minimum and maximum; `×fio` is the ratio to fio in the same
/// round.
pub(super) fn table(rounds: &Rounds) -> String {
    let mut text = format!("{} {}\n", rounds.target, rounds.case);
    let row = |cells: [&str; 9]| {
        let [name, gbps, fio, ours, cpu, cpu_fio, cpu_process, p50, p99] = cells;
        format!(
            "  {name:15} {gbps:>20} {fio:>6} {ours:>6} {cpu:>23} {cpu_fio:>6} {cpu_process:>8} {p50:>9} {p99:>9}\n"
        )
    };
    text += &row([
        "",
        "GB/s [min–max]",
        "×fio",
        "ours×",
        "CPU s/GB [min–max]",
        "×fio",
        "×process",
        "p50 µs",
        "p99 µs",
    ]);
    for contender in rounds.contenders() {
        let figure = |metric, digits| shown(rounds.spread(contender, metric), digits);
        let median = |spread: Option<Spread>, digits: usize| {
            spread.map_or("-".to_owned(), |spread| {
                format!("{:.digits$}", spread.median)
            })
        };
        let fio = |metric| median(rounds.ratio(contender, Contender::FioUring, metric), 2);
        let ours = rounds.ratio(Contender::Ours, contender, "gbps");
        text += &row([
            contender.name(),
            &figure("gbps", 2),
            &fio("gbps"),
            &median(ours, 2),
            &figure("cpu_s_per_gb", 3),
            &fio("cpu_s_per_gb"),
            &fio("cpu_s_per_gb_process"),
            &median(rounds.spread(contender, "p50_us"), 0),
            &median(rounds.spread(contender, "p99_us"), 0),
        ]);
    }
    text
}

fn shown(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("-".to_owned(), |Spread { median, min, max }| {
        format!("{median:.digits$} [{min:.digits$}–{max:.digits$}]")
    })
}

/// Returns a page of bars for all cases; `remarks` are listed above them, a line each.
pub(super) fn page(all: &[Rounds], remarks: &[String]) -> String {
    let mut page = String::from(
        "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>raw-block: benchmarks</title>\n\
         <style>body{font:14px sans-serif;max-width:60em;margin:2em auto}h2{margin-top:2em}\
         svg{display:block;margin:.5em 0}text{font:12px sans-serif}</style>\n<h1>raw-block: benchmarks</h1>\n",
    );
    for remark in remarks {
        page += &format!("<p>{}</p>\n", escaped(remark));
    }
    for rounds in all {
        let title = format!("{} {}", rounds.target, rounds.case);
        page += &format!("<h2>{}</h2>\n", escaped(&title));
        for (metric, unit) in METRICS {
            page += &bars(rounds, metric, unit);
        }
    }
    page
}

/// Draws medians as bars, with their spread as a line over each.
fn bars(rounds: &Rounds, metric: &str, unit: &str) -> String {
    let rows: Vec<(&str, Spread)> = rounds
        .contenders()
        .into_iter()
        .filter_map(|contender| Some((contender.name(), rounds.spread(contender, metric)?)))
        .collect();
    let most = rows
        .iter()
        .map(|(_, spread)| spread.max)
        .fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let (width, height) = (NAMES + BARS + FIGURES, ROW * (rows.len() as f64 + 1.0));
    let mut svg = format!(
        "<svg width=\"{width}\" height=\"{height}\" role=\"img\"><text y=\"14\" font-weight=\"bold\">{}</text>\n",
        escaped(unit)
    );
    for (number, (name, spread)) in rows.iter().enumerate() {
        let top = ROW * (number as f64 + 1.0);
        let [median, min, max] =
            [spread.median, spread.min, spread.max].map(|value| value / most * BARS);
        let colour = if name.starts_with("ours") {
            "#2a7"
        } else {
            "#9ab"
        };
        let (text, middle, digits) = (top + 14.0, top + 9.0, if most < 10.0 { 3 } else { 0 });
        // Writing into a String does not fail.
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{text}\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{}\" width=\"{median:.1}\" height=\"14\" fill=\"{colour}\"/>\
             <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"#333\"/>\
             <text x=\"{}\" y=\"{text}\">{}</text>",
            escaped(name),
            top + 2.0,
            NAMES + min,
            NAMES + max,
            NAMES + BARS + 8.0,
            shown(Some(*spread), digits),
        );
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
