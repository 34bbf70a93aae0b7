//! The built VMM with a tiny guest.

use super::payload::Code;
use beluga_proto::control::{ControlCall, ControlMessage, ControlReply, ControlRequest, VmStatus};
use beluga_proto::vm::{DiskConfig, FdNumber, VM_VERSION, VmConfig};
use beluga_proto::{ExitRecord, Fault};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, SocketAddrUnix, SocketFlags,
    SocketType,
};
use std::fs::File;
use std::io::{IoSliceMut, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The longest that a tiny guest may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Whether this machine has KVM; says so by name when it has not.
pub fn kvm_or_skip(test: &str) -> bool {
    let there = File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    if !there {
        skip(test, "/dev/kvm cannot be opened");
    }
    there
}

/// Says that a test cannot run here, and why.
pub fn skip(test: &str, why: &str) {
    // libtest keeps what the macros print of a test that passes.
    let line = format!("SKIPPED {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// An unnamed file.
pub fn file(bytes: &[u8]) -> File {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("beluga-tiny-{}-{number}", std::process::id()));
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    let mut file = options.open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// A socket that listens for packets, and where.
pub fn listener() -> (OwnedFd, PathBuf) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path =
        std::env::temp_dir().join(format!("beluga-tiny-{}-{number}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = packet_socket();
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&socket, 4).unwrap();
    (socket, path)
}

fn packet_socket() -> OwnedFd {
    rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
}

/// Lets a child inherit a descriptor under its number.
pub fn inherit(fd: &impl AsFd) -> FdNumber {
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
    FdNumber(fd.as_fd().as_raw_fd())
}

/// A configuration without devices.
pub fn config(
    kernel: FdNumber,
    initramfs: FdNumber,
    control: FdNumber,
    record: FdNumber,
) -> VmConfig {
    VmConfig {
        version: VM_VERSION,
        name: "tiny".to_owned(),
        vcpus: 1,
        memory_mib: 32,
        kernel,
        initramfs,
        cmdline: "quiet".to_owned(),
        disks: Vec::new(),
        nets: Vec::new(),
        vsock: None,
        rng: false,
        balloon: false,
        shares: Vec::new(),
        control,
        exit_record: record,
        jail: None,
    }
}

/// A disk without content.
pub fn empty_disk(id: &str) -> DiskConfig {
    DiskConfig {
        id: id.to_owned(),
        read_only: false,
        extents: Vec::new(),
        discard: false,
        flush: false,
        rate: None,
    }
}

/// A running VMM; killed when it is dropped.
pub struct Vm {
    child: Child,
    record: File,
    socket: PathBuf,
}

impl Vm {
    /// Boots a payload.
    pub fn boot(code: Code, change: impl FnOnce(&mut VmConfig)) -> Self {
        Self::start(&code.elf(), b"070701", change)
    }

    /// Starts the VMM on these images.
    pub fn start(kernel: &[u8], initramfs: &[u8], change: impl FnOnce(&mut VmConfig)) -> Self {
        let (kernel, initramfs, record) = (file(kernel), file(initramfs), file(b""));
        let (control, socket) = listener();
        let mut config = config(
            inherit(&kernel),
            inherit(&initramfs),
            inherit(&control),
            inherit(&record),
        );
        change(&mut config);
        Self::spawn(&serde_json::to_vec(&config).unwrap(), record, socket)
    }

    /// Starts the VMM on a configuration's bytes.
    pub fn spawn(config: &[u8], record: File, socket: PathBuf) -> Self {
        let config = file(config);
        let number = inherit(&config).0.to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_beluga-vmm"))
            .args(["--config-fd", &number])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            record,
            socket,
        }
    }

    /// Waits for the end; gives the exit status and the record.
    pub fn end(&mut self) -> (ExitStatus, ExitRecord) {
        self.end_within(PATIENCE)
    }

    /// The same for a guest that has more to do.
    pub fn end_within(&mut self, patience: Duration) -> (ExitStatus, ExitRecord) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < patience, "the guest does not end");
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut text = String::new();
        self.record.rewind().unwrap();
        self.record.read_to_string(&mut text).unwrap();
        let record = serde_json::from_str(&text);
        let record = record.unwrap_or_else(|error| panic!("no exit record ({status}): {error}"));
        (status, record)
    }

    /// Whether the process is gone.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Connects as a supervisor.
    pub fn connect(&self) -> Supervisor {
        Supervisor::connect(&self.socket)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// A supervisor's end of the control socket.
pub struct Supervisor {
    socket: OwnedFd,
    calls: u64,
}

impl Supervisor {
    /// Connects to the socket at `path`.
    pub fn connect(path: &Path) -> Self {
        let socket = packet_socket();
        rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            Some(PATIENCE),
        )
        .unwrap();
        Self { socket, calls: 0 }
    }

    /// Sends raw bytes.
    pub fn send(&self, bytes: &[u8]) {
        rustix::net::send(&self.socket, bytes, rustix::net::SendFlags::NOSIGNAL).unwrap();
    }

    /// The next packet, which says that the guest has opened a stream: its port
    /// and the stream.
    pub fn opened(&self) -> (u32, OwnedFd) {
        let (mut bytes, mut space) = (vec![0; 1 << 16], [MaybeUninit::uninit(); 64]);
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        let got = rustix::net::recvmsg(
            &self.socket,
            &mut pieces,
            &mut control,
            rustix::net::RecvFlags::CMSG_CLOEXEC,
        );
        let length = got.unwrap().bytes;
        let mut fds = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
            _ => Vec::new(),
        });
        let stream = fds.next().expect("a descriptor beside the message");
        match serde_json::from_slice(&bytes[..length]).unwrap() {
            ControlMessage::VsockOpened { guest_port, .. } => (guest_port, stream),
            other => panic!("{other:?}"),
        }
    }

    /// The next packet; empty when the VMM has hung up.
    pub fn receive(&self) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 16];
        let result = rustix::net::recv(&self.socket, &mut bytes, rustix::net::RecvFlags::empty());
        let length = match result {
            Ok((length, _)) => length,
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(error) => panic!("{error}"),
        };
        bytes.truncate(length);
        bytes
    }

    /// Calls and waits for the reply.
    pub fn call(&mut self, request: ControlRequest) -> Result<ControlReply, Fault> {
        self.calls += 1;
        let call = ControlCall {
            id: self.calls,
            request,
        };
        self.send(&serde_json::to_vec(&call).unwrap());
        match serde_json::from_slice(&self.receive()).unwrap() {
            ControlMessage::Reply { id, result } if id == self.calls => result,
            other => panic!("{other:?}"),
        }
    }

    /// Asks how the machine is.
    pub fn status(&mut self) -> VmStatus {
        match self.call(ControlRequest::Status) {
            Ok(ControlReply::Status(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the console has `text`.
    pub fn wait_for_console(&mut self, text: &str) {
        let start = Instant::now();
        while !self.status().console.contains(text) {
            assert!(start.elapsed() < PATIENCE, "the guest never wrote {text:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
