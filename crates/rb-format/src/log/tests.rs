//! Packing, chaining and rejecting.

use super::*;
use crate::tests::samples::{self, ID};
use crate::{Corruption, FORMAT_BLOCK, Generation, MoreSlots, Region};

fn remove(key: &[u8]) -> Record<'_> {
    Record::Remove {
        key,
        generation: Generation(1),
    }
}

#[test]
fn blocks_fill_to_the_last_byte() {
    // 4016 bytes are 251 removes of 12 + 4 bytes exactly.
    let mut encoder = LogEncoder::new(ID, 1, LogPosition::FIRST);
    for _ in 0..251 {
        encoder.push(&remove(b"1234"), 0);
    }
    assert_eq!(
        encoder.sealed_blocks(),
        0,
        "a full block waits for the next record"
    );
    encoder.push(&remove(b"1234"), 0);
    assert_eq!((encoder.sealed_blocks(), encoder.next_sequence()), (1, 2));
    let sealed = encoder.take_sealed();
    assert_eq!(
        (sealed.first_sequence, sealed.bytes.len()),
        (1, FORMAT_BLOCK)
    );
    assert_eq!(
        LogBlock::decode(&sealed.bytes, &ID)
            .unwrap()
            .records()
            .count(),
        251
    );
    assert!(!encoder.is_open_empty());
}

#[test]
fn sealing_nothing_does_nothing() {
    let mut encoder = LogEncoder::new(
        ID,
        1,
        LogPosition {
            sequence: 8,
            anchor: 9,
        },
    );
    encoder.seal(0);
    assert_eq!(
        encoder.position(),
        LogPosition {
            sequence: 8,
            anchor: 9
        }
    );
    assert_eq!(
        encoder.take_sealed(),
        SealedBlocks {
            first_sequence: 8,
            bytes: vec![]
        }
    );
}

#[test]
fn a_block_vouches_only_for_earlier_ones() {
    let mut encoder = LogEncoder::new(
        ID,
        1,
        LogPosition {
            sequence: 8,
            anchor: 9,
        },
    );
    encoder.push(&Record::Close, 0);
    encoder.seal(100);
    let sealed = encoder.take_sealed();
    assert_eq!(LogBlock::decode(&sealed.bytes, &ID).unwrap().durable, 7);
}

#[test]
fn a_block_of_an_earlier_round_does_not_continue_the_chain() {
    let seal_one = |start: LogPosition| {
        let mut encoder = LogEncoder::new(ID, 1, start);
        encoder.push(&Record::Close, 0);
        encoder.seal(0);
        encoder.take_sealed().bytes
    };
    let position = LogPosition {
        sequence: 70,
        anchor: 5,
    };
    let bytes = seal_one(position);
    let right = LogBlock::decode(&bytes, &ID).unwrap();
    assert!(right.continues(&position));
    assert!(!right.continues(&LogPosition {
        anchor: 6,
        ..position
    }));
    assert!(!right.continues(&LogPosition {
        sequence: 71,
        ..position
    }));
    assert_eq!(
        right.position(),
        LogPosition {
            sequence: 71,
            anchor: right.checksum
        }
    );
}

#[test]
fn the_ring_wraps() {
    let log = Region {
        offset: 1 << 20,
        bytes: 64 * 4096,
    };
    assert_eq!(log_blocks(&log), 64);
    assert_eq!(log_block_offset(&log, 0), 1 << 20);
    assert_eq!(log_block_offset(&log, 65), (1 << 20) + 4096);
    assert_eq!(log_block_offset(&log, u64::MAX), (1 << 20) + 63 * 4096);
    assert_eq!(
        log_block_offset(
            &Region {
                offset: 7,
                bytes: 0
            },
            9
        ),
        7
    );
}

#[test]
fn lengths_are_what_is_encoded() {
    for record in samples::records() {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(bytes.len(), record.encoded_len(), "{record:?}");
        assert_eq!(Record::decode(&bytes), Ok((record, &[][..])));
        // Every shorter prefix is rejected, none panics.
        for len in 0..bytes.len() {
            assert!(
                Record::decode(&bytes[..len]).is_err(),
                "{record:?} cut to {len}"
            );
        }
    }
    let longest = samples::longest();
    let longest = samples::longest_record(&longest);
    assert_eq!(longest.encoded_len(), RECORD_LEN_MAX);
    assert_eq!(Record::put_len(1024, 256, 256), RECORD_LEN_MAX);
}

/// Changes a valid block with one put record, corrects the checksum and decodes.
fn forged(change: impl FnOnce(&mut [u8])) -> Corruption {
    let mut encoder = LogEncoder::new(
        ID,
        1,
        LogPosition {
            sequence: 8,
            anchor: 9,
        },
    );
    encoder.push(&samples::records()[0], 0);
    encoder.seal(0);
    let mut bytes = encoder.take_sealed().bytes;
    change(&mut bytes);
    let sum = u64::from(crc32fast::hash(&bytes[..4088]));
    bytes[4088..].copy_from_slice(&sum.to_le_bytes());
    LogBlock::decode(&bytes, &ID).unwrap_err()
}

#[test]
fn forged_fields_are_refused_by_name() {
    let field = |change: fn(&mut [u8])| match forged(change) {
        Corruption::Field { field, .. } | Corruption::Mismatch { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(|b| b[40] = 0), "sequence");
    assert_eq!(field(|b| b[56] = 8), "durable sequence");
    assert_eq!(field(|b| b[15] = 0xff), "incarnation");
    assert_eq!(field(|b| b[64..66].fill(0xff)), "record bytes");
    assert_eq!(field(|b| b[64..66].fill(0)), "record bytes");
    assert_eq!(field(|b| b[66] = 2), "record count");
    assert_eq!(field(|b| b[72] = 0), "record kind");
    assert_eq!(field(|b| b[72] = 5), "record kind");
    assert_eq!(field(|b| b[74..76].fill(0)), "key length");
    assert_eq!(
        field(|b| b[74..76].copy_from_slice(&1025_u16.to_le_bytes())),
        "key length"
    );
    assert_eq!(field(|b| b[88..92].fill(0)), "payload length");
    assert_eq!(field(|b| b[89..92].fill(0xff)), "payload length");
    assert_eq!(field(|b| b[96] = 1), "payload checksum");
    assert_eq!(field(|b| b[109] = 2), "metadata length");
}

#[test]
fn stray_bytes_are_refused() {
    for at in [68, 4087] {
        let error = forged(|b| b[at] = 1);
        assert!(
            matches!(error, Corruption::Reserved { .. }),
            "byte {at}: {error}"
        );
    }
    assert!(matches!(
        forged(|b| b[74] += 1),
        Corruption::Truncated { .. }
    ));
    assert!(matches!(
        forged(|b| b[73] = 1),
        Corruption::Truncated { .. }
    ));
}

#[test]
fn a_slot_that_is_named_twice_is_refused() {
    let Record::Put { slot, metadata, .. } = samples::records()[0] else {
        unreachable!("the first sample is a put")
    };
    // Its metadata becomes the list: one further slot, which equals the first.
    assert_eq!(metadata.len(), 4);
    let twice = forged(|b| {
        let list = 72 + PUT_HEAD_LEN + 12;
        (b[73], b[108]) = (1, 0);
        b.copy_within(76..80, list);
    });
    let what = "put record";
    assert_eq!(twice, Corruption::SlotTwice { what, slot });
}

#[test]
#[should_panic(expected = "a value of 257 slots")]
fn too_many_slots_are_a_fault_of_the_program() {
    let record = Record::Put {
        key: b"key",
        slot: 1000,
        more: MoreSlots::from(&[1; 256][..]),
        generation: Generation(1),
        payload_len: 1,
        payload_checksum: 0,
        placement: 0,
        policy: 0,
        expiry: 0,
        metadata: &[],
    };
    LogEncoder::new(ID, 1, LogPosition::FIRST).push(&record, 0);
}

#[test]
#[should_panic(expected = "log sequences start at 1")]
fn sequence_zero_is_a_fault_of_the_program() {
    _ = LogEncoder::new(
        ID,
        1,
        LogPosition {
            sequence: 0,
            anchor: 0,
        },
    );
}

#[test]
#[should_panic(expected = "key of 0")]
fn an_empty_key_is_a_fault_of_the_program() {
    LogEncoder::new(ID, 1, LogPosition::FIRST).push(&remove(b""), 0);
}
