//! The files of `docs/monitoring`, as far as tests look at them.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
pub(crate) struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
pub(crate) struct Rule {
    pub(crate) alert: String,
    pub(crate) expr: String,
    pub(crate) annotations: Annotations,
}

#[derive(Deserialize)]
pub(crate) struct Annotations {
    pub(crate) summary: String,
    pub(crate) description: String,
}

#[derive(Deserialize)]
pub(crate) struct Tests {
    tests: Vec<Test>,
}

#[derive(Deserialize)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) promql_expr_test: Vec<Expected>,
}

#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) expr: String,
    pub(crate) exp_samples: Vec<Sample>,
}

#[derive(Deserialize)]
pub(crate) struct Sample {
    pub(crate) labels: String,
}

#[derive(Deserialize)]
pub(crate) struct Dashboard {
    panels: Vec<Panel>,
    templating: Templating,
}

#[derive(Deserialize)]
struct Templating {
    list: Vec<Variable>,
}

#[derive(Deserialize)]
struct Variable {
    definition: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Panel {
    pub(crate) title: String,
    r#type: String,
    #[serde(default)]
    pub(crate) targets: Vec<Target>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Target {
    pub(crate) expr: String,
    pub(crate) legend_format: String,
}

impl Rules {
    pub(crate) fn read(folder: &Path) -> Vec<Rule> {
        let rules: Rules = yaml(&folder.join("alerts.yml"));
        rules
            .groups
            .into_iter()
            .flat_map(|group| group.rules)
            .collect()
    }
}

impl Tests {
    pub(crate) fn read(folder: &Path) -> Vec<Test> {
        let tests: Tests = yaml(&folder.join("alerts_test.yml"));
        tests.tests
    }
}

impl Dashboard {
    pub(crate) fn read(folder: &Path) -> Dashboard {
        let text = text(&folder.join("dashboard.json"));
        serde_json::from_str(&text).expect("dashboard.json is as the tests expect")
    }

    /// Returns the panels that show something.
    pub(crate) fn panels(&self) -> Vec<&Panel> {
        let panels = self.panels.iter();
        panels.filter(|panel| panel.r#type != "row").collect()
    }

    /// Returns the queries of the variables.
    pub(crate) fn queries(&self) -> impl Iterator<Item = &str> {
        let variables = self.templating.list.iter();
        variables.filter_map(|variable| variable.definition.as_deref())
    }
}

fn yaml<T: DeserializeOwned>(path: &Path) -> T {
    let parsed = serde_saphyr::from_str(&text(path));
    parsed.unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

pub(crate) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}
