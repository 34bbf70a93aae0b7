//! `--publish [[IP:]HOST:]CONTAINER[/PROTOCOL]`: ports of a container at ports of
//! this host, as docker and podman write them.

use super::CliError;
use super::error::UsageError;
use crate::spec::{HostPort, Published, Transport};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

/// The container's ports of all that is to be published.
pub fn ports(texts: &[String]) -> Result<Vec<Value>, CliError> {
    let mut out = Vec::new();
    for text in texts {
        for port in parse(text)? {
            let mut value = json!({"containerPort": port.to, "hostPort": port.host.port});
            if let Some(ip) = port.host.ip {
                value["hostIP"] = json!(ip);
            }
            if port.transport == Transport::Udp {
                value["protocol"] = json!("UDP");
            }
            out.push(value);
        }
    }
    Ok(out)
}

fn parse(text: &str) -> Result<Vec<Published>, CliError> {
    let wrong = |why: &str| CliError::from(UsageError::flag("--publish", text, why));
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let transport = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        "sctp" => return Err(wrong("SCTP cannot be published, only TCP and UDP")),
        _ => return Err(wrong("the protocol is tcp or udp")),
    };
    let (rest, to) = match rest.rsplit_once(':') {
        Some((rest, to)) => (Some(rest), to),
        None => (None, rest),
    };
    let to = range(to).ok_or_else(|| wrong("the container's port is one from 1 to 65535"))?;
    let (ip, from) = match rest {
        None => (None, ""),
        // An IPv6 address is in brackets, so the last colon ends any address.
        Some(rest) => match rest.rsplit_once(':') {
            Some((ip, from)) => (Some(ip), from),
            None => (None, rest),
        },
    };
    let ip = match ip {
        None | Some("") => None,
        Some(ip) => {
            let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
            let ip = bare.unwrap_or(ip).parse::<IpAddr>();
            Some(ip.map_err(|_| wrong("the address is an IP, one of IPv6 in brackets"))?)
        }
    };
    let mut host: Vec<u16> = match from {
        "" => Vec::new(),
        from => range(from)
            .ok_or_else(|| wrong("this host's port is one from 1 to 65535"))?
            .collect(),
    };
    if !host.is_empty() && host.len() != to.len() {
        return Err(wrong("the two ranges have not the same length"));
    }
    while host.len() < to.len() {
        let free = free(ip, transport).map_err(|_| wrong("there is no free port"))?;
        host.push(free);
    }
    let pairs = host.into_iter().zip(to);
    let published = pairs.map(|(port, to)| Published {
        host: HostPort { ip, port },
        to,
        transport,
    });
    Ok(published.collect())
}

/// `80` or `8000-8010`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}

/// A port that nobody has now.
fn free(ip: Option<IpAddr>, transport: Transport) -> std::io::Result<u16> {
    let address = SocketAddr::new(ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), 0);
    Ok(match transport {
        Transport::Tcp => TcpListener::bind(address)?.local_addr()?.port(),
        Transport::Udp => UdpSocket::bind(address)?.local_addr()?.port(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_of_docker_and_podman() {
        let of = |text: &str| -> Vec<String> {
            let all = parse(text).unwrap();
            all.iter().map(ToString::to_string).collect()
        };
        for (text, expected) in [
            ("8080:80", "8080->80/tcp"),
            ("53:5353/udp", "53->5353/udp"),
            ("127.0.0.1:8080:80/TCP", "127.0.0.1:8080->80/tcp"),
            ("[::1]:8080:80", "[::1]:8080->80/tcp"),
        ] {
            assert_eq!(of(text), [expected], "{text}");
        }
        assert_eq!(of("8000-8001:80-81"), ["8000->80/tcp", "8001->81/tcp"]);
        for text in ["80", "127.0.0.1::80", ":80"] {
            let all = parse(text).unwrap();
            assert!(all[0].host.port > 0 && all[0].to == 80, "{text}: {all:?}");
        }
        for bad in [
            "",
            "0",
            "x:80",
            "8080:",
            "1:2:3:4:5",
            "80/sctp",
            "80/x",
            "1-2:3",
            "2-1:2-1",
            "70000:80",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
