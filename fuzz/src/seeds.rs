//! Handmade inputs to start from: one for each action of a target.

use crate::samples;

/// Returns a few inputs for the target of this name.
#[must_use]
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let raw = |sample: Vec<u8>| {
        vec![
            [&[0], &sample[..]].concat(),
            [&[2], &sample[64..400]].concat(),
            // A number in a field, sealed; bytes anywhere, not sealed.
            vec![4, 1, 20, 3],
            vec![1, 0, 100, 0, 9, 9, 9, 9],
            vec![4, 7, 12, 0xc1, 5],
        ]
    };
    match target {
        "superblock" => raw(samples::superblock().encode().to_vec()),
        "incarnation" => raw(samples::incarnation().encode().to_vec()),
        "slot_header" => raw(samples::slot_header()),
        "continuation" => raw(samples::continuation()),
        "log_block" => raw(samples::log_block()),
        "base_header" => raw(samples::base().header.encode().to_vec()),
        "base_directory" => vec![
            vec![3, 2],
            vec![7, 2],
            vec![7, 4, 1, 0, 7, 0, 0xc1, 1],
            vec![0, 1, 5, 5, 0xa0, 0, 4],
        ],
        "base_section" => {
            let base = samples::base();
            let stored = &base.sections[0][..base.directory[0].stored_len as usize];
            let body = &stored[64..];
            vec![
                [&[8, 0], body].concat(),
                vec![9, 0, 4, 0, 7, 10, 1],
                [&[10, 0], body].concat(),
                [&[2, 0xc1, 40, 0xc1, 63], body].concat(),
                [&[11, 0], &b"\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00"[..]].concat(),
            ]
        }
        _ => images(),
    }
}

/// Makes an image input: sample, options, operations, changes.
fn image(sample: u8, options: u8, operations: &[u8], changes: &[&[u8]]) -> Vec<u8> {
    let count = operations.len() as u8;
    [&[sample, options, count], operations, &changes.concat()].concat()
}

fn images() -> Vec<Vec<u8>> {
    let busy = [0, 13, 75, 97, 110, 121, 133];
    let mut seeds = vec![
        image(0, 0, &busy, &[]),
        image(1, 6, &busy, &[]),
        image(2, 0x40, &busy, &[]),
        image(2, 0x30, &busy, &[]),
        image(1, 8, &[], &[]),
    ];
    let changes: [&[u8]; 16] = [
        // A number in a field of a superblock, of base A's header, of the log; sealed.
        &[0, 0x80, 7, 44, 3],
        &[0, 0x84, 7, 24, 3],
        &[0, 0x86, 7, 20, 3],
        // A patched section, a patched directory.
        &[3, 0, 0, 70, 0, 9],
        &[3, 16, 7, 4, 3],
        &[4, 6, 7],
        &[5, 4],
        &[6, 1, 0xc1, 200, 0, 1, 1],
        &[6, 8, 0, 0, 1],
        &[12, 4, 6],
        &[7, 0, 1],
        &[10, 4, 1, 0, 1, 3, 0, 0xc1, 9, 0xc1, 9],
        &[
            9, 0, 31, 3, 3, 0xc1, 1, 0xc1, 9, 1, 2, 1, 1, 5, 0xc1, 9, 0xc1, 9, 0xc1, 9,
        ],
        &[11, 2, 4, 70, 0, 0xc1, 100, 0xc1, 1],
        // Values of two slots, in a base and in the log.
        &[
            9, 0, 0, 1, 3, 0xf9, 1, 0x40, 0, 0x30, 0, 0, 0xc1, 9, 0xc1, 9,
        ],
        &[10, 4, 1, 0, 0xf9, 3, 0, 0x40, 0, 0x30, 0, 0, 0xc1, 9],
    ];
    for sample in 1..3 {
        seeds.extend(changes.map(|change| image(sample, 0, &busy, &[change])));
        // Without either base, recovery has only the slot headers.
        seeds.push(image(sample, 0, &busy, &[&[5, 4], &[5, 5]]));
        seeds.push(image(sample, 1, &busy, &[&[5, 4], &[5, 5]]));
        // Unknown features in both superblock copies, in each word.
        for word in [84, 88, 92] {
            let copies: [&[u8]; 2] = [&[0, 0x80, 7, word, 5], &[0, 0x81, 7, word, 5]];
            seeds.push(image(sample, 0, &busy, &copies));
            seeds.push(image(sample, 6, &busy, &copies));
        }
        // A block of the log is missing, and the chain is made whole around another.
        seeds.push(image(sample, 0, &busy, &[&[5, 12]]));
        seeds.push(image(sample, 0, &busy, &[&[0, 0x8c, 7, 40, 3], &[8]]));
    }
    seeds
}
