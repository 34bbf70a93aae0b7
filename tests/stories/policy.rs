//! NetworkPolicies, clause by clause: who reaches whom, and who does not.
//!
//! Three pods serve all stories here; one policy is in force at a time.

use beluga_tests::{Common, CommonPod, Pod, SOON, eventually, run, shared};
use serde_json::Value;
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

macro_rules! manifest {
    ($namespace:literal, $app:literal) => {
        concat!(
            "
apiVersion: v1
kind: Pod
metadata: {name: ",
            $namespace,
            "-",
            $app,
            ", namespace: ",
            $namespace,
            ", labels: {app: ",
            $app,
            "}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    ports: [{name: web, containerPort: 8000}]
    readinessProbe: {tcpSocket: {port: 8001}, periodSeconds: 1}
    command: [sh, -c, 'httpd -p 8000 -h /etc; exec httpd -f -p 8001 -h /etc']
"
        )
    };
}

/// Asks for a page of the pod called `db` again and again.
const TENANT: &str = "
apiVersion: v1
kind: Pod
metadata: {name: tenant, namespace: shop, labels: {app: tenant}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox
    stdin: true
    readinessProbe: {exec: {command: [wget, -qO/dev/null, 'http://127.0.0.1:8000/hostname']}, periodSeconds: 1}
    command: [sh, -c, 'httpd -p 8000 -h /etc; while sleep 1; do
      nc -w 2 DB 8000 </dev/null >/dev/null 2>&1 && echo out || echo shut; done']
";

/// How many stories there are here.
const STORIES: usize = 8;

static DB: Common = Common::new(STORIES, || shared().pod(manifest!("shop", "db")));
static WEB: Common = Common::new(STORIES, || shared().pod(manifest!("shop", "web")));
static ALIEN: Common = Common::new(STORIES, || shared().pod(manifest!("bank", "web")));

/// Three pods, and a policy for the one called `db`.
struct Scene {
    db: CommonPod,
    web: CommonPod,
    alien: CommonPod,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    fn new(policy: &str) -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let scene = Self {
            db: DB.pod(),
            web: WEB.pod(),
            alien: ALIEN.pod(),
            _alone: alone,
        };
        scene.policy(policy);
        scene
    }

    /// Puts a policy in force, in the place of the one that is.
    fn policy(&self, spec: &str) {
        let text = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{name: of-db, namespace: shop}}\n\
             spec: {{podSelector: {{matchLabels: {{app: db}}}}, {spec}}}\n"
        );
        let ran = shared().feed(["apply", "-f", "-"], text.as_bytes());
        ran.ok().says("networkpolicy.networking.k8s.io/of-db");
    }

    fn no_policy(&self) {
        let words = ["delete", "networkpolicy", "of-db", "-n", "shop"];
        shared().run(words.into_iter().chain(["--ignore-not-found"]));
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.no_policy();
    }
}

/// The pod's IPv6 address.
fn ip6(pod: &Pod) -> String {
    pod.field("/status/podIPs/1/ip")
}

/// Whether a connection comes about within seconds.
fn connects(from: &Pod, to: &str, port: u16, seconds: u32) -> bool {
    let line =
        format!("nc -w {seconds} {to} {port} </dev/null >/dev/null 2>&1 && echo yes || echo no");
    from.sh("main", &line) == "yes"
}

#[track_caller]
fn may(from: &Pod, to: &str, port: u16) {
    eventually(&format!("{} reaches {to} {port}", from.name()), || {
        connects(from, to, port, 20).then_some(())
    });
}

#[track_caller]
fn may_not(from: &Pod, to: &str, port: u16) {
    assert!(
        !connects(from, to, port, 3),
        "{} reaches {to} {port}",
        from.name()
    );
}

#[test]
fn a_policy_without_rules_lets_nobody_in_but_the_host() {
    let s = Scene::new("policyTypes: [Ingress]");
    let ip = s.db.ip();
    may_not(&s.web, &ip, 8000);
    may_not(&s.alien, &ip6(&s.db), 8000);
    may(&s.db, &s.web.ip(), 8000);
    let address = format!("{ip}:8000").parse().expect("an address");
    let host = TcpStream::connect_timeout(&address, SOON);
    assert!(host.is_ok(), "the host");
    let all = shared().types("get netpol -n shop").ok();
    all.says("of-db   app=db");
    s.no_policy();
    may(&s.web, &ip, 8000);
}

#[test]
fn a_policy_with_a_pod_selector_lets_these_pods_in() {
    let s = Scene::new("ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]");
    may(&s.web, &s.db.ip(), 8000);
    may(&s.web, &ip6(&s.db), 8001);
    may_not(&s.alien, &s.db.ip(), 8000);
    s.policy("ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}}]}]");
    may_not(&s.web, &s.db.ip(), 8000);
}

#[test]
fn a_policy_with_a_namespace_selector_lets_these_namespaces_in() {
    let bank = "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: bank}}";
    let s = Scene::new(&format!("ingress: [{{from: [{{{bank}}}]}}]"));
    may(&s.alien, &s.db.ip(), 8000);
    may_not(&s.web, &s.db.ip(), 8000);
    s.policy(&format!(
        "ingress: [{{from: [{{{bank}, podSelector: {{matchLabels: {{app: db}}}}}}]}}]"
    ));
    may_not(&s.alien, &s.db.ip(), 8000);
    s.policy(
        "ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}]",
    );
    may(&s.alien, &s.db.ip(), 8000);
    may(&s.web, &s.db.ip(), 8000);
}

#[test]
fn a_policy_with_an_ip_block_lets_its_addresses_in_but_for_exceptions() {
    let block = |except: &str| {
        format!("ingress: [{{from: [{{ipBlock: {{cidr: 10.88.0.0/16, except: [{except}/32]}}}}]}}]")
    };
    let s = Scene::new("policyTypes: [Ingress]");
    s.policy(&block(&s.alien.ip()));
    may(&s.web, &s.db.ip(), 8000);
    may_not(&s.alien, &s.db.ip(), 8000);
    s.policy(&block(&s.web.ip()));
    may(&s.alien, &s.db.ip(), 8000);
    may_not(&s.web, &s.db.ip(), 8000);
    may_not(&s.alien, &ip6(&s.db), 8000);
}

#[test]
fn a_policy_with_ports_lets_packets_to_these_in() {
    let s = Scene::new("ingress: [{ports: [{port: 8000}]}]");
    may(&s.web, &s.db.ip(), 8000);
    may_not(&s.web, &s.db.ip(), 8001);
    s.policy("ingress: [{ports: [{port: 8001, endPort: 8100}]}]");
    may(&s.web, &s.db.ip(), 8001);
    may_not(&s.web, &s.db.ip(), 8000);
    s.policy("ingress: [{ports: [{port: web}]}]");
    may(&s.web, &s.db.ip(), 8000);
    may_not(&s.web, &s.db.ip(), 8001);
    s.policy("ingress: [{ports: [{port: 8000, protocol: UDP}]}]");
    may_not(&s.web, &s.db.ip(), 8000);
}

#[test]
fn a_policy_of_egress_lets_out_what_it_says() {
    let s = Scene::new(
        "policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: web}]}]",
    );
    may(&s.db, &s.web.ip(), 8000);
    may_not(&s.db, &s.web.ip(), 8001);
    may_not(&s.db, &s.alien.ip(), 8000);
    may(&s.web, &s.db.ip(), 8001);
    s.policy(&format!(
        "egress: [{{to: [{{ipBlock: {{cidr: {}/32}}}}]}}]",
        s.alien.ip()
    ));
    may(&s.db, &s.alien.ip(), 8001);
    may_not(&s.db, &s.web.ip(), 8000);
    may_not(&s.web, &s.db.ip(), 8000);
}

/// Opens a tenant's pod to all, and all to it.
const OPEN: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: of-tenant, namespace: shop}
spec: {podSelector: {matchLabels: {app: tenant}}, ingress: [{}], egress: [{}]}
";

/// Waits until the tenant's pod has said this; all that it has said.
fn says(pod: &Pod, word: &str) -> String {
    eventually(&format!("it says {word}"), || {
        Some(pod.logs("main")).filter(|log| log.contains(word))
    })
}

#[test]
fn a_tenants_pod_is_shut_but_for_what_policies_open() {
    let s = Scene::new("policyTypes: [Ingress], ingress: [{}]");
    let profile = ["--profile", "tenant"];
    let pod = shared().pod_with(&profile, &TENANT.replace("DB", &s.db.ip()));
    may_not(&s.web, &pod.ip(), 8000);
    let said = says(&pod, "shut");
    assert!(!said.contains("out"), "{said}");
    shared().apply(OPEN).ok();
    may(&s.web, &pod.ip(), 8000);
    says(&pod, "out");
    let close = "delete networkpolicy of-tenant -n shop";
    shared().types(close).ok();
    may_not(&s.web, &pod.ip(), 8000);
    no_way_in(&pod);
    rules_come_back(&pod, &s.web);
}

/// Others throw away what keeps it shut; whoever looks at pods next puts it back.
fn rules_come_back(pod: &Pod, web: &Pod) {
    let (ip, directory) = (pod.ip(), shared().root().join("pods"));
    let path = directory
        .join(pod.field("/metadata/uid"))
        .join("definition.json");
    let definition = std::fs::read(path).expect("the pod has one");
    let definition: Value = serde_json::from_slice(&definition).expect("it is JSON");
    let tap = definition["plan"]["identity"]["network"]["tap"].as_str();
    let tap = tap.expect("it has a tap");
    let tables = || -> Vec<String> {
        let all = run(Command::new("nft").args(["list", "tables"]), SOON).ok();
        let lines = all.out.lines().map(str::to_owned);
        let own = lines.filter(|line| line.trim_end_matches('p').ends_with(tap));
        own.collect()
    };
    let before = tables();
    assert_eq!(before.len(), 3, "{before:?}");
    for table in &before {
        run(
            Command::new("nft").arg("delete").args(table.split(' ')),
            SOON,
        )
        .ok();
    }
    shared().run(["get", "pods", "-n", "shop"]).ok();
    assert_eq!(tables(), before);
    may_not(web, &ip, 8000);
}

/// No command, no file, no port, no container beside its own, and nothing typed.
fn no_way_in(pod: &Pod) {
    for way in [
        "exec tenant -n shop -- true",
        "cp -n shop /etc/hostname tenant:/tmp/x",
        "attach -i tenant -n shop",
        "debug tenant -n shop --image busybox -- true",
    ] {
        let ran = shared().types(way);
        assert_ne!(ran.code, 0, "{ran}");
        ran.complains("profile");
    }
    pod.described().says("Profile:           tenant");
}

#[test]
fn a_policy_follows_the_labels_of_pods() {
    let s = Scene::new(
        "ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}]",
    );
    let label = |app: &str| {
        let pod = format!("pod {} -n bank", s.alien.name());
        let line = format!("label {pod} --overwrite app={app}");
        shared().types(&line).ok();
    };
    may(&s.alien, &s.db.ip(), 8000);
    label("none");
    may_not(&s.alien, &s.db.ip(), 8000);
    label("web");
    may(&s.alien, &s.db.ip(), 8000);
}
