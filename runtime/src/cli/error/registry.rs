//! What to do about a registry that gives nothing, or takes nothing.

use beluga_image::{Distrust, LoadError, PushError, RegistryError, Tried};

/// What to do about an image that cannot be pulled, where the cause says it.
pub(super) fn of_pull(error: &LoadError) -> Option<String> {
    match error {
        LoadError::Registry(error) => of(error),
        LoadError::Foreign { .. } => Some(
            "fetch the image where the address is reachable: \
             `skopeo copy docker://IMAGE oci-archive:FILE` follows it, then `beluga load -i FILE`"
                .to_owned(),
        ),
        LoadError::Given { host, .. } => Some(format!(
            "pull it by another way: where {host} is a mirror, take it out of certs.d"
        )),
        _ => None,
    }
}

/// What to do about an image that cannot be pushed.
pub(super) fn of_push(error: &PushError) -> Option<String> {
    match error {
        PushError::Registry(error) => of(error),
        _ => None,
    }
}

/// What to do about a login that fails.
pub(super) fn of_login(error: &RegistryError) -> Option<String> {
    match error {
        RegistryError::Refused { tried: Some(_), .. } => {
            Some("try it again with the right name and password; many registries want a token in its place".to_owned())
        }
        error => of(error),
    }
}

fn of(error: &RegistryError) -> Option<String> {
    match error {
        RegistryError::NoHost { errors } => errors.iter().rev().find_map(of),
        RegistryError::Untrusted { host, source } => Some(of_certificate(host, source)),
        RegistryError::NoAuthority { .. } => Some("apt-get install ca-certificates".to_owned()),
        RegistryError::Refused {
            tried: Some(tried), ..
        } => Some(of_credentials(tried)),
        RegistryError::Elsewhere { target, .. } => Some(format!(
            "let this host reach {target}: a registry has more addresses than its own"
        )),
        RegistryError::Proxy { host, .. } => Some(format!(
            "look at HTTPS_PROXY and HTTP_PROXY; NO_PROXY={host} goes past the proxy"
        )),
        RegistryError::Busy { .. } => Some(
            "wait as long; most registries give more to those who log in, and a mirror in certs.d \
             is asked before the registry"
                .to_owned(),
        ),
        RegistryError::NoDocument { host, .. } => Some(format!(
            "look what answers there: curl -si https://{host}/v2/"
        )),
        RegistryError::Hosts { .. } => Some("mend the file, or move it away".to_owned()),
        _ => None,
    }
}

fn of_certificate(host: &str, why: &Distrust) -> String {
    match why {
        why if why.is_of_stranger() => format!(
            "name its authority, or itself where it is self-signed, by `ca = \"FILE\"` in \
             certs.d/{host}/hosts.toml, or put it there as ca.crt: below /etc/beluga or \
             /etc/containerd, or in BELUGA_CERTS_DIR; `skip_verify = true` there believes anybody"
        ),
        Distrust::Expired | Distrust::NotValidYet => {
            "`date` tells whether this machine's clock is right; if it is, whoever runs the \
             registry renews its certificate"
                .to_owned()
        }
        Distrust::OtherName { names, .. } => {
            format!("use the name that the certificate is for: {names}")
        }
        _ => "whoever runs the registry renews its certificate".to_owned(),
    }
}

fn of_credentials(tried: &Tried) -> String {
    let login = match tried.account() {
        // Docker's own registry needs no name.
        "docker.io" => "beluga login".to_owned(),
        account => format!("beluga login {account}"),
    };
    match tried {
        Tried::Nothing { .. } => {
            format!("`{login}`; docker's and podman's logins count as well")
        }
        _ => format!("look whether the user may have this image, or `{login}` as another one"),
    }
}
