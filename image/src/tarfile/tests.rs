use super::header::number;
use super::*;

fn entries(tar: &[u8]) -> Result<Vec<Entry>, TarError> {
    let mut reader = Reader::new(tar, 1 << 16);
    std::iter::from_fn(|| reader.next().transpose()).collect()
}

#[test]
fn numbers_as_writers_write_them() {
    for (field, value) in [
        (&b"0000644\0"[..], Some(0o644)),
        (b"   644 \0", Some(0o644)),
        (b"644     ", Some(0o644)),
        (b"\0\0\0\0\0\0\0\0", Some(0)),
        (b"        ", Some(0)),
        (b"77777777", Some(0o77_777_777)),
        (b"644\0junk", Some(0o644)),
        (b"6x4", None),
        (b"-644", None),
        (b"\x80\0\0\0\0\0\x01\0", Some(256)),
        (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
        (
            b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
            Some(i64::MAX),
        ),
        (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
        (&[0xff; 200], Some(-1)),
        (&[0xbf; 200], None),
        (b"", None),
    ] {
        assert_eq!(number(field), value, "{field:?}");
    }
}

#[test]
fn long_names_of_gnu_tar() {
    let long = "long/".repeat(60);
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o600);
    builder
        .append_data(&mut header, format!("{long}file"), &b"abc"[..])
        .unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder
        .append_link(&mut header, "s", format!("{long}file"))
        .unwrap();
    let found = entries(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(found[0].path, format!("{long}file").into_bytes());
    assert_eq!(
        (found[0].size, found[0].mode, found[0].kind),
        (3, 0o600, Kind::Regular)
    );
    assert_eq!(found[1].link, format!("{long}file").into_bytes());
}

#[test]
fn pax_beats_the_header_for_one_entry_only() {
    let mut builder = tar::Builder::new(Vec::new());
    let records: [(&str, &[u8]); 5] = [
        ("path", b"p"),
        ("mtime", b"-0.25"),
        ("uid", b"4294967295"),
        ("SCHILY.xattr.user.a", b"1\n2=3"),
        ("path", b"q"),
    ];
    builder.append_pax_extensions(records).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    builder.append_data(&mut header, "name", &b""[..]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    builder.append_data(&mut header, "next/", &b""[..]).unwrap();
    let found = entries(&builder.into_inner().unwrap()).unwrap();
    assert_eq!((&found[0].path[..], found[0].uid), (&b"q"[..], u32::MAX));
    assert_eq!(
        found[0].mtime,
        Time {
            seconds: -1,
            nanos: 750_000_000
        }
    );
    assert_eq!(found[0].xattrs, [(b"user.a".to_vec(), b"1\n2=3".to_vec())]);
    assert_eq!(
        (&found[1].path[..], found[1].uid, found[1].xattrs.len()),
        (&b"next/"[..], 0, 0)
    );
    assert_eq!(found[1].kind, Kind::Directory, "the old way to write one");
}

#[test]
fn contents_are_read_in_part_or_skipped() {
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["a", "b"] {
        let mut header = tar::Header::new_ustar();
        header.set_size(1000);
        builder
            .append_data(&mut header, name, &[7; 1000][..])
            .unwrap();
    }
    let tar = builder.into_inner().unwrap();
    let mut reader = Reader::new(std::io::Cursor::new(&tar), 1 << 16);
    reader.next().unwrap().unwrap();
    let mut part = [0; 10];
    assert_eq!(reader.read_contents(&mut part).unwrap(), 10);
    assert_eq!(reader.next().unwrap().unwrap().path, b"b");
    assert_eq!(reader.offset(), 512 + 1024 + 512);
    reader.seek_past_contents().unwrap();
    assert!(reader.next().unwrap().is_none());
    assert!(reader.next().unwrap().is_none());
}

#[test]
fn an_archive_may_end_with_the_last_contents_but_not_before() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(1000);
    builder
        .append_data(&mut header, "a", &[7; 1000][..])
        .unwrap();
    let tar = builder.into_inner().unwrap();
    for end in [512 + 1000, 512 + 1001, 512 + 1024] {
        assert_eq!(entries(&tar[..end]).unwrap().len(), 1, "{end}");
    }
    let error = entries(&tar[..512 + 999]).unwrap_err();
    assert!(matches!(error, TarError::Truncated { offset: 1511 }));
}
