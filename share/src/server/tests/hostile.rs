//! What a guest must not be able to do.

use super::*;

#[test]
fn nothing_is_answered_before_a_session_begins() {
    let mut guest = Guest::new();
    assert_eq!(guest.ask(op::FUSE_DESTROY, 0, &[]).0, 0);
    guest.fails(op::FUSE_LOOKUP, ROOT, &text("note"), Errno::IO);
    let other = fuse_init_in {
        major: 8,
        ..fuse_init_in::default()
    };
    guest.fails(op::FUSE_INIT, 0, other.as_bytes(), Errno::PROTO);
}

#[test]
fn a_name_is_one_component() {
    let mut guest = Guest::new();
    for name in ["", ".", "..", "../secret", "a/b", "/etc/passwd"] {
        guest.fails(op::FUSE_LOOKUP, ROOT, &text(name), Errno::INVAL);
        guest.fails(op::FUSE_UNLINK, ROOT, &text(name), Errno::INVAL);
    }
    guest.fails(op::FUSE_LOOKUP, ROOT, b"no end", Errno::INVAL);
    let long = "x".repeat(256);
    guest.fails(op::FUSE_LOOKUP, ROOT, &text(&long), Errno::NAMETOOLONG);
}

#[test]
fn a_link_is_shown_and_never_followed() {
    let mut guest = Guest::new();
    let secret = guest.place.path().join("secret");
    symlink(&secret, guest.path("link")).unwrap();
    symlink("..", guest.path("up")).unwrap();
    let link = guest.lookup(ROOT, "link");
    assert_eq!(link.attr.mode & 0o170_000, 0o120_000);
    let (errno, target) = guest.ask(op::FUSE_READLINK, link.nodeid, &[]);
    assert_eq!((errno, target), (0, secret.to_str().unwrap().into()));
    let flags = open_in(OFlags::RDONLY);
    guest.fails(op::FUSE_OPEN, link.nodeid, &flags, Errno::LOOP);
    let up = guest.lookup(ROOT, "up").nodeid;
    guest.fails(op::FUSE_LOOKUP, up, &text("secret"), Errno::NOTDIR);
    guest.fails(op::FUSE_OPENDIR, up, &[0; 8], Errno::NOTDIR);
    let flags = OFlags::RDWR | OFlags::CREATE;
    guest.fails(
        op::FUSE_CREATE,
        ROOT,
        &create_in("link", flags, 0o644),
        Errno::EXIST,
    );
    let mode = abi::fuse_setattr_in {
        valid: abi::FATTR_MODE,
        mode: 0o777,
        ..abi::fuse_setattr_in::default()
    };
    guest.fails(
        op::FUSE_SETATTR,
        link.nodeid,
        mode.as_bytes(),
        Errno::OPNOTSUPP,
    );
    let size = abi::fuse_setattr_in {
        valid: abi::FATTR_SIZE,
        ..abi::fuse_setattr_in::default()
    };
    guest.fails(op::FUSE_SETATTR, link.nodeid, size.as_bytes(), Errno::INVAL);
    assert_eq!(fs::read(&secret).unwrap(), b"not shared");
}

#[test]
fn a_fifo_is_not_opened_and_a_device_is_not_made() {
    let mut guest = Guest::new();
    let node = |mode: u32| abi::fuse_mknod_in {
        mode,
        rdev: 0x103,
        ..abi::fuse_mknod_in::default()
    };
    let fifo: fuse_entry_out = guest.get(op::FUSE_MKNOD, ROOT, &with(&node(0o010_644), "fifo"));
    // An open that waited for a writer would never come back.
    for flags in [OFlags::RDONLY, OFlags::WRONLY] {
        guest.fails(op::FUSE_OPEN, fifo.nodeid, &open_in(flags), Errno::ACCESS);
    }
    let flags = OFlags::RDWR | OFlags::CREATE;
    guest.fails(
        op::FUSE_CREATE,
        ROOT,
        &create_in("fifo", flags, 0o644),
        Errno::EXIST,
    );
    for mode in [0o020_666, 0o060_666] {
        let asked = with(&node(mode), "device");
        guest.fails(op::FUSE_MKNOD, ROOT, &asked, Errno::PERM);
    }
    assert_eq!(guest.names(ROOT, 4096), ["fifo", "note"]);
}

#[test]
fn read_only_is_read_only() {
    let view = View {
        read_only: true,
        ..View::default()
    };
    let mut guest = Guest::with(view, 1000);
    let note = guest.lookup(ROOT, "note").nodeid;
    let fh = guest.open(note, OFlags::RDONLY);
    assert_eq!(guest.read(fh, 1, 3), b"ell");
    let flags = OFlags::RDWR | OFlags::CREATE;
    let set = abi::fuse_setattr_in {
        valid: abi::FATTR_SIZE,
        ..abi::fuse_setattr_in::default()
    };
    let xattr = [&with(&[1u32, 0], "user.x")[..], b"1"].concat();
    let link = abi::fuse_link_in { oldnodeid: note };
    let changes: [(op, u64, Vec<u8>); 14] = [
        (op::FUSE_OPEN, note, open_in(OFlags::WRONLY)),
        (op::FUSE_OPEN, note, open_in(OFlags::RDWR)),
        (op::FUSE_CREATE, ROOT, create_in("x", flags, 0o644)),
        (op::FUSE_WRITE, note, write_in(fh, 0, b"x")),
        (op::FUSE_SETATTR, note, set.as_bytes().to_vec()),
        (op::FUSE_MKDIR, ROOT, with(&[0o755u32, 0], "x")),
        (op::FUSE_MKNOD, ROOT, with(&[0o100_644u32, 0, 0, 0], "x")),
        (op::FUSE_SYMLINK, ROOT, b"x\0y\0".to_vec()),
        (op::FUSE_LINK, ROOT, with(&link, "x")),
        (op::FUSE_UNLINK, ROOT, text("note")),
        (
            op::FUSE_RENAME,
            ROOT,
            [ROOT.as_bytes(), b"note\0x\0"].concat(),
        ),
        (op::FUSE_SETXATTR, note, xattr),
        (op::FUSE_REMOVEXATTR, note, text("user.x")),
        (op::FUSE_FALLOCATE, note, [fh, 0, 9, 0].as_bytes().to_vec()),
    ];
    for (opcode, nodeid, arguments) in changes {
        guest.fails(opcode, nodeid, &arguments, Errno::ROFS);
    }
    assert_eq!(guest.names(ROOT, 4096), ["note"]);
    assert_eq!(fs::read(guest.path("note")).unwrap(), b"hello");
}

#[test]
fn tables_are_bounded_and_what_is_forgotten_makes_room() {
    let mut guest = Guest::with(View::default(), 64 + 10);
    let mut last = 0;
    for number in 0..20 {
        fs::write(guest.path(&format!("f{number}")), "").unwrap();
        let (errno, answer) = guest.ask(op::FUSE_LOOKUP, ROOT, &text(&format!("f{number}")));
        if errno == 0 {
            last = fuse_entry_out::read_from_prefix(&answer).unwrap().0.nodeid;
        } else {
            assert_eq!(errno, Errno::NFILE.raw_os_error());
        }
    }
    assert_eq!(guest.server.table.len(), 10);
    let flags = open_in(OFlags::RDONLY);
    guest.fails(op::FUSE_OPEN, last, &flags, Errno::NFILE);
    let header = fuse_in_header {
        len: 48,
        opcode: op::FUSE_FORGET as u32,
        nodeid: last,
        ..fuse_in_header::default()
    };
    let packet = [header.as_bytes(), 1u64.as_bytes()].concat();
    assert!(!guest.server.serve(&packet, &mut guest.output), "no answer");
    guest.fails(op::FUSE_GETATTR, last, &[0; 16], Errno::STALE);
    let note = guest.lookup(ROOT, "note");
    guest.fails(op::FUSE_OPEN, note.nodeid, &flags, Errno::NFILE);
}

#[test]
fn lengths_that_lie_are_refused() {
    let mut guest = Guest::new();
    let note = guest.lookup(ROOT, "note").nodeid;
    let fh = guest.open(note, OFlags::RDWR);
    let mut write = write_in(fh, 0, b"abc");
    write[16] = 200;
    guest.fails(op::FUSE_WRITE, note, &write, Errno::INVAL);
    let read = read_in(fh, 0, u32::MAX);
    guest.fails(op::FUSE_READ, note, &read, Errno::INVAL);
    let mut header = fuse_in_header {
        len: 41,
        opcode: op::FUSE_GETATTR as u32,
        ..fuse_in_header::default()
    };
    for len in [0, 39, 41, u32::MAX] {
        header.len = len;
        assert!(guest.server.serve(header.as_bytes(), &mut guest.output));
        let answer = fuse_out_header::read_from_bytes(guest.output.packet()).unwrap();
        assert_eq!(answer.error, -Errno::INVAL.raw_os_error());
    }
    assert!(!guest.server.serve(&[0; 39], &mut guest.output));
    assert!(!guest.server.serve(&[], &mut guest.output));
    assert!(
        guest
            .server
            .serve(&vec![0xff; MAX_REQUEST], &mut guest.output)
    );
}
