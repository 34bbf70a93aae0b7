//! What a cluster puts into each pod by itself, and `kubectl get -o yaml` prints.

use super::check::Check;
use k8s_openapi::api::core::v1::{Container, Pod, Volume};

/// Takes out the volume with the token for the cluster's API, with its mounts. It is
/// taken out where the cluster puts it, at the end of the lists, so that all others keep
/// their places.
pub(super) fn without_token(pod: &mut Pod, check: &mut Check<'_>) {
    let Some(spec) = &mut pod.spec else { return };
    let volumes = spec.volumes.get_or_insert_default();
    let Some(token) = volumes.pop_if(|volume| is_token(volume)) else {
        return;
    };
    let lists = spec.init_containers.iter_mut().flatten();
    for container in lists.chain(&mut spec.containers) {
        unmount(container, &token.name);
    }
    let path = format!("spec.volumes[{}]", volumes.len());
    check.warn(
        &path,
        "left out with its mounts: the token is for the API of a cluster",
    );
}

fn is_token(volume: &Volume) -> bool {
    let sources = volume
        .projected
        .as_ref()
        .and_then(|one| one.sources.as_ref());
    let has_token = |sources: &Vec<_>| {
        let mut sources = sources.iter();
        sources.any(|one: &k8s_openapi::api::core::v1::VolumeProjection| {
            one.service_account_token.is_some()
        })
    };
    volume.name.starts_with("kube-api-access-") && sources.is_some_and(has_token)
}

fn unmount(container: &mut Container, volume: &str) {
    if let Some(mounts) = &mut container.volume_mounts {
        mounts.pop_if(|mount| mount.name == volume);
    }
}
