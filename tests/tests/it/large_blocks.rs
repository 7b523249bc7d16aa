//! Tests of devices whose blocks are larger than those of the format: refused with a message, and left unchanged.

use rb_core::{
    AuditOptions, ClassRequest, EngineKind, FormatError, FormatOptions, OpenError, Share, Store,
    StoreOptions, audit, format,
};
use rb_io::Limits;
use rb_testkit::{LoopDevice, MemDevice};

use crate::support::Sim;

const BYTES: u64 = 64 << 20;

fn classes() -> Vec<ClassRequest> {
    vec![ClassRequest {
        slot_bytes: 65536,
        share: Share::Slots(16),
    }]
}

/// Returns the error and its sources, in one line.
fn words(error: &dyn std::error::Error) -> String {
    let next = error.source().map(words);
    [Some(error.to_string()), next]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(": ")
}

#[track_caller]
fn says(words: &str, block: u32) {
    let size = format!("its blocks are {block} bytes");
    for part in [&size, "format block is 4096", "cannot hold a store"] {
        assert!(words.contains(part), "{part} is not in {words}");
    }
    assert!(!words.contains("multiple of"), "{words}");
}

/// A format began, and ended with "length is 4096, not a multiple of 16384".
#[test]
fn an_engine_with_large_blocks_is_refused_before_it_is_written_to() {
    for block in [8192, 16384, 65536] {
        let limits = Limits::simple(block, 1 << 20, "a test");
        let sim = Sim::on(MemDevice::with_limits(BYTES, limits));
        let error = format(&FormatOptions::new(sim.engine(), classes())).unwrap_err();
        assert!(matches!(error, FormatError::Device(_)), "{error:?}");
        says(&words(&error), block);
        let error = sim.try_open(|_| {}).unwrap_err();
        assert!(matches!(error, OpenError::Device(_)), "{error:?}");
        says(&words(&error), block);
        let error = audit(sim.engine(), &AuditOptions::default()).unwrap_err();
        says(&words(&error), block);
        assert!(sim.device.log().is_empty(), "nothing was sent");
    }
}

/// Loop devices support such blocks since Linux 6.15.
#[test]
fn a_device_with_large_blocks_is_refused_as_it_is() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let before = vec![0xa5; BYTES as usize];
    std::fs::write(file.path(), &before).unwrap();
    for block in [8192, 16384, 65536] {
        let what = "a loop device with large blocks";
        let Some(node) = LoopDevice::attach(what, file.path(), block) else {
            return;
        };
        let mut options = FormatOptions::new(node.path(), classes());
        options.consent = true;
        options.force = true;
        says(&words(&format(&options).unwrap_err()), block);
        for engine in [EngineKind::Auto, EngineKind::Posix] {
            let options = StoreOptions {
                engine,
                ..StoreOptions::default()
            };
            says(
                &words(&Store::open(node.path(), options).unwrap_err()),
                block,
            );
        }
        let probe = rb_core::probe(node.path()).unwrap();
        assert!(probe.direct, "{:?}", probe.features);
        for engine in probe.engines {
            assert!(!engine.auto && engine.outcome.is_err(), "{engine:?}");
        }
        let advice = probe.advice.join("; ");
        assert!(advice.contains("4096 bytes are needed"), "{advice}");
    }
    assert!(std::fs::read(file.path()).unwrap() == before);
}
