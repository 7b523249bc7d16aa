//! Presents the figures to a reader: a table in plain text, and bars and charts in a page that loads nothing.

use rb_report::{Operation, Page, Section, charts, date, machine};
use serde_json::Value;

use super::contender::Contender;
use super::summary::{GIGA, METRICS, Rounds, Spread};

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
        let ours = rounds.ratio(Contender::Ours, contender, "bytes_per_second");
        let speed = rounds.spread(contender, "bytes_per_second");
        text += &row([
            contender.name(),
            &shown(speed.map(|speed| speed.times(GIGA)), 2),
            &fio("bytes_per_second"),
            &median(ours, 2),
            &figure("cpu_seconds_per_gb", 3),
            &fio("cpu_seconds_per_gb"),
            &fio("cpu_seconds_per_gb_process"),
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

/// Returns a page for all cases: bars of all contenders, and the charts of this store. `facts` are listed in its head,
/// `remarks` below it.
pub(super) fn page(all: &[Rounds], facts: &[(&str, String)], remarks: &[String]) -> String {
    let mut page = Page::new("raw-block: benchmarks").fact("date", date());
    for (name, fact) in machine().iter().chain(facts) {
        page = page.fact(name, fact);
    }
    let about = Section::new("How to read this");
    page = page.section(remarks.iter().fold(about, Section::sentence));
    for rounds in all {
        page = page.section(case(rounds));
    }
    page.html()
}

fn case(rounds: &Rounds) -> Section {
    let mut section = Section::new(&format!("{} {}", rounds.target, rounds.case));
    for (metric, unit, factor) in METRICS {
        section = section.bars(unit, &bars(rounds, metric, factor));
    }
    match median_round(rounds) {
        Some(ours) => section.with_figures_of(charts("", &ours)),
        None => section,
    }
}

/// Returns the figures of this store in its round with the median throughput; `None` if it has none, as from an older
/// program.
fn median_round(rounds: &Rounds) -> Option<Vec<Operation>> {
    let mut ours: Vec<&Value> = rounds
        .answers
        .iter()
        .flatten()
        .filter(|(contender, _)| *contender == Contender::Ours)
        .map(|(_, answer)| answer)
        .collect();
    let speed = |answer: &&Value| answer["bytes_per_second"].as_f64().unwrap_or(0.0);
    ours.sort_unstable_by(|one, other| speed(one).total_cmp(&speed(other)));
    let median = ours.get(ours.len() / 2)?;
    let operations: Vec<Operation> = serde_json::from_value(median["operations"].clone()).ok()?;
    (!operations.is_empty()).then_some(operations)
}

fn bars(rounds: &Rounds, metric: &str, factor: f64) -> Vec<rb_report::Spread> {
    let contenders = rounds.contenders().into_iter();
    let spreads = contenders.filter_map(|contender| {
        let spread = rounds.spread(contender, metric)?.times(factor);
        Some((contender.name(), spread))
    });
    let spreads: Vec<(&str, Spread)> = spreads.collect();
    let most = spreads.iter().map(|(_, spread)| spread.max);
    let digits = if most.fold(0.0, f64::max) < 10.0 {
        3
    } else {
        0
    };
    let row = |(name, spread): (&str, Spread)| rb_report::Spread {
        name: name.to_owned(),
        median: spread.median,
        min: spread.min,
        max: spread.max,
        text: shown(Some(spread), digits),
        marked: name.starts_with("ours"),
    };
    spreads.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_has_bars_of_all_and_charts_of_this_store() {
        let interval = json!({"start_seconds": 0.0, "seconds": 1.0, "bytes_per_second": 1e9, "calls": 9,
            "p50_us": 1.0, "p99_us": 2.0, "max_us": 3.0});
        let ours = |speed: f64| {
            let operation = json!({"op": format!("get {speed}"), "calls": 9, "p50_us": 1.0, "p99_us": 2.0,
                "p999_us": 3.0, "max_us": 3.0, "intervals": [interval],
                "percentiles": [{"quantile_ratio": 0.5, "latency_us": 1.0}],
                "histogram": [{"latency_us": 1.0, "calls": 9}]});
            json!({"bytes_per_second": speed, "operations": [operation]})
        };
        let round = |speed: f64| {
            let fio = json!({"bytes_per_second": 2.0});
            vec![(Contender::Ours, ours(speed)), (Contender::FioUring, fio)]
        };
        let rounds = Rounds {
            target: "disk",
            case: "get<1>".to_owned(),
            answers: vec![round(5.0), round(3.0), round(4.0)],
        };
        let page = page(
            &[rounds],
            &[("version", "<v>".to_owned())],
            &["a & b".to_owned()],
        );
        for words in [
            "disk get&lt;1&gt;",
            "&lt;v&gt;",
            "a &amp; b",
            "fio io_uring",
            "Latency of get 4 over time",
        ] {
            assert!(page.contains(words), "{words}");
        }
        assert_eq!(page.matches("<figure>").count(), 1 + 4, "{page}");
    }
}
