//! `rb simulate`: how much of a trace eviction policies would keep, without values and without a device.
//!
//! ```text
//! chains.rs    requests -> chains of dense block numbers
//! hints.rs     which requests say that their chain has ended
//! cache.rs     the store's own index, with slots that hold nothing
//! point.rs     a policy at a capacity: looks up each chain, puts what was missing, at once or later
//! bound.rs     what a policy that knows the future would have
//! policies/    policies to compare with
//! table.rs     the points as lines, JSON and a page
//! ```

mod bound;
#[cfg(test)]
mod budget_tests;
mod cache;
mod chains;
mod hints;
mod point;
mod policies;
mod table;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::args::{PolicyName, SimulateArgs};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::{page, progress, trace};
use chains::Chains;
use point::{Counts, Setting};
use table::{Point, Table};

/// A run to do: a policy, or the bound, at a number of slots.
type Task = (Option<PolicyName>, u32);

pub(crate) fn simulate(args: &SimulateArgs, output: &mut Output) -> Result<Outcome, Failure> {
    if !args.shards.is_power_of_two() || args.shards > 1024 {
        return Err(Failure::usage(format!(
            "--shards is {}: it must be a power of two from 1 to 1024",
            args.shards
        )));
    }
    let html = page::place(args.html.as_deref(), &[&args.trace])?;
    let requests = trace::read(&args.trace, args.requests)?;
    let chains = Chains::new(&requests, args.block_tokens);
    drop(requests);
    let hints = match args.hints {
        Some(rates) => hints::hinted(&chains, rates, args.seed),
        None => vec![false; chains.requests()],
    };
    let setting = Setting {
        shards: args.shards,
        apart: args.apart,
        seed: args.seed,
        budget: args.budget,
    };
    let slots = args
        .capacity
        .iter()
        .map(|capacity| capacity.slots(chains.distinct));
    let slots: Vec<u32> = slots.collect();
    let policies = args.policy.iter().copied().map(Some).chain([None]);
    let tasks: Vec<Task> = policies
        .flat_map(|policy| slots.iter().map(move |&slots| (policy, slots)))
        .collect();
    let results = run_all(&chains, &hints, &tasks, setting)?;
    let points = tasks
        .iter()
        .zip(results)
        .map(|(task, (counts, time))| Point {
            policy: task.0.map_or("belady", PolicyName::name),
            slots: task.1,
            counts,
            time,
        });
    let table = Table {
        requests: chains.requests(),
        distinct: chains.distinct,
        hinted: hints.iter().filter(|hint| **hint).count(),
        setting,
        slots,
        points: points.collect(),
    };
    if let Some(html) = &html {
        html.write(table.page(args).as_bytes(), output)?;
    }
    match output.is_json() {
        true => output.json(&table.line())?,
        false => table.show(output)?,
    }
    Ok(Outcome::Done)
}

/// Runs all tasks on as many threads as the machine has cores. Each is deterministic, in any order.
fn run_all(
    chains: &Chains,
    hints: &[bool],
    tasks: &[Task],
    setting: Setting,
) -> Result<Vec<(Counts, Duration)>, Failure> {
    let bar = progress::bar(tasks.len() as u64, "simulate");
    let next = AtomicUsize::new(0);
    let results: Vec<OnceLock<_>> = tasks.iter().map(|_| OnceLock::new()).collect();
    let work = || {
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(&(policy, slots)) = tasks.get(at)
        {
            results[at].get_or_init(|| match policy {
                Some(policy) => point::run(chains, hints, policy, slots, setting),
                None => Ok((bound::bound(chains, slots), Duration::ZERO)),
            });
            bar.inc(1);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 1..threads.min(tasks.len()) {
            scope.spawn(work);
        }
        work();
    });
    bar.finish_and_clear();
    // The scope has joined all threads, and each task was one thread's.
    results
        .into_iter()
        .filter_map(OnceLock::into_inner)
        .collect()
}
