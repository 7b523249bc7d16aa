//! Plans are disjoint, inside the device, exact, and use all of the space.

use proptest::prelude::*;

use super::*;
use crate::{BLOCK, Geometry, StoreUuid};

const ID: Identity = Identity {
    uuid: StoreUuid([3; 16]),
    epoch: 1,
};

fn request(device_bytes: u64, classes: Vec<ClassRequest>) -> LayoutRequest {
    LayoutRequest {
        device_bytes,
        classes,
        key_len_max: 512,
        metadata_len_max: 0,
        log_bytes: None,
    }
}

fn class(slot_bytes: u64, share: Share) -> ClassRequest {
    ClassRequest { slot_bytes, share }
}

fn counts(sb: &Superblock) -> Vec<u64> {
    sb.runs.iter().map(|run| run.count).collect()
}

fn share() -> impl Strategy<Value = Share> {
    prop_oneof![
        (1..60_u32).prop_map(Share::Percent),
        (1..2000_u64).prop_map(Share::Slots),
        Just(Share::Rest),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Every plan passes the decoder, which checks bounds, overlaps and classes.
    #[test]
    fn plans_are_sound(
        device_bytes in 0..(1_u64 << 44),
        classes in prop::collection::vec(((1..600_u64).prop_map(|n| n * 4096), share()), 1..6),
        key_len_max in 1..=1024_u32, metadata_len_max in 0..=256_u32,
        log_blocks in prop::option::of(64..100_000_u64),
    ) {
        let classes: Vec<_> = classes.into_iter().map(|(bytes, share)| class(bytes, share)).collect();
        let log_bytes = log_blocks.map(|blocks| blocks * 4096);
        let request = LayoutRequest { device_bytes, classes, key_len_max, metadata_len_max, log_bytes };
        let Ok(sb) = plan(&request, ID) else { return Ok(()) };
        prop_assert!(sb.device_bytes <= device_bytes);
        let decoded = Superblock::decode(&sb.encode()[..]);
        prop_assert_eq!(decoded.as_ref(), Ok(&sb));
        prop_assert_eq!(sb.runs[0].first_byte % (1 << 20), 0);
        let slots: u64 = counts(&sb).iter().sum();
        let needed = crate::base_region_bytes(slots, key_len_max, metadata_len_max);
        prop_assert_eq!((sb.base_a.bytes, sb.base_b.bytes), (needed, needed));
        prop_assert_eq!(sb.policy.bytes, policy_region_bytes(slots));
        // The two rings lie at both ends of the slots.
        prop_assert!(sb.log.offset + sb.log.bytes <= sb.runs[0].first_byte);
        prop_assert!(sb.log_2.offset > sb.runs.last().unwrap().first_byte);
        if let Some(log_bytes) = log_bytes {
            prop_assert_eq!(sb.log.bytes, log_bytes);
        }
        for wish in &request.classes {
            let run = sb.runs.iter().find(|run| run.stride == wish.slot_bytes + BLOCK).unwrap();
            if let Share::Slots(slots) = wish.share {
                prop_assert_eq!(run.count, slots);
            }
        }
    }

    /// The size for exact numbers is enough, and one block less is not.
    #[test]
    fn device_bytes_for_is_the_least(
        sizes in prop::collection::btree_map(1..300_u64, 1..5000_u64, 1..5),
        key_len_max in 1..=1024_u32,
    ) {
        let classes: Vec<_> =
            sizes.iter().map(|(blocks, slots)| class(blocks * 4096, Share::Slots(*slots))).collect();
        let bytes = device_bytes_for(&classes, key_len_max, 7, None).unwrap();
        let mut request = request(bytes, classes);
        (request.key_len_max, request.metadata_len_max) = (key_len_max, 7);
        let sb = plan(&request, ID).unwrap();
        prop_assert_eq!(counts(&sb), sizes.values().copied().collect::<Vec<_>>());
        prop_assert_eq!(sb.device_bytes, bytes);
        request.device_bytes -= 1;
        let refused = plan(&request, ID).unwrap_err();
        let device_bytes = bytes - 1;
        prop_assert_eq!(refused, LayoutError::DeviceTooSmall { needed: bytes, device_bytes });
    }

    /// One class with all of the space leaves no room for one more slot.
    #[test]
    fn the_rest_is_all_there_is(
        device_bytes in (1_u64 << 24)..(1 << 43),
        slot_blocks in 4..1024_u64,
    ) {
        let slot_bytes = slot_blocks * 4096;
        let Ok(sb) = plan(&request(device_bytes, vec![class(slot_bytes, Share::Rest)]), ID) else {
            return Ok(());
        };
        let one_more = [class(slot_bytes, Share::Slots(sb.runs[0].count + 1))];
        prop_assert!(device_bytes_for(&one_more, 512, 0, None).unwrap() > device_bytes);
    }

    /// Slots of all runs are consecutive, each inside its class.
    #[test]
    fn geometry_counts_slots(small in 1..50_u64, large in 1..50_u64) {
        let classes = vec![class(8192, Share::Slots(small)), class(4096, Share::Slots(large))];
        let device_bytes = device_bytes_for(&classes, 64, 0, None).unwrap();
        let sb = plan(&request(2 * device_bytes + (1 << 30), classes), ID).unwrap();
        let geometry = Geometry::new(&sb);
        prop_assert_eq!(u64::from(geometry.slots()), small + large);
        let mut end = sb.runs[0].first_byte;
        for slot in 0..geometry.slots() {
            prop_assert_eq!(geometry.slot_offset(slot), Some(end));
            prop_assert_eq!(geometry.payload_offset(slot), Some(end + 4096));
            let class = geometry.class_of(slot).unwrap();
            prop_assert!(geometry.class_slots(class).iter().any(|range| range.contains(&slot)));
            prop_assert_eq!(geometry.slot_capacity(slot), Some(geometry.class_capacity(class)));
            end += geometry.class_capacity(class) + 4096;
        }
        prop_assert_eq!(end, sb.log_2.offset);
        prop_assert_eq!(end + sb.log.bytes + crate::UNUSED_END, sb.device_bytes);
        prop_assert_eq!(geometry.slot_offset(geometry.slots()), None);
        prop_assert_eq!(geometry.class_of(u32::MAX), None);
    }
}

#[test]
fn percentages_are_of_the_space_for_slots() {
    let classes = vec![
        class(1 << 20, Share::Percent(25)),
        class(64 << 10, Share::Rest),
        class(4 << 20, Share::Percent(50)),
    ];
    let device_bytes = 64 << 30;
    let sb = plan(&request(device_bytes, classes), ID).unwrap();
    let space = device_bytes - sb.runs[0].first_byte - sb.log_2.bytes - crate::UNUSED_END;
    let percent = |run: &crate::Run| run.count as f64 * run.stride as f64 * 100.0 / space as f64;
    let found: Vec<f64> = sb.runs.iter().map(percent).collect();
    for (found, asked) in found.iter().zip([25.0, 25.0, 50.0]) {
        assert!(
            (found - asked).abs() < 0.1,
            "{found} percent, asked for {asked}"
        );
    }
}

#[test]
fn classes_are_sorted_and_matched_by_capacity() {
    let classes = vec![
        class(1 << 20, Share::Slots(3)),
        class(64 << 10, Share::Slots(5)),
    ];
    let geometry = Geometry::new(&plan(&request(1 << 30, classes), ID).unwrap());
    assert_eq!((geometry.classes(), geometry.slots()), (2, 8));
    assert_eq!(geometry.class_for(1), Some(0));
    assert_eq!(geometry.class_for(64 << 10), Some(0));
    assert_eq!(geometry.class_for((64 << 10) + 1), Some(1));
    assert_eq!(geometry.class_for((1 << 20) + 1), None);
    assert_eq!(geometry.largest_value(), 1 << 20);
    assert_eq!(geometry.slots_for(0), None);
    assert_eq!(geometry.slots_for(1 << 20), Some((1, 1)));
    assert_eq!(geometry.slots_for((1 << 20) + 1), Some((1, 2)));
    assert_eq!(geometry.slots_for(256 << 20), Some((1, 256)));
    assert_eq!(geometry.slots_for((256 << 20) + 1), None);
    // There are three such slots.
    assert_eq!(geometry.value_len_max(), 3 << 20);
    assert_eq!(geometry.class_slots(1), vec![5..8]);
    assert_eq!(geometry.class_slots(2), vec![]);
}

#[test]
fn default_log_follows_the_slots() {
    let log_bytes = |slots| {
        let classes = vec![class(4096, Share::Slots(slots))];
        plan(&request(1 << 45, classes), ID).unwrap().log.bytes
    };
    assert_eq!(log_bytes(1), 1 << 20);
    // 100,000 records, 39 per block of 4016 bytes.
    assert_eq!(log_bytes(100_000), 100_000_u64.div_ceil(39) * 4096);
    assert_eq!(log_bytes(100_000_000), 1 << 30);
}

#[test]
fn the_longest_value_is_bounded_by_the_format_too() {
    let classes = vec![class(1 << 30, Share::Slots(300))];
    let device_bytes = device_bytes_for(&classes, 512, 0, None).unwrap();
    let geometry = Geometry::new(&plan(&request(device_bytes, classes), ID).unwrap());
    assert_eq!(geometry.value_len_max(), crate::VALUE_LEN_MAX);
    assert_eq!(geometry.slots_for(crate::VALUE_LEN_MAX), Some((0, 4)));
    assert_eq!(geometry.slots_for(crate::VALUE_LEN_MAX + 1), None);
}

#[test]
fn the_policy_region_follows_the_slots() {
    let k64 = 64 << 10;
    assert_eq!(policy_region_bytes(1), 2 * k64);
    assert_eq!(policy_region_bytes(8192), 2 * k64);
    assert_eq!(policy_region_bytes(8193), 2 * k64 + 4096);
    assert_eq!(policy_region_bytes(1 << 20), (8 << 20) + k64);
    assert_eq!(policy_region_bytes(u64::MAX) % 4096, 0);
}

#[test]
fn wishes_that_cannot_be_met_are_refused_by_name() {
    use LayoutError as E;
    let refusal = |classes: Vec<ClassRequest>| plan(&request(1 << 30, classes), ID).unwrap_err();
    let k64 = 64 << 10;
    assert!(matches!(refusal(vec![]), E::Classes { found: 0, max: 64 }));
    let many = (1..=65).map(|n| class(n * 4096, Share::Slots(1))).collect();
    assert!(matches!(refusal(many), E::Classes { found: 65, .. }));
    assert!(matches!(
        refusal(vec![class(0, Share::Rest)]),
        E::SlotBytes { slot_bytes: 0, .. }
    ));
    assert!(matches!(
        refusal(vec![class((1 << 30) + 4096, Share::Rest)]),
        E::SlotBytes { .. }
    ));
    assert!(matches!(
        refusal(vec![class(5000, Share::Rest)]),
        E::SlotBytesUnaligned { .. }
    ));
    let twice = vec![class(k64, Share::Rest), class(k64, Share::Slots(1))];
    assert!(matches!(refusal(twice), E::Duplicate { slot_bytes } if slot_bytes == k64));
    assert!(matches!(
        refusal(vec![class(k64, Share::Percent(0))]),
        E::Percent { .. }
    ));
    assert!(matches!(
        refusal(vec![class(k64, Share::Percent(101))]),
        E::Percent { .. }
    ));
    let sum = vec![
        class(k64, Share::Percent(60)),
        class(4096, Share::Percent(41)),
    ];
    assert_eq!(refusal(sum), E::PercentSum { sum: 101 });
    assert!(matches!(
        refusal(vec![class(k64, Share::Slots(0))]),
        E::NoSlots { .. }
    ));
    let nothing_left = vec![class(k64, Share::Percent(100)), class(1 << 20, Share::Rest)];
    assert!(matches!(refusal(nothing_left), E::NoSlots { slot_bytes } if slot_bytes == 1 << 20));
    let exceed = vec![
        class(k64, Share::Percent(90)),
        class(1 << 20, Share::Slots(800)),
    ];
    assert!(matches!(refusal(exceed), E::SharesExceedSpace { .. }));
    let huge = vec![class(k64, Share::Slots(1 << 32))];
    assert!(matches!(refusal(huge), E::TooManySlots { .. }));
    assert!(matches!(
        refusal(vec![class(2 << 20, Share::Slots(512))]),
        E::DeviceTooSmall { .. }
    ));
    assert!(matches!(
        refusal(vec![class(1 << 30, Share::Rest)]),
        E::DeviceTooSmall { .. }
    ));
    let share = device_bytes_for(&[class(k64, Share::Rest)], 64, 0, None);
    assert_eq!(share, Err(E::CountsNeeded { slot_bytes: k64 }));
    let most = [class(1 << 30, Share::Slots(u32::MAX.into()))];
    assert!(
        device_bytes_for(&most, 64, 0, None).is_ok(),
        "2^62 bytes can be addressed"
    );
}

#[test]
fn limits_are_refused_by_name() {
    let base = request(1 << 30, vec![class(64 << 10, Share::Rest)]);
    let refusal = |change: fn(&mut LayoutRequest)| {
        let mut request = base.clone();
        change(&mut request);
        plan(&request, ID).unwrap_err()
    };
    use LayoutError as E;
    assert_eq!(
        refusal(|r| r.key_len_max = 0),
        E::KeyLenMax {
            found: 0,
            max: 1024
        }
    );
    assert_eq!(
        refusal(|r| r.key_len_max = 1025),
        E::KeyLenMax {
            found: 1025,
            max: 1024
        }
    );
    assert_eq!(
        refusal(|r| r.metadata_len_max = 257),
        E::MetadataLenMax {
            found: 257,
            max: 256
        }
    );
    assert!(matches!(
        refusal(|r| r.log_bytes = Some(63 * 4096)),
        E::LogBytes { .. }
    ));
    assert!(matches!(
        refusal(|r| r.log_bytes = Some(1 << 20 | 1)),
        E::LogBytes { .. }
    ));
    assert!(matches!(
        refusal(|r| r.log_bytes = Some(u64::MAX - 4095)),
        E::TooLarge
    ));
    assert!(matches!(
        refusal(|r| r.device_bytes = 0),
        E::DeviceTooSmall { .. }
    ));
    let small_slots = request(1 << 50, vec![class(4096, Share::Rest)]);
    assert!(matches!(
        plan(&small_slots, ID),
        Err(E::TooManySlots { .. })
    ));
}
