//! Results of the cells, and their table. A cell that should have run and did not is a failure.

use serde_json::{Value, json};

/// Prefix of a line of results; the program uses the same one.
const MARK: &str = "RB-DEVICE ";

/// Maximum characters that the table shows of a skip's reason, or of the output of a row's only test.
const SAID_MAX: usize = 220;

/// Returns the program's name of a cell.
pub(super) fn id(machine: &str, device: &str, engine: &str) -> String {
    format!("{machine}/{device}/{engine}")
}

struct Test {
    name: String,
    status: String,
    seconds: f64,
    said: String,
}

struct Row {
    machine: String,
    device: String,
    engine: String,
    tests: Vec<Test>,
    /// Number of programs that must end, and number that reported their end.
    due: u32,
    ended: u32,
}

/// The cells of a run, in their order.
#[derive(Default)]
pub(super) struct Results {
    rows: Vec<Row>,
}

impl Results {
    /// Adds a cell that `due` programs must run.
    pub(super) fn expect(&mut self, machine: &str, device: &str, engine: &str, due: u32) {
        self.rows.push(Row {
            machine: machine.to_owned(),
            device: device.to_owned(),
            engine: engine.to_owned(),
            tests: Vec::new(),
            due,
            ended: 0,
        });
    }

    /// Parses the output of a program or a machine.
    pub(super) fn take(&mut self, text: &str) {
        for line in text.lines() {
            let Some((_, line)) = line.split_once(MARK) else {
                continue;
            };
            let Ok(line) = serde_json::from_str::<Value>(line.trim()) else {
                continue;
            };
            let (test, end) = (&line["test"], &line["end"]);
            let cell = [&test["cell"], &end["cell"]]
                .into_iter()
                .find_map(Value::as_str);
            let row = self
                .rows
                .iter_mut()
                .find(|row| Some(row.id().as_str()) == cell);
            let Some(row) = row else {
                continue;
            };
            row.ended += u32::from(!end.is_null());
            if !test.is_null() {
                let text = |name: &str| test[name].as_str().unwrap_or_default().to_owned();
                row.tests.push(Test {
                    name: text("test"),
                    status: text("status"),
                    seconds: test["seconds"].as_f64().unwrap_or(0.0),
                    said: text("said"),
                });
            }
        }
    }

    /// Records a cell that cannot run here.
    pub(super) fn skip(&mut self, id: &str, why: &str) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.id() == id) {
            row.tests.push(Test {
                name: "all".into(),
                status: "skip".into(),
                seconds: 0.0,
                said: why.to_owned(),
            });
            row.ended = row.due;
        }
    }

    /// Returns whether no test of any cell has reported anything.
    pub(super) fn is_silent(&self) -> bool {
        self.rows.iter().all(|row| row.tests.is_empty())
    }

    /// Returns the table, followed by the failures.
    pub(super) fn table(&self) -> String {
        let mut text = line([
            "machine",
            "device",
            "engine",
            "run",
            "passed",
            "failed",
            "skipped, seen",
        ]);
        for row in &self.rows {
            let count = |status| {
                row.tests
                    .iter()
                    .filter(|test| test.status == status)
                    .count()
            };
            let (passed, skipped) = (count("pass"), count("skip"));
            let failed = count("fail") + usize::from(row.missing().is_some());
            let run = row.tests.len() - skipped;
            let why = row.tests.iter().find(|test| test.status == "skip");
            // The output of a row with a single test is the row's result; for many tests it would
            // be too long.
            let said = match (why, &row.tests[..]) {
                (Some(why), _) => format!(": {}", why.said),
                (None, [only]) if only.status == "pass" => format!(", {}", only.said),
                _ => String::new(),
            };
            let said: String = said.chars().take(SAID_MAX).collect();
            let skipped = format!("{skipped}{said}");
            let numbers = [run, passed, failed].map(|number| number.to_string());
            let [run, passed, failed] = numbers.each_ref().map(String::as_str);
            text += &line([
                &row.machine,
                &row.device,
                &row.engine,
                run,
                passed,
                failed,
                &skipped,
            ]);
        }
        for failure in self.failures() {
            text += &format!("FAILED {failure}\n");
        }
        text
    }

    /// Returns one object for each test, and for each cell that did not end.
    pub(super) fn json(&self) -> String {
        let mut lines = Vec::new();
        for row in &self.rows {
            let object = |name: &str, status: &str, seconds: f64, said: &str| {
                json!({
                    "machine": row.machine,
                    "device": row.device,
                    "engine": row.engine,
                    "test": name,
                    "status": status,
                    "seconds": seconds,
                    "said": said,
                })
                .to_string()
            };
            let tests = row.tests.iter();
            lines.extend(
                tests.map(|test| object(&test.name, &test.status, test.seconds, &test.said)),
            );
            lines.extend(row.missing().map(|why| object("end", "fail", 0.0, &why)));
        }
        lines.join("\n") + "\n"
    }

    /// Returns a description of every failure.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for row in &self.rows {
            let failed = row.tests.iter().filter(|test| test.status == "fail");
            failures
                .extend(failed.map(|test| format!("{}: {}: {}", row.id(), test.name, test.said)));
            failures.extend(row.missing().map(|why| format!("{}: {why}", row.id())));
        }
        failures
    }
}

impl Row {
    fn id(&self) -> String {
        id(&self.machine, &self.device, &self.engine)
    }

    /// Returns what the row lacks: a cell did not run to its end, or ran nothing.
    fn missing(&self) -> Option<String> {
        match (self.tests.last(), self.ended < self.due) {
            (None, _) => Some("it should have run and has no output".into()),
            (Some(last), true) => Some(format!(
                "it did not run to its end; the last test was {:?}",
                last.name
            )),
            (Some(_), false) => None,
        }
    }
}

fn line([machine, device, engine, run, passed, failed, skipped]: [&str; 7]) -> String {
    format!("{machine:12} {device:20} {engine:13} {run:>4} {passed:>6} {failed:>6}  {skipped}\n")
}

#[cfg(test)]
mod tests {
    use super::Results;

    const PASSED: &str = r#"[ 1.0] noise RB-DEVICE {"test":{"cell":"m/d/e","test":"t","status":"pass","seconds":1.5,"said":""}}"#;
    const END: &str = r#"RB-DEVICE {"end":{"cell":"m/d/e"}}"#;

    fn failures(said: &[&str], due: u32) -> Vec<String> {
        let mut results = Results::default();
        results.expect("m", "d", "e", due);
        results.take(&said.join("\r\n"));
        results.failures()
    }

    #[test]
    fn a_cell_that_did_not_run_to_its_end_has_failed() {
        assert!(failures(&[PASSED, END], 1).is_empty());
        let none: [&[&str]; 3] = [&[], &[END], &[PASSED]];
        for said in none {
            assert_eq!(failures(said, 1).len(), 1, "{said:?}");
        }
        assert_eq!(
            failures(&[PASSED, END], 2).len(),
            1,
            "the second program has no output"
        );
        let failed = PASSED.replace("pass", "fail");
        assert_eq!(failures(&[&failed, END], 1), ["m/d/e: t: "]);
    }
}
