//! Command line ⇄ the agent's copier, over the streams of an exec: no JSON.

use beluga_proto::copy::{Entry, EntryKind, RecordKind};
use std::path::Path;

/// A record as it travels, in hexadecimal.
fn record(kind: RecordKind, payload: &[u8]) -> String {
    let bytes = kind.header(payload.len()).into_iter();
    let bytes = bytes.chain(payload.iter().copied());
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// The kinds of entries; a match without a rest, so that a new one is seen here.
fn name(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File { .. } => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink { .. } => "symlink",
        EntryKind::Again { .. } => "again",
    }
}

#[test]
fn copied_files() {
    let entry = |path: &str, kind| Entry {
        path: path.into(),
        kind,
        mode: 0o4755,
        uid: 1000,
        gid: 2000,
        mtime: 1_700_000_000,
        mtime_nanos: 7,
    };
    let target = b"a/f".to_vec();
    let entries = [
        entry("a", EntryKind::Directory),
        entry("a/f", EntryKind::File { size: 1 << 33 }),
        entry(
            "l",
            EntryKind::Symlink {
                target: target.clone(),
            },
        ),
        entry("h", EntryKind::Again { of: target }),
    ];
    let mut lines: Vec<String> = Vec::new();
    for entry in entries {
        let payload = entry.encode();
        lines.push(format!(
            "{} {}",
            name(&entry.kind),
            record(RecordKind::Entry, &payload)
        ));
        assert_eq!(Entry::decode(&payload), Some(entry));
    }
    let data = [&4096u64.to_le_bytes()[..], b"bytes"].concat();
    lines.push(format!("data {}", record(RecordKind::Data, &data)));
    lines.push(format!(
        "note {}",
        record(RecordKind::Note, b"cannot read x")
    ));
    lines.push(format!("end {}", record(RecordKind::End, b"")));
    let text = lines.join("\n") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/copy/v1.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).expect("golden file is writable");
    }
    let golden = std::fs::read_to_string(&path).expect("a golden file; BLESS=1 writes it");
    assert_eq!(text, golden, "the bytes changed; read EVOLUTION.md");
}
