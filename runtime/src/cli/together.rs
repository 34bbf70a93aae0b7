//! Whether what one command is to start could run side by side.

use super::error::UsageError;
use super::run::document_name;
use crate::spec::{Manifest, Published};
use crate::workload::pods_at_once;
use std::collections::BTreeMap;

/// Errors where two pods have one name, or want one port of the host: one of them could
/// not be started, when the other has been.
pub fn admit(read: &Manifest) -> Result<(), UsageError> {
    names(read)?;
    let mut taken: Vec<(Published, String)> = Vec::new();
    let mut take = |who: String, ports: Vec<Published>| {
        for port in ports {
            if let Some((_, other)) = taken.iter().find(|(held, _)| held.clashes(&port)) {
                return Err(UsageError::PortTwice {
                    pods: [other.clone(), who],
                    port: port.host.port,
                    transport: port.transport,
                });
            }
            taken.push((port, who.clone()));
        }
        Ok(())
    };
    for document in &read.pods {
        let who = document_name(document).unwrap_or("a pod without a name");
        take(format!("pod/{who}"), document.spec.published())?;
    }
    for workload in &read.workloads {
        let who = format!("{}/{}", workload.kind, workload.name);
        // Two are as many as a thousand.
        for _ in 0..pods_at_once(workload).min(2) {
            take(who.clone(), workload.template.spec.published())?;
        }
    }
    Ok(())
}

fn names(read: &Manifest) -> Result<(), UsageError> {
    let pods = read.pods.iter().filter_map(|document| {
        let name = format!("pod/{}", document_name(document)?);
        Some((&document.spec.namespace, name, &document.source_name))
    });
    let workloads = read.workloads.iter().map(|one| {
        let name = format!("{}/{}", one.kind, one.name);
        (&one.namespace, name, &one.template.source_name)
    });
    let mut seen = BTreeMap::new();
    for (namespace, name, file) in pods.chain(workloads) {
        if let Some(first) = seen.insert((namespace, name.clone()), file) {
            let files = [first.clone(), file.clone()];
            return Err(UsageError::NameTwice { name, files });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(texts: &[&str]) -> String {
        let mut all = Manifest::default();
        for (at, text) in texts.iter().enumerate() {
            let read = crate::spec::read(&format!("{at}.yaml"), text).unwrap();
            all.pods.extend(read.pods);
            all.workloads.extend(read.workloads);
        }
        admit(&all).map_or_else(|error| error.to_string(), |()| String::new())
    }

    fn pod(name: &str, ports: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: \
             [{{name: c, image: i, ports: [{ports}]}}]}}}}"
        )
    }

    #[test]
    fn one_port_is_one_pods() {
        let port = "{containerPort: 80, hostPort: 8080}";
        let here = "{containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1}";
        let datagrams = "{containerPort: 80, hostPort: 8080, protocol: UDP}";
        assert_eq!(told(&[&pod("a", port), &pod("b", datagrams)]), "");
        assert_eq!(
            told(&[&pod("a", port), &pod("b", here)]),
            "pod/a and pod/b both want the host's port 8080/TCP"
        );
        let deployment = |replicas: u32| {
            format!(
                "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: d}}, spec: {{replicas: \
                 {replicas}, selector: {{matchLabels: {{a: b}}}}, template: {{metadata: {{labels: \
                 {{a: b}}}}, spec: {{containers: [{{name: c, image: i, ports: [{port}]}}]}}}}}}}}"
            )
        };
        assert_eq!(told(&[&deployment(1)]), "");
        assert_eq!(
            told(&[&deployment(3)]),
            "the pods of deployment.apps/d all want the host's port 8080/TCP"
        );
    }

    #[test]
    fn one_name_is_one_pods() {
        assert_eq!(told(&[&pod("a", ""), &pod("b", "")]), "");
        assert_eq!(
            told(&[&pod("a", ""), &pod("a", "")]),
            "pod/a stands in 0.yaml and in 1.yaml"
        );
    }
}
