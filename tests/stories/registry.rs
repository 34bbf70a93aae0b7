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

/// A registry with a password and an image in it.
fn registry() -> Registry {
    let registry = Registry::start(Wants {
        password: true,
        tls: false,
    });
    registry.push("busybox", "team/busybox:1", "");
    registry
}

/// The secret that opens it, before another document.
fn secret(registry: &Registry) -> String {
    let auths = format!(
        "{{\"auths\":{{\"{}/team\":{{\"username\":\"user\",\"password\":\"pass\"}}}}}}",
        registry.address
    );
    format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/dockerconfigjson\nmetadata: {{name: login}}\n\
         stringData: {{.dockerconfigjson: '{auths}'}}\n---\n"
    )
}

#[test]
fn b41_an_image_is_pulled_as_its_policy_says() {
    let mut registry = registry();
    let puller = Puller::of(Beluga::fresh());
    let name = registry.name("team/busybox:1");
    let never = feed(&puller, &pod(&name, "Never"));
    never.fails(1, "is not present with pull policy of Never");
    without_its_secret_it_is_refused(&puller, &name);
    let always = pod(&name, "Always");
    let first = feed(&puller, &(secret(&registry) + &always)).ok();
    first.says("it runs").complains("layer");
    registry.stop();
    let here = feed(&puller, &pod(&name, "IfNotPresent")).ok();
    here.says("it runs");
    let refused = feed(&puller, &always).fails(1, "cannot be reached");
    refused.complains("Connection refused");
    puller.beluga.is_clean();
}

fn without_its_secret_it_is_refused(puller: &Puller, name: &str) {
    let refused = feed(puller, &pod(name, "Always")).exits(1);
    refused
        .complains("Unable to retrieve some image pull secrets (login, absent)")
        .complains("spec.containers[0].image: cannot pull the image")
        .complains("UNAUTHORIZED: authentication required");
}
