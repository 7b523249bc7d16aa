//! `rb probe`: what a path offers to each engine, and what to change.

use rb_core::{DeviceKind, EngineOffer, EngineProbe, Feature, Limit, Limits, Probe};
use serde::Serialize;

use crate::args::ProbeArgs;
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::size::show_size;

#[derive(Serialize)]
struct Probed {
    path: String,
    kind: &'static str,
    capacity_bytes: u64,
    /// Whether a store can be there through any engine.
    usable: bool,
    writable: bool,
    direct: bool,
    features: Vec<Line>,
    engines: Vec<Engine>,
    advice: Vec<String>,
}

#[derive(Serialize)]
struct Engine {
    engine: &'static str,
    usable: bool,
    /// Whether `--engine auto` would take it.
    auto: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    limits: Vec<Bound>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    features: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    on: bool,
    detail: String,
}

/// A limit; a value of `null` says that there is none, or that the engine cannot do it.
#[derive(Serialize)]
struct Bound {
    name: &'static str,
    value: Option<u64>,
    source: &'static str,
}

pub(crate) fn probe(args: &ProbeArgs, output: &mut Output) -> Result<Outcome, Failure> {
    let found = rb_core::probe(&args.path).map_err(|source| Failure::Open {
        path: args.path.clone(),
        source: source.into(),
    })?;
    let probed = Probed::of(found);
    if output.is_json() {
        output.json(&probed)?;
    } else {
        probed.show(output)?;
    }
    Ok(match probed.usable {
        true => Outcome::Done,
        false => Outcome::Unusable,
    })
}

impl Probed {
    fn of(found: Probe) -> Probed {
        Probed {
            path: found.path.display().to_string(),
            kind: match found.kind {
                DeviceKind::File => "file",
                DeviceKind::Block => "block device",
                DeviceKind::Char => "character node",
                DeviceKind::Socket => "vhost-user socket",
                _ => "node",
            },
            capacity_bytes: found.capacity_bytes,
            usable: found.engines.iter().any(|engine| engine.outcome.is_ok()),
            writable: found.writable,
            direct: found.direct,
            features: lines(found.features),
            engines: found.engines.into_iter().map(Engine::of).collect(),
            advice: found.advice,
        }
    }

    fn show(&self, output: &mut Output) -> Result<(), Failure> {
        output.line(format!(
            "{}: {} of {} ({} bytes)",
            self.path,
            self.kind,
            show_size(self.capacity_bytes),
            self.capacity_bytes
        ))?;
        show_lines(&self.features, output)?;
        for engine in &self.engines {
            engine.show(output)?;
        }
        if self.advice.is_empty() {
            return output.line("nothing to change");
        }
        output.line("to change")?;
        for advice in &self.advice {
            output.line(format!("  {advice}"))?;
        }
        Ok(())
    }
}

impl Engine {
    fn of(found: EngineProbe) -> Engine {
        let engine = found.kind.name();
        let auto = found.auto;
        match found.outcome {
            Ok(EngineOffer {
                limits, features, ..
            }) => Engine {
                engine,
                usable: true,
                auto,
                reason: None,
                limits: bounds(&limits),
                features: lines(features),
            },
            Err(reason) => Engine {
                engine,
                usable: false,
                auto,
                reason: Some(reason),
                limits: Vec::new(),
                features: Vec::new(),
            },
        }
    }

    fn show(&self, output: &mut Output) -> Result<(), Failure> {
        let name = self.engine;
        if let Some(reason) = &self.reason {
            return output.line(format!("engine {name}: not usable: {reason}"));
        }
        let auto = if self.auto {
            ", the choice of auto"
        } else {
            ""
        };
        output.line(format!("engine {name}: usable{auto}"))?;
        for bound in &self.limits {
            let value = bound
                .value
                .map_or_else(|| "none".into(), |value| value.to_string());
            let line = format!("  {:<20} {value:<12} {}", bound.name, bound.source);
            output.line(line.trim_end())?;
        }
        show_lines(&self.features, output)
    }
}

fn lines(features: Vec<Feature>) -> Vec<Line> {
    let line = |feature: Feature| Line {
        name: feature.name,
        on: feature.on,
        detail: feature.detail,
    };
    features.into_iter().map(line).collect()
}

fn show_lines(lines: &[Line], output: &mut Output) -> Result<(), Failure> {
    for line in lines {
        let state = if line.on { "on" } else { "off" };
        output.line(format!("  {:<20} {state:<12} {}", line.name, line.detail))?;
    }
    Ok(())
}

fn bounds(limits: &Limits) -> Vec<Bound> {
    // Destructured, so that a new limit is shown, too.
    let Limits {
        block,
        memory_align,
        transfer_max,
        segments_max,
        boundary,
        discard,
        placements,
    } = *limits;
    vec![
        bound("block", Some(block)),
        bound("memory_align", Some(memory_align)),
        bound("transfer_max", Some(transfer_max)),
        bound("segments_max", segments_max),
        bound("boundary", boundary),
        bound(
            "discard_granularity",
            discard.map(|limit| limit.granularity),
        ),
        bound("discard_max", discard.map(|limit| limit.bytes_max)),
        bound("placement_ids", placements),
    ]
}

fn bound<T: Into<u64>>(name: &'static str, limit: Option<Limit<T>>) -> Bound {
    let (value, source) =
        limit.map_or((None, ""), |limit| (Some(limit.value.into()), limit.source));
    Bound {
        name,
        value,
        source,
    }
}
