//! Pods of a user who is not root.

use beluga_tests::ordinary::{FURTHER, Ordinary, USER};
use beluga_tests::{image, kill, status_number};
use serde_json::{Value, json};
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
    let user = Ordinary::fresh();
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
    it_outlives_its_supervisor(&user);
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
    user.types("exec own -- wget -q -O - http://192.0.2.1:9000/")
        .ok()
        .prints("outside\n");
    // The gateway's address is the host's loopback where pasta is not told otherwise.
    let loopback = user.types("exec own -- nc -w 5 10.0.2.2 9001 -e true");
    assert_ne!(loopback.code, 0, "{loopback}");
}

/// What is said of the processes that serve the guest, the VMM first.
fn audit(user: &Ordinary) -> Vec<Value> {
    let said = user.types("audit own -o json").ok().json();
    let mut processes = said["processes"].as_array().expect("a list").clone();
    // What the user's own supervisor may do is all that the user may.
    let supervisor = processes.pop().expect("the last one");
    assert_eq!(supervisor["role"], "supervisor");
    processes
}

fn its_processes_are_shut_in(user: &Ordinary) {
    let mut processes = audit(user);
    // pasta has sockets of the host: that is its work.
    let pasta = processes.pop().expect("the last one");
    assert_eq!(
        (&pasta["role"], &pasta["user"]),
        (&json!("pasta"), &json!(USER))
    );
    for process in &processes {
        assert_eq!(process["capabilities"], "0x0", "{process:#}");
        assert_eq!(process["root"].as_array().map(Vec::len), Some(0));
        assert_eq!(process["missing"].to_string(), "[]");
    }
    // Who serves the user's files is the user, the VMM is not.
    assert_eq!(processes[1]["user"], USER);
    let vmm = processes[0]["user"].as_u64().expect("a number");
    let vmm = u32::try_from(vmm).expect("a user");
    assert!(FURTHER.contains(&vmm), "{vmm}");
}

fn it_outlives_its_supervisor(user: &Ordinary) {
    let vmm = audit(user)[0]["pid"].as_u64().expect("a number");
    let vmm = u32::try_from(vmm).expect("a PID");
    kill(&[status_number(vmm, "PPid:")]);
    user.types("exec own -- cat /data/f")
        .ok()
        .prints("claimed\n");
    user.types("exec own -- wget -q -O - http://192.0.2.1:9000/")
        .ok();
}

fn what_needs_root_is_named(user: &Ordinary) {
    for line in [
        "run -p 8080:80 busybox",
        "run --network front busybox",
        "run --network cni busybox",
        "network create front",
    ] {
        user.types(line).fails(1, "root: an ordinary user's pod");
    }
    user.types("get pods -o name").ok().prints("");
}
