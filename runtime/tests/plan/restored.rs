//! Rules of the packet filter that others have thrown away come back.

use super::{host, identity, images};
use beluga_proto::PodUid;
use beluga_runtime::host::network::{self, Wanted};
use beluga_runtime::host::rules::News;
use beluga_runtime::host::{boot_id, restore_rules};
use beluga_runtime::plan::{HostFacts, HostStep, Identity, Objects, Plan, Tenant, plan};
use beluga_runtime::pod::{self, PodState};
use beluga_runtime::settings::Settings;
use beluga_runtime::store::{self, Definition, Life, Record};
use beluga_runtime::{policy, spec, sys};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A network namespace, a root with a pod of a tenant, and the pod's tap.
struct Scene {
    directory: PathBuf,
    settings: Settings,
    uid: PodUid,
    plan: Plan,
}

pub fn sh(line: &str) {
    let status = Command::new("sh").args(["-c", line]).status();
    let status = status.expect("a shell");
    assert!(status.success(), "{line}");
}

impl Scene {
    /// Called in the namespace.
    fn new(directory: PathBuf) -> Self {
        let settings = Settings::new(Some(directory.join("root")), Some(directory.join("state")));
        let (settings, uid) = (
            settings.expect("they are paths"),
            PodUid::from_random([9; 16]),
        );
        let (own, shared) =
            network::claim(&settings, &uid, &boot_id(), Wanted::default()).expect("a free address");
        sh(&format!("ip tuntap add {} mode tap", own.tap));
        let facts = HostFacts {
            network: Some(shared),
            tenant: Some(Tenant::default()),
            ..host()
        };
        let identity = Identity {
            uid: uid.clone(),
            network: Some(own),
            ..identity("tenant")
        };
        let text = include_str!("../golden/least.yaml");
        let spec = spec::read("pod.yaml", text).expect("a good manifest").pods[0]
            .spec
            .clone();
        let mut plan =
            plan(&spec, &images(), &Objects::default(), &facts, identity).expect("it fits");
        // It notes in a file of the host what it changes about passing packets on.
        plan.host
            .retain(|step| !matches!(step, HostStep::Bridge { .. }));
        let definition = Definition {
            generation: 0,
            manifest: serde_json::Value::Null,
            spec,
            plan: plan.clone(),
        };
        let mut record = Record::new(&definition, &boot_id(), PodState::new(&plan, pod::now()));
        record.life = Life::Running;
        drop(store::create(&settings, &definition, &record).expect("a root"));
        Self {
            directory,
            settings,
            uid,
            plan,
        }
    }

    fn tables(&self) -> usize {
        network::tables(&self.settings).len()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = network::release(&self.settings, &self.uid, &boot_id());
        let _ = std::fs::remove_dir_all(self.directory.join("root"));
    }
}

// Names of tests, as the gate runs them.
const TOLD: &str = "who_has_a_table_is_told";
const BACK: &str = "a_tenants_rules_come_back";

/// Said past libtest, which keeps what is printed: the gate counts it, and runs the
/// test in the lab host.
fn skip(what: &str, why: &str) {
    let line = format!("SKIPPED {what}: {why}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

/// The kernel tells at once when one of these tables has gone, and of no other.
fn is_told(change: &str, meant: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("an event loop");
    runtime.block_on(async {
        let news = News::listen().expect("the kernel tells");
        sh(change);
        // All that there is to be told has been, when the change is made.
        let told = news.gone(|name| name == meant);
        tokio::time::timeout(Duration::from_millis(200), told)
            .await
            .is_ok()
    })
}

#[test]
fn who_has_a_table_is_told_when_it_goes() {
    if !rustix::process::geteuid().is_root() {
        return skip(TOLD, "network namespaces are root's");
    }
    let directory = std::env::temp_dir().join(format!("beluga-news-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let namespace = directory.join("net");
    std::fs::write(&namespace, "").unwrap();
    sys::netns::make(&namespace).unwrap();
    let tried = sys::netns::within::<_, io::Error>(&namespace, || {
        if !Command::new("nft")
            .args(["list", "tables"])
            .status()
            .is_ok_and(|it| it.success())
        {
            skip(TOLD, "there is no nft, or no packet filter");
            return Ok(());
        }
        for (change, is_meant) in [
            ("nft add table inet blgx; nft add table ip other", false),
            ("nft delete table ip other", false),
            ("nft flush ruleset", true),
        ] {
            assert_eq!(is_told(change, "blgx"), is_meant, "{change}");
        }
        Ok(())
    });
    sys::netns::remove(&namespace).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    tried.unwrap();
}

#[test]
fn a_tenants_rules_come_back_after_all_tables_were_flushed() {
    if !rustix::process::geteuid().is_root() {
        return skip(BACK, "network namespaces are root's");
    }
    let directory = std::env::temp_dir().join(format!("beluga-flush-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let namespace = directory.join("net");
    std::fs::write(&namespace, "").unwrap();
    sys::netns::make(&namespace).unwrap();
    let tried = sys::netns::within::<_, io::Error>(&namespace, || {
        let scene = Scene::new(directory.clone());
        let settings = &scene.settings;
        let guarded = restore_rules(settings, &scene.plan, &[]).map_err(|error| error.to_string());
        let shut = policy::enforce_with(settings, true).map_err(|error| error.to_string());
        if let Err(error) = guarded.and(shut) {
            let why = format!("this kernel's packet filter is not whole: {error}");
            skip(BACK, &why);
            return Ok(());
        }
        // The guard of its tap, and what keeps its traffic back, bridged and routed.
        assert_eq!(scene.tables(), 3);
        sh("nft flush ruleset");
        assert_eq!(scene.tables(), 0);
        policy::restore(settings).unwrap();
        assert_eq!(scene.tables(), 3);
        // Neither does the next start or end of another pod leave it open.
        sh("nft flush ruleset");
        policy::enforce(settings).unwrap();
        assert_eq!(scene.tables(), 2);
        Ok(())
    });
    sys::netns::remove(&namespace).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    tried.unwrap();
}
