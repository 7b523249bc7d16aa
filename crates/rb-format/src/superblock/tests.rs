//! Every rule of the superblock, broken once.

use crate::tests::samples::{superblock, superblock_of_three_runs};
use crate::{Corruption, Region, Superblock, UNUSED_END};

/// Decodes the sample superblock after `change` and returns the error.
fn refusal(change: impl FnOnce(&mut Superblock)) -> Corruption {
    let mut sb = superblock_of_three_runs();
    change(&mut sb);
    Superblock::decode(&sb.encode()[..]).expect_err("the broken rule is not noticed")
}

fn refused_field(field: &str, change: impl FnOnce(&mut Superblock)) {
    let error = refusal(change);
    let named = match &error {
        Corruption::Field { field, .. }
        | Corruption::Mismatch { field, .. }
        | Corruption::Unaligned { field, .. } => *field,
        _ => "",
    };
    assert_eq!(named, field, "{error}");
}

#[test]
fn the_sample_is_sound() {
    let sb = superblock_of_three_runs();
    assert_eq!(Superblock::decode(&sb.encode()[..]), Ok(sb));
}

#[test]
fn counts_and_limits() {
    refused_field("member count", |sb| sb.member_count = 0);
    refused_field("member index", |sb| sb.member_index = sb.member_count);
    refused_field("key length limit", |sb| sb.key_len_max = 0);
    refused_field("key length limit", |sb| sb.key_len_max = 1025);
    refused_field("metadata length limit", |sb| sb.metadata_len_max = 257);
    refused_field("device bytes", |sb| sb.device_bytes = 0);
    refused_field("device bytes", |sb| sb.device_bytes = u64::MAX - 4095);
    refused_field("device bytes", |sb| sb.device_bytes += 512);
    refused_field("run count", |sb| sb.runs.clear());
}

#[test]
fn regions_are_whole_blocks_inside_the_device() {
    refused_field("region offset", |sb| sb.base_a.offset += 512);
    refused_field("region length", |sb| sb.base_b.bytes += 1);
    refused_field("base bytes", |sb| sb.base_a.bytes = 0);
    refused_field("base bytes", |sb| sb.base_b.bytes = 4096);
    refused_field("region length", |sb| sb.policy.bytes = 0);
    refused_field("region offset", |sb| sb.base_a.offset = 0);
    refused_field("region offset", |sb| sb.log.offset = sb.device_bytes);
    refused_field("region length", |sb| sb.policy.bytes = u64::MAX - 4095);
    refused_field("base bytes", |sb| sb.base_b.bytes = u64::MAX - 4095);
    refused_field("log bytes", |sb| {
        (sb.log.bytes, sb.log_2.bytes) = (63 * 4096, 63 * 4096);
    });
}

#[test]
fn runs_are_whole_blocks_inside_the_device() {
    refused_field("run first byte", |sb| sb.runs[0].first_byte += 512);
    refused_field("run first byte", |sb| sb.runs[0].first_byte = 4096);
    refused_field("run stride", |sb| sb.runs[1].stride += 512);
    refused_field("run stride", |sb| sb.runs[1].stride = 0);
    refused_field("run stride", |sb| sb.runs[1].stride = 4096);
    refused_field("run stride", |sb| sb.runs[1].stride = (1 << 30) + 8192);
    refused_field("run count", |sb| sb.runs[2].count = 0);
    refused_field("run count", |sb| sb.runs[2].count = 1 << 20);
    // First the last run ends exactly with the device, then it is one slot too long.
    let mut exact = superblock_of_three_runs();
    let end = exact.runs[2].first_byte + 30 * exact.runs[2].stride;
    exact.device_bytes = end + UNUSED_END;
    assert!(Superblock::decode(&exact.encode()[..]).is_ok());
    exact.runs[2].count += 1;
    refused_field("run count", |sb| *sb = exact);
    // A product that wraps around to something small.
    refused_field("run count", |sb| {
        sb.runs[2].count = u64::MAX / sb.runs[2].stride + 1;
    });
}

#[test]
fn the_end_of_the_device_is_unused() {
    let last = |sb: &Superblock| sb.device_bytes - UNUSED_END - sb.log_2.bytes;
    let mut sb = superblock_of_three_runs();
    sb.log_2.offset = last(&sb);
    assert_eq!(Superblock::decode(&sb.encode()[..]), Ok(sb));
    refused_field("region length", |sb| sb.log_2.offset = last(sb) + 4096);
    refused_field("region offset", |sb| {
        sb.log_2.offset = sb.device_bytes - UNUSED_END;
    });
}

#[test]
fn unused_areas_touch_no_area_and_lie_between_all() {
    let sb = superblock();
    let [start, middle, end] = sb.unused_areas();
    assert_eq!(start, 12_288..1 << 20);
    assert_eq!(middle, (1 << 20) + 4096..2 << 20);
    assert_eq!(end, sb.device_bytes - (1 << 20)..sb.device_bytes);
    assert_eq!(middle.end, sb.base_a.offset);
    assert_eq!(end.start, sb.log_2.offset + sb.log_2.bytes);
}

#[test]
fn both_rings_hold_a_block_at_the_same_place() {
    let sb = superblock_of_three_runs();
    assert_eq!(sb.log_blocks(), 256);
    let at = |sequence| sb.log_block_offsets(sequence);
    assert_eq!(at(0), [sb.log.offset, sb.log_2.offset]);
    assert_eq!(at(257), [sb.log.offset + 4096, sb.log_2.offset + 4096]);
}

#[test]
#[should_panic(expected = "of one length")]
fn rings_of_two_lengths_are_a_fault_of_the_program() {
    let mut sb = superblock_of_three_runs();
    sb.log_2.bytes += 4096;
    _ = sb.encode();
}

/// Feature words, label and time are preserved, whether this program knows them or not.
#[test]
fn unknown_features_are_read_and_kept() {
    let mut sb = superblock_of_three_runs();
    sb.features.incompatible = u64::MAX;
    let decoded = Superblock::decode(&sb.encode()[..]).unwrap();
    assert_eq!(decoded, sb);
    assert!(decoded.features.check_read().is_err());
}

#[test]
fn areas_are_disjoint() {
    for change in [
        (|sb| sb.base_b.offset -= 4096) as fn(&mut Superblock),
        |sb| {
            sb.log = Region {
                offset: sb.base_a.offset,
                bytes: 1 << 20,
            }
        },
        |sb| (sb.log.bytes, sb.log_2.bytes) = (4 << 20, 4 << 20),
        |sb| sb.log_2.offset = sb.log.offset,
        |sb| sb.log_2.offset = sb.runs[2].first_byte,
        |sb| sb.policy.offset = sb.base_a.offset,
        |sb| sb.policy.bytes += 4096,
        |sb| sb.runs[1].first_byte = sb.runs[0].first_byte + 4096,
        |sb| sb.runs[0].first_byte = sb.log.offset,
    ] {
        let error = refusal(change);
        assert!(matches!(error, Corruption::Overlap { .. }), "{error}");
    }
}

#[test]
fn classes_are_dense_and_grow() {
    refused_field("run class", |sb| sb.runs[1].class = 64);
    refused_field("stride of a further run of its class", |sb| {
        sb.runs[2].stride -= 4096;
    });
    refused_field("runs of a class below the highest class", |sb| {
        sb.runs[1].class = 2;
    });
    refused_field("stride of a higher class", |sb| {
        sb.runs[1].class = 1;
        sb.runs[0].class = 0;
        sb.runs[2].class = 0;
    });
}

#[test]
fn slot_numbers_fit_32_bits() {
    refused_field("slots", |sb| {
        sb.device_bytes = 1 << 46;
        sb.runs.truncate(2);
        sb.log_2.offset = 35 << 20;
        sb.runs[1].stride = 8192;
        sb.runs[1].count = u32::MAX.into();
    });
}
