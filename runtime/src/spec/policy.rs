//! NetworkPolicy documents: which pods may talk to whom.

use super::check::Check;
use super::decode;
use super::meta;
use super::object::{ConfigObject, ObjectKind};
use super::yaml::{Node, join};
use super::{Issue, names};
use k8s_openapi::api::networking::v1 as net;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as api;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// What a policy says of the pods that it selects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Which pods of its namespace.
    pub pods: Labels,
    /// What may come in: nothing else. `None`: it says nothing of that.
    pub ingress: Option<Vec<Allowed>>,
    /// What may go out: nothing else.
    pub egress: Option<Vec<Allowed>>,
    /// As it was written, for `get -o yaml`.
    pub written: serde_json::Value,
}

/// Who may talk, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// Any of these; everybody when empty.
    pub peers: Vec<Peer>,
    /// At any of these; everything when empty.
    pub ports: Vec<PortRange>,
}

/// Who may talk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Peer {
    /// Pods.
    Pods {
        /// Of these namespaces; of the policy's own without.
        namespaces: Option<Labels>,
        /// With these labels.
        pods: Labels,
    },
    /// Addresses.
    Block {
        /// All of these.
        network: Network,
        /// But for these.
        except: Vec<Network>,
    },
}

/// An address and the bits of it that count.
pub type Network = (IpAddr, u8);

/// Ports of a transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    /// Which; all when missing.
    pub port: Option<PortName>,
    /// The last one, of a range.
    pub end: Option<u16>,
}

/// A port by its number, or by the name that a container gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PortName {
    /// `80`.
    Number(u16),
    /// `web`.
    Name(String),
}

/// A label selector: all of it must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Labels with these values.
    pub equal: BTreeMap<String, String>,
    /// Conditions on others.
    pub terms: Vec<Term>,
}

/// A condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// Which.
    pub key: String,
    /// What must be.
    pub holds: Holds,
    /// The values, of `In` and `NotIn`.
    pub values: Vec<String>,
}

/// What must be of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holds {
    /// It has one of the values.
    In,
    /// It has none of them, or is not there.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Labels {
    /// Whether labels are as this says. An empty one takes all.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let equal = self.equal.iter();
        let mut terms = self.terms.iter();
        equal
            .clone()
            .all(|(key, value)| labels.get(key) == Some(value))
            && terms.all(|term| {
                let value = labels.get(&term.key);
                match term.holds {
                    Holds::In => value.is_some_and(|value| term.values.contains(value)),
                    Holds::NotIn => value.is_none_or(|value| !term.values.contains(value)),
                    Holds::Exists => value.is_some(),
                    Holds::DoesNotExist => value.is_none(),
                }
            })
    }
}

/// As kubectl shows it: `app=web,tier in (a,b),!old`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let equal = self
            .equal
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let terms = self.terms.iter().map(|Term { key, holds, values }| {
            let values = values.join(",");
            match holds {
                Holds::In => format!("{key} in ({values})"),
                Holds::NotIn => format!("{key} notin ({values})"),
                Holds::Exists => key.clone(),
                Holds::DoesNotExist => format!("!{key}"),
            }
        });
        let all: Vec<String> = equal.chain(terms).collect();
        f.write_str(if all.is_empty() { "<none>" } else { "" })?;
        f.write_str(&all.join(","))
    }
}

/// Converts a policy.
pub(super) fn convert(tree: &Node, issues: &mut Vec<Issue>) -> Option<ConfigObject> {
    let decoded = decode::decode::<net::NetworkPolicy>(tree);
    issues.extend(decoded.issues);
    let net::NetworkPolicy { metadata, spec } = decoded.value?;
    let mut check = Check::new(tree, &decoded.masked);
    let identity = meta::object(&metadata, "the policy's name", &mut check);
    let policy = match spec {
        Some(spec) => policy(&spec, &mut check),
        None => {
            check.wrong("spec", "required");
            Policy::default()
        }
    };
    issues.extend(check.finish().0);
    Some(ConfigObject {
        policy: Some(policy),
        ..ConfigObject::named(ObjectKind::Policy, identity)
    })
}

fn policy(spec: &net::NetworkPolicySpec, check: &mut Check<'_>) -> Policy {
    let net::NetworkPolicySpec {
        egress,
        ingress,
        pod_selector,
        policy_types,
    } = spec;
    // As the API server fills it in: Ingress always, Egress where it is written.
    let (mut is_in, mut is_out) = (true, egress.is_some());
    if let Some(types) = policy_types.as_ref().filter(|types| !types.is_empty()) {
        (is_in, is_out) = (false, false);
        for (at, word) in types.iter().enumerate() {
            let path = format!("spec.policyTypes[{at}]");
            let words = [("Ingress", true), ("Egress", false)];
            match check.choice(&path, Some(word), &words) {
                true => is_in = true,
                false => is_out = true,
            }
        }
    }
    let pods = labels("spec.podSelector", pod_selector.as_ref(), check);
    let rules_in = ingress.iter().flatten().enumerate().map(|(at, rule)| {
        let path = format!("spec.ingress[{at}]");
        allowed(
            (&path, "from"),
            rule.from.as_deref(),
            rule.ports.as_deref(),
            check,
        )
    });
    let rules_in: Vec<Allowed> = rules_in.collect();
    let rules_out = egress.iter().flatten().enumerate().map(|(at, rule)| {
        let path = format!("spec.egress[{at}]");
        allowed(
            (&path, "to"),
            rule.to.as_deref(),
            rule.ports.as_deref(),
            check,
        )
    });
    let rules_out: Vec<Allowed> = rules_out.collect();
    let types = [("Ingress", is_in), ("Egress", is_out)];
    let types: Vec<&str> = types.iter().filter(|one| one.1).map(|one| one.0).collect();
    let mut written = serde_json::to_value(spec).unwrap_or_default();
    written["policyTypes"] = serde_json::json!(types);
    Policy {
        pods,
        ingress: is_in.then_some(rules_in),
        egress: is_out.then_some(rules_out),
        written,
    }
}

fn allowed(
    (path, side): (&str, &str),
    peers: Option<&[net::NetworkPolicyPeer]>,
    ports: Option<&[net::NetworkPolicyPort]>,
    check: &mut Check<'_>,
) -> Allowed {
    let peers = peers.unwrap_or_default().iter().enumerate();
    let peers = peers.filter_map(|(at, one)| peer(&format!("{path}.{side}[{at}]"), one, check));
    let peers = peers.collect();
    let ports = ports.unwrap_or_default().iter().enumerate();
    let ports = ports.filter_map(|(at, one)| port(&format!("{path}.ports[{at}]"), one, check));
    let ports = ports.collect();
    Allowed { peers, ports }
}

fn peer(path: &str, peer: &net::NetworkPolicyPeer, check: &mut Check<'_>) -> Option<Peer> {
    let net::NetworkPolicyPeer {
        ip_block,
        namespace_selector,
        pod_selector,
    } = peer;
    let Some(block) = ip_block else {
        if namespace_selector.is_none() && pod_selector.is_none() {
            check.wrong(path, "required: must specify a peer");
        }
        let spaces = namespace_selector.as_ref();
        let path_of = |name: &str| format!("{path}.{name}");
        return Some(Peer::Pods {
            namespaces: spaces
                .map(|spaces| labels(&path_of("namespaceSelector"), Some(spaces), check)),
            pods: labels(&path_of("podSelector"), pod_selector.as_ref(), check),
        });
    };
    if namespace_selector.is_some() || pod_selector.is_some() {
        check.wrong(path, "may not specify both ipBlock and another peer");
    }
    let path = format!("{path}.ipBlock");
    let network = network(&format!("{path}.cidr"), &block.cidr, check)?;
    let mut except = Vec::new();
    for (at, text) in block.except.iter().flatten().enumerate() {
        let path = format!("{path}.except[{at}]");
        let one = self::network(&path, text, check)?;
        if one.1 <= network.1 || !is_within(one.0, network) {
            let message = format!("must be a strict subset of `cidr` ({})", block.cidr);
            check.wrong(&path, message);
        }
        except.push(one);
    }
    Some(Peer::Block { network, except })
}

fn network(path: &str, text: &str, check: &mut Check<'_>) -> Option<Network> {
    let parsed = || -> Option<Network> {
        let (ip, bits) = text.split_once('/')?;
        let (ip, bits) = (ip.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?);
        (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, bits))
    };
    let found = parsed();
    if found.is_none() {
        let message = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        check.wrong(path, message);
    }
    found
}

/// Whether an address is one of a network.
#[must_use]
pub fn is_within(ip: IpAddr, (network, bits): Network) -> bool {
    let mask = |width: u32| u128::MAX.checked_shl(width - u32::from(bits)).unwrap_or(0);
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            let mask = mask(32);
            u128::from(ip.to_bits()) & mask == u128::from(network.to_bits()) & mask
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            ip.to_bits() & mask(128) == network.to_bits() & mask(128)
        }
        _ => false,
    }
}

fn port(path: &str, port: &net::NetworkPolicyPort, check: &mut Check<'_>) -> Option<PortRange> {
    let net::NetworkPolicyPort {
        end_port,
        port,
        protocol,
    } = port;
    let words = [("TCP", "TCP"), ("UDP", "UDP"), ("SCTP", "SCTP")];
    let protocol = check.choice(&format!("{path}.protocol"), protocol.as_deref(), &words);
    let own = format!("{path}.port");
    let name = match port {
        None => None,
        Some(IntOrString::Int(number)) => Some(PortName::Number(number_of(&own, *number, check)?)),
        Some(IntOrString::String(name)) => {
            check.shape(&own, name, names::port_name);
            Some(PortName::Name(name.clone()))
        }
    };
    let path = format!("{path}.endPort");
    let end = match (end_port, &name) {
        (None, _) => None,
        (Some(end), Some(PortName::Number(first))) => {
            let end = number_of(&path, *end, check)?;
            if end < *first {
                check.wrong(&path, "must be greater than or equal to `port`");
            }
            Some(end)
        }
        (Some(_), None) => {
            check.wrong(&path, "may not be specified when `port` is not specified");
            None
        }
        (Some(_), Some(PortName::Name(_))) => {
            check.wrong(&path, "may not be specified when `port` is non-numeric");
            None
        }
    };
    Some(PortRange {
        protocol: protocol.to_owned(),
        port: name,
        end,
    })
}

fn number_of(path: &str, number: i32, check: &mut Check<'_>) -> Option<u16> {
    const RANGE: &str = "a port from 1 to 65535";
    if number == 0 {
        check.wrong(path, format!("{number} is not {RANGE}"));
        return None;
    }
    check.number::<u16>(path, i64::from(number), RANGE)
}

/// An empty one is a value too.
fn label_value(path: &str, value: &str, check: &mut Check<'_>) {
    if !value.is_empty() {
        check.shape(path, value, names::label_value);
    }
}

fn labels(path: &str, selector: Option<&api::LabelSelector>, check: &mut Check<'_>) -> Labels {
    let Some(api::LabelSelector {
        match_expressions,
        match_labels,
    }) = selector
    else {
        return Labels::default();
    };
    // One that no label can be selects nobody, and what is to be isolated is open.
    for (key, value) in match_labels.iter().flatten() {
        let path = join(&format!("{path}.matchLabels"), key);
        check.shape(&path, key, names::qualified);
        label_value(&path, value, check);
    }
    let terms = match_expressions.iter().flatten().enumerate();
    let terms = terms.map(|(at, one)| {
        let path = format!("{path}.matchExpressions[{at}]");
        check.shape(&format!("{path}.key"), &one.key, names::qualified);
        let words = [
            ("In", Holds::In),
            ("NotIn", Holds::NotIn),
            ("Exists", Holds::Exists),
            ("DoesNotExist", Holds::DoesNotExist),
        ];
        let holds = check.choice(&format!("{path}.operator"), Some(&one.operator), &words);
        let values = one.values.clone().unwrap_or_default();
        let needs_values = matches!(holds, Holds::In | Holds::NotIn);
        if needs_values == values.is_empty() {
            let message = if needs_values {
                "must be specified when `operator` is 'In' or 'NotIn'"
            } else {
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            };
            check.wrong(&format!("{path}.values"), message);
        }
        for (at, value) in values.iter().enumerate() {
            label_value(&format!("{path}.values[{at}]"), value, check);
        }
        Term {
            key: one.key.clone(),
            holds,
            values,
        }
    });
    Labels {
        terms: terms.collect(),
        equal: match_labels.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_those_of_kubernetes() {
        let labels: BTreeMap<String, String> = [("app".into(), "web".into())].into();
        let term = |key: &str, holds, values: &[&str]| Labels {
            equal: BTreeMap::new(),
            terms: vec![Term {
                key: key.into(),
                holds,
                values: values.iter().map(ToString::to_string).collect(),
            }],
        };
        assert!(Labels::default().matches(&labels));
        assert!(term("app", Holds::In, &["db", "web"]).matches(&labels));
        assert!(!term("tier", Holds::In, &["web"]).matches(&labels));
        assert!(term("tier", Holds::NotIn, &["web"]).matches(&labels));
        assert!(!term("app", Holds::NotIn, &["web"]).matches(&labels));
        assert!(term("app", Holds::Exists, &[]).matches(&labels));
        assert!(!term("app", Holds::DoesNotExist, &[]).matches(&labels));
    }

    #[test]
    fn networks_hold_their_addresses() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(is_within(ip("10.88.0.9"), (ip("10.88.0.0"), 16)));
        assert!(!is_within(ip("10.89.0.9"), (ip("10.88.0.0"), 16)));
        assert!(is_within(ip("192.0.2.1"), (ip("0.0.0.0"), 0)));
        assert!(is_within(ip("fdb1::1"), (ip("::"), 0)));
        assert!(is_within(ip("fdb1::1"), (ip("fdb1::1"), 128)));
        assert!(!is_within(ip("fdb1::1"), (ip("0.0.0.0"), 0)));
    }
}
