//! Tables of the kernel's packet filter, over netlink: made whole in one
//! transaction, removed by name. No program is run, and rules of others are
//! neither read nor changed.
//!
//! nf_tables is a byte protocol of nested attributes; `linux/netfilter/nf_tables.h`
//! has the numbers.

pub mod chains;
mod expr;
pub mod news;

pub use expr::{Family, Rule};

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::os::fd::OwnedFd;

/// Bytes of a transaction that need no larger socket.
const SEND_BUFFER: usize = 128 << 10;

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;

// nfnetlink.h: `NFNL_MSG_BATCH_*`.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

// `enum nf_tables_msg_types`.
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = NEW_TABLE | 1;
const DELETE_TABLE: u16 = NEW_TABLE | 2;
const NEW_CHAIN: u16 = NEW_TABLE | 3;
const NEW_RULE: u16 = NEW_TABLE | 6;
const GET_RULE: u16 = NEW_TABLE | 7;

// `enum nft_table_attributes`, `nft_chain_attributes`, `nft_hook_attributes`,
// `nft_rule_attributes`.
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;

// netlink.h.
const HEADER: usize = 16;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
/// New rules go behind those that are there.
const APPEND: u16 = 0x800;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NESTED: u16 = 0x8000;

/// Where in a packet's way a chain looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// Before anything is known of it.
    Guard,
    /// Destination NAT of what comes in.
    NatIn,
    /// Destination NAT of what this host sends.
    NatLocal,
    /// Source NAT of what goes out.
    NatOut,
    /// What this host passes on.
    Forward,
    /// What an interface receives, before anybody else sees it.
    Ingress {
        /// The interface.
        device: String,
    },
}

impl Hook {
    /// Type, number and priority.
    fn parts(&self) -> (&'static str, u32, i32) {
        match self {
            Self::Guard => ("filter", 0, -300),
            Self::NatIn => ("nat", 0, -100),
            Self::NatLocal => ("nat", 3, -100),
            Self::NatOut => ("nat", 4, 100),
            // Behind those of others, that have dropped what they do not like.
            Self::Forward => ("filter", 2, 10),
            Self::Ingress { .. } => ("filter", 0, -500),
        }
    }
}

/// A base chain and its rules.
#[derive(Debug)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where it looks.
    pub hook: Hook,
    /// In order; what none of them decides is accepted.
    pub rules: Vec<Rule>,
}

/// A table.
#[derive(Debug)]
pub struct Table<'n> {
    /// Whose packets.
    pub family: Family,
    /// Its name.
    pub name: &'n str,
    /// Its chains.
    pub chains: Vec<Chain>,
}

/// Attributes of a message.
#[derive(Debug, Default, Clone)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(kind | NESTED, &inner.0)
    }
}

/// Type and value of each attribute in `bytes`.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, _) = bytes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & !NESTED;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of one attribute.
fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// A connection to the packet filter.
#[derive(Debug)]
struct Socket {
    socket: OwnedFd,
    sequence: u32,
}

impl Socket {
    fn open() -> io::Result<Self> {
        Self::of_groups(0)
    }

    /// One that is told what these groups are told, a bit each.
    fn of_groups(groups: u32) -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(NETFILTER),
        )?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// A message: header, `struct nfgenmsg`, attributes.
    fn message(&mut self, kind: u16, flags: u16, family: u8, body: &Attributes) -> Vec<u8> {
        self.sequence += 1;
        let resource = if matches!(kind, BATCH_BEGIN | BATCH_END) {
            SUBSYSTEM
        } else {
            0
        };
        let length = u32::try_from(HEADER + 4 + body.0.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::new();
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST).to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend([family, 0]);
        bytes.extend(resource.to_be_bytes());
        bytes.extend(&body.0);
        bytes
    }

    /// Sends messages as one transaction: all of them hold, or none.
    fn transact(&mut self, mut list: Vec<(u16, u16, u8, Attributes)>) -> io::Result<()> {
        let mut bytes = self.message(BATCH_BEGIN, 0, 0, &Attributes::default());
        if let Some(last) = list.last_mut() {
            last.1 |= ACK;
        }
        for (kind, flags, family, body) in &list {
            bytes.extend(self.message(*kind, *flags, *family, body));
        }
        let last = self.sequence;
        // The kernel takes a transaction in one piece, which may be larger than
        // what a socket holds by default.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(
            &self.socket,
            2 * bytes.len().max(SEND_BUFFER),
        );
        bytes.extend(self.message(BATCH_END, 0, 0, &Attributes::default()));
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        // Each message that is refused is answered, and the last one always.
        self.answers(last).map(drop)
    }

    /// Asks for a list.
    fn dump(&mut self, kind: u16, family: u8, body: &Attributes) -> io::Result<Vec<Vec<u8>>> {
        let bytes = self.message(kind, DUMP, family, body);
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        self.answers(self.sequence)
    }

    /// The attributes of each answer until the one that closes message `last`.
    fn answers(&mut self, last: u32) -> io::Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        let mut buffer = vec![0u8; 64 << 10];
        loop {
            let (length, _) =
                rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())?;
            for (kind, sequence, body) in messages(&buffer[..length.min(buffer.len())]) {
                match (kind, body.first_chunk::<4>()) {
                    (ERROR, Some(code)) => match i32::from_ne_bytes(*code) {
                        0 if sequence == last => return Ok(found),
                        0 => {}
                        code => return Err(io::Error::from_raw_os_error(-code)),
                    },
                    (DONE, _) => return Ok(found),
                    (_, Some(_)) => found.push(body[4..].to_vec()),
                    (_, None) => {}
                }
            }
        }
    }
}

/// Kind, sequence number and body of each message in `bytes`.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<HEADER>()?;
        let word =
            |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (length, sequence) = (word(0) as usize, word(8));
        let kind = u16::from_ne_bytes([head[4], head[5]]);
        let body = bytes.get(HEADER..length).unwrap_or_default();
        let next = length.max(HEADER).next_multiple_of(4);
        bytes = bytes.get(next..).unwrap_or_default();
        Some((kind, sequence, body))
    })
}

/// Makes a table with all that is in it; one of that name is replaced.
pub fn replace(table: &Table<'_>) -> io::Result<()> {
    let family = table.family.number();
    let mut name = Attributes::default();
    name.text(TABLE_NAME, table.name);
    // Made if it is not there, so that it can be removed in any case.
    let mut list = vec![
        (NEW_TABLE, CREATE, family, name.clone()),
        (DELETE_TABLE, 0, family, name.clone()),
        (NEW_TABLE, CREATE, family, name),
    ];
    for chain in &table.chains {
        let (kind, number, priority) = chain.hook.parts();
        let mut body = Attributes::default();
        body.text(CHAIN_TABLE, table.name)
            .text(CHAIN_NAME, chain.name)
            .nested(CHAIN_HOOK, |hook| {
                hook.number(HOOK_NUMBER, number);
                hook.bytes(HOOK_PRIORITY, &priority.to_be_bytes());
                if let Hook::Ingress { device } = &chain.hook {
                    hook.text(HOOK_DEVICE, device);
                }
            })
            .text(CHAIN_TYPE, kind);
        list.push((NEW_CHAIN, CREATE | EXCLUSIVE, family, body));
        for rule in &chain.rules {
            let mut body = Attributes::default();
            body.text(RULE_TABLE, table.name)
                .text(RULE_CHAIN, chain.name)
                .nested(RULE_EXPRESSIONS, |all| rule.write(all));
            list.push((NEW_RULE, CREATE | APPEND, family, body));
        }
    }
    Socket::open()?.transact(list)
}

/// Removes a table. One that is not there is no error.
pub fn remove(family: Family, name: &str) -> io::Result<()> {
    let mut body = Attributes::default();
    body.text(TABLE_NAME, name);
    let list = vec![(DELETE_TABLE, 0, family.number(), body)];
    match Socket::open()?.transact(list) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Names of the tables of a family.
pub fn tables(family: Family) -> io::Result<Vec<String>> {
    let answers = Socket::open()?.dump(GET_TABLE, family.number(), &Attributes::default())?;
    Ok(answers
        .iter()
        .filter_map(|answer| table_name(answer))
        .collect())
}

fn table_name(attributes: &[u8]) -> Option<String> {
    let name = attribute(attributes, TABLE_NAME)?;
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    Some(String::from_utf8_lossy(name).into_owned())
}

/// Packets that the counters of a table have counted.
pub fn counted(family: Family, table: &str) -> io::Result<u64> {
    let mut body = Attributes::default();
    body.text(RULE_TABLE, table);
    let answers = Socket::open()?.dump(GET_RULE, family.number(), &body)?;
    let of_table = answers.iter().filter(|answer| {
        let name = attribute(answer, RULE_TABLE).unwrap_or_default();
        name.strip_suffix(&[0]) == Some(table.as_bytes())
    });
    Ok(of_table
        .filter_map(|answer| attribute(answer, RULE_EXPRESSIONS))
        .flat_map(expr::counters)
        .sum())
}
