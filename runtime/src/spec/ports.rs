//! Ports of containers, and those of them that the host publishes.

use super::check::Check;
use super::names;
use super::types::{ContainerPort, PodSpec};
use super::yaml::join;
use k8s_openapi::api::core::v1 as core;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// A port of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// Where; every address of the host when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// Number.
    pub port: u16,
}

/// A transport whose ports can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// A port of the pod that is reached at one of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Of the host.
    #[serde(flatten)]
    pub host: HostPort,
    /// Of the pod.
    pub to: u16,
    /// Of both.
    pub transport: Transport,
}

impl Published {
    /// Whether both want a port of the host that one alone can have.
    #[must_use]
    pub fn clashes(&self, other: &Self) -> bool {
        let meets = match (self.host.ip, other.host.ip) {
            (Some(own), Some(other)) => {
                own == other
                    || own.is_ipv4() == other.is_ipv4()
                        && (own.is_unspecified() || other.is_unspecified())
            }
            _ => true,
        };
        meets && self.host.port == other.host.port && self.transport == other.transport
    }

    /// The host's side as people write it: `127.0.0.1:8080/TCP`.
    #[must_use]
    pub fn at(&self) -> String {
        let (port, transport) = (self.host.port, self.transport);
        match self.host.ip {
            Some(IpAddr::V6(ip)) => format!("[{ip}]:{port}/{transport}"),
            Some(ip) => format!("{ip}:{port}/{transport}"),
            None => format!("{port}/{transport}"),
        }
    }
}

/// As `ps` of other engines shows it: `127.0.0.1:8080->80/tcp`.
impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at();
        let (at, transport) = at.split_once('/').unwrap_or((&at, ""));
        write!(f, "{at}->{}/{}", self.to, transport.to_lowercase())
    }
}

impl ContainerPort {
    /// Its place on the host, if it has one.
    #[must_use]
    pub fn published(&self) -> Option<Published> {
        Some(Published {
            host: self.host?,
            to: self.port,
            transport: match self.protocol.as_str() {
                "TCP" => Transport::Tcp,
                "UDP" => Transport::Udp,
                _ => return None,
            },
        })
    }
}

impl PodSpec {
    /// All ports that the host publishes.
    #[must_use]
    pub fn published(&self) -> Vec<Published> {
        let ports = self.all_containers().flat_map(|one| &one.ports);
        let of_pod = self.sandbox.iter().flat_map(|one| &one.ports);
        ports
            .chain(of_pod)
            .filter_map(ContainerPort::published)
            .collect()
    }
}

/// The ports of a container.
pub(super) fn convert(
    path: &str,
    list: &[core::ContainerPort],
    check: &mut Check<'_>,
) -> Vec<ContainerPort> {
    let name_path = |at: usize| format!("{path}.ports[{at}].name");
    check.unique(
        "port of the container",
        list.iter()
            .enumerate()
            .map(|(at, port)| (name_path(at), port.name.as_deref().unwrap_or_default())),
    );
    let mut out = Vec::new();
    for (at, port) in list.iter().enumerate() {
        let core::ContainerPort {
            container_port,
            host_ip,
            host_port,
            name,
            protocol,
        } = port;
        let path = format!("{path}.ports[{at}]");
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            check.shape(&join(&path, "name"), name, names::port_name);
        }
        let protocol = check.choice(
            &join(&path, "protocol"),
            protocol.as_deref(),
            &[("TCP", "TCP"), ("UDP", "UDP"), ("SCTP", "SCTP")],
        );
        let host = host(&path, (*host_port, host_ip.as_deref()), protocol, check);
        match number(*container_port) {
            Some(number) => out.push(ContainerPort {
                name: name.clone().filter(|name| !name.is_empty()),
                port: number,
                protocol: protocol.to_owned(),
                host,
            }),
            None => check.wrong(
                &join(&path, "containerPort"),
                match container_port {
                    0 => "required: a port from 1 to 65535".into(),
                    other => format!("{other} is not a port from 1 to 65535"),
                },
            ),
        }
    }
    out
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}

fn host(
    path: &str,
    (port, ip): (Option<i32>, Option<&str>),
    protocol: &str,
    check: &mut Check<'_>,
) -> Option<HostPort> {
    let ip = match ip.filter(|ip| !ip.is_empty()).map(str::parse::<IpAddr>) {
        Some(Err(_)) => {
            let message = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            check.wrong(&join(path, "hostIP"), message);
            None
        }
        Some(Ok(IpAddr::V6(ip))) if ip.is_loopback() => {
            let message =
                "the kernel cannot lead ::1 to a pod: publish at 127.0.0.1, or use port-forward";
            check.wrong(&join(path, "hostIP"), message);
            None
        }
        ip => ip.and_then(Result::ok),
    };
    let wanted = port.filter(|port| *port != 0)?;
    let path = join(path, "hostPort");
    if protocol == "SCTP" {
        check.wrong(&path, "SCTP cannot be published, only TCP and UDP");
    }
    let port = number(wanted);
    if port.is_none() {
        check.wrong(&path, format!("{wanted} is not a port from 1 to 65535"));
    }
    Some(HostPort { ip, port: port? })
}

/// One port of the host is one container's.
pub(super) fn check_clashes(spec: &PodSpec, check: &mut Check<'_>) {
    let lists = [
        ("initContainers", &spec.init_containers),
        ("containers", &spec.containers),
    ];
    let mut taken: Vec<(Published, &str)> = Vec::new();
    for (list, containers) in lists {
        for (index, container) in containers.iter().enumerate() {
            for (at, port) in container.ports.iter().enumerate() {
                let Some(own) = port.published() else {
                    continue;
                };
                if let Some((_, holder)) = taken.iter().find(|(other, _)| own.clashes(other)) {
                    let path = format!("spec.{list}[{index}].ports[{at}].hostPort");
                    let at = own.at();
                    let message = format!("{at} is published by the container {holder:?} already");
                    check.wrong(&path, message);
                }
                // Init containers end before the others begin.
                if list == "containers" || container.sidecar {
                    taken.push((own, &container.name));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(ip: Option<&str>, port: u16, transport: Transport) -> Published {
        Published {
            host: HostPort {
                ip: ip.map(|ip| ip.parse().unwrap()),
                port,
            },
            to: 80,
            transport,
        }
    }

    #[test]
    fn ports_clash_where_one_packet_could_be_for_both() {
        use Transport::{Tcp, Udp};
        let all = published(None, 80, Tcp);
        let local = published(Some("127.0.0.1"), 80, Tcp);
        let any = published(Some("0.0.0.0"), 80, Tcp);
        let six = published(Some("::1"), 80, Tcp);
        assert!(all.clashes(&local) && local.clashes(&any) && six.clashes(&all));
        assert!(!six.clashes(&any) && !six.clashes(&local));
        assert!(!all.clashes(&published(None, 80, Udp)));
        assert!(!all.clashes(&published(None, 81, Tcp)));
    }

    #[test]
    fn published_ports_read_as_people_write_them() {
        let six = published(Some("::1"), 8080, Transport::Udp);
        assert_eq!(six.to_string(), "[::1]:8080->80/udp");
        assert_eq!(published(None, 8080, Transport::Tcp).at(), "8080/TCP");
        let text = serde_json::to_string(&six).unwrap();
        assert_eq!(
            text,
            r#"{"ip":"::1","port":8080,"to":80,"transport":"UDP"}"#
        );
    }
}
