//! Addresses of networks with names.

use super::restored::sh;
use beluga_proto::PodUid;
use beluga_runtime::host::network::{self, Wanted, WantedNetwork, definition};
use beluga_runtime::host::{boot_id, firewall};
use beluga_runtime::settings::Settings;
use beluga_runtime::sys;
use std::io;
use std::process::Command;

#[test]
fn a_new_network_has_other_addresses_than_pods_that_run() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = std::env::temp_dir().join(format!("beluga-networks-{}", std::process::id()));
    let settings = Settings::new(Some(directory.join("root")), Some(directory.join("state")));
    let (settings, uid) = (settings.unwrap(), PodUid::from_random([8; 16]));
    let (own, _) = network::claim(&settings, &uid, &boot_id(), Wanted::default()).unwrap();
    let wanted = WantedNetwork {
        name: "other".into(),
        ..WantedNetwork::default()
    };
    let made = definition::create(&settings, wanted, 0).unwrap();
    let met = definition::overlap(made.subnet, (own.address.ip, own.address.prefix));
    network::remove(&settings, "other", &boot_id()).unwrap();
    let _ = network::release(&settings, &uid, &boot_id());
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(!met, "{:?} and {:?}", made.subnet, own.address);
}

/// Chains that keep pods' packets back, as they are told.
fn barriers() -> Vec<String> {
    let all = firewall::barriers();
    all.iter().map(ToString::to_string).collect()
}

fn look_at_firewalls() -> io::Result<()> {
    let list = Command::new("nft").args(["list", "tables"]).status();
    if !list.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    sh("nft add table ip filter; nft add table ip6 filter
        nft 'add chain ip6 filter INPUT { type filter hook input priority 0; policy drop; }'
        nft 'add chain ip filter FORWARD { type filter hook forward priority 0; policy accept; }'");
    assert!(barriers().is_empty(), "{:?}", barriers());
    sh("nft 'add chain ip filter FORWARD { policy drop; }'");
    assert_eq!(barriers(), ["the chain FORWARD of the table ip filter"]);
    let said = firewall::warning().unwrap_or_default();
    assert!(
        said.contains("iptables -I FORWARD -i blg+ -j ACCEPT"),
        "{said}"
    );
    sh("nft 'add rule ip filter FORWARD iifname \"blg*\" accept'");
    assert!(barriers().is_empty(), "{:?}", barriers());
    Ok(())
}

#[test]
fn a_firewall_that_keeps_pods_packets_back_is_named_until_it_lets_them_pass() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = std::env::temp_dir().join(format!("beluga-firewall-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let namespace = directory.join("net");
    std::fs::write(&namespace, "").unwrap();
    sys::netns::make(&namespace).unwrap();
    let tried = sys::netns::within(&namespace, look_at_firewalls);
    sys::netns::remove(&namespace).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    tried.unwrap();
}
