//! Volumes of files: ConfigMaps, Secrets, the pod itself, and all of them in one.

use super::check::Check;
use super::config::{DownwardPath, DownwardValue, FileSource, KeyPath, VolumeSource};
use super::object::ObjectKind;
use super::yaml::join;
use super::{env, names};
use k8s_openapi::api::core::v1 as core;
use std::collections::BTreeSet;

/// Permission bits of files about which nothing is said.
pub const DEFAULT_MODE: i32 = 0o644;

/// Converts the source of a volume of files; `None` when it is another kind.
pub fn convert(
    path: &str,
    volume: &core::Volume,
    containers: &[&str],
    check: &mut Check<'_>,
) -> Option<VolumeSource> {
    let mut places = Places::default();
    let mut found = Vec::new();
    if let Some(core::ConfigMapVolumeSource {
        default_mode,
        items,
        name,
        optional,
    }) = &volume.config_map
    {
        let path = join(path, "configMap");
        let named = (ObjectKind::ConfigMap, "name", name.as_str(), *optional);
        let sources = vec![object(&path, named, items, &mut places, check)];
        found.push((sources, mode(&path, "defaultMode", *default_mode, check)));
    }
    if let Some(core::SecretVolumeSource {
        default_mode,
        items,
        optional,
        secret_name,
    }) = &volume.secret
    {
        let path = join(path, "secret");
        let name = secret_name.as_deref().unwrap_or_default();
        let named = (ObjectKind::Secret, "secretName", name, *optional);
        let sources = vec![object(&path, named, items, &mut places, check)];
        found.push((sources, mode(&path, "defaultMode", *default_mode, check)));
    }
    if let Some(core::DownwardAPIVolumeSource {
        default_mode,
        items,
    }) = &volume.downward_api
    {
        let path = join(path, "downwardAPI");
        let sources = vec![downward(&path, items, containers, &mut places, check)];
        found.push((sources, mode(&path, "defaultMode", *default_mode, check)));
    }
    if let Some(core::ProjectedVolumeSource {
        default_mode,
        sources,
    }) = &volume.projected
    {
        let path = join(path, "projected");
        let sources = sources.as_deref().unwrap_or_default();
        let sources = projected(&path, sources, containers, &mut places, check);
        found.push((sources, mode(&path, "defaultMode", *default_mode, check)));
    }
    if found.len()
        + usize::from(volume.empty_dir.is_some())
        + usize::from(volume.persistent_volume_claim.is_some() && !found.is_empty())
        > 1
    {
        check.wrong(path, "a volume is of one kind only");
    }
    let (sources, mode) = found.into_iter().next()?;
    let mode = mode.unwrap_or(DEFAULT_MODE.unsigned_abs());
    Some(VolumeSource::Files { sources, mode })
}

/// Paths that the manifest gives files of one volume.
#[derive(Default)]
struct Places(BTreeSet<String>);

impl Places {
    fn take(&mut self, path: &str, text: &str, check: &mut Check<'_>) {
        check.shape(path, text, names::file_path);
        let is_inside = |one: &str, other: &str| {
            let rest = one.strip_prefix(other);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let mut others = self.0.iter();
        if text.is_empty() {
            return;
        } else if self.0.contains(text) {
            check.wrong(
                path,
                format!("{text:?} is the path of another file of the volume"),
            );
        } else if let Some(other) =
            others.find(|other| is_inside(other, text) || is_inside(text, other))
        {
            check.wrong(
                path,
                format!("{text:?} and the volume's file {other:?} cannot both be: one is a directory of the other"),
            );
        }
        self.0.insert(text.to_owned());
    }
}

fn mode(path: &str, field: &str, mode: Option<i32>, check: &mut Check<'_>) -> Option<u32> {
    let mode = mode?;
    let bits = u32::try_from(mode).ok().filter(|bits| *bits <= 0o777);
    if bits.is_none() {
        check.wrong(
            &join(path, field),
            format!("{mode} is not a mode from 0 to 0777 (511)"),
        );
    }
    bits
}

fn object(
    path: &str,
    (kind, field, name, optional): (ObjectKind, &str, &str, Option<bool>),
    items: &Option<Vec<core::KeyToPath>>,
    places: &mut Places,
    check: &mut Check<'_>,
) -> FileSource {
    let optional = optional.unwrap_or_default();
    check.shape(&join(path, field), name, names::subdomain);
    if !optional {
        check.refer_to(&join(path, field), (kind, name), None);
    }
    let mut paths = Vec::new();
    for (at, item) in items.iter().flatten().enumerate() {
        let core::KeyToPath {
            key,
            mode: own,
            path: place,
        } = item;
        let path = format!("{path}.items[{at}]");
        check.shape(&join(&path, "key"), key, names::config_key);
        if !optional {
            check.refer_to(&join(&path, "key"), (kind, name), Some(key));
        }
        places.take(&join(&path, "path"), place, check);
        paths.push(KeyPath {
            key: key.clone(),
            path: place.clone(),
            mode: mode(&path, "mode", *own, check),
        });
    }
    FileSource::Object {
        kind,
        name: name.to_owned(),
        items: paths,
        optional,
    }
}

fn downward(
    path: &str,
    items: &Option<Vec<core::DownwardAPIVolumeFile>>,
    containers: &[&str],
    places: &mut Places,
    check: &mut Check<'_>,
) -> FileSource {
    let mut found = Vec::new();
    for (at, item) in items.iter().flatten().enumerate() {
        let core::DownwardAPIVolumeFile {
            field_ref,
            mode: own,
            path: place,
            resource_field_ref,
        } = item;
        let path = format!("{path}.items[{at}]");
        places.take(&join(&path, "path"), place, check);
        let value = match (field_ref, resource_field_ref) {
            (Some(field), None) => {
                env::field(&join(&path, "fieldRef"), field, true, check).map(DownwardValue::Field)
            }
            (None, Some(field)) => {
                let path = join(&path, "resourceFieldRef");
                env::resource(&path, field, None, containers, check).map(DownwardValue::Resource)
            }
            _ => {
                check.wrong(&path, "required: one of fieldRef and resourceFieldRef");
                None
            }
        };
        let own = mode(&path, "mode", *own, check);
        found.extend(value.map(|value| DownwardPath {
            path: place.clone(),
            mode: own,
            value,
        }));
    }
    FileSource::Downward { items: found }
}

fn projected(
    path: &str,
    sources: &[core::VolumeProjection],
    containers: &[&str],
    places: &mut Places,
    check: &mut Check<'_>,
) -> Vec<FileSource> {
    let mut out = Vec::new();
    for (at, source) in sources.iter().enumerate() {
        let core::VolumeProjection {
            cluster_trust_bundle,
            config_map,
            downward_api,
            pod_certificate,
            secret,
            service_account_token,
        } = source;
        let path = format!("{path}.sources[{at}]");
        let refused = [
            ("clusterTrustBundle", cluster_trust_bundle.is_some()),
            ("podCertificate", pod_certificate.is_some()),
            ("serviceAccountToken", service_account_token.is_some()),
        ];
        for (field, _) in refused.iter().filter(|(_, present)| *present) {
            check.wrong(
                &join(&path, field),
                "refused: there is no cluster here that could issue it",
            );
        }
        let before = out.len();
        if let Some(core::ConfigMapProjection {
            items,
            name,
            optional,
        }) = config_map
        {
            let named = (ObjectKind::ConfigMap, "name", name.as_str(), *optional);
            out.push(object(
                &join(&path, "configMap"),
                named,
                items,
                places,
                check,
            ));
        }
        if let Some(core::SecretProjection {
            items,
            name,
            optional,
        }) = secret
        {
            let named = (ObjectKind::Secret, "name", name.as_str(), *optional);
            out.push(object(&join(&path, "secret"), named, items, places, check));
        }
        if let Some(core::DownwardAPIProjection { items }) = downward_api {
            let path = join(&path, "downwardAPI");
            out.push(downward(&path, items, containers, places, check));
        }
        let given = out.len() - before;
        if given > 1 {
            check.wrong(&path, "a source is of one kind only");
        } else if given == 0 && !refused.iter().any(|(_, present)| *present) {
            check.wrong(&path, "required: configMap, secret or downwardAPI");
        }
    }
    out
}
