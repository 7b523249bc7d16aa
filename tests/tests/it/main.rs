//! Whole-store tests: one binary, one module per concern.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot continue should stop there"
)]

mod admission;
mod api;
mod audit;
mod bad_input;
mod bad_metadata;
mod base_choice;
mod batches;
mod chosen_keys;
mod close;
mod commits;
mod consent;
mod counts;
mod crash;
mod create;
mod cut;
mod damage;
mod descriptors;
mod direct;
mod discard;
mod discard_loop;
mod durable;
mod each_batch;
mod epochs;
mod evict;
mod exhaust;
mod faults;
mod foreign;
mod forged;
mod fork;
mod format_room;
mod full;
mod full_files;
mod hangs;
mod hints;
mod hosts;
mod in_flight;
mod large_blocks;
mod large_calls;
mod late;
mod live_slots;
mod liveness;
mod log_end;
mod log_space;
mod many_keys;
mod marks;
mod monitor;
mod observers;
mod opened_over;
mod opening;
mod openings;
mod oracle;
mod page_cache;
mod placement;
mod promises;
mod race;
mod recover;
mod refused;
mod repair;
mod rings;
mod scrub;
mod several;
mod shards;
mod shutdown;
mod stale;
mod stalled;
mod state_parts;
mod statistics;
mod storm;
mod support;
mod take_over;
mod two_hosts;
#[cfg(feature = "libblkio")]
mod vhost_user;
mod waiting;
mod whose;
mod writers;
mod yields;
