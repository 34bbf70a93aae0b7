//! Addresses of networks with names.

use beluga_proto::PodUid;
use beluga_runtime::host::boot_id;
use beluga_runtime::host::network::{self, Wanted, WantedNetwork, definition};
use beluga_runtime::settings::Settings;

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
