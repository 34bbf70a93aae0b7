//! Layers mutated at random, the same way on every run: none may panic, hang, or give a disk that
//! fsck.erofs refuses.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::time::{Duration, Instant};

use beluga_image::Limits;
use support::random::{Random, begin, tell};
use support::{Scratch, Tar, device, dir, disk_within, entry, file, fsck, hard_link, skip};
use support::{has_tool, symlink};

/// Successful conversions between two that fsck.erofs looks at: each costs a process.
const FSCK_EVERY: usize = 40;

fn seeds() -> Vec<Vec<u8>> {
    let long = format!("{}/{}", "l".repeat(200), "m".repeat(200));
    let plain = Tar::of([
        dir("./"),
        dir("usr/bin"),
        symlink("bin", "usr/bin"),
        file("bin/a", &[1; 9000]).mode(0o4755),
        hard_link("bin/b", "usr/bin/a"),
        device("null", b'3', 1, 3),
        entry("fifo", b'6'),
        file("z", &vec![0; 70_000]),
        file("x/.wh.y", b""),
        file("x/.wh..wh..opq", b""),
    ]);
    let extended = Tar::of([
        file(&long, b"long")
            .pax("mtime", b"1.5")
            .pax("uid", b"100000"),
        file("c", b"x").pax("SCHILY.xattr.security.capability", &[10; 20]),
        symlink("s", &"t/".repeat(1000)),
        file("sparse", &[5; 1000])
            .pax("GNU.sparse.size", b"300000")
            .pax("GNU.sparse.map", b"0,500,200000,500"),
        file("v1", b"2\n0\n3\n70000\n2\nxxxxx").pax("GNU.sparse.major", b"1"),
    ]);
    let many = Tar::of((0..100).map(|i| file(&format!("d{}/file-{i}", i % 7), &vec![3; i * 37])));
    vec![plain.end(), extended.end(), many.end()]
}

/// Changes some bytes, mostly in headers, and mends the checksums most of the time, so that the
/// change gets past the first look.
fn mutate(tar: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let block = random.below(tar.len() / 512) * 512;
        match random.below(10) {
            0 => tar.truncate(block + random.below(512)),
            1 => {
                let copy = tar[block..block + 512].to_vec();
                let at = random.below(tar.len() / 512) * 512;
                tar.splice(at..at, copy);
            }
            2 => drop(tar.drain(block..block + 512)),
            3 => tar[block + 156] = b"012345678gxLKSVQ\0"[random.below(17)],
            4 => {
                let digit = block + 124 + random.below(12);
                tar[digit] = b"01234567 \0\x80\xff"[random.below(12)];
            }
            5 => {
                let name = [&b"../"[..], b"bin/", b".wh.", b"/", b"x/y/z", b".."][random.below(6)];
                tar[block..block + name.len()].copy_from_slice(name);
            }
            _ => tar[block + random.below(512)] = random.next() as u8,
        }
        if tar.len() < 1024 {
            break;
        }
    }
    if random.below(10) == 0 {
        return;
    }
    for block in tar
        .chunks_exact_mut(512)
        .filter(|block| block[257..262] == *b"ustar")
    {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

#[test]
fn fuzz_no_mutation_breaks_the_converter() {
    let limits = Limits {
        max_entries: 10_000,
        max_file_bytes: 64 << 20,
        max_metadata_bytes: 1 << 20,
        ..Limits::default()
    };
    let scratch = Scratch::new();
    let seeds = seeds();
    let (end, mut random) = begin();
    let mut rounds = 0;
    let (mut accepted, mut checked, mut slowest) = (0, 0, Duration::ZERO);
    while Instant::now() < end {
        rounds += 1;
        let mut tar = seeds[random.below(seeds.len())].clone();
        mutate(&mut tar, &mut random);
        let begin = Instant::now();
        let result = disk_within(&tar, &limits);
        let mut took = begin.elapsed();
        if took > Duration::from_millis(500) {
            // The machine may have been busy elsewhere: only what is slow again counts.
            let begin = Instant::now();
            let _ = disk_within(&tar, &limits);
            took = took.min(begin.elapsed());
        }
        slowest = slowest.max(took);
        let Ok(disk) = result else { continue };
        accepted += 1;
        if accepted % FSCK_EVERY == 0 {
            let path = scratch.file(&format!("disk-{rounds}"), &disk);
            checked += usize::from(fsck(&path));
            std::fs::remove_file(path).unwrap();
        }
    }
    tell(rounds as u64);
    assert!(
        accepted > rounds / 8,
        "mutations are refused too early: {accepted} accepted"
    );
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    if !has_tool("fsck.erofs") {
        skip(
            "fuzz_no_mutation_breaks_the_converter::fsck",
            "no fsck.erofs",
        );
    }
    println!("{rounds} mutations, {accepted} accepted, {checked} checked, slowest {slowest:?}");
}
