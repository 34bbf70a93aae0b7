//! A machine in mid-I/O becomes plain values, and goes on from them.
//!
//! It has every device and two vCPUs. The first machine is served by hand, so
//! that it is known what is under way when it is saved; the second runs as the
//! VMM runs it. Disk, network and supervisor are the same to both; the share's
//! server is another one.

mod guest;

use super::sys;
use super::vm::{PATIENCE, Supervisor, config, empty_disk, file, kvm_or_skip, listener, skip};
use beluga_proto::VmConfig;
use beluga_proto::vm::{Extent, FdNumber, MacAddress, NetConfig, ShareConfig, VsockConfig};
use beluga_vmm::exit::Journal;
use beluga_vmm::machine::{self, Machine, MachineState, Saved};
use beluga_vmm::memory::{self, GuestMemory};
use beluga_vmm::vcpu::Board;
use beluga_vmm::virtio::mmio::Transport;
use beluga_vmm::virtio::{DeviceCall, Interest, Outgoing, Token};
use guest::{BALLOON, DISK, NET, RNG, SHARE, VSOCK};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 9, 1);
const EVERYBODY: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 168, 9, 255), 9);

/// Bytes of an answer of the share's server without content.
const ANSWER: u32 = 16;

/// What is outside of the machine and stays.
struct World {
    kernel: Vec<u8>,
    /// Sector `n` is full of the letter `q` plus `n`.
    disk: File,
    tap: OwnedFd,
    /// Where the guest's datagrams go.
    host: UdpSocket,
}

impl World {
    /// In a network of this thread's own, which the host may refuse.
    fn make() -> std::io::Result<Self> {
        sys::enter_own_network()?;
        let tap = sys::tap(HOST)?;
        let host = UdpSocket::bind((HOST, 7))?;
        host.set_broadcast(true)?;
        host.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            kernel: guest::guest().elf(),
            disk: file(
                &(b'q'..b'y')
                    .flat_map(|byte| [byte; 512])
                    .collect::<Vec<_>>(),
            ),
            tap,
            host,
        })
    }

    /// A machine's configuration, on fresh descriptors; where a supervisor
    /// connects; the server of its share.
    fn machine(&self) -> (VmConfig, PathBuf, OwnedFd) {
        let (control, path) = listener();
        let mut config = config(
            give(file(&self.kernel)),
            give(file(b"070701")),
            give(control),
            give(nowhere()),
        );
        config.vcpus = 2;
        config.disks = vec![empty_disk("a")];
        config.disks[0].extents = vec![Extent {
            fd: give(&self.disk),
            offset: 0,
            length: 4096,
        }];
        config.nets = vec![NetConfig {
            id: "eth0".to_owned(),
            tap: give(&self.tap),
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            limits: None,
        }];
        let (ours, server) = packets();
        config.shares = vec![ShareConfig {
            tag: "share".to_owned(),
            server: give(ours),
        }];
        config.vsock = Some(VsockConfig {
            guest_cid: guest::GUEST_CID,
        });
        config.rng = true;
        config.balloon = true;
        (config, path, server)
    }

    /// Sends a datagram to the guest.
    fn say(&self, slot: u32) {
        self.host.send_to(&heard(slot), EVERYBODY).unwrap();
    }

    /// The guest's next datagram is that of a round.
    fn hears(&self, slot: u32) {
        let mut bytes = [0; 64];
        let length = self.host.recv(&mut bytes).expect("a datagram of the guest");
        assert_eq!(bytes[..length], guest::said(slot));
    }
}

/// What the host says to the guest.
fn heard(slot: u32) -> [u8; 8] {
    let mut text = *b"host  #0";
    text[7] += slot as u8;
    text
}

/// Descriptors of a test machine get numbers that are never used again.
fn give(fd: impl AsFd) -> FdNumber {
    FdNumber(fcntl_dupfd_cloexec(fd, 200).unwrap().into_raw_fd())
}

fn nowhere() -> File {
    File::options().write(true).open("/dev/null").unwrap()
}

/// A share's end, and its server's.
fn packets() -> (OwnedFd, OwnedFd) {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let pair = rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::sockopt::set_socket_timeout(&pair.1, Timeout::Recv, Some(PATIENCE)).unwrap();
    pair
}

/// The number of the next request that has come to a share's server.
fn request(server: &OwnedFd) -> u64 {
    let mut bytes = [0; 64];
    let got = rustix::net::recv(server, &mut bytes[..], RecvFlags::empty()).unwrap();
    assert_eq!(got.0, 40);
    u64::from_le_bytes(bytes[8..16].try_into().unwrap())
}

fn answer(server: &OwnedFd, number: u64) {
    let bytes = answer_bytes(0, number);
    rustix::net::send(server, &bytes, SendFlags::empty()).unwrap();
}

fn answer_bytes(error: i32, number: u64) -> Vec<u8> {
    let number = number.to_le_bytes();
    [&ANSWER.to_le_bytes()[..], &error.to_le_bytes(), &number].concat()
}

fn build(config: &VmConfig, saved: Option<Saved>) -> Machine {
    let journal = Arc::new(Journal::new(Instant::now(), nowhere()));
    machine::build(config, saved, journal).unwrap()
}

fn copy(memory: &GuestMemory) -> GuestMemory {
    let copy = memory::allocate(32).unwrap();
    for region in memory.iter() {
        let mut bytes = vec![0; region.len() as usize];
        let start: GuestAddress = region.start_addr();
        memory.read_slice(&mut bytes, start).unwrap();
        copy.write_slice(&bytes, start).unwrap();
    }
    copy
}

fn word(memory: &GuestMemory, address: u32) -> u32 {
    memory.read_obj(GuestAddress(address.into())).unwrap()
}

fn bytes<const N: usize>(memory: &GuestMemory, address: u32) -> [u8; N] {
    let mut bytes = [0; N];
    memory
        .read_slice(&mut bytes, GuestAddress(address.into()))
        .unwrap();
    bytes
}

fn go(memory: &GuestMemory, value: u32) {
    memory
        .write_obj(value, GuestAddress(guest::GO.into()))
        .unwrap();
}

/// Waits until what the guest has written begins with `text`, doing something
/// meanwhile.
fn until(board: &Board, text: &str, mut meanwhile: impl FnMut()) {
    let start = Instant::now();
    loop {
        let seen = board.journal.console().tail(4096);
        if seen.starts_with(text) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{seen:?} instead of {text:?}");
        meanwhile();
        std::thread::yield_now();
    }
}

fn device(machine: &Machine, number: u32) -> &Transport {
    &machine.board().bus.devices()[number as usize]
}

/// Looks at everything that may have come for a device.
fn serve(machine: &Machine, number: u32) {
    let device = device(machine, number);
    if matches!(number, NET | SHARE) {
        device.ready(Token(0), Interest::IN);
    }
    for queue in 0..device.queue_count() {
        device.queue_notified(queue);
    }
}

/// The first round, all of it; then a request that stays with the share's
/// server, and one to every device that nobody looks at.
fn run_into_the_middle(first: &Machine, world: &World, server: &OwnedFd) -> Outgoing {
    first.start_vcpus().unwrap();
    until(first.board(), "1", || {});
    device(first, VSOCK)
        .control(DeviceCall::SupervisorArrived)
        .unwrap();
    world.say(0);
    serve(first, SHARE);
    answer(server, request(server));
    until(first.board(), "12", || {
        (DISK..=BALLOON).for_each(|number| serve(first, number));
    });
    world.hears(0);
    let mut opened = device(first, VSOCK).take_messages();
    assert_eq!(opened.len(), 1);
    until(first.board(), "12S", || {});
    serve(first, SHARE);
    assert_eq!(request(server), 2);
    go(&first.memory, 1);
    until(first.board(), "12SN", || {});
    opened.remove(0)
}

/// What the guest has when the round that was under way is answered.
fn check_middle(memory: &GuestMemory) {
    assert_eq!(bytes(memory, guest::buffer(DISK, 1) + 0x200), [b'r'; 512]);
    let packet = guest::room(NET, 1) + guest::NET_HEADER + guest::UDP_HEADERS;
    assert_eq!(bytes(memory, packet), heard(1));
    // Asked of the old server; asked of nobody yet when it was saved.
    let lost = bytes::<16>(memory, guest::room(SHARE, 1));
    assert_eq!(lost[..], answer_bytes(-libc::EIO, 2));
    let asked = bytes::<16>(memory, guest::room(SHARE, 2));
    assert_eq!(asked[..], answer_bytes(0, 3));
    // The stream is gone: its data is answered by a reset (operation 3).
    assert_eq!(bytes(memory, guest::room(VSOCK, 0) + 30), [2, 0]);
    assert_eq!(bytes(memory, guest::room(VSOCK, 1) + 30), [3, 0]);
    assert_eq!(bytes(memory, guest::room(VSOCK, 4)), [0; 4]);
    assert_ne!(bytes(memory, guest::buffer(RNG, 1)), [0; 16]);
    assert_eq!(word(memory, guest::given_page(1)), 0);
    assert_eq!(word(memory, guest::ACTUAL), 2);
}

/// How often the guest has left KVM in one way.
fn exits(machine: &Machine, kind: &str) -> u64 {
    let exits = machine.board().journal.exits();
    exits.get(kind).copied().unwrap_or(0)
}

/// Waits until the second vCPU has counted beyond `ticks`.
fn wait_for_ticks(memory: &GuestMemory, ticks: u32) {
    let start = Instant::now();
    while word(memory, guest::TICKS) <= ticks {
        assert!(start.elapsed() < PATIENCE, "the second vCPU stands still");
        std::thread::yield_now();
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one course of events, told in order")]
fn a_machine_saved_in_mid_io_goes_on_from_its_values() {
    const NAME: &str = "saved::a_machine_saved_in_mid_io_goes_on_from_its_values";
    if !kvm_or_skip(NAME) {
        return;
    }
    let world = match World::make() {
        Ok(world) => world,
        Err(error) => return skip(NAME, &format!("no tap in a network of its own: {error}")),
    };

    let (config, path, server) = world.machine();
    std::fs::remove_file(path).unwrap();
    let first = build(&config, None);
    let stream = run_into_the_middle(&first, &world, &server);
    let state = serde_json::to_string(&first.save().unwrap()).unwrap();
    let memory = copy(&first.memory);
    let ticks = word(&memory, guest::TICKS);
    assert_eq!(word(&memory, guest::given_page(1)), guest::IN_USE);
    // What the second vCPU writes of its registers has to come from them.
    for address in [guest::TICKS, guest::PENDING] {
        memory
            .write_obj(0_u32, GuestAddress(address.into()))
            .unwrap();
    }
    // A packet that finds no machine waits in the tap.
    world.say(1);

    let (config, path, server) = world.machine();
    let state: MachineState = serde_json::from_str(&state).unwrap();
    let second = build(&config, Some(Saved { state, memory }));
    second.board().run.resume();
    let (board, memory) = (Arc::clone(second.board()), second.memory.clone());
    let second = Arc::new(second);
    let running = Arc::clone(&second);
    std::thread::spawn(move || running.run(&beluga_vmm::jail::Confinement::default()));
    let mut supervisor = Supervisor::connect(&path);
    std::fs::remove_file(path).unwrap();
    assert_eq!(request(&server), 3);
    answer(&server, 3);
    world.hears(1);
    until(&board, "I3", || {});
    check_middle(&memory);
    wait_for_ticks(&memory, ticks);
    assert_eq!(word(&memory, guest::PENDING), guest::PENDING_BIT);

    // Nothing is different for what comes after.
    assert!(!supervisor.status().paused);
    go(&memory, 2);
    until(&board, "I34", || {});
    world.say(2);
    world.hears(2);
    let (port, opened) = supervisor.opened();
    assert_eq!(port, 5001);
    File::from(opened).write_all(b"hello").unwrap();
    assert_eq!(request(&server), 4);
    answer(&server, 4);
    until(&board, "I34D", || {});
    assert_eq!(bytes(&memory, guest::buffer(DISK, 2) + 0x200), [b's'; 512]);
    let packet = guest::room(NET, 2) + guest::NET_HEADER + guest::UDP_HEADERS;
    assert_eq!(bytes(&memory, packet), heard(2));
    assert_eq!(bytes(&memory, guest::room(VSOCK, 3) + 44), *b"hello");
    assert_eq!(word(&memory, guest::given_page(2)), 0);
    second.save().unwrap();
    assert_eq!(board.journal.console().tail(4096), "I34D");

    // What a vCPU was about to do, it has done once: what it counted is what came.
    let come = |kind| exits(&first, kind) + exits(&second, kind);
    let accesses = u64::from(word(&memory, guest::ACCESSES));
    let printed = "12SNI34D".len() as u64;
    assert_eq!(come("io_out"), accesses + printed);
    assert_eq!(come("mmio_read"), accesses + guest::OTHER_READS);

    // The first one stands where it was saved, and has seen nothing of this.
    assert_eq!(first.board().journal.console().tail(4096), "12SN");
    assert_eq!(word(&first.memory, guest::TICKS), ticks);
    assert_eq!(word(&first.memory, guest::given_page(1)), guest::IN_USE);
    drop(stream);
}
