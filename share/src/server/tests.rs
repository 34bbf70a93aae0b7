//! The server against a driver that is made up here.

use super::*;
use crate::wire::MAX_REQUEST;
use abi::{fuse_entry_out, fuse_in_header, fuse_open_out, fuse_out_header};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use tempfile::TempDir;
use zerocopy::{FromBytes, Immutable, IntoBytes};

mod fuzz;
mod hostile;

/// A directory with a shared one in it, and a driver that has begun a session.
struct Guest {
    place: TempDir,
    server: Server,
    output: Output,
    user: (u32, u32),
}

const NUMBER: u64 = 77;

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

impl Guest {
    fn new() -> Self {
        Self::with(View::default(), 1000)
    }

    fn with(view: View, descriptors: usize) -> Self {
        let place = tempfile::tempdir().unwrap();
        let shared = place.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::write(shared.join("note"), "hello").unwrap();
        fs::write(place.path().join("secret"), "not shared").unwrap();
        let root = if view.single_file {
            shared.join("note")
        } else {
            shared
        };
        let server = Server::new(open(&root), view, descriptors).unwrap();
        let mut guest = Self {
            place,
            server,
            output: Output::new(),
            user: (0, 0),
        };
        guest.begin();
        guest
    }

    /// Another driver, of the same directory.
    fn beside(&self) -> Self {
        let server = Server::new(open(&self.path("")), View::default(), 1000).unwrap();
        let mut other = Self {
            server,
            ..Self::new()
        };
        other.begin();
        other
    }

    fn begin(&mut self) {
        let begin = fuse_init_in {
            major: 7,
            minor: 40,
            flags: u32::MAX,
            ..fuse_init_in::default()
        };
        let (errno, _) = self.ask(op::FUSE_INIT, 0, begin.as_bytes());
        assert_eq!(errno, 0);
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.place.path().join("shared").join(name)
    }

    /// Error number and content of the answer.
    fn ask(&mut self, opcode: op, nodeid: u64, arguments: &[u8]) -> (i32, Vec<u8>) {
        let header = fuse_in_header {
            len: u32::try_from(size_of::<fuse_in_header>() + arguments.len()).unwrap(),
            opcode: opcode as u32,
            unique: NUMBER,
            nodeid,
            uid: self.user.0,
            gid: self.user.1,
            ..fuse_in_header::default()
        };
        let packet = [header.as_bytes(), arguments].concat();
        assert!(self.server.serve(&packet, &mut self.output), "answered");
        let answer = self.output.packet();
        let (header, rest) = fuse_out_header::read_from_prefix(answer).unwrap();
        assert_eq!((header.len as usize, header.unique), (answer.len(), NUMBER));
        (-header.error, rest.to_vec())
    }

    fn fails(&mut self, opcode: op, nodeid: u64, arguments: &[u8], expected: Errno) {
        let (errno, _) = self.ask(opcode, nodeid, arguments);
        assert_eq!(errno, expected.raw_os_error(), "{opcode:?}");
    }

    fn get<T: FromBytes>(&mut self, opcode: op, nodeid: u64, arguments: &[u8]) -> T {
        let (errno, answer) = self.ask(opcode, nodeid, arguments);
        assert_eq!(errno, 0, "{opcode:?}");
        T::read_from_prefix(&answer).unwrap().0
    }

    fn lookup(&mut self, parent: u64, name: &str) -> fuse_entry_out {
        self.get(op::FUSE_LOOKUP, parent, &text(name))
    }

    fn open(&mut self, nodeid: u64, flags: OFlags) -> u64 {
        let handle: fuse_open_out = self.get(op::FUSE_OPEN, nodeid, &open_in(flags));
        handle.fh
    }

    fn read(&mut self, fh: u64, offset: u64, size: u32) -> Vec<u8> {
        let asked = read_in(fh, offset, size);
        let (errno, data) = self.ask(op::FUSE_READ, 0, &asked);
        assert_eq!(errno, 0);
        data
    }

    fn names(&mut self, nodeid: u64, size: u32) -> Vec<String> {
        let handle: fuse_open_out = self.get(op::FUSE_OPENDIR, nodeid, &[0; 8]);
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let asked = read_in(handle.fh, offset, size);
            let (errno, data) = self.ask(op::FUSE_READDIR, nodeid, &asked);
            assert_eq!(errno, 0);
            if data.is_empty() {
                break;
            }
            let mut rest = data.as_slice();
            while !rest.is_empty() {
                let (entry, after) = <[u64; 3]>::read_from_prefix(rest).unwrap();
                let length = (entry[2] & 0xffff_ffff) as usize;
                names.push(String::from_utf8(after[..length].to_vec()).unwrap());
                offset = entry[1];
                rest = &rest[(24 + length).next_multiple_of(8)..];
            }
        }
        self.ask(op::FUSE_RELEASEDIR, nodeid, &release_in(handle.fh));
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    }
}

fn text(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn with<T: IntoBytes + Immutable>(value: &T, name: &str) -> Vec<u8> {
    [value.as_bytes(), &text(name)].concat()
}

fn open_in(flags: OFlags) -> Vec<u8> {
    let (flags, open_flags) = (flags.bits(), 0);
    abi::fuse_open_in { flags, open_flags }.as_bytes().to_vec()
}

fn release_in(fh: u64) -> Vec<u8> {
    let asked = abi::fuse_release_in {
        fh,
        ..abi::fuse_release_in::default()
    };
    asked.as_bytes().to_vec()
}

fn read_in(fh: u64, offset: u64, size: u32) -> Vec<u8> {
    let asked = abi::fuse_read_in {
        fh,
        offset,
        size,
        ..abi::fuse_read_in::default()
    };
    asked.as_bytes().to_vec()
}

fn write_in(fh: u64, offset: u64, data: &[u8]) -> Vec<u8> {
    let asked = abi::fuse_write_in {
        fh,
        offset,
        size: u32::try_from(data.len()).unwrap(),
        ..abi::fuse_write_in::default()
    };
    [asked.as_bytes(), data].concat()
}

fn create_in(name: &str, flags: OFlags, mode: u32) -> Vec<u8> {
    let flags = flags.bits();
    let asked = abi::fuse_create_in {
        flags,
        mode,
        umask: 0,
        open_flags: 0,
    };
    with(&asked, name)
}

#[test]
fn a_file_is_made_written_and_read_back() {
    let mut guest = Guest::new();
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    let (errno, answer) = guest.ask(op::FUSE_CREATE, ROOT, &create_in("new", flags, 0o100_640));
    assert_eq!(errno, 0);
    let (entry, rest) = fuse_entry_out::read_from_prefix(&answer).unwrap();
    let (handle, _) = fuse_open_out::read_from_prefix(rest).unwrap();
    let written: abi::fuse_write_out = guest.get(
        op::FUSE_WRITE,
        entry.nodeid,
        &write_in(handle.fh, 3, b"data"),
    );
    assert_eq!(written.size, 4);
    assert_eq!(guest.read(handle.fh, 0, 100), b"\0\0\0data");
    assert_eq!(fs::read(guest.path("new")).unwrap(), b"\0\0\0data");
    let seen: abi::fuse_attr_out = guest.get(op::FUSE_GETATTR, entry.nodeid, &[0; 16]);
    assert_eq!((seen.attr.size, seen.attr.mode), (7, 0o100_640));
    guest.ask(op::FUSE_RELEASE, entry.nodeid, &release_in(handle.fh));
    let asked = read_in(handle.fh, 0, 1);
    guest.fails(op::FUSE_READ, 0, &asked, Errno::BADF);
    guest.fails(
        op::FUSE_CREATE,
        ROOT,
        &create_in("new", flags, 0o644),
        Errno::EXIST,
    );
}

#[test]
fn what_two_drivers_append_is_there_of_both() {
    let mut one = Guest::new();
    let mut other = one.beside();
    let [first, second] = [&mut one, &mut other].map(|guest| {
        let note = guest.lookup(ROOT, "note").nodeid;
        guest.open(note, OFlags::WRONLY | OFlags::APPEND)
    });
    // Each knows of the end of the file what it has seen of it, which is 5.
    let written = |guest: &mut Guest, handle, data: &[u8]| {
        let (errno, _) = guest.ask(op::FUSE_WRITE, 0, &write_in(handle, 5, data));
        assert_eq!(errno, 0);
    };
    written(&mut one, first, b" one");
    written(&mut other, second, b" two");
    written(&mut one, first, b" three");
    assert_eq!(fs::read(one.path("note")).unwrap(), b"hello one two three");
    assert_eq!(other.lookup(ROOT, "note").attr.size, 19);
}

#[test]
fn a_directory_is_listed_whole_in_answers_of_any_size() {
    let mut guest = Guest::new();
    let mut expected: Vec<String> = (0..300)
        .map(|n| format!("{n}{}", "x".repeat(n % 90)))
        .collect();
    for name in &expected {
        fs::write(guest.path(name), "").unwrap();
    }
    expected.push("note".into());
    expected.sort();
    for size in [4096, 160, 128 << 10] {
        assert_eq!(guest.names(ROOT, size), expected, "{size}");
    }
}

#[test]
fn names_are_moved_linked_and_removed() {
    let mut guest = Guest::new();
    let mode = abi::fuse_mkdir_in {
        mode: 0o755,
        umask: 0,
    };
    let made: fuse_entry_out = guest.get(op::FUSE_MKDIR, ROOT, &with(&mode, "dir"));
    let note = guest.lookup(ROOT, "note");
    let link = abi::fuse_link_in {
        oldnodeid: note.nodeid,
    };
    let linked: fuse_entry_out = guest.get(op::FUSE_LINK, made.nodeid, &with(&link, "second"));
    assert_eq!((linked.nodeid, linked.attr.nlink), (note.nodeid, 2));
    let rename = abi::fuse_rename2_in {
        newdir: made.nodeid,
        flags: RENAME_NOREPLACE,
        padding: 0,
    };
    let names = [rename.as_bytes(), b"note\0second\0"].concat();
    guest.fails(op::FUSE_RENAME2, ROOT, &names, Errno::EXIST);
    let names = [rename.as_bytes(), b"note\0third\0"].concat();
    assert_eq!(guest.ask(op::FUSE_RENAME2, ROOT, &names).0, 0);
    assert_eq!(guest.names(made.nodeid, 4096), ["second", "third"]);
    guest.fails(op::FUSE_RMDIR, ROOT, &text("dir"), Errno::NOTEMPTY);
    for name in ["second", "third"] {
        assert_eq!(guest.ask(op::FUSE_UNLINK, made.nodeid, &text(name)).0, 0);
    }
    assert_eq!(guest.ask(op::FUSE_RMDIR, ROOT, &text("dir")).0, 0);
    assert_eq!(guest.names(ROOT, 4096), Vec::<String>::new());
}

const RENAME_NOREPLACE: u32 = 1;

#[test]
fn attributes_are_changed() {
    let mut guest = Guest::new();
    let note = guest.lookup(ROOT, "note").nodeid;
    let asked = abi::fuse_setattr_in {
        valid: abi::FATTR_MODE | abi::FATTR_SIZE | abi::FATTR_MTIME,
        mode: 0o4751,
        size: 2,
        mtime: 1_000_000,
        mtimensec: 5,
        ..abi::fuse_setattr_in::default()
    };
    let now: abi::fuse_attr_out = guest.get(op::FUSE_SETATTR, note, asked.as_bytes());
    assert_eq!((now.attr.mode, now.attr.size), (0o104_751, 2));
    assert_eq!((now.attr.mtime, now.attr.mtimensec), (1_000_000, 5));
    assert_eq!(fs::read(guest.path("note")).unwrap(), b"he");
    // A write that says so takes the set-user-ID bit away.
    let fh = guest.open(note, OFlags::WRONLY);
    let mut write = write_in(fh, 0, b"x");
    write[20] = u8::try_from(abi::FUSE_WRITE_KILL_SUIDGID).unwrap();
    assert_eq!(guest.ask(op::FUSE_WRITE, note, &write).0, 0);
    let mode = fs::metadata(guest.path("note"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode, 0o100_751);
    // The root is changed like any other: a claim's is given to its pod's group.
    let asked = abi::fuse_setattr_in {
        valid: abi::FATTR_MODE | abi::FATTR_GID,
        gid: rustix::process::getegid().as_raw(),
        mode: 0o2777,
        ..abi::fuse_setattr_in::default()
    };
    let now: abi::fuse_attr_out = guest.get(op::FUSE_SETATTR, ROOT, asked.as_bytes());
    assert_eq!(now.attr.mode, 0o042_777);
}

#[test]
fn attributes_of_users_are_kept_and_no_others() {
    let mut guest = Guest::new();
    let note = guest.lookup(ROOT, "note").nodeid;
    let set = |name: &str| [&with(&[3u32, 0], name)[..], b"abc"].concat();
    guest.fails(
        op::FUSE_SETXATTR,
        note,
        &set("security.capability"),
        Errno::OPNOTSUPP,
    );
    guest.fails(op::FUSE_SETXATTR, note, &set("trusted.x"), Errno::OPNOTSUPP);
    let (errno, _) = guest.ask(op::FUSE_SETXATTR, note, &set("user.x"));
    if errno == Errno::OPNOTSUPP.raw_os_error() {
        // The file system of the temporary directory has none.
        return;
    }
    let get = |size: u32| with(&[size, 0u32], "user.x");
    assert_eq!(
        guest.ask(op::FUSE_GETXATTR, note, &get(100)),
        (0, b"abc".to_vec())
    );
    guest.fails(op::FUSE_GETXATTR, note, &get(2), Errno::RANGE);
    let names = guest.ask(op::FUSE_LISTXATTR, note, [100u32, 0].as_bytes());
    assert_eq!(names, (0, b"user.x\0".to_vec()));
    assert_eq!(guest.ask(op::FUSE_REMOVEXATTR, note, &text("user.x")).0, 0);
    guest.fails(op::FUSE_GETXATTR, note, &get(100), Errno::NODATA);
}

#[test]
fn a_single_file_is_alone() {
    let view = View {
        single_file: true,
        ..View::default()
    };
    let mut guest = Guest::with(view, 1000);
    fs::write(guest.path("sibling"), "").unwrap();
    assert_eq!(guest.names(ROOT, 4096), ["file"]);
    guest.fails(op::FUSE_LOOKUP, ROOT, &text("note"), Errno::NOENT);
    guest.fails(op::FUSE_LOOKUP, ROOT, &text("sibling"), Errno::NOENT);
    let file = guest.lookup(ROOT, "file");
    assert_eq!(file.attr.size, 5);
    let fh = guest.open(file.nodeid, OFlags::RDWR);
    assert_eq!(
        guest
            .ask(op::FUSE_WRITE, file.nodeid, &write_in(fh, 0, b"J"))
            .0,
        0
    );
    assert_eq!(fs::read(guest.path("note")).unwrap(), b"Jello");
    let flags = OFlags::RDWR | OFlags::CREATE;
    guest.fails(
        op::FUSE_CREATE,
        ROOT,
        &create_in("x", flags, 0o644),
        Errno::ROFS,
    );
    guest.fails(op::FUSE_UNLINK, ROOT, &text("file"), Errno::ROFS);
    guest.fails(op::FUSE_LOOKUP, file.nodeid, &text("x"), Errno::NOTDIR);
}

#[test]
fn what_a_user_makes_is_the_users() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut guest = Guest::new();
    guest.server.rights = Rights::Privileged;
    guest.user = (1234, 4321);
    // The guest's kernel has let the user in; the host's mode does not matter.
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(guest.path(""), mode).unwrap();
    let flags = OFlags::RDWR | OFlags::CREATE;
    assert_eq!(
        guest
            .ask(op::FUSE_CREATE, ROOT, &create_in("f", flags, 0o600))
            .0,
        0
    );
    let mkdir = abi::fuse_mkdir_in {
        mode: 0o700,
        umask: 0,
    };
    assert_eq!(guest.ask(op::FUSE_MKDIR, ROOT, &with(&mkdir, "d")).0, 0);
    assert_eq!(guest.ask(op::FUSE_SYMLINK, ROOT, b"l\0target\0").0, 0);
    for name in ["f", "d", "l"] {
        let made = fs::symlink_metadata(guest.path(name)).unwrap();
        assert_eq!((made.uid(), made.gid()), (1234, 4321), "{name}");
    }
    guest.user = (u32::MAX, 1);
    guest.fails(op::FUSE_MKDIR, ROOT, &with(&mkdir, "nobody"), Errno::INVAL);
    guest.user = (0, 0);
    assert_eq!(guest.ask(op::FUSE_MKDIR, ROOT, &with(&mkdir, "mine")).0, 0);
    assert_eq!(fs::metadata(guest.path("mine")).unwrap().uid(), 0);
}
