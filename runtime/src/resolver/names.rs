//! The names of one network, as its leases have them.
//!
//! ```text
//! POD                POD.NAMESPACE                    the pod
//! HOST.SUBDOMAIN     HOST.SUBDOMAIN.NAMESPACE         the pod with that spec.hostname
//! SUBDOMAIN          SUBDOMAIN.NAMESPACE              all pods of that spec.subdomain, where no pod has the name
//! ```
//! those on the right before `.svc.cluster.local` alone, as pods' search domains make
//! them: asked for as they stand they may be the outside's, as `github.com` is where
//! there is a namespace `com`. Those on the left are of the asking pod's namespace.

use crate::host::network::{Leases, PodNames};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Namespace of who is no pod.
const DEFAULT: &str = "default";

/// A pod.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is called.
    pub names: PodNames,
    /// Where it is.
    pub addresses: Vec<IpAddr>,
}

/// All pods of a network.
#[derive(Debug, Clone, Default)]
pub struct Names(Vec<Entry>);

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Addresses of pods.
    Addresses(Vec<IpAddr>),
    /// The name of an address.
    Name(String),
    /// It would be ours, and there is none.
    Absent,
    /// Others may know.
    Unknown,
}

impl Names {
    /// From leases; `addresses` gives those of a host part.
    pub fn of(leases: &Leases, addresses: impl Fn(u8) -> Vec<IpAddr>) -> Self {
        let pods = leases.names.iter();
        Self(
            pods.map(|(host, names)| Entry {
                names: names.clone(),
                addresses: addresses(*host),
            })
            .collect(),
        )
    }

    /// Looks a name up for who asks from an address. The name has no dot at its
    /// end and lower case only.
    pub fn look_up(&self, name: &str, asking: IpAddr) -> Found {
        if let Some(ip) = address_of(name) {
            return self.named(ip);
        }
        let labels: Vec<&str> = name.split('.').collect();
        let own = self.namespace_of(asking);
        let found = match labels.as_slice() {
            ["cluster", "local"] | ["svc", "cluster", "local"] => return Found::Absent,
            [of @ .., "svc", "cluster", "local"] => self.full(of),
            [dashed, space, "pod", "cluster", "local"] => self.dashed(dashed, space),
            [.., "cluster", "local"] => return Found::Absent,
            [one] => self.full(&[one, own]),
            [host, domain] => self.full(&[host, domain, own]),
            _ => Vec::new(),
        };
        match (found.is_empty(), labels.as_slice()) {
            (false, _) => Found::Addresses(found),
            (true, [.., "cluster", "local"]) => Found::Absent,
            (true, _) => Found::Unknown,
        }
    }

    /// `POD NAMESPACE`, `SUBDOMAIN NAMESPACE` or `HOST SUBDOMAIN NAMESPACE`. Whoever
    /// calls its subdomain as another pod is called gets nothing of what is that one's.
    fn full(&self, labels: &[&str]) -> Vec<IpAddr> {
        match labels {
            [one, space] => {
                let named = self.addresses(|names| names.namespace == *space && names.name == *one);
                if !named.is_empty() {
                    return named;
                }
                self.addresses(|names| {
                    names.namespace == *space && names.subdomain.as_deref() == Some(one)
                })
            }
            [host, domain, space] => self.addresses(|names| {
                names.namespace == *space
                    && names.hostname == *host
                    && names.subdomain.as_deref() == Some(domain)
            }),
            _ => Vec::new(),
        }
    }

    /// `10-88-0-2` of a namespace.
    fn dashed(&self, text: &str, space: &str) -> Vec<IpAddr> {
        let ip = text.replace('-', ".").parse::<Ipv4Addr>();
        let Ok(ip) = ip.map(IpAddr::V4) else {
            return Vec::new();
        };
        let is_there = self
            .entry(ip)
            .is_some_and(|pod| pod.names.namespace == space);
        if is_there { vec![ip] } else { Vec::new() }
    }

    fn addresses(&self, is_meant: impl Fn(&PodNames) -> bool) -> Vec<IpAddr> {
        let pods = self.0.iter().filter(|pod| is_meant(&pod.names));
        pods.flat_map(|pod| pod.addresses.iter().copied()).collect()
    }

    fn entry(&self, ip: IpAddr) -> Option<&Entry> {
        self.0.iter().find(|pod| pod.addresses.contains(&ip))
    }

    fn namespace_of(&self, asking: IpAddr) -> &str {
        self.entry(asking)
            .map_or(DEFAULT, |pod| pod.names.namespace.as_str())
    }

    fn named(&self, ip: IpAddr) -> Found {
        let Some(Entry { names, .. }) = self.entry(ip) else {
            return Found::Unknown;
        };
        let PodNames {
            namespace,
            name,
            hostname,
            subdomain,
        } = names;
        let own = match subdomain {
            Some(subdomain) => format!("{hostname}.{subdomain}"),
            None => name.clone(),
        };
        Found::Name(format!("{own}.{namespace}.svc.cluster.local"))
    }
}

/// The address whose name is asked for: `2.0.88.10.in-addr.arpa` (RFC 1035,
/// section 3.5), or nibbles and `ip6.arpa` (RFC 3596, section 2.5).
fn address_of(name: &str) -> Option<IpAddr> {
    if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
        let parts: Vec<&str> = reversed.rsplit('.').collect();
        return Some(IpAddr::V4(parts.join(".").parse().ok()?));
    }
    let reversed = name.strip_suffix(".ip6.arpa")?;
    let mut value = 0u128;
    let mut count = 0;
    for nibble in reversed.rsplit('.') {
        let digit = (nibble.len() == 1).then(|| u128::from_str_radix(nibble, 16).ok());
        value = value.checked_mul(16)? | digit??;
        count += 1;
        if count > 32 {
            return None;
        }
    }
    (count == 32).then(|| Ipv6Addr::from_bits(value).into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Pods `web` and `db` of `default`, `web` of `shop`.
    pub fn three() -> Names {
        let names = |namespace: &str, name: &str, subdomain: Option<&str>| PodNames {
            namespace: namespace.into(),
            name: name.into(),
            hostname: format!("{name}-host"),
            subdomain: subdomain.map(Into::into),
        };
        let mut leases = Leases::default();
        leases.names.insert(2, names("default", "web", None));
        leases.names.insert(3, names("default", "db", Some("data")));
        leases.names.insert(4, names("shop", "web", Some("data")));
        Names::of(&leases, |host| vec![[10, 88, 0, host].into()])
    }

    #[test]
    fn pods_are_found_by_their_names_in_their_namespaces() {
        let names = three();
        let ip = |host: u8| IpAddr::from([10, 88, 0, host]);
        for (asking, name, host) in [
            (3, "web", 2),
            (4, "web", 4),
            (3, "web.shop.svc.cluster.local", 4),
            (2, "web.default.svc.cluster.local", 2),
            (2, "web.shop.svc.cluster.local", 4),
            (2, "db-host.data", 3),
            (2, "data", 3),
            (4, "web-host.data", 4),
            (2, "web-host.data.shop.svc.cluster.local", 4),
            (2, "10-88-0-4.shop.pod.cluster.local", 4),
            (9, "db", 3),
        ] {
            let found = names.look_up(name, ip(asking));
            assert_eq!(found, Found::Addresses(vec![ip(host)]), "{name}");
        }
        for name in [
            "db.shop.svc.cluster.local",
            "web.cluster.local",
            "example.com.svc.cluster.local",
            "10-88-0-4.default.pod.cluster.local",
            "cluster.local",
        ] {
            assert_eq!(names.look_up(name, ip(2)), Found::Absent, "{name}");
        }
        for name in [
            "",
            "example.com",
            "db.shop",
            "web.shop",
            "web-host.data.shop",
            "a.b.c.d",
            "7.0.88.10.in-addr.arpa",
        ] {
            assert_eq!(names.look_up(name, ip(2)), Found::Unknown, "{name}");
        }
    }

    #[test]
    fn a_subdomain_takes_no_pods_name() {
        let mut names = three();
        names.0[1].names.subdomain = Some("web".into());
        let ip = |host: u8| IpAddr::from([10, 88, 0, host]);
        for (name, host) in [("web", 2), ("db-host.web", 3)] {
            let found = names.look_up(name, ip(3));
            assert_eq!(found, Found::Addresses(vec![ip(host)]), "{name}");
        }
    }

    #[test]
    fn addresses_have_names() {
        let names = three();
        let asking = IpAddr::from([10, 88, 0, 2]);
        let of = |name: &str| names.look_up(name, asking);
        let expected = Found::Name("web.default.svc.cluster.local".into());
        assert_eq!(of("2.0.88.10.in-addr.arpa"), expected);
        let expected = Found::Name("web-host.data.shop.svc.cluster.local".into());
        assert_eq!(of("4.0.88.10.in-addr.arpa"), expected);
        let nibbles = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.b.d.f.ip6.arpa";
        assert_eq!(address_of(nibbles), Some("fdb1::1".parse().unwrap()));
        assert_eq!(address_of("1.ip6.arpa"), None);
        assert_eq!(address_of(&format!("0.{nibbles}")), None);
    }
}
