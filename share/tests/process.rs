//! The program itself, at the other end of a socket.

use rustix::fs::Mode;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};

struct Share {
    socket: OwnedFd,
    child: Child,
    _directory: tempfile::TempDir,
}

fn start() -> Share {
    let directory = tempfile::tempdir().expect("a place in /tmp");
    std::fs::write(directory.path().join("note"), "hello").expect("a file");
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("a socket pair");
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let root = rustix::fs::open(directory.path(), flags, Mode::empty()).expect("opened");
    fcntl_setfd(&theirs, FdFlags::empty()).expect("inherited");
    fcntl_setfd(&root, FdFlags::empty()).expect("inherited");
    let child = Command::new(env!("CARGO_BIN_EXE_beluga-share"))
        .args(["--socket", &theirs.as_raw_fd().to_string()])
        .args(["--root", &root.as_raw_fd().to_string()])
        .spawn()
        .expect("runs");
    Share {
        socket: ours,
        child,
        _directory: directory,
    }
}

/// A request: length, opcode, unique, node, three words of who, padding.
fn request(opcode: u32, node: u64, arguments: &[u8]) -> Vec<u8> {
    let mut packet = u32::try_from(40 + arguments.len())
        .expect("short")
        .to_le_bytes()
        .to_vec();
    packet.extend(opcode.to_le_bytes());
    packet.extend(7u64.to_le_bytes());
    packet.extend(node.to_le_bytes());
    packet.extend([0; 16]);
    packet.extend(arguments);
    packet
}

impl Share {
    /// The error number of the answer.
    fn ask(&self, packet: &[u8]) -> i32 {
        send(&self.socket, packet, SendFlags::NOSIGNAL).expect("sent");
        let mut answer = [0; 4096];
        let (_, length) = recv(&self.socket, &mut answer[..], RecvFlags::empty()).expect("answer");
        assert!(length >= 16);
        i32::from_le_bytes([answer[4], answer[5], answer[6], answer[7]])
    }

    fn begin(&self) {
        let mut arguments = 7u32.to_le_bytes().to_vec();
        arguments.extend([0; 60]);
        assert_eq!(self.ask(&request(26, 0, &arguments)), 0);
    }
}

#[test]
fn it_serves_until_the_other_end_is_closed() {
    let mut share = start();
    share.begin();
    assert_eq!(share.ask(&request(1, 1, b"note\0")), 0);
    assert_eq!(share.ask(&request(1, 1, b"nothing\0")), -libc::ENOENT);
    // Longer than any request: cut off, and refused as what it says it is.
    assert_eq!(share.ask(&request(16, 1, &vec![0; 140_000])), -libc::EINVAL);
    assert_eq!(share.ask(&request(1, 1, b"note\0")), 0);
    drop(share.socket);
    assert!(share.child.wait().expect("own child").success());
}

#[test]
fn it_keeps_no_right_that_it_does_not_need() {
    let mut share = start();
    share.begin();
    let status = format!("/proc/{}/status", share.child.id());
    let status = std::fs::read_to_string(status).expect("it runs");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1))
            .expect("a field")
            .to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Threads:"), "1");
    if rustix::process::geteuid().is_root() {
        // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID.
        for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
            assert_eq!(field(set), "00000000000000db", "{set}");
        }
        assert_eq!(field("CapInh:"), "0000000000000000");
    }
    drop(share.socket);
    assert!(share.child.wait().expect("own child").success());
}

#[test]
fn a_wrong_command_line_is_refused() {
    for arguments in [
        &["--socket", "3"][..],
        &["--socket", "1", "--root", "1"],
        &["x"],
        &[],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_beluga-share"));
        let status = command.args(arguments).stderr(Stdio::null()).status();
        assert_eq!(status.expect("runs").code(), Some(2), "{arguments:?}");
    }
}
