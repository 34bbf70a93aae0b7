//! Passwords, certificates and mirrors.

use beluga_tests::registry::{Puller, Registry, Wants, sh};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

const PASSWORD: Wants = Wants {
    password: true,
    tls: false,
};

#[test]
fn a_password_is_found_where_docker_keeps_it() {
    let registry = Registry::start(PASSWORD);
    registry.push("busybox", "busybox", "");
    let (puller, name) = (Puller::new(), registry.name("busybox"));
    let asked = puller.run(&["pull", &name]).exits(1);
    asked
        .complains("401 Unauthorized: UNAUTHORIZED: authentication required")
        .complains("there are no credentials for")
        .complains("beluga login");
    let login = |auth: &str| {
        let address = &registry.address;
        let text = format!("{{\"auths\":{{\"{address}\":{{\"auth\":\"{auth}\"}}}}}}");
        puller.write("config.json", &text);
    };
    // user:wrong, then user:pass.
    login("dXNlcjp3cm9uZw==");
    puller
        .run(&["pull", &name])
        .exits(1)
        .complains("does not take the credentials of \"user\" from");
    login("dXNlcjpwYXNz");
    puller.run(&["pull", &name]).ok();
}

#[test]
fn a_login_is_tried_kept_and_forgotten() {
    let registry = Registry::start(PASSWORD);
    registry.push("busybox", "busybox", "");
    let (puller, name) = (Puller::new(), registry.name("busybox"));
    let login =
        |password: &str| puller.run(&["login", "-u", "user", "-p", password, &registry.address]);
    login("wrong").exits(1).complains("cannot log in to");
    puller.run(&["pull", &name]).exits(1);
    login("pass").ok().says("Login Succeeded");
    puller.run(&["pull", &name]).ok();
    puller
        .run(&["logout", &registry.address])
        .ok()
        .says("Removed");
    puller.run(&["pull", &name]).exits(1);
}

#[test]
fn a_password_is_found_where_podman_keeps_it() {
    let registry = Registry::start(PASSWORD);
    registry.push("busybox", "busybox", "");
    let (puller, name) = (Puller::new(), registry.name("busybox"));
    let text = format!(
        "{{\"auths\":{{\"{}\":{{\"auth\":\"dXNlcjpwYXNz\"}}}}}}",
        registry.address
    );
    puller.write("containers/auth.json", &text);
    // Docker's file is no obstacle, even where it says nothing that can be read.
    puller.write("config.json", "{");
    let pulled = puller.run(&["pull", &name]).ok();
    pulled.complains("config.json is no docker configuration");
}

#[test]
fn a_self_signed_certificate_is_trusted_where_it_is_named() {
    let registry = Registry::self_signed();
    registry.push("busybox", "busybox", "");
    let (puller, name) = (Puller::new(), registry.name("busybox"));
    let unknown = puller.run(&["pull", &name]).exits(1);
    unknown.complains("its certificate is self-signed, and not known here");
    let certificate = fs::read_to_string(registry.place().join("ca.crt")).expect("one");
    puller.write(
        &format!("certs.d/{}/ca.crt", registry.address),
        &certificate,
    );
    puller.run(&["pull", &name]).ok();
    // For its own name only.
    let other = name.replace("localhost", "127.0.0.1");
    let address = registry.address.replace("localhost", "127.0.0.1");
    puller.write(&format!("certs.d/{address}/ca.crt"), &certificate);
    let refused = puller.run(&["pull", &other]).exits(1);
    refused.complains("its certificate is for localhost, and not for 127.0.0.1");
}

#[test]
fn a_helper_is_asked_as_docker_asks_it() {
    let registry = Registry::start(PASSWORD);
    registry.push("busybox", "busybox", "");
    let puller = Puller::new();
    let address = &registry.address;
    let config = format!("{{\"credHelpers\":{{\"{address}\":\"story\"}}}}");
    puller.write("config.json", &config);
    let helper = "bin/docker-credential-story";
    let script = format!(
        "#!/bin/sh\nread -r server\n[ \"$1 $server\" = \"get {address}\" ] || exit 1\n\
         echo '{{\"ServerURL\":\"x\",\"Username\":\"user\",\"Secret\":\"pass\"}}'\n"
    );
    puller.write(helper, &script);
    let path = puller.home.path().join(helper);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
    let mut command = puller.command(&["pull", &registry.name("busybox")]);
    let path = format!(
        "{}:{}",
        puller.home.path().join("bin").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    beluga_tests::run(command.env("PATH", path), beluga_tests::SOON).ok();
    let none = puller.run(&["pull", &registry.name("busybox")]).exits(1);
    none.complains("cannot run docker-credential-story");
}

#[test]
fn a_private_authority_is_trusted_where_it_is_named() {
    let registry = Registry::start(Wants {
        password: false,
        tls: true,
    });
    registry.push("busybox", "busybox", "");
    let (puller, name) = (Puller::new(), registry.name("busybox"));
    puller
        .run(&["pull", &name])
        .exits(1)
        .complains("comes from an authority that is not known here")
        .complains("hosts.toml");
    let certificate = fs::read_to_string(registry.place().join("ca.crt")).expect("one");
    let dir = format!("certs.d/{}_", registry.address.replace(':', "_"));
    puller.write(&format!("{dir}/ca.crt"), &certificate);
    puller.run(&["pull", &name]).ok();

    let other = Puller::new();
    other.write(&format!("{dir}/authority.pem"), &certificate);
    let address = &registry.address;
    let hosts = format!("server = \"https://{address}\"\nca = \"authority.pem\"\n");
    other.write(&format!("{dir}/hosts.toml"), &hosts);
    other.run(&["pull", &name]).ok();

    let careless = Puller::new();
    let hosts = format!("[host.\"https://{address}\"]\nskip_verify = true\n");
    careless.write(&format!("{dir}/hosts.toml"), &hosts);
    careless.run(&["pull", &name]).ok();
}

#[test]
fn a_mirror_keeps_the_names() {
    let registry = Registry::start(Wants::default());
    registry.push("busybox", "mirrored/library/busybox", "");
    let puller = Puller::new();
    let address = &registry.address;
    let hosts = format!(
        "[host.\"http://127.0.0.1:1\"]\n[host.\"http://{address}/v2/mirrored\"]\n\
         override_path = true\n"
    );
    puller.write("certs.d/docker.io/hosts.toml", &hosts);
    puller
        .run(&["pull", "busybox"])
        .ok()
        .says("Pulled image: busybox:latest");
    let shown = puller.run(&["images", "-o", "json"]).ok();
    shown.says("docker.io/library/busybox:latest");
    let log = sh(&format!("ls {}", puller.beluga.root().display())).ok();
    log.says("images");
}
