use super::*;
use serde_json::json;

/// A specification with namespaces of these kinds, and a path of the last one.
fn spec(kinds: &[&str], path: Option<&str>) -> Spec {
    let mut all: Vec<_> = kinds.iter().map(|kind| json!({"type": kind})).collect();
    if let (Some(last), Some(path)) = (all.last_mut(), path) {
        last["path"] = json!(path);
    }
    let spec = json!({"ociVersion": "1.0.2", "linux": {"namespaces": all}});
    serde_json::from_value(spec).unwrap()
}

#[test]
fn processes_are_a_containers_own_or_another_ones_or_those_of_the_machine() {
    let own = spec(&["network", "pid"], None);
    assert!(!sees_guest(&own) && !joins_processes(&own));
    assert!(sees_guest(&spec(&["network"], None)));
    let shared = spec(&["network", "pid"], Some("/proc/1/ns/pid"));
    assert!(!sees_guest(&shared) && joins_processes(&shared));
}

#[test]
fn the_hosts_network_is_refused_by_its_name_and_not_by_what_comes_with_it() {
    let refused = |kinds: &[&str]| {
        let spec = spec(kinds, None);
        let linux = spec.linux().clone().unwrap();
        refuse_pod(&spec, &linux).unwrap_err().to_string()
    };
    let machine = ["mount", "ipc", "uts", "network"];
    assert!(refused(&machine[..2]).starts_with("hostNetwork is not supported"));
    assert!(refused(&["network", "uts"]).starts_with("hostIPC is not supported"));
    let whole = spec(&machine, None);
    refuse_pod(&whole, &whole.linux().clone().unwrap()).unwrap();
}
