//! Pods of a user who is not root.

use beluga_tests::image;
use beluga_tests::ordinary::{Ordinary, USER};
use std::os::unix::fs::MetadataExt as _;

const POD: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: own}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'echo begun; exec sleep 600']
    volumeMounts: [{name: data, mountPath: /data}, {name: shared, mountPath: /shared}]
  volumes:
  - {name: data, persistentVolumeClaim: {claimName: kept}}
  - {name: shared, hostPath: {path: SHARED}}
";

#[test]
fn an_ordinary_user_runs_a_pod_and_leaves_nothing() {
    let user = Ordinary::new();
    user.types("doctor").ok().says("an ordinary user");
    user.types(&format!("load -q -i {}", image("busybox"))).ok();
    what_needs_root_is_named(&user);
    let shared = user.shared().display().to_string();
    let run = ["run", "-d", "-f", "-", "--allow-host-path", &shared];
    user.feeds(&run, &POD.replace("SHARED", &shared)).ok();
    user.types("logs own").ok().prints("begun\n");
    its_volumes_keep_what_it_writes(&user);
    its_network_is_the_users_and_not_the_hosts_loopback(&user);
    its_processes_are_shut_in(&user);
    user.types("delete pod own").ok();
    user.has_nothing_left();
}

fn its_volumes_keep_what_it_writes(user: &Ordinary) {
    let write = "exec own -- sh -c 'echo claimed > /data/f; echo x > /shared/f; cat /data/f'";
    user.types(write).ok().prints("claimed\n");
    let file = user.shared().join("f").metadata().expect("it is there");
    assert_eq!(file.uid(), USER, "root of the guest writes as the user");
}

fn its_network_is_the_users_and_not_the_hosts_loopback(user: &Ordinary) {
    let page = |place: &str| user.types(&format!("exec own -- wget -T 5 -q -O - http://{place}/"));
    page("192.0.2.1:9000").ok().prints("outside\n");
    // The gateway's address is the host's loopback where pasta is not told otherwise.
    assert_ne!(page("10.0.2.2:9001").code, 0);
}

fn its_processes_are_shut_in(user: &Ordinary) {
    let audit = user.types("audit own -o json").ok().json();
    let processes = audit["processes"].as_array().expect("a list");
    for process in processes {
        assert_eq!(process["user"], USER, "{process:#}");
        assert_eq!(process["capabilities"], "0x0", "{process:#}");
        assert_eq!(process["root"].as_array().map(Vec::len), Some(0));
    }
    assert_eq!(processes[0]["missing"].to_string(), "[]");
}

fn what_needs_root_is_named(user: &Ordinary) {
    for line in [
        "run -p 8080:80 busybox",
        "run --network front busybox",
        "run --network cni busybox",
        "network create front",
    ] {
        user.types(line).fails(1, "needs root");
    }
    user.types("get pods -o name").ok().prints("");
}
