//! Microbenchmarks of the index, the checksum, and the log and base codecs. `cargo bench -p rb-bench`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rb_bench::{IDENTITY, base_entry, empty_index, full_index, key};
use rb_format::{
    Compression, FORMAT_BLOCK, Generation, LogEncoder, LogPosition, MoreSlots, Record,
    SectionBuilder, SlotHeaderRef, key_hash, payload_checksum, section_range,
};
use rb_index::{LockPurpose, Place};
use rb_io::{Limits, split};

fn index(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index::lease_and_release");
    for entries in [10_000_u32, 1_000_000] {
        let index = full_index(entries, 64);
        let mut number = 0_u64;
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("random", entries), |bencher| {
            bencher.iter(|| {
                number = (number + 7_919) % u64::from(entries);
                let key = key(number);
                let hash = index.hash(&key);
                let mut shard = index.lock(index.shard_of(hash), LockPurpose::Operation);
                if let Some(lease) = shard.lease(hash, &key, Place::default()) {
                    shard.release(lease);
                }
            });
        });
    }
    group.finish();
}

fn free_list(criterion: &mut Criterion) {
    const BATCH: usize = 32;
    let mut group = criterion.benchmark_group("index::free_list");
    group.throughput(Throughput::Elements(BATCH as u64));
    let index = empty_index(1_000_000, 64);
    let mut slots = Vec::with_capacity(BATCH);
    group.bench_function("take and give back 32", |bencher| {
        bencher.iter(|| {
            slots.clear();
            index.take_free(0, BATCH, &mut slots);
            index.give_back(black_box(&slots));
        });
    });
    group.finish();
}

fn splitting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("io::split");
    for kib in [1024, 128] {
        let limits = Limits::simple(512, kib << 10, "bench");
        let parts = (1 << 20) / (kib << 10);
        group.throughput(Throughput::Elements(parts));
        group.bench_function(BenchmarkId::new("1 MiB in parts", parts), |bencher| {
            bencher.iter(|| split(black_box(4096), 1 << 20, &limits, 4096).count());
        });
    }
    group.finish();
}

fn slot_header(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("format::slot_header");
    group.throughput(Throughput::Elements(1));
    let key = key(1);
    let header = SlotHeaderRef {
        slot: 1,
        generation: Generation(1 << 42),
        key: &key,
        metadata: &[],
        more: MoreSlots::NONE,
        key_hash: key_hash(&IDENTITY.uuid, &key),
        payload_len: 65_536,
        payload_checksum: 1,
        placement: 0,
        policy: 0,
        expiry: 0,
    };
    let mut block = vec![0; FORMAT_BLOCK];
    header.encode_into(&IDENTITY, &mut block);
    group.bench_function("encode", |bencher| {
        bencher.iter(|| black_box(&header).encode_into(&IDENTITY, &mut block));
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| SlotHeaderRef::decode(black_box(&block[..]), &IDENTITY).is_ok());
    });
    group.finish();
}

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("format::payload_checksum");
    for len in [64 << 10, 1 << 20] {
        let payload = vec![0x5A_u8; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("bytes", len), |bencher| {
            bencher.iter(|| payload_checksum(&IDENTITY, Generation(1), 1, 1, black_box(&payload)));
        });
    }
    group.finish();
}

fn log(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("format::log");
    group.throughput(Throughput::Elements(1));
    group.bench_function("push", |bencher| {
        let start = LogPosition {
            sequence: 1,
            anchor: 0,
        };
        let mut encoder = LogEncoder::new(IDENTITY, 1, start);
        let key = key(1);
        let record = Record::Put {
            key: &key,
            slot: 1,
            more: MoreSlots::NONE,
            generation: Generation(1 << 42),
            payload_len: 65_536,
            payload_checksum: 0x1234_5678,
            placement: 0,
            policy: 0,
            expiry: 0,
            metadata: &[],
        };
        bencher.iter(|| {
            encoder.push(black_box(&record), 0);
            if encoder.sealed_blocks() > 64 {
                black_box(encoder.take_sealed());
            }
        });
    });
    group.finish();
}

fn section(criterion: &mut Criterion) {
    const ENTRIES: u32 = 8_192;
    let mut group = criterion.benchmark_group("format::section");
    group.throughput(Throughput::Elements(u64::from(ENTRIES)));
    // A section holds the entries of one hash range.
    let in_range = |key: &[u8]| section_range(key_hash(&IDENTITY.uuid, key)) == 0;
    let keys = (0_u64..).map(key).filter(|key| in_range(key));
    let keys: Vec<_> = keys.take(ENTRIES as usize).collect();
    group.bench_function("encode/zstd=1", |bencher| {
        bencher.iter(|| {
            let position = LogPosition {
                sequence: 1,
                anchor: 0,
            };
            let mut section = SectionBuilder::new(0, position);
            for (number, key) in (0..).zip(&keys) {
                section.push(&base_entry(number, key));
            }
            section.finish(&IDENTITY, 1, 0, Compression::Zstd { level: 1 })
        });
    });
    group.finish();
}

criterion_group!(
    benches,
    index,
    free_list,
    splitting,
    slot_header,
    checksum,
    log,
    section
);
criterion_main!(benches);
