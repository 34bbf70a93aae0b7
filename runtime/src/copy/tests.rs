//! Trees that come back as they went, and streams that mean harm.

use super::*;
use beluga_proto::copy::{Entry, EntryKind, RecordKind};
use std::ffi::OsStr;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

fn place(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("beluga-cp-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn a_tree_comes_back_as_it_went() {
    let here = place("tree");
    let tree = here.join("tree");
    std::fs::create_dir_all(tree.join("a")).unwrap();
    std::fs::write(tree.join("a/file"), vec![7; 300_000]).unwrap();
    std::fs::hard_link(tree.join("a/file"), tree.join("again")).unwrap();
    symlink("../outside", tree.join("a/link")).unwrap();
    let sparse = std::fs::File::create(tree.join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    sparse.write_all_at(b"x", 1 << 29).unwrap();
    let mode = |path: &str, mode| {
        let path = tree.join(path);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("a/file", 0o6755);
    mode("a", 0o2711);
    let mut records = Vec::new();
    send(&tree, &mut records, |_| panic!("everything can be sent")).unwrap();
    assert!(records.len() < 1 << 20);
    let new = here.join("new");
    receive(&new, OsStr::new("name"), &*records, |_| ()).unwrap();
    let found = |path: &str| std::fs::symlink_metadata(new.join(path)).unwrap();
    assert_eq!(std::fs::read(new.join("a/file")).unwrap(), vec![7; 300_000]);
    assert_eq!(found("again").ino(), found("a/file").ino());
    assert_eq!(
        std::fs::read_link(new.join("a/link")).unwrap(),
        Path::new("../outside")
    );
    // Bits that lend rights are not what a container gives to the host.
    assert_eq!(found("a/file").mode() & 0o7777, 0o755);
    assert_eq!(found("a").mode() & 0o7777, 0o711);
    assert_eq!(found("sparse").size(), 1 << 30);
    assert!(found("sparse").blocks() < 1024);
    // Into a directory that is there, and over what is there.
    for _ in 0..2 {
        receive(&here, OsStr::new("name"), &*records, |_| ()).unwrap();
    }
    assert!(here.join("name/a/file").exists());
    std::fs::remove_dir_all(&here).unwrap();
}

/// A stream of a container that says what it likes.
#[derive(Default)]
struct Hostile(Vec<u8>);

impl Hostile {
    fn entry(mut self, path: &str, kind: EntryKind) -> Self {
        let entry = Entry {
            path: path.as_bytes().to_vec(),
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 1,
            mtime_nanos: 0,
        };
        records::write(&mut self.0, RecordKind::Entry, &entry.encode()).unwrap();
        self
    }

    fn file(self, path: &str, text: &str) -> Self {
        let size = text.len() as u64;
        let mut own = self.entry(path, EntryKind::File { size });
        let mut payload = 0u64.to_le_bytes().to_vec();
        payload.extend(text.as_bytes());
        records::write(&mut own.0, RecordKind::Data, &payload).unwrap();
        own
    }

    fn directory(self, path: &str) -> Self {
        self.entry(path, EntryKind::Directory)
    }

    fn link(self, path: &str, target: &Path) -> Self {
        let target = target.to_str().unwrap().as_bytes().to_vec();
        self.entry(path, EntryKind::Symlink { target })
    }

    fn again(self, path: &str, of: &str) -> Self {
        let of = of.as_bytes().to_vec();
        self.entry(path, EntryKind::Again { of })
    }

    /// What comes of it in `to`.
    fn received(mut self, to: &Path) -> Result<(), CopyError> {
        records::write(&mut self.0, RecordKind::End, &[]).unwrap();
        receive(to, OsStr::new("name"), &*self.0, |_| ())
    }
}

#[test]
fn nothing_is_written_outside_of_the_destination() {
    let here = place("hostile");
    let (outside, to) = (here.join("outside"), here.join("to"));
    for directory in [&outside, &to] {
        std::fs::create_dir(directory).unwrap();
    }
    std::fs::write(outside.join("secret"), "kept").unwrap();
    let root = || Hostile::default().directory("");
    let through_a_link = || root().link("l", &outside);
    let streams = [
        root().file("../outside/x", "x"),
        root().file("/tmp/x", "x"),
        root().file("a/../../outside/x", "x"),
        Hostile::default().file("../x", "x"),
        through_a_link().file("l/x", "x"),
        through_a_link().file("l/secret", "x"),
        through_a_link().directory("l/d"),
        through_a_link().again("l/x", "l/secret"),
        Hostile::default().link("", &outside).file("x", "x"),
        root().again("x", "../../outside/secret"),
        root().again("x", "nobody"),
        root().directory("").file("x", "x"),
    ];
    for (at, stream) in streams.into_iter().enumerate() {
        assert!(stream.received(&to).is_err(), "{at}");
        std::fs::remove_dir_all(to.join("name"))
            .or_else(|_| std::fs::remove_file(to.join("name")))
            .unwrap_or(());
    }
    assert_eq!(
        std::fs::read_to_string(outside.join("secret")).unwrap(),
        "kept"
    );
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(&here).unwrap().count(), 2);
    std::fs::remove_dir_all(&here).unwrap();
}

#[test]
fn files_that_are_there_are_replaced_and_not_written_into() {
    let here = place("there");
    let (outside, to) = (here.join("outside"), here.join("to"));
    std::fs::create_dir_all(to.join("name")).unwrap();
    std::fs::write(&outside, "kept").unwrap();
    symlink(&outside, to.join("name/link")).unwrap();
    std::fs::hard_link(&outside, to.join("name/hard")).unwrap();
    let stream = Hostile::default().directory("");
    let stream = stream.file("link", "new").file("hard", "new");
    stream.received(&to).unwrap();
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "kept");
    assert_eq!(
        std::fs::read_to_string(to.join("name/link")).unwrap(),
        "new"
    );
    assert_eq!(
        std::fs::read_to_string(to.join("name/hard")).unwrap(),
        "new"
    );
    // A directory of ours that is a link is not gone into.
    symlink(&here, to.join("name/sub")).unwrap();
    let stream = Hostile::default().directory("").directory("sub");
    assert!(stream.received(&to).is_err());
    std::fs::remove_dir_all(&here).unwrap();
}

#[test]
fn a_file_is_written_into_what_lies_at_the_users_own_path() {
    let here = place("own");
    let (secret, link, fifo) = (here.join("secret"), here.join("link"), here.join("fifo"));
    std::fs::write(&secret, "longer than what comes").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::hard_link(&secret, here.join("again")).unwrap();
    symlink("secret", &link).unwrap();
    let sent = |text: &str, to: &Path| Hostile::default().file("", text).received(to);
    sent("new", &link).unwrap();
    assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("secret"));
    assert_eq!(std::fs::read_to_string(here.join("again")).unwrap(), "new");
    assert_eq!(secret.metadata().unwrap().mode() & 0o7777, 0o640);
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let path = fifo.clone();
    let reader = std::thread::spawn(move || std::fs::read_to_string(path).unwrap());
    sent("streamed", &fifo).unwrap();
    assert_eq!(reader.join().unwrap(), "streamed");
    sent("gone", Path::new("/dev/null")).unwrap();
    // Below it, what is no file stays.
    let stream = Hostile::default().directory("").file("fifo", "new");
    let name = here.file_name().unwrap();
    let refused = receive(here.parent().unwrap(), name, &*stream.0, |_| ());
    refused.expect_err("a FIFO of the host's");
    let is_fifo = std::os::unix::fs::FileTypeExt::is_fifo;
    assert!(is_fifo(&fifo.metadata().unwrap().file_type()));
    std::fs::remove_dir_all(&here).unwrap();
}

#[test]
fn nonsense_is_an_error_and_costs_no_memory() {
    let to = place("nonsense");
    let long = RecordKind::Data.header(usize::MAX);
    for stream in [
        &b"?????"[..],
        &long,
        b"E\x02\0\0\0{}",
        b"D\x09\0\0\x00123456789",
        b"Z",
    ] {
        assert!(receive(&to, OsStr::new("n"), stream, |_| ()).is_err());
    }
    let beyond = Hostile::default().entry("", EntryKind::File { size: 1 });
    let mut beyond = beyond.0;
    let mut payload = u64::MAX.to_le_bytes().to_vec();
    payload.push(1);
    records::write(&mut beyond, RecordKind::Data, &payload).unwrap();
    assert!(receive(&to, OsStr::new("n"), &*beyond, |_| ()).is_err());
    std::fs::remove_dir_all(&to).unwrap();
}
