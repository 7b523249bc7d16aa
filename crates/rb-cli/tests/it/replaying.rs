//! Compares `rb replay` with a model, an exact LRU list.

use std::fmt::Write;

use rb_cli::payload::mix;
use serde_json::{Value, json};

use crate::program::{Place, arg, rb};

/// Random numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 += 1;
        mix(self.0) % end
    }
}

/// Requests with shared prefixes, as conversations make them.
fn trace(seed: u64, requests: u64, blocks_max: u64) -> Vec<Vec<u64>> {
    let mut random = Random(mix(seed));
    (0..requests)
        .map(|_| {
            let conversation = random.below(40);
            let len = 1 + random.below(blocks_max);
            // The first three blocks are shared by ten conversations each.
            (0..len)
                .map(|at| {
                    if at < 3 {
                        conversation % 4 * 10 + at
                    } else {
                        1000 * conversation + at
                    }
                })
                .collect()
        })
        .collect()
}

fn write_trace(place: &Place, requests: &[Vec<u64>]) -> String {
    let mut text = String::new();
    for ids in requests {
        let line = json!({"timestamp": 7, "input_length": 1, "output_length": 1, "hash_ids": ids});
        writeln!(text, "{line}").unwrap();
    }
    arg(&place.file("trace.jsonl", text.as_bytes())).to_owned()
}

/// The result of an exact LRU cache for a trace. The list has the oldest block first.
#[derive(Default, Debug, PartialEq)]
struct Model {
    refs: u64,
    hits: u64,
    prefix_hits: u64,
    evictions: u64,
    live: Vec<u64>,
}

impl Model {
    fn of(requests: &[Vec<u64>], slots: usize) -> Model {
        let mut model = Model::default();
        for ids in requests {
            let hit: Vec<bool> = ids.iter().map(|id| model.live.contains(id)).collect();
            model.refs += ids.len() as u64;
            model.hits += hit.iter().filter(|hit| **hit).count() as u64;
            model.prefix_hits += hit.iter().take_while(|hit| **hit).count() as u64;
            // The first key of a batch ends as the most recently used: walk it backwards.
            let of = |wanted: bool| {
                ids.iter()
                    .zip(&hit)
                    .rev()
                    .filter(move |(_, hit)| **hit == wanted)
                    .map(|(id, _)| *id)
            };
            of(true).for_each(|id| model.touch(id));
            of(false).for_each(|id| model.put(id, slots));
            ids.iter().rev().for_each(|id| model.touch(*id));
        }
        model
    }

    fn touch(&mut self, id: u64) {
        let before = self.live.len();
        self.live.retain(|other| *other != id);
        if self.live.len() < before {
            self.live.push(id);
        }
    }

    fn put(&mut self, id: u64, slots: usize) {
        if self.live.len() == slots {
            self.live.remove(0);
            self.evictions += 1;
        }
        self.live.push(id);
    }
}

#[track_caller]
fn compare(line: &Value, requests: &[Vec<u64>], slots: usize) {
    let model = Model::of(requests, slots);
    let found = Model {
        refs: line["block_refs"].as_u64().unwrap(),
        hits: line["block_hits"].as_u64().unwrap(),
        prefix_hits: line["prefix_hits"].as_u64().unwrap(),
        evictions: line["evictions"].as_u64().unwrap(),
        live: model.live.clone(),
    };
    assert_eq!(found, model, "{line}");
    assert_eq!(line["entries"], model.live.len(), "{line}");
    assert_eq!(line["requests"], requests.len(), "{line}");
    assert_eq!(line["wrong_bytes"], 0, "{line}");
    assert_eq!(
        (&line["get_errors"], &line["put_errors"]),
        (&json!(0), &json!(0)),
        "{line}"
    );
}

fn replay(place: &Place, trace: &str, extra: &[&str]) -> Value {
    place
        .rb(&["replay", "--json", trace, "--store"], extra)
        .json()
}

#[test]
fn one_shard_is_an_exact_lru() {
    for seed in [1, 2] {
        let place = Place::new();
        let requests = trace(seed, 400, 24);
        let trace = write_trace(&place, &requests);
        let args = ["--slots", "100", "--slot-bytes", "4KiB", "--shards", "1"];
        let line = replay(&place, &trace, &args);
        println!("seed {seed}");
        compare(&line, &requests, 100);
        assert!(line["evictions"].as_u64().unwrap() > 500, "{line}");
        let (hits, refs) = (
            line["block_hits"].as_u64().unwrap(),
            line["block_refs"].as_u64().unwrap(),
        );
        assert_eq!(line["got_bytes"], hits * 4096);
        assert_eq!(line["put_bytes"], (refs - hits) * 4096);
    }
}

/// The index behaves the same with and without values.
#[test]
fn a_simulation_has_the_hits_of_a_replay() {
    let place = Place::new();
    let requests = trace(5, 400, 24);
    let trace = write_trace(&place, &requests);
    for shards in ["1", "8"] {
        let args = [
            "--slots",
            "100",
            "--slot-bytes",
            "4KiB",
            "--yes",
            "--shards",
        ];
        let replayed = replay(&place, &trace, &[&args[..], &[shards]].concat());
        let args = [
            "simulate",
            "--json",
            &trace,
            "--capacity",
            "100",
            "--shards",
        ];
        let simulated = rb([&args[..], &[shards]].concat()).json();
        let point = &simulated["points"][0];
        for name in ["block_hits", "prefix_hits"] {
            let (a, b) = (&replayed[name], &point[name]);
            let of = |hits: &Value| hits.as_f64().unwrap();
            // Each store has a secret of its own, which decides the shards of the keys.
            let near = (of(a) - of(b)).abs() <= 0.02 * of(a);
            assert!(a == b || shards == "8" && near, "{name}: {a} and {b}");
        }
        assert_eq!(simulated["block_refs"], replayed["block_refs"]);
    }
}

/// Points of a policy that are known without a simulator.
#[test]
fn simulated_policies_are_within_their_bounds() {
    let place = Place::new();
    let requests = trace(6, 300, 24);
    let trace = write_trace(&place, &requests);
    let all = "lru,fifo,s3fifo,sieve,arc";
    for more in [&[][..], &["--apart"], &["--shards", "4"]] {
        let args = ["simulate", "--json", &trace, "--policy", all];
        let capacities = ["--capacity", "5%,30%,100%"];
        let line = rb([&args[..], &capacities, more].concat()).json();
        assert_eq!(
            rb([&args[..], &capacities, more].concat()).json()["points"][3]["block_hits"],
            line["points"][3]["block_hits"]
        );
        let points = line["points"].as_array().unwrap();
        assert_eq!(points.len(), 6 * 3);
        let of = |policy: usize, capacity: usize, name: &str| {
            points[3 * policy + capacity][name].as_u64().unwrap()
        };
        let distinct = line["distinct_blocks"].as_u64().unwrap();
        for policy in 0..6 {
            for capacity in 0..3 {
                let (hits, bound) = (
                    of(policy, capacity, "prefix_hits"),
                    of(5, capacity, "prefix_hits"),
                );
                assert!(hits <= bound, "{line}");
                let kept =
                    of(policy, capacity, "written_blocks") - of(policy, capacity, "evictions");
                assert!(
                    policy == 5 || kept <= of(policy, capacity, "slots"),
                    "{line}"
                );
            }
            // Everything fits: each block is written once, and found ever after.
            assert_eq!(of(policy, 2, "evictions"), 0, "{line}");
            if policy < 5 {
                assert_eq!(of(policy, 2, "written_blocks"), distinct, "{line}");
            }
        }
        if more.is_empty() {
            let refs = line["block_refs"].as_u64().unwrap();
            assert_eq!(of(0, 2, "block_hits"), refs - distinct, "{line}");
        }
    }
}

#[test]
fn batches_larger_than_the_buffers_keep_the_order() {
    // 128 MiB of buffers, half of them for a batch: 31 values of 2 MiB with their headers. The last
    // requests are longer than the store, so that what their batches put later evicts what they put
    // earlier: of 45 blocks, the first 40 must stay.
    let place = Place::new();
    let mut requests = trace(3, 24, 48);
    requests.extend([(9000..9045).collect(), (9000..9045).collect()]);
    let trace = write_trace(&place, &requests);
    let args = ["--slots", "40", "--slot-bytes", "2MiB", "--shards", "1"];
    compare(&replay(&place, &trace, &args), &requests, 40);
    let last = Model::of(&requests, 40).prefix_hits - Model::of(&requests[..25], 40).prefix_hits;
    assert_eq!(last, 40);
}

#[test]
fn restarts_lose_nothing_and_are_counted() {
    let place = Place::new();
    let requests = trace(4, 300, 24);
    let trace = write_trace(&place, &requests);
    let args = [
        "--slots",
        "100",
        "--slot-bytes",
        "8KiB",
        "--value-bytes",
        "5000",
        "--shards",
        "1",
        "--restart-every",
        "50",
    ];
    let line = replay(&place, &trace, &args);
    let of = |name: &str| line[name].as_u64().unwrap();
    assert_eq!(of("restarts"), 5, "{line}");
    assert_eq!(of("entries_lost_at_restart"), 0, "{line}");
    assert_eq!(of("entries_min_at_restart"), 100, "{line}");
    assert_eq!(of("wrong_bytes"), 0, "{line}");
    // Over all sessions, a block that was put is live or was evicted.
    assert_eq!(
        of("block_refs") - of("block_hits"),
        of("evictions") + of("entries"),
        "{line}"
    );
    assert!(line["open_seconds_max"].as_f64().unwrap() > 0.0, "{line}");
    // Recency survives a restart coarsely, so the hits do not fall far behind the exact ones.
    let exact = Model::of(&requests, 100).hits;
    assert!(
        of("block_hits") * 10 >= exact * 9,
        "{} of {exact}",
        of("block_hits")
    );
}

#[test]
fn a_part_of_a_trace_can_be_replayed() {
    let place = Place::new();
    let requests = trace(5, 50, 8);
    let trace = write_trace(&place, &requests);
    let args = [
        "--slots",
        "64",
        "--slot-bytes",
        "4KiB",
        "--shards",
        "1",
        "--requests",
        "20",
    ];
    compare(&replay(&place, &trace, &args), &requests[..20], 64);
    let text = place
        .rb(&["replay", &trace, "--yes", "--store"], &args)
        .text();
    assert!(text.starts_with("20 requests, "), "{text}");
}

#[test]
fn a_store_that_is_there_is_only_replaced_with_consent() {
    let place = Place::formatted();
    let before = std::fs::read(&place.store).unwrap();
    let trace = write_trace(&place, &trace(6, 5, 4));
    let args = ["--slots", "64", "--slot-bytes", "4KiB"];
    let error = place.rb(&["replay", &trace, "--store"], &args).error();
    assert!(
        error.contains("holds a store") && error.contains("--yes"),
        "{error}"
    );
    let shards = [&args[..], &["--yes", "--shards", "3"]].concat();
    let error = place.rb(&["replay", &trace, "--store"], &shards).error();
    assert!(error.contains("--shards is 3"), "{error}");
    assert!(
        std::fs::read(&place.store).unwrap() == before,
        "the refusal wrote to the store"
    );
    place
        .rb(&["replay", &trace, "--yes", "--store"], &args)
        .text();
}

#[test]
fn a_line_that_is_no_request_is_named() {
    let place = Place::new();
    let trace = place.file(
        "trace.jsonl",
        b"{\"hash_ids\": [1, 2]}\n\n{\"hash_ids\": [1, -2]}\n",
    );
    let args = ["--slots", "64", "--slot-bytes", "4KiB"];
    let error = place.rb(&["replay", arg(&trace), "--store"], &args).error();
    assert!(error.contains("line 3"), "{error}");
    assert!(!place.store.exists(), "a bad trace made a store");
    let error = place
        .rb(&["replay", "/nonexistent", "--store"], &args)
        .error();
    assert!(error.contains("/nonexistent"), "{error}");
    let args = [
        "--slots",
        "64",
        "--slot-bytes",
        "4KiB",
        "--value-bytes",
        "4097",
    ];
    let error = place.rb(&["replay", arg(&trace), "--store"], &args).error();
    assert!(error.contains("4097") && error.contains("4096"), "{error}");
}

/// A trace is read the same if it is compressed, and a damaged one is refused before a store is made.
#[cfg(feature = "zstd")]
#[test]
fn a_compressed_trace_is_read_like_a_plain_one() {
    let place = Place::new();
    let requests = trace(7, 200, 16);
    let plain = write_trace(&place, &requests);
    let text = std::fs::read(&plain).unwrap();
    // Two frames one after the other, as `cat a.zst b.zst` makes them.
    let (one, other) = text.split_at(text.len() / 2);
    let mut packed = zstd::encode_all(one, 3).unwrap();
    packed.extend(zstd::encode_all(other, 19).unwrap());
    let whole = place.file("trace.zst", &packed);
    let args = ["--slots", "64", "--slot-bytes", "4KiB", "--shards", "1"];
    compare(&replay(&place, arg(&whole), &args), &requests, 64);

    std::fs::remove_file(&place.store).unwrap();
    let mut flipped = packed.clone();
    flipped[packed.len() / 3] ^= 0xFF;
    for (name, bytes) in [("cut", &packed[..packed.len() - 9]), ("flipped", &flipped)] {
        let damaged = place.file(name, bytes);
        let ran = place.rb(&["replay", arg(&damaged), "--store"], &args);
        let error = ran.error();
        assert!(error.contains(arg(&damaged)), "{error}");
        // A flipped byte may also decompress to other text.
        let found = error.contains("zstd compression is damaged") || error.contains("column");
        assert!(
            found && (name != "cut" || error.contains("within a frame")),
            "{error}"
        );
        assert!(!place.store.exists(), "a bad trace made a store");
    }
}
