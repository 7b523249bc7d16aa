//! Results of the steps, and their table.

use serde_json::{Value, json};

/// Prefix of a line of results; the programs use the same one.
const MARK: &str = "RB-DOOR ";

struct Row {
    step: String,
    result: String,
    figure: String,
    seconds: f64,
    figures: Value,
}

/// The steps of a run, in their order.
#[derive(Default)]
pub(super) struct Results {
    rows: Vec<Row>,
}

impl Results {
    /// Parses the output of a program, and returns how many steps it reported.
    pub(super) fn take(&mut self, text: &str) -> usize {
        let before = self.rows.len();
        let lines = text.lines().filter_map(|line| line.strip_prefix(MARK));
        for line in lines.filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            self.rows.push(Row {
                step: text("step"),
                result: text("result"),
                figure: text("figure"),
                seconds: line["seconds"].as_f64().unwrap_or(0.0),
                figures: line["figures"].clone(),
            });
        }
        self.rows.len() - before
    }

    /// Records a step that has no program, or whose program did not report it.
    pub(super) fn add(&mut self, step: &str, result: &str, figure: &str, seconds: f64) {
        self.rows.push(Row {
            step: step.to_owned(),
            result: result.to_owned(),
            figure: figure.to_owned(),
            seconds,
            figures: Value::Null,
        });
    }

    /// Returns how many steps failed.
    pub(super) fn failures(&self) -> usize {
        let failed = self.rows.iter().filter(|row| row.result == "fail");
        failed.count()
    }

    /// Returns the table.
    pub(super) fn table(&self) -> String {
        let mut text = line("step", "result", "seconds", "figure");
        for row in &self.rows {
            let seconds = format!("{:.1}", row.seconds);
            text += &line(&row.step, &row.result, &seconds, &row.figure);
        }
        text
    }

    /// Returns one object with all steps.
    pub(super) fn json(&self) -> String {
        let steps: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "step": row.step,
                    "result": row.result,
                    "figure": row.figure,
                    "seconds": row.seconds,
                    "figures": row.figures,
                })
            })
            .collect();
        format!("{}\n", json!({"failed": self.failures(), "steps": steps}))
    }
}

fn line(step: &str, result: &str, seconds: &str, figure: &str) -> String {
    // Reasons may have several lines.
    let figure = figure.replace('\n', " ");
    format!("{step:34} {result:7} {seconds:>8}  {figure}\n")
}

#[cfg(test)]
mod tests {
    use super::Results;

    #[test]
    fn only_marked_lines_are_results() {
        let mut results = Results::default();
        let noise = "noise RB-DOOR {}\nRB-DOOR not JSON\n";
        let step = r#"RB-DOOR {"step":"a","result":"fail","figure":"2\n3","seconds":1.5}"#;
        assert_eq!(results.take(&format!("{noise}{step}\n")), 1);
        assert_eq!(results.failures(), 1);
        assert!(results.table().contains("2 3"));
    }
}
