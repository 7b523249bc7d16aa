//! The points of a simulation as lines, as JSON and as a page.

use std::time::Duration;

use rb_report::{Axis, Chart, Line, Section};
use serde::Serialize;

use super::point::{Counts, Setting};
use crate::args::SimulateArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::page;
use crate::rates::ratio;
use crate::size::counted;

/// A policy at a capacity, and its counts.
pub(super) struct Point {
    pub(super) policy: &'static str,
    pub(super) slots: u32,
    pub(super) counts: Counts,
    /// 0 for the bound.
    pub(super) time: Duration,
}

/// All points: policy by policy, each at all capacities.
pub(super) struct Table {
    pub(super) requests: usize,
    pub(super) distinct: u32,
    /// Requests that said that their chain has ended.
    pub(super) hinted: usize,
    pub(super) setting: Setting,
    pub(super) slots: Vec<u32>,
    pub(super) points: Vec<Point>,
}

/// The result.
#[derive(Serialize)]
pub(super) struct SimulateLine {
    requests: usize,
    block_refs: u64,
    distinct_blocks: u32,
    shards: u32,
    hinted_requests: usize,
    stored_apart: bool,
    budget_blocks: Option<u64>,
    points: Vec<PointLine>,
}

#[derive(Serialize)]
struct PointLine {
    policy: &'static str,
    slots: u32,
    block_hits: u64,
    prefix_hits: u64,
    hit_ratio: f64,
    prefix_hit_ratio: f64,
    written_blocks: u64,
    /// Writes by distinct blocks.
    written_ratio: f64,
    evictions: u64,
    /// `None` for the bound.
    refs_per_second: Option<f64>,
}

impl Point {
    fn prefix_hit_ratio(&self) -> f64 {
        ratio(self.counts.prefix_hits, self.counts.block_refs)
    }

    fn written_ratio(&self, distinct: u32) -> f64 {
        ratio(self.counts.written_blocks, distinct.into())
    }

    fn line(&self, distinct: u32) -> PointLine {
        let counts = &self.counts;
        PointLine {
            policy: self.policy,
            slots: self.slots,
            block_hits: counts.block_hits,
            prefix_hits: counts.prefix_hits,
            hit_ratio: ratio(counts.block_hits, counts.block_refs),
            prefix_hit_ratio: self.prefix_hit_ratio(),
            written_blocks: counts.written_blocks,
            written_ratio: self.written_ratio(distinct),
            evictions: counts.evictions,
            refs_per_second: (!self.time.is_zero())
                .then(|| counts.block_refs as f64 / self.time.as_secs_f64()),
        }
    }
}

impl Table {
    pub(super) fn line(&self) -> SimulateLine {
        SimulateLine {
            requests: self.requests,
            block_refs: self.references(),
            distinct_blocks: self.distinct,
            shards: self.setting.shards,
            hinted_requests: self.hinted,
            stored_apart: self.setting.apart,
            budget_blocks: self.setting.budget,
            points: self
                .points
                .iter()
                .map(|point| point.line(self.distinct))
                .collect(),
        }
    }

    /// A row for each policy, a column for each capacity: prefix hits @ writes by distinct blocks.
    pub(super) fn show(&self, output: &mut Output) -> Result<(), Failure> {
        output.line(self.summary())?;
        let mut head = format!("{:<10}", "slots");
        for slots in &self.slots {
            head += &format!(" {slots:>11}");
        }
        output.line(head)?;
        for points in self.by_policy() {
            let mut line = format!("{:<10}", points[0].policy);
            for point in points {
                line += &format!(" {:>11}", self.cell(point));
            }
            output.line(line)?;
        }
        output.line("cells: hits before the first miss of their request, by references @ writes, by distinct blocks")
    }

    pub(super) fn page(&self, args: &SimulateArgs) -> String {
        let slots = || Axis::log("slots");
        let lines = |y: &dyn Fn(&Point) -> f64| -> Vec<Line> {
            let line = |points: &[Point]| {
                let points_of = points
                    .iter()
                    .map(|point| (f64::from(point.slots), y(point)));
                Line::new(points[0].policy, points_of.collect())
            };
            self.by_policy().map(line).collect()
        };
        let hits = Axis::linear("prefix hits by references").from_zero();
        let writes = Axis::linear("writes by distinct blocks").from_zero();
        let mut head = vec!["slots".to_owned()];
        head.extend(self.slots.iter().map(ToString::to_string));
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        let row = |points: &[Point]| {
            let cells = points.iter().map(|point| self.cell(point));
            std::iter::once(points[0].policy.to_owned())
                .chain(cells)
                .collect()
        };
        let result = Section::new("Result")
            .sentence(self.summary())
            .sentence(
                "Each cell: hits before the first miss of their request, by references @ writes, by distinct blocks. \
                 belady knows the future, and need not keep what it misses.",
            )
            .table(&head, self.by_policy().map(row).collect());
        let charts = Section::new("Charts")
            .chart(&Chart::new(
                "Prefix hits",
                slots(),
                hits,
                lines(&Point::prefix_hit_ratio),
            ))
            .chart(&Chart::new(
                "Writes",
                slots(),
                writes,
                lines(&|point| point.written_ratio(self.distinct)),
            ));
        page::start("rb simulate")
            .fact("trace", args.trace.display().to_string())
            .section(result)
            .section(charts)
            .html()
    }

    fn summary(&self) -> String {
        format!(
            "{} of {}, {} of them distinct ({}{}{})",
            counted(self.requests as u64, "request"),
            counted(self.references(), "block"),
            self.distinct,
            counted(self.setting.shards.into(), "shard"),
            if self.setting.apart {
                ", stored after the lookups"
            } else {
                ""
            },
            match self.hinted {
                0 => String::new(),
                hinted => format!(
                    ", {} with the hint that its chain has ended",
                    counted(hinted as u64, "request")
                ),
            }
        )
    }

    fn references(&self) -> u64 {
        self.points
            .first()
            .map_or(0, |point| point.counts.block_refs)
    }

    fn by_policy(&self) -> impl Iterator<Item = &[Point]> {
        self.points.chunks(self.slots.len().max(1))
    }

    fn cell(&self, point: &Point) -> String {
        format!(
            "{:.3}@{:.2}",
            point.prefix_hit_ratio(),
            point.written_ratio(self.distinct)
        )
    }
}
