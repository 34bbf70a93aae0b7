//! Layers made to do harm: each is refused by name, none panics or goes on for ever.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use beluga_image::{LayerError, Limits, TarError};
use support::{Entry, Tar, device, dir, disk, disk_within, entry, file, hard_link, link, symlink};

/// The whole chain of messages, or panics when the layer is accepted.
fn refused(entries: impl IntoIterator<Item = Entry>) -> (LayerError, String) {
    refused_tar(&Tar::of(entries).end())
}

fn refused_tar(tar: &[u8]) -> (LayerError, String) {
    let error = disk(tar).expect_err("a hostile layer was accepted");
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    (error, text)
}

/// What is wrong with the archive, wherever in it.
fn tar_error(error: &LayerError) -> Option<&TarError> {
    match error {
        LayerError::Tar(source) | LayerError::TarAt { source, .. } => Some(source),
        _ => None,
    }
}

#[test]
fn paths_out_of_the_root() {
    for name in ["../x", "a/../../x", "/../x", "./../../etc/passwd", ".."] {
        let (error, text) = refused([file(name, b"x")]);
        assert!(matches!(error, LayerError::Escape { .. }), "{text}");
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn hard_links_out_of_the_root_or_to_nothing() {
    for target in [
        "../../etc/passwd",
        "missing",
        "a",
        ".",
        "a/missing",
        ".wh.gone",
        "gone",
    ] {
        let (error, text) = refused([dir("a"), file(".wh.gone", b""), hard_link("l", target)]);
        assert!(matches!(error, LayerError::HardLink { .. }), "{text}");
    }
    // Up from inside a symlink stays within the root, as in a chroot.
    let up = [
        symlink("up", "../../../.."),
        hard_link("l", "up/etc/passwd"),
    ];
    assert!(matches!(refused(up).0, LayerError::HardLink { .. }));
}

#[test]
fn impossible_names() {
    let long = "n".repeat(256);
    let deep = "d/".repeat(1025);
    for name in [
        "",
        ".wh.",
        ".wh..",
        ".wh...",
        "a/.wh.",
        &long,
        &deep,
        &"p/".repeat(3000),
    ] {
        let (error, text) = refused([file(name, b"x")]);
        assert!(
            matches!(error, LayerError::BadName { .. }),
            "{name}: {text}"
        );
        assert!(text.len() < 1000, "{text}");
    }
    assert!(matches!(
        refused([file(".", b"x")]).0,
        LayerError::BadName { .. }
    ));
    let through = [symlink("s", &long), file("s/x", b"x")];
    assert!(matches!(refused(through).0, LayerError::BadName { .. }));
    for target in [String::new(), "t".repeat(5000)] {
        assert!(matches!(
            refused([symlink("s", &target)]).0,
            LayerError::BadName { .. }
        ));
    }
}

#[test]
fn loops_of_symlinks() {
    let entries = [symlink("a", "b"), symlink("b", "a"), file("a/x", b"x")];
    assert!(matches!(refused(entries).0, LayerError::SymlinkLoop { .. }));
    let entries = [symlink("self", "self/self/self"), file("self/x", b"x")];
    assert!(matches!(refused(entries).0, LayerError::SymlinkLoop { .. }));
}

#[test]
fn paths_that_cost_more_than_they_say() {
    // Forty symlinks in a row, each going round two thousand times before the next.
    let mut entries = vec![dir("d")];
    for i in 0..39 {
        entries.push(symlink(
            &format!("s{i}"),
            &format!("{}s{}", "d/../".repeat(800), i + 1),
        ));
    }
    entries.push(symlink("s39", "d"));
    entries.extend((0..1000).map(|_| file("s0/x", b"")));
    assert!(matches!(
        refused(entries).0,
        LayerError::TooManyLookups { .. }
    ));
}

#[test]
fn parents_that_are_files() {
    let entries = [file("f", b"x"), file("f/x", b"x")];
    assert!(matches!(
        refused(entries).0,
        LayerError::NotADirectory { .. }
    ));
}

#[test]
fn types_and_devices_that_do_not_exist() {
    assert!(matches!(
        refused([entry("x", b'Q')]).0,
        LayerError::UnknownType { flag: 'Q', .. }
    ));
    let device = device("x", b'3', 5000, 1);
    assert!(matches!(
        refused([device]).0,
        LayerError::DeviceNumber { major: 5000, .. }
    ));
}

#[test]
fn an_opaque_root() {
    let (error, _) = refused([file(".wh..wh..opq", b"")]);
    assert!(matches!(error, LayerError::OpaqueRoot { .. }));
}

#[test]
fn more_than_the_limits() {
    let limits = Limits {
        max_entries: 100,
        max_file_bytes: 10_000,
        max_metadata_bytes: 20_000,
        ..Limits::default()
    };
    let refused = |tar: Tar| disk_within(&tar.end(), &limits).unwrap_err();
    let many = Tar::of((0..200).map(|i| file(&format!("f{i}"), b"")));
    assert!(matches!(
        refused(many),
        LayerError::TooManyEntries { entry, limit: 100 } if entry == "f99"
    ));
    let implied = Tar::of([file(&"d/".repeat(200), b"")]);
    assert!(matches!(
        refused(implied),
        LayerError::TooManyEntries { entry, .. } if entry.starts_with("d/d/")
    ));
    let large = Tar::of((0..3).map(|i| file(&format!("f{i}"), &[1; 4000])));
    assert!(matches!(
        refused(large),
        LayerError::TooLarge { limit: 10_000, .. }
    ));
    let named = Tar::of([file("f", b"").pax("SCHILY.xattr.user.a", &[1; 30_000])]);
    assert!(matches!(
        refused(named),
        LayerError::TooLarge { limit: 20_000, .. }
    ));
}

#[test]
fn an_attribute_that_no_file_system_holds() {
    let entry = file("f", b"").pax("SCHILY.xattr.user.a", &[1; 70_000]);
    assert!(matches!(
        refused([entry]).0,
        LayerError::XattrTooLong { .. }
    ));
    let entry = dir("./").pax("SCHILY.xattr.user.a", &[1; 4000]);
    assert!(matches!(
        refused([entry]).0,
        LayerError::XattrTooLong { .. }
    ));
}

#[test]
fn a_sparse_file_of_eight_exbibytes() {
    let entry = file("f", b"x")
        .pax("GNU.sparse.major", b"0")
        .pax("GNU.sparse.minor", b"1")
        .pax("GNU.sparse.size", b"9223372036854775807")
        .pax("GNU.sparse.map", b"0,1");
    assert!(matches!(refused([entry]).0, LayerError::TooLarge { .. }));
}

#[test]
fn sparse_maps_that_lie() {
    for map in [
        "5,1,0,1",
        "0,1,0,1",
        "0,2",
        "99,2",
        "0,18446744073709551615",
        "0",
        "a,b",
        "",
    ] {
        let entry = file("f", b"xy")
            .pax("GNU.sparse.size", b"100")
            .pax("GNU.sparse.map", map.as_bytes());
        let (error, text) = refused([if map == "0,2" {
            file("../f", b"")
        } else {
            entry
        }]);
        assert!(
            tar_error(&error).is_some() || matches!(error, LayerError::Escape { .. }),
            "{text}"
        );
    }
}

#[test]
fn malformed_pax_headers() {
    for records in [
        &b"5 a=b\n"[..],
        b"7 a=b\n",
        b"9999999999999999999999 a=b\n",
        b"0 a=b\n",
        b"6 a=bX",
        b"6 aab\n",
        b"5 =b\n",
        b"-6 a=b\n",
        b"a=b\n",
        b"14 path=a\0b\n",
        b"12 size=-1\n",
        b"11 uid=ab\n",
        b"18 uid=4294967296\n",
        b"13 mtime=x.y\n",
        b"12 mtime=1.a\n",
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_size(records.len() as u64);
        header.set_cksum();
        let mut tar = Tar::default();
        tar.raw(header.as_bytes(), records);
        let (error, text) = refused_tar(&tar.with(file("f", b"x")).end());
        let shown = String::from_utf8_lossy(records);
        assert!(matches!(error, LayerError::Tar(_)), "{shown}: {text}");
        assert!(text.contains("at byte 0"), "{shown}: {text}");
    }
}

#[test]
fn headers_that_ask_for_memory() {
    for flag in [b'x', b'g', b'L', b'K'] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(flag));
        header.set_size(1 << 40);
        header.set_cksum();
        let mut tar = Tar::default();
        tar.raw(header.as_bytes(), b"");
        let (error, text) = refused_tar(&tar.end());
        let too_long = matches!(error, LayerError::Tar(TarError::HeaderTooLong { .. }));
        assert!(too_long, "{text}");
    }
}

#[test]
fn archives_that_are_cut_or_overwritten() {
    let tar = Tar::of([file("a", &[7; 5000]), file("b", b"x")]).end();
    for length in [1, 511, 513, 600, 5000, 5632 + 100] {
        let (error, text) = refused_tar(&tar[..length]);
        assert!(
            matches!(tar_error(&error), Some(TarError::Truncated { .. })),
            "{length}: {text}"
        );
    }
    let mut wrong = tar.clone();
    wrong[10] ^= 1;
    let (error, _) = refused_tar(&wrong);
    assert!(matches!(
        error,
        LayerError::Tar(TarError::Checksum { offset: 0 })
    ));
    let mut lone = vec![0; 512];
    lone.extend(&tar);
    assert!(matches!(
        tar_error(&refused_tar(&lone).0),
        Some(TarError::LoneZeroBlock { .. })
    ));
    // A size in two's complement below zero.
    let mut negative = file("a", b"");
    negative.header.as_mut_bytes()[124..136].fill(0xff);
    assert!(matches!(
        refused([negative]).0,
        LayerError::Tar(TarError::Number { .. })
    ));
}

#[test]
fn links_have_no_contents_whatever_they_say() {
    let mut odd = link("l", b'2', "f");
    odd.header.set_size(512);
    disk(&Tar::of([file("f", b"x"), odd, file("g", b"x")]).end()).unwrap();
}
