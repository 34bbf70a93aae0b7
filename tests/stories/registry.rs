//! Pods whose images come from a registry, which runs beside them.

use beluga_tests::registry::{Puller, Registry, Wants};
use beluga_tests::{Beluga, Ran, SOON, run_with_input};

fn pod(image: &str, policy: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: pulled}}\nspec:\n  restartPolicy: Never\n  \
         imagePullSecrets: [{{name: login}}, {{name: absent}}]\n  containers:\n  \
         - {{name: main, image: \"{image}\", imagePullPolicy: {policy}, command: [echo, it runs]}}\n"
    )
}

/// Runs a manifest that is told on standard input.
fn feed(puller: &Puller, manifest: &str) -> Ran {
    let mut command = puller.command(&["run", "--rm", "-f", "-"]);
    run_with_input(&mut command, manifest.as_bytes().to_vec(), SOON * 2)
}

#[test]
fn b41_an_image_is_pulled_as_its_policy_says() {
    let wants = Wants {
        password: true,
        tls: false,
    };
    let mut registry = Registry::start(wants);
    registry.push("busybox", "team/busybox:1", "");
    let puller = Puller::of(Beluga::fresh());
    let name = registry.name("team/busybox:1");
    let auths = format!(
        "{{\"auths\":{{\"{}/team\":{{\"username\":\"user\",\"password\":\"pass\"}}}}}}",
        registry.address
    );
    let secret = format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/dockerconfigjson\nmetadata: {{name: login}}\n\
         stringData: {{.dockerconfigjson: '{auths}'}}\n---\n"
    );
    feed(&puller, &pod(&name, "Never"))
        .exits(1)
        .complains("is not present with pull policy of Never");
    let refused = feed(&puller, &pod(&name, "Always")).exits(1);
    refused
        .complains("Unable to retrieve some image pull secrets (login, absent)")
        .complains("spec.containers[0].image: cannot pull the image")
        .complains("UNAUTHORIZED: authentication required");
    let first = feed(&puller, &(secret + &pod(&name, "Always"))).ok();
    first.says("it runs").complains("layer");
    registry.stop();
    feed(&puller, &pod(&name, "IfNotPresent"))
        .ok()
        .says("it runs");
    feed(&puller, &pod(&name, "Always"))
        .exits(1)
        .complains("cannot be reached")
        .complains("Connection refused");
    puller.beluga.is_clean();
}
