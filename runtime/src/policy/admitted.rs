//! Which packets policies admit to a pod, and from it. Pure.

use crate::host::policy::{Admit, Block, Ports, Way};
use crate::spec::{Allowed, Labels, Network, Peer, Policy, PortName, PortRange};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The label that each namespace has in Kubernetes; here it has no other.
const NAMESPACE: &str = "kubernetes.io/metadata.name";

/// A pod as policies see it.
#[derive(Debug, Clone, Default)]
pub struct PodFacts {
    /// Nothing passes that no policy admits, though none selects it.
    pub is_isolated: bool,
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Name, protocol and number of its ports.
    pub ports: Vec<(String, String, u16)>,
}

/// A policy and where it is.
#[derive(Debug, Clone)]
pub struct PolicyFacts {
    /// Its namespace.
    pub namespace: String,
    /// What it says.
    pub policy: Policy,
}

/// What may pass; `None` where all may: no policy selects the pod for that direction.
pub fn admitted<'p>(
    way: Way,
    own: &PodFacts,
    policies: &[PolicyFacts],
    pods: impl Iterator<Item = &'p PodFacts> + Clone,
) -> Option<Vec<Admit>> {
    let mut found = own.is_isolated.then(Vec::new);
    for PolicyFacts { namespace, policy } in policies {
        let rules = match way {
            Way::In => &policy.ingress,
            Way::Out => &policy.egress,
        };
        let is_selected = *namespace == own.namespace && policy.pods.matches(&own.labels);
        let (true, Some(rules)) = (is_selected, rules) else {
            continue;
        };
        let found: &mut Vec<Admit> = found.get_or_insert_default();
        for rule in rules {
            for admit in expand(way, own, (namespace, rule), pods.clone()) {
                if !found.contains(&admit) {
                    found.push(admit);
                }
            }
        }
    }
    found
}

fn expand<'p>(
    way: Way,
    own: &PodFacts,
    (namespace, rule): (&str, &Allowed),
    pods: impl Iterator<Item = &'p PodFacts> + Clone,
) -> Vec<Admit> {
    let everybody = [None];
    let peers: Vec<Option<&Peer>> = if rule.peers.is_empty() {
        everybody.into()
    } else {
        rule.peers.iter().map(Some).collect()
    };
    let mut out = Vec::new();
    for peer in peers {
        let chosen: Vec<&PodFacts> = match peer {
            // Only for ports by name: everybody is more than the pods.
            None => pods.clone().collect(),
            Some(Peer::Pods {
                namespaces,
                pods: labels,
            }) => pods
                .clone()
                .filter(|pod| {
                    is_of(namespaces.as_ref(), namespace, &pod.namespace)
                        && labels.matches(&pod.labels)
                })
                .collect(),
            Some(Peer::Block { .. }) => Vec::new(),
        };
        let blocks = blocks(peer, &chosen);
        if rule.ports.is_empty() {
            out.extend(blocks.into_iter().map(|peers| Admit { peers, ports: None }));
            continue;
        }
        for range in &rule.ports {
            match (&range.port, way) {
                // The name is the receiver's.
                (Some(PortName::Name(name)), Way::Out) => {
                    for pod in &chosen {
                        out.extend(pairs(&hosts(pod), &named(pod, range, name)));
                    }
                }
                (Some(PortName::Name(name)), Way::In) => {
                    out.extend(pairs(&blocks, &named(own, range, name)));
                }
                (port, _) => {
                    let first = match port {
                        Some(PortName::Number(number)) => Some(*number),
                        _ => None,
                    };
                    let range_of = first.map(|first| (first, range.end.unwrap_or(first)));
                    let ports = Ports {
                        protocol: number(&range.protocol),
                        range: range_of,
                    };
                    out.extend(pairs(&blocks, &[ports]));
                }
            }
        }
    }
    out
}

fn pairs(blocks: &[Option<Block>], ports: &[Ports]) -> Vec<Admit> {
    let all = blocks.iter().flat_map(|peers| {
        ports.iter().map(move |ports| Admit {
            peers: peers.clone(),
            ports: Some(*ports),
        })
    });
    all.collect()
}

/// Whether a namespace is meant: the policy's own where nothing is said.
fn is_of(namespaces: Option<&Labels>, own: &str, other: &str) -> bool {
    match namespaces {
        None => own == other,
        Some(labels) => labels.matches(&[(NAMESPACE.to_owned(), other.to_owned())].into()),
    }
}

/// Addresses of a peer; `None` among them is everybody.
fn blocks(peer: Option<&Peer>, chosen: &[&PodFacts]) -> Vec<Option<Block>> {
    match peer {
        None => vec![None],
        Some(Peer::Block { network, except }) => vec![Some(Block {
            network: *network,
            except: except
                .iter()
                .filter(|one| is_like(**one, *network))
                .copied()
                .collect(),
        })],
        Some(Peer::Pods { .. }) => chosen.iter().flat_map(|pod| hosts(pod)).collect(),
    }
}

fn is_like(one: Network, other: Network) -> bool {
    one.0.is_ipv4() == other.0.is_ipv4()
}

fn hosts(pod: &PodFacts) -> Vec<Option<Block>> {
    let whole = |ip: &IpAddr| {
        let network = (*ip, if ip.is_ipv4() { 32 } else { 128 });
        let except = Vec::new();
        Some(Block { network, except })
    };
    pod.addresses.iter().map(whole).collect()
}

/// A pod's ports of that name and protocol.
fn named(pod: &PodFacts, range: &PortRange, name: &str) -> Vec<Ports> {
    let is_it = |port: &&(String, String, u16)| port.0 == name && port.1 == range.protocol;
    let found = pod.ports.iter().filter(is_it);
    found
        .map(|(_, protocol, port)| Ports {
            protocol: number(protocol),
            range: Some((*port, *port)),
        })
        .collect()
}

/// IP's number of a transport.
fn number(protocol: &str) -> u8 {
    match protocol {
        "UDP" => 17,
        "SCTP" => 132,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(namespace: &str, app: &str, host: u8) -> PodFacts {
        PodFacts {
            is_isolated: false,
            namespace: namespace.into(),
            labels: [("app".into(), app.into())].into(),
            addresses: vec![[10, 88, 0, host].into()],
            ports: vec![("web".into(), "TCP".into(), 8000 + u16::from(host))],
        }
    }

    /// What the policies of a text admit to or from the first of three pods.
    fn of(way: Way, spec: &str) -> Option<Vec<String>> {
        let text = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: a, namespace: shop}}\nspec: {spec}\n"
        );
        let read = crate::spec::read("p.yaml", &text).unwrap();
        let facts = read.objects.into_iter().map(|object| PolicyFacts {
            namespace: object.namespace,
            policy: object.policy.unwrap(),
        });
        let policies: Vec<_> = facts.collect();
        let pods = [
            pod("shop", "db", 2),
            pod("shop", "web", 3),
            pod("bank", "web", 4),
        ];
        let found = admitted(way, &pods[0], &policies, pods.iter())?;
        let text = found.iter().map(|admit| {
            let who = admit.peers.as_ref().map_or("all".into(), |block| {
                let except: Vec<String> = block
                    .except
                    .iter()
                    .map(|one| format!("-{}/{}", one.0, one.1))
                    .collect();
                format!("{}/{}{}", block.network.0, block.network.1, except.join(""))
            });
            let ports = admit.ports.map_or(String::new(), |ports| {
                format!(":{}:{:?}", ports.protocol, ports.range)
            });
            who + &ports
        });
        Some(text.collect())
    }

    #[test]
    fn an_isolated_pod_has_what_policies_admit_and_nothing_without_any() {
        let own = PodFacts {
            is_isolated: true,
            ..pod("shop", "db", 2)
        };
        for way in [Way::In, Way::Out] {
            assert_eq!(admitted(way, &own, &[], std::iter::empty()), Some(vec![]));
        }
    }

    #[test]
    fn each_clause_admits_what_it_says() {
        for (spec, expected) in [
            ("{podSelector: {}}", Some(vec![])),
            ("{podSelector: {matchLabels: {app: web}}}", None),
            ("{podSelector: {}, policyTypes: [Egress]}", None),
            ("{ingress: [{}]}", Some(vec!["all"])),
            (
                "{ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}",
                Some(vec!["10.88.0.3/32"]),
            ),
            (
                "{ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: bank}}}]}]}",
                Some(vec!["10.88.0.4/32"]),
            ),
            (
                "{ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}]}",
                Some(vec!["10.88.0.3/32", "10.88.0.4/32"]),
            ),
            (
                "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.88.0.0/16]}}]}]}",
                Some(vec!["10.0.0.0/8-10.88.0.0/16"]),
            ),
            (
                "{ingress: [{ports: [{port: 80}, {port: 53, protocol: UDP}]}]}",
                Some(vec!["all:6:Some((80, 80))", "all:17:Some((53, 53))"]),
            ),
            (
                "{ingress: [{ports: [{port: 80, endPort: 90}]}]}",
                Some(vec!["all:6:Some((80, 90))"]),
            ),
            (
                "{ingress: [{ports: [{port: web}]}]}",
                Some(vec!["all:6:Some((8002, 8002))"]),
            ),
            (
                "{ingress: [{ports: [{protocol: UDP}]}]}",
                Some(vec!["all:17:None"]),
            ),
        ] {
            let expected = expected.map(|list| list.into_iter().map(String::from).collect());
            assert_eq!(of(Way::In, spec), expected, "{spec}");
        }
        assert_eq!(of(Way::Out, "{podSelector: {}}"), None);
        let none = of(Way::Out, "{policyTypes: [Egress]}");
        assert_eq!(none, Some(vec![]));
        let named = of(
            Way::Out,
            "{egress: [{to: [{podSelector: {}}], ports: [{port: web}]}]}",
        );
        let expected = [
            "10.88.0.2/32:6:Some((8002, 8002))",
            "10.88.0.3/32:6:Some((8003, 8003))",
        ];
        assert_eq!(named, Some(expected.map(String::from).into()));
    }
}
