//! What a pod is called, and whom it asks for names.

use super::*;

/// The lines of a pod's resolv.conf, and what its events say of them.
fn resolv(spec: &str) -> (Vec<String>, Vec<String>) {
    let text = pod("{name: a, image: tools}").replace("spec: {", &format!("spec: {{{spec}, "));
    let plan = planned(&text).expect("a plan");
    let lines = plan.guest.resolv_conf.lines().map(str::to_owned).collect();
    let said = plan.warnings.into_iter().map(|one| one.message).collect();
    (lines, said)
}

#[test]
fn the_pods_own_name_servers_stand_behind_those_of_its_policy() {
    let (lines, said) = resolv(
        "dnsConfig: {nameservers: [1.1.1.1, 10.88.0.1], searches: [cluster.local, x.y, .], \
         options: [{name: ndots, value: '2'}, {name: edns0}]}",
    );
    assert_eq!(
        lines,
        [
            "nameserver 10.88.0.1",
            "nameserver 1.1.1.1",
            "search default.svc.cluster.local svc.cluster.local cluster.local example.org x.y .",
            "options ndots:2 edns0",
        ]
    );
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn what_a_resolver_does_not_read_is_cut_off_and_said() {
    let (lines, said) = resolv("dnsConfig: {nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3]}");
    assert_eq!(
        lines[..3],
        [
            "nameserver 10.88.0.1",
            "nameserver 1.1.1.1",
            "nameserver 1.1.1.2"
        ]
    );
    assert_eq!(
        said,
        [
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied \
          nameserver line is: 10.88.0.1 1.1.1.1 1.1.1.2"
        ]
    );
    let many: Vec<String> = (0..32).map(|at| format!("d{at}.test")).collect();
    let (lines, said) = resolv(&format!("dnsConfig: {{searches: [{}]}}", many.join(", ")));
    assert_eq!(lines[1].split(' ').count(), 33);
    assert!(lines[1].ends_with(" d27.test"), "{}", lines[1]);
    assert!(
        said[0].starts_with("Search Line limits were exceeded, "),
        "{said:?}"
    );
}

#[test]
fn what_cannot_run_is_refused_at_its_place() {
    let long = "a".repeat(40);
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c}\nspec: \
                 {accessModes: [ReadWriteOnce], volumeMode: Block, \
                 resources: {requests: {storage: 1Gi}}}\n---\n";
    let map = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {k: /w==}\n---\n";
    for (before, spec, container, place) in [
        (
            "",
            "volumes: [{name: v}]",
            "{name: a, image: tools, volumeMounts: [{name: v, mountPath: /v, subPathExpr: $(X)}]}",
            "spec.containers[0].volumeMounts[0].subPathExpr: container \"a\": the subPathExpr",
        ),
        (
            "",
            "securityContext: {seccompProfile: {type: Localhost, localhostProfile: x}}",
            "{name: a, image: tools}",
            "spec.securityContext.seccompProfile.localhostProfile: container \"a\": there is no",
        ),
        (
            claim,
            "volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]",
            "{name: a, image: tools, volumeMounts: [{name: v, mountPath: /v}]}",
            "spec.volumes[0]: volume \"v\": has volumeMode Block",
        ),
        (
            map,
            "restartPolicy: Never",
            "{name: a, image: tools, env: [{name: K, valueFrom: {secretKeyRef: {name: s, key: k}}}]}",
            "spec.containers[0].env[0].valueFrom: container \"a\": key \"k\" of secret \"s\" is not",
        ),
        (
            map,
            "restartPolicy: Never",
            "{name: a, image: tools, envFrom: [{secretRef: {name: s}}]}",
            "spec.containers[0].envFrom[0]: container \"a\": key \"k\" of secret \"s\" is not",
        ),
        (
            "",
            &format!("hostname: {long}, subdomain: {long}, setHostnameAsFQDN: true"),
            "{name: a, image: tools}",
            "spec.setHostnameAsFQDN: the name ",
        ),
    ] {
        let of_pod = pod(container).replace("spec: {", &format!("spec: {{{spec}, "));
        let text = format!("{before}{of_pod}");
        let document = spec::read("p.yaml", &text).unwrap().pods.remove(0);
        let error = planned(&text).unwrap_err();
        let fields = error.fields(&document.spec);
        let told = document.refused(&fields, error.to_string()).to_string();
        let line = text.lines().count();
        assert!(told.starts_with(&format!("p.yaml:{line}:")), "{told}");
        assert!(told.contains(&format!(": {place}")), "{told}");
    }
}
