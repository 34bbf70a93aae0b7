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
    let whose = |kinds: &[&str], path| processes(&spec(kinds, path));
    assert_eq!(whose(&["network", "pid"], None).unwrap(), Processes::Own);
    assert_eq!(whose(&["network"], None).unwrap(), Processes::Host);
    let named = whose(&["network", "pid"], Some("/proc/17/ns/pid"));
    assert_eq!(named.unwrap(), Processes::Task(17));
    for other in ["/proc/self/ns/pid", "/run/ns/pid", "/proc/17/ns/net"] {
        whose(&["network", "pid"], Some(other)).unwrap_err();
    }
}

#[test]
fn a_sandbox_is_ready_for_containers_that_share_and_for_those_that_do_not() {
    let note = Note {
        containerd: String::new(),
        namespace: "k8s.io".to_owned(),
        task: "id".to_owned(),
    };
    let settings = Settings::new(None, None).unwrap();
    let made = |kinds: &[&str], role: &str| {
        let mut spec = spec(kinds, None);
        let notes = [(KIND.to_owned(), role.to_owned())];
        spec.set_annotations(Some(notes.into()));
        let pod = pod(&settings, &spec, &note).unwrap();
        (pod.share_processes, pod.guest_processes, pod.strict_groups)
    };
    let all = ["network", "ipc", "uts", "pid"];
    assert_eq!(made(&all, "sandbox"), (true, false, true));
    assert_eq!(made(&all[..3], "sandbox"), (false, true, true));
    assert_eq!(made(&all, "alone"), (false, false, true));
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
