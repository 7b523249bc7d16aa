//! `rb probe`: shows what a path offers to each engine, and what to change.

use rb_core::{DeviceKind, EngineKind, EngineOffer, EngineProbe, Feature, Limit, Limits, Probe};
use serde::Serialize;

use crate::args::ProbeArgs;
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::size::show_size;

#[derive(Serialize)]
struct ProbeLine {
    path: String,
    kind: &'static str,
    device_bytes: u64,
    /// True if any of the engines can use the path.
    usable: bool,
    writable: bool,
    direct: bool,
    features: Vec<FeatureLine>,
    engines: Vec<ProbedEngine>,
    advice: Vec<String>,
}

#[derive(Serialize)]
struct ProbedEngine {
    engine: &'static str,
    usable: bool,
    /// True if `--engine auto` takes it.
    auto: bool,
    reason: Option<String>,
    limits: Vec<LimitLine>,
    features: Vec<FeatureLine>,
}

#[derive(Serialize)]
struct FeatureLine {
    name: &'static str,
    on: bool,
    detail: String,
}

/// A limit. A value of `None` means that there is no limit, or that the engine lacks the feature.
#[derive(Serialize)]
pub(crate) struct LimitLine {
    pub(crate) name: &'static str,
    pub(crate) value: Option<u64>,
    pub(crate) source: Option<&'static str>,
}

/// Probes all engines, or the one that `--engine` names.
pub(crate) fn probe(
    args: &ProbeArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let mut found = rb_core::probe(&args.path).map_err(|source| Failure::Open {
        path: args.path.clone(),
        source: source.into(),
    })?;
    if engine != EngineKind::Auto {
        found.engines.retain(|probed| probed.kind == engine);
    }
    let probed = ProbeLine::of(found);
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

impl ProbeLine {
    fn of(found: Probe) -> ProbeLine {
        ProbeLine {
            path: found.path.display().to_string(),
            kind: match found.kind {
                DeviceKind::File => "file",
                DeviceKind::Block => "block device",
                DeviceKind::Char => "character node",
                DeviceKind::Socket => "vhost-user socket",
                _ => "node",
            },
            device_bytes: found.capacity_bytes,
            usable: found.engines.iter().any(|engine| engine.outcome.is_ok()),
            writable: found.writable,
            direct: found.direct,
            features: lines(found.features),
            engines: found.engines.into_iter().map(ProbedEngine::of).collect(),
            advice: found.advice,
        }
    }

    fn show(&self, output: &mut Output) -> Result<(), Failure> {
        output.line(format!(
            "{}: {} of {} ({} bytes)",
            self.path,
            self.kind,
            show_size(self.device_bytes),
            self.device_bytes
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

impl ProbedEngine {
    fn of(found: EngineProbe) -> ProbedEngine {
        let engine = found.kind.name();
        let auto = found.auto;
        match found.outcome {
            Ok(EngineOffer {
                limits, features, ..
            }) => ProbedEngine {
                engine,
                usable: true,
                auto,
                reason: None,
                limits: limit_lines(&limits),
                features: lines(features),
            },
            Err(reason) => ProbedEngine {
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
        for limit in &self.limits {
            let value = limit
                .value
                .map_or_else(|| "none".into(), |value| value.to_string());
            let line = format!(
                "  {:<25} {value:<12} {}",
                limit.name,
                limit.source.unwrap_or_default()
            );
            output.line(line.trim_end())?;
        }
        show_lines(&self.features, output)
    }
}

fn lines(features: Vec<Feature>) -> Vec<FeatureLine> {
    let line = |feature: Feature| FeatureLine {
        name: feature.name,
        on: feature.on,
        detail: feature.detail,
    };
    features.into_iter().map(line).collect()
}

fn show_lines(lines: &[FeatureLine], output: &mut Output) -> Result<(), Failure> {
    for line in lines {
        let state = if line.on { "on" } else { "off" };
        output.line(format!("  {:<25} {state:<12} {}", line.name, line.detail))?;
    }
    Ok(())
}

/// Returns all limits of an engine.
pub(crate) fn limit_lines(limits: &Limits) -> Vec<LimitLine> {
    // Destructured, so that the compiler points out a new limit that is not shown.
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
        limit_line("block_bytes", Some(block)),
        limit_line("memory_align_bytes", Some(memory_align)),
        limit_line("transfer_bytes_max", Some(transfer_max)),
        limit_line("segments_max", segments_max),
        limit_line("boundary_bytes", boundary),
        limit_line(
            "discard_granularity_bytes",
            discard.map(|limit| limit.granularity),
        ),
        limit_line("discard_bytes_max", discard.map(|limit| limit.bytes_max)),
        limit_line("placement_ids", placements),
    ]
}

fn limit_line<T: Into<u64>>(name: &'static str, limit: Option<Limit<T>>) -> LimitLine {
    let (value, source) = limit.map_or((None, None), |limit| {
        (Some(limit.value.into()), Some(limit.source))
    });
    LimitLine {
        name,
        value,
        source,
    }
}
