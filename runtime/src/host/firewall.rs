//! Firewalls of others that keep pods' packets back: what one chain drops, no other can
//! let pass. They are told, never changed.

use super::nft::{Family, chains};
use super::rules::OURS;
use std::fmt;

/// A chain that drops what this host passes on, unless a rule of it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barrier {
    family: &'static str,
    table: String,
    chain: String,
}

impl fmt::Display for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            family,
            table,
            chain,
        } = self;
        write!(f, "the chain {chain} of the table {family} {table}")
    }
}

impl Barrier {
    /// What lets the packets of all bridges of ours pass.
    #[must_use]
    pub fn advice(&self) -> String {
        let Self {
            family,
            table,
            chain,
        } = self;
        let tool = match *family {
            "ip" => "iptables",
            "ip6" => "ip6tables",
            _ => {
                return format!(
                    "nft insert rule {family} {table} {chain} iifname \"{OURS}*\" accept; \
                     nft insert rule {family} {table} {chain} oifname \"{OURS}*\" accept"
                );
            }
        };
        format!("{tool} -I {chain} -i {OURS}+ -j ACCEPT; {tool} -I {chain} -o {OURS}+ -j ACCEPT")
    }
}

/// Those that there are, of which no rule names interfaces of ours; none where there is no
/// packet filter. What `iptables-legacy` has is not seen.
#[must_use]
pub fn barriers() -> Vec<Barrier> {
    let families = [
        (Family::Ipv4, "ip"),
        (Family::Ipv6, "ip6"),
        (Family::Internet, "inet"),
    ];
    let of = |(family, name): (Family, &'static str)| {
        let found = chains::dropping(family).unwrap_or_default().into_iter();
        let closed =
            found.filter(move |(table, _)| !chains::names(family, table, OURS).unwrap_or_default());
        closed.map(move |(table, chain)| Barrier {
            family: name,
            table,
            chain,
        })
    };
    families.into_iter().flat_map(of).collect()
}

/// What the user of a pod should know of them.
#[must_use]
pub fn warning() -> Option<String> {
    let found = barriers();
    let first = found.first()?;
    let all: Vec<String> = found.iter().map(ToString::to_string).collect();
    Some(format!(
        "this host's firewall drops what it passes on for pods, to others and from others: {}; \
         to let it pass: {}",
        all.join(", "),
        first.advice()
    ))
}
