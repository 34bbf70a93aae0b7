//! A pod as the v1 object that Kubernetes' own tools read: the manifest with
//! its defaults, and the status in Kubernetes' words.

mod conditions;

use super::time::rfc3339;
use crate::engine::PodView;
use crate::plan::{ContainerKind, milli_cpus};
use crate::spec::{Bytes, Resources, is_latest};
use crate::store::status::{ContainerState, ContainerStatus, Termination};
use serde_json::{Map, Value, json};
use std::net::{IpAddr, Ipv4Addr};

/// The object of a pod.
pub fn object(pod: &PodView) -> Value {
    let mut object = pod.manifest.clone();
    if !object.is_object() {
        object = json!({});
    }
    object["apiVersion"] = json!("v1");
    object["kind"] = json!("Pod");
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let metadata = &mut object["metadata"];
    metadata["name"] = json!(pod.name);
    metadata["namespace"] = json!(pod.namespace);
    metadata["uid"] = json!(pod.uid);
    metadata["creationTimestamp"] = json!(rfc3339(pod.status.created));
    if let Some(deleted) = pod.status.deleted {
        metadata["deletionTimestamp"] = json!(rfc3339(deleted));
    }
    without_default_policies(&mut object["spec"]);
    object["status"] = status(pod);
    object
}

/// Takes out `imagePullPolicy: Always` where it is the default. Written out it would
/// be an order, and a pod whose image was loaded could not be started again from it.
fn without_default_policies(spec: &mut Value) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        // An index would make the lists that are not there.
        let list = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in list.into_iter().flatten() {
            let image = container["image"].as_str().unwrap_or_default();
            if container["imagePullPolicy"] == "Always" && is_latest(image) {
                container
                    .as_object_mut()
                    .map(|fields| fields.remove("imagePullPolicy"));
            }
        }
    }
}

/// Several objects of any kind as one.
pub fn list_of(items: Vec<Value>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "metadata": {"resourceVersion": ""},
        "items": items,
    })
}

fn status(pod: &PodView) -> Value {
    let status = &pod.status;
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            out.insert(key.to_owned(), value);
        }
    };
    put("phase", json!(status.phase.to_string()));
    put("reason", json!(status.reason));
    put("message", json!(status.message));
    let host = host_ip(pod);
    put("hostIP", json!(host));
    put("hostIPs", json!([{"ip": host}]));
    put("podIP", json!(status.ips.first()));
    let ips: Vec<Value> = status.ips.iter().map(|ip| json!({"ip": ip})).collect();
    if !ips.is_empty() {
        put("podIPs", Value::Array(ips));
    }
    put("startTime", json!(status.started.map(rfc3339)));
    put("qosClass", json!(pod.spec.quality()));
    put("conditions", json!(conditions::of(pod)));
    let of = |kinds: &[ContainerKind]| -> Vec<Value> {
        let all = status.containers.iter();
        all.filter(|container| kinds.contains(&container.kind))
            .map(container)
            .collect()
    };
    put("containerStatuses", Value::Array(of(&[ContainerKind::App])));
    let inits = of(&[ContainerKind::Init, ContainerKind::Sidecar]);
    if !inits.is_empty() {
        put("initContainerStatuses", Value::Array(inits));
    }
    let looking = of(&[ContainerKind::Ephemeral]);
    if !looking.is_empty() {
        put("ephemeralContainerStatuses", Value::Array(looking));
    }
    Value::Object(out)
}

/// The host as the pod reaches it: what its containers are told (`status.hostIP`).
fn host_ip(pod: &PodView) -> IpAddr {
    let plan = pod.plan.as_ref();
    let gateway = plan.and_then(|plan| plan.gateway());
    gateway.map_or(Ipv4Addr::LOCALHOST.into(), |(_, ip)| ip)
}

fn container(container: &ContainerStatus) -> Value {
    let mut out = json!({
        "name": container.name,
        "image": container.image,
        "imageID": container.image_id,
        "ready": container.ready,
        "started": container.started,
        "restartCount": container.restarts,
        "state": state(&container.state),
        "lastState": container.last_termination.as_ref().map_or_else(|| json!({}), terminated),
    });
    if let Some(id) = &container.id {
        out["containerID"] = json!(format!("beluga://{id}"));
    }
    if let Some(has) = container.resources.as_ref().filter(|has| !has.is_empty()) {
        let (requests, limits) = amounts(has);
        out["allocatedResources"] = requests.clone();
        out["resources"] = json!({"limits": limits, "requests": requests});
    }
    out
}

/// Requests and limits in Kubernetes' words.
fn amounts(of: &Resources) -> (Value, Value) {
    let map = |cpu: Option<u64>, memory: Option<u64>, storage: Option<u64>| {
        let mut out = Map::new();
        let mut put = |name: &str, text: Option<String>| {
            if let Some(text) = text {
                out.insert(name.to_owned(), json!(text));
            }
        };
        put("cpu", cpu.map(milli_cpus));
        put("memory", memory.map(|bytes| Bytes(bytes).to_string()));
        put(
            "ephemeral-storage",
            storage.map(|bytes| Bytes(bytes).to_string()),
        );
        Value::Object(out)
    };
    (
        map(of.cpu_request_milli, of.memory_request, of.storage_request),
        map(of.cpu_limit_milli, of.memory_limit, of.storage_limit),
    )
}

fn state(state: &ContainerState) -> Value {
    match state {
        ContainerState::Waiting { reason, message } => {
            let mut waiting = json!({"reason": reason});
            if let Some(message) = message {
                waiting["message"] = json!(message);
            }
            json!({"waiting": waiting})
        }
        ContainerState::Running { started } => {
            json!({"running": {"startedAt": rfc3339(*started)}})
        }
        ContainerState::Terminated(end) => terminated(end),
    }
}

fn terminated(end: &Termination) -> Value {
    let mut out = json!({
        "exitCode": end.exit_code,
        "reason": end.reason,
        "startedAt": end.started.map(rfc3339),
        "finishedAt": rfc3339(end.finished),
    });
    if let Some(signal) = end.signal {
        out["signal"] = json!(signal);
    }
    if let Some(message) = &end.message {
        out["message"] = json!(message);
    }
    if let Some(id) = &end.id {
        out["containerID"] = json!(format!("beluga://{id}"));
    }
    json!({"terminated": out})
}
