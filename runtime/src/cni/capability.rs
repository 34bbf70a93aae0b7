//! What plugins may want to know of a pod, by capability.

use crate::spec::{PodSpec, Published, Transport};
use serde_json::{Map, Value, json};

/// What plugins may want to know, as the kubelet's runtimes tell it.
pub(super) fn capabilities(spec: &PodSpec, with_ports: bool) -> Map<String, Value> {
    let mut all = Map::new();
    let ports = spec.published();
    if with_ports && !ports.is_empty() {
        let ports: Vec<Value> = ports.iter().map(mapping).collect();
        all.insert("portMappings".into(), Value::Array(ports));
    }
    if let Some(limits) = spec.net_limits() {
        /// Bits of a byte, and as much at once as containerd lets.
        const BITS: u64 = 8;
        const BURST: u64 = i32::MAX.unsigned_abs() as u64;
        let mut bandwidth = Map::new();
        for (way, rate) in [("ingress", limits.to_guest), ("egress", limits.from_guest)] {
            if let Some(bytes) = rate.and_then(|rate| rate.bytes) {
                bandwidth.insert(format!("{way}Rate"), json!(bytes * BITS));
                bandwidth.insert(format!("{way}Burst"), json!(BURST));
            }
        }
        all.insert("bandwidth".into(), Value::Object(bandwidth));
    }
    let annotations = json!(spec.annotations);
    all.insert("io.kubernetes.cri.pod-annotations".into(), annotations);
    all
}

fn mapping(port: &Published) -> Value {
    let protocol = match port.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let mut mapping =
        json!({"hostPort": port.host.port, "containerPort": port.to, "protocol": protocol});
    if let Some(ip) = port.host.ip {
        mapping["hostIP"] = json!(ip);
    }
    mapping
}
