//! Whose a port of the host is: another pod's, of any root, or a process's.

use crate::spec::{Published, Transport};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

/// Why a port cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Another has it.
    #[error("host port {port} is in use by {holder}", port = .port.at())]
    Taken {
        /// Which.
        port: Published,
        /// `the pod default/web`, `the process nginx (812)`.
        holder: String,
    },
    /// It cannot be listened on here.
    #[error("host port {port} cannot be published", port = .port.at())]
    Unusable {
        /// Which.
        port: Published,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Errors when a process has a port, or when no process could have it.
pub fn free_of_processes(ports: &[Published]) -> Result<(), PortError> {
    for port in ports {
        let both: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let wanted = match port.host.ip {
            Some(ip) => vec![ip],
            None => both.into(),
        };
        for ip in wanted {
            let is_optional = port.host.ip.is_none() && ip.is_ipv6();
            match bind(port.transport, SocketAddr::new(ip, port.host.port)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    let holder = holder(port).unwrap_or_else(|| "another process".to_owned());
                    let port = *port;
                    return Err(PortError::Taken { port, holder });
                }
                // A host without IPv6.
                Err(_) if is_optional => {}
                Err(source) => {
                    let port = *port;
                    return Err(PortError::Unusable { port, source });
                }
            }
        }
    }
    Ok(())
}

fn bind(transport: Transport, address: SocketAddr) -> io::Result<()> {
    match transport {
        Transport::Tcp => TcpListener::bind(address).map(drop),
        Transport::Udp => UdpSocket::bind(address).map(drop),
    }
}

/// The process that is bound to a port.
fn holder(port: &Published) -> Option<String> {
    let name = port.transport.to_string().to_lowercase();
    let tables = [format!("/proc/net/{name}"), format!("/proc/net/{name}6")];
    let text = tables.map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let is_tcp = port.transport == Transport::Tcp;
    let inodes = text
        .iter()
        .flat_map(|table| table.lines())
        .filter_map(|line| bound(line, is_tcp))
        .filter_map(|(number, inode)| (number == port.host.port).then_some(inode));
    let links: Vec<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes
        .map(|entry| entry.path())
        .find(|path| is_process(path) && has_open(path, &links))
        .map(|path| {
            let command = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            let pid = path.file_name().unwrap_or_default().to_string_lossy();
            format!("the process {} ({pid})", command.trim())
        })
}

/// Port and inode of a line of `/proc/net/tcp` (proc_pid_net(5)), if it is of a
/// socket that others collide with.
fn bound(line: &str, is_tcp: bool) -> Option<(u16, u64)> {
    const LISTENING: &str = "0A";
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
    if is_tcp && *state != LISTENING {
        return None;
    }
    let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    Some((port, inode.parse().ok()?))
}

/// `/proc/1`, not `/proc/self`.
fn is_process(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.parse::<u32>().is_ok())
}

fn has_open(process: &Path, links: &[String]) -> bool {
    let Ok(open) = std::fs::read_dir(process.join("fd")) else {
        return false;
    };
    open.flatten().any(|fd| {
        std::fs::read_link(fd.path()).is_ok_and(|to| links.iter().any(|link| Path::new(link) == to))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::HostPort;

    #[test]
    fn a_port_that_a_process_has_is_refused_with_its_name() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let published = |ip: Option<&str>| Published {
            host: HostPort {
                ip: ip.map(|ip| ip.parse().unwrap()),
                port,
            },
            to: 80,
            transport: Transport::Tcp,
        };
        for ip in [None, Some("127.0.0.1"), Some("0.0.0.0")] {
            let error = free_of_processes(&[published(ip)]).unwrap_err().to_string();
            let own = format!("({})", std::process::id());
            assert!(error.contains(&own), "{ip:?}: {error}");
        }
        assert!(free_of_processes(&[published(Some("127.0.0.2"))]).is_ok());
        let elsewhere = free_of_processes(&[published(Some("192.0.2.1"))]);
        assert!(matches!(elsewhere, Err(PortError::Unusable { .. })));
        drop(held);
        assert!(free_of_processes(&[published(None)]).is_ok());
    }
}
