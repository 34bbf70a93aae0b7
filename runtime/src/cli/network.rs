//! `beluga network`: the networks of a root, as docker and podman group them.

use super::table::Table;
use super::{CliError, exit};
use crate::engine::EngineError;
use crate::host::network::{self, Net, NetworkError, WantedNetwork, definition};
use crate::host::ordinary::OrdinaryError;
use crate::host::{self, HostError};
use crate::plan::Beyond;
use crate::settings::Settings;
use crate::spec::Network;
use serde_json::{Value, json};
use std::net::IpAddr;

/// Arguments of `network`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a network, for `run --network NAME`
    Create(Create),
    /// List networks
    #[command(visible_alias = "list")]
    Ls,
    /// Show all about networks, as JSON
    Inspect {
        /// Names; `default` is the one that is always there
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Remove networks that no pod uses
    #[command(visible_alias = "remove")]
    Rm {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Its name
    name: String,
    /// Its addresses, once for IPv4 and once for IPv6 [default: some that nobody has]
    #[arg(long, value_name = "CIDR", value_parser = block)]
    subnet: Vec<Network>,
    /// The host's address in it [default: the first one]
    #[arg(long, value_name = "IP")]
    gateway: Vec<IpAddr>,
    /// Largest packet in bytes [default: as the host's ways out have it]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1280..=9000))]
    mtu: Option<u16>,
    /// No way out of it, nor into it but from this host
    #[arg(long)]
    internal: bool,
    /// Pods are seen everywhere with their own addresses, not with this host's
    #[arg(long)]
    no_masquerade: bool,
    /// The same in one place
    #[arg(long, value_name = "CIDR", value_parser = block)]
    no_masquerade_to: Vec<Network>,
    /// Pods of another host: send packets for CIDR to that host, as they are
    #[arg(long, value_name = "CIDR=IP", value_parser = route)]
    route: Vec<(Network, IpAddr)>,
}

/// `10.90.1.0/24`.
fn block(text: &str) -> Result<Network, String> {
    let parsed = || {
        let (ip, prefix) = text.split_once('/')?;
        let (ip, prefix) = (ip.parse::<IpAddr>().ok()?, prefix.parse().ok()?);
        (prefix <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, prefix))
    };
    let (ip, prefix) = parsed().ok_or("must be a CIDR value, like 10.90.1.0/24")?;
    let network = definition::network_of(ip, prefix);
    if network == ip {
        Ok((ip, prefix))
    } else {
        Err(format!("is not a network; {network}/{prefix} is"))
    }
}

/// `10.90.2.0/24=192.0.2.2`.
fn route(text: &str) -> Result<(Network, IpAddr), String> {
    let (to, via) = text.split_once('=').ok_or("must be CIDR=IP")?;
    let (to, via) = (block(to)?, via.parse::<IpAddr>());
    let via = via.map_err(|_| "must be CIDR=IP")?;
    if to.0.is_ipv4() == via.is_ipv4() {
        Ok((to, via))
    } else {
        Err("both must be IPv4 or IPv6".to_owned())
    }
}

/// Runs the verb.
pub fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let refused = |error: NetworkError| EngineError::from(HostError::from(error));
    match &args.verb {
        Verb::Create(Create { name, .. }) if settings.is_ordinary => {
            let name = name.clone();
            let refused = HostError::from(OrdinaryError::Network { name });
            return Err(EngineError::from(refused).into());
        }
        Verb::Create(wanted) => {
            let made = network::definition::create(settings, wanted.wanted(), now());
            say!("{}", made.map_err(refused)?.name);
        }
        Verb::Ls => list(settings).map_err(refused)?,
        Verb::Inspect { names } => {
            let shown: Result<Vec<Value>, NetworkError> =
                names.iter().map(|name| inspect(settings, name)).collect();
            say!("{:#}", Value::Array(shown.map_err(refused)?));
        }
        Verb::Rm { names } => {
            for name in names {
                network::remove(settings, name, &host::boot_id()).map_err(refused)?;
                say!("{name}");
            }
        }
    }
    Ok(exit::OK)
}

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

impl Create {
    fn wanted(&self) -> WantedNetwork {
        WantedNetwork {
            name: self.name.clone(),
            subnets: self.subnet.clone(),
            gateways: self.gateway.clone(),
            mtu: self.mtu,
            beyond: Beyond {
                isolated: true,
                internal: self.internal,
                no_masquerade: self.no_masquerade,
                no_masquerade_to: self.no_masquerade_to.clone(),
                routes: self.route.clone(),
            },
        }
    }
}

fn list(settings: &Settings) -> Result<(), NetworkError> {
    let mut table = Table::new(&["NAME", "SUBNETS", "PODS", "OPTIONS"]);
    for net in Net::all(settings)? {
        let pods = network::members(&net, &host::boot_id())?.len();
        table.row(vec![
            net.name().to_owned(),
            subnets(settings, &net)?.join(","),
            pods.to_string(),
            options(&net).join(","),
        ]);
    }
    table.print();
    Ok(())
}

/// Its networks, as far as it has them now.
fn subnets(settings: &Settings, net: &Net) -> Result<Vec<String>, NetworkError> {
    let blocks = match net.definition() {
        Some(one) => vec![one.subnet, one.subnet6],
        None => network::blocks(settings, &host::boot_id())?,
    };
    let blocks = blocks
        .into_iter()
        .map(|(ip, prefix)| format!("{ip}/{prefix}"));
    Ok(blocks.collect())
}

fn options(net: &Net) -> Vec<String> {
    let Some(one) = net.definition() else {
        return Vec::new();
    };
    let words = [
        (one.beyond.internal, "internal"),
        (one.beyond.no_masquerade, "no-masquerade"),
        (one.beyond.plain().next().is_some(), "routed"),
    ];
    let words = words.into_iter().filter(|(is_so, _)| *is_so);
    words.map(|(_, word)| word.to_owned()).collect()
}

fn inspect(settings: &Settings, name: &str) -> Result<Value, NetworkError> {
    let net = Net::open(settings, name)?;
    let mut shown = match net.definition() {
        Some(one) => serde_json::to_value(one).unwrap_or_default(),
        None => json!({"name": net.name()}),
    };
    let cidr = |(ip, prefix): &Network| format!("{ip}/{prefix}");
    shown["subnets"] = json!(subnets(settings, &net)?);
    shown["bridge"] = json!(net.bridge());
    if let (Some(one), Some(shown)) = (net.definition(), shown.as_object_mut()) {
        for key in ["subnet", "subnet6", "gateway", "gateway6", "letter"] {
            shown.remove(key);
        }
        shown.insert("gateways".into(), json!([one.gateway, one.gateway6]));
        let plain: Vec<String> = one.beyond.no_masquerade_to.iter().map(cidr).collect();
        shown.insert("no_masquerade_to".into(), json!(plain));
        let routes = one.beyond.routes.iter();
        let routes: Vec<String> = routes
            .map(|(to, via)| format!("{}={via}", cidr(to)))
            .collect();
        shown.insert("routes".into(), json!(routes));
    }
    let members = network::members(&net, &host::boot_id())?.into_iter();
    let members: Vec<Value> = members
        .map(|(uid, names)| json!({"uid": uid.as_str(), "namespace": names.namespace, "name": names.name}))
        .collect();
    shown["pods"] = json!(members);
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_routes_are_read_from_words() {
        assert_eq!(block("10.90.1.0/24").unwrap().1, 24);
        for (text, why) in [
            ("10.90.1.0", "must be a CIDR"),
            ("10.90.1.7/24", "10.90.1.0/24 is"),
            ("10.90.1.0/33", "must be a CIDR"),
        ] {
            assert!(block(text).unwrap_err().contains(why), "{text}");
        }
        assert!(route("10.90.2.0/24=192.0.2.2").is_ok());
        for bad in ["10.90.2.0/24", "10.90.2.0/24=fd00::1", "10.90.2.0/24=x"] {
            assert!(route(bad).is_err(), "{bad}");
        }
    }
}
