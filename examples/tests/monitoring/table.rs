//! The table of metrics in `docs/monitoring/README.md`.

use crate::files;

/// A metric of the table.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) kind: String,
    /// Names of the labels after `store`, each with its values, of which there are none if they are not fixed.
    pub(crate) labels: Vec<(String, Vec<String>)>,
}

/// A series: the name of a metric, and values for some of its labels.
pub(crate) type Series = (String, Vec<(String, String)>);

impl Row {
    /// Returns true if Prometheus has the metric, or a part of the histogram, under this name.
    pub(crate) fn is_shown_as(&self, name: &str) -> bool {
        self.shown().iter().any(|shown| shown == name)
    }

    fn shown(&self) -> Vec<String> {
        let parts: &[&str] = match self.kind.as_str() {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let parts = parts.iter();
        parts.map(|part| format!("{}{part}", self.name)).collect()
    }

    /// Returns the series of the metric: all combinations of fixed values.
    pub(crate) fn series(&self) -> Vec<Series> {
        let mut all = vec![Vec::new()];
        for (label, values) in self.labels.iter().filter(|label| !label.1.is_empty()) {
            let mut longer = Vec::new();
            for former in &all {
                for value in values {
                    let mut labels: Vec<(String, String)> = former.clone();
                    labels.push((label.clone(), value.clone()));
                    longer.push(labels);
                }
            }
            all = longer;
        }
        let shown = self.shown();
        let named = |name: &String| {
            let all = all.clone().into_iter();
            all.map(|labels| (name.clone(), labels)).collect::<Vec<_>>()
        };
        shown.iter().flat_map(named).collect()
    }
}

/// Reads the rows of the page.
pub(crate) fn rows() -> Vec<Row> {
    let page = files::text(&crate::monitoring().join("README.md"));
    let lines = page
        .lines()
        .filter(|line| line.starts_with("| `raw_block_"));
    lines.map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
    let [name, kind, _unit, labels, _help] = cells[..] else {
        panic!("not five cells: {line}");
    };
    let labels = labels.split("; ").filter(|label| !label.is_empty());
    let labels = labels.map(|label| {
        let (name, values) = label.split_once(": ").unwrap_or((label, ""));
        let values = values.split(", ").filter(|value| !value.is_empty());
        let name = name.trim_matches('`').to_owned();
        (name, values.map(str::to_owned).collect())
    });
    Row {
        name: name.trim_matches('`').to_owned(),
        kind: kind.to_owned(),
        labels: labels.collect(),
    }
}
