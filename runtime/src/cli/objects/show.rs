//! ConfigMaps, Secrets and claims as people and tools see them: tables,
//! objects, pages.

use crate::cli::CliError;
use crate::cli::get::Found;
use crate::cli::page::{Page, pairs};
use crate::cli::pods::Scope;
use crate::cli::resource::Kind;
use crate::cli::table::Table;
use crate::cli::time::{age, rfc3339};
use crate::engine;
use crate::objects::{self, Kept};
use crate::settings::Settings;
use crate::spec::{Bytes, ClaimSpec, ConfigObject, ObjectKind};
use serde_json::{Map, Value, json};

/// The objects of a scope; with names only those.
fn choose(
    settings: &Settings,
    scope: &Scope,
    kind: ObjectKind,
    names: &[String],
) -> Result<Vec<Kept>, CliError> {
    let mut found = objects::list(settings, kind)?;
    found.retain(|kept| {
        let object = &kept.object;
        scope.selects(&object.namespace, &object.labels)
            && (names.is_empty() || names.contains(&object.name))
    });
    Ok(found)
}

/// Namespace and name of all objects of a scope.
pub fn names(
    settings: &Settings,
    scope: &Scope,
    kind: ObjectKind,
) -> Result<Vec<(String, String)>, CliError> {
    let found = choose(settings, scope, kind, &[])?.into_iter();
    let names = found.map(|kept| (kept.object.namespace, kept.object.name));
    Ok(names.collect())
}

/// What `get` shows.
pub fn found(
    settings: &Settings,
    scope: &Scope,
    kind: ObjectKind,
    names: &[String],
) -> Result<Found, CliError> {
    let found = choose(settings, scope, kind, names)?;
    Ok(Found {
        kind: Kind::Object(kind),
        names: found.iter().map(|kept| kept.object.name.clone()).collect(),
        table: table(&found, kind, scope),
        objects: found.iter().map(value).collect(),
    })
}

/// The object as Kubernetes' own tools read it.
fn value(kept: &Kept) -> Value {
    let object = &kept.object;
    let mut metadata = Map::new();
    let mut put = |key: &str, value: Value| drop(metadata.insert(key.to_owned(), value));
    put("name", json!(object.name));
    put("namespace", json!(object.namespace));
    put("uid", json!(kept.uid));
    put("resourceVersion", json!(kept.revision.to_string()));
    put("creationTimestamp", json!(rfc3339(kept.created)));
    if !object.labels.is_empty() {
        put("labels", json!(object.labels));
    }
    if !object.annotations.is_empty() {
        put("annotations", json!(object.annotations));
    }
    let mut out = json!({
        "apiVersion": object.kind.api_version(),
        "kind": object.kind.kind(),
        "metadata": metadata,
    });
    if object.immutable {
        out["immutable"] = json!(true);
    }
    match object.kind {
        ObjectKind::ConfigMap => {
            if !object.text.is_empty() {
                out["data"] = json!(object.text);
            }
            if !object.binary.is_empty() {
                out["binaryData"] = json!(object.binary);
            }
        }
        ObjectKind::Secret => {
            if !object.binary.is_empty() {
                out["data"] = json!(object.binary);
            }
            out["type"] = json!(object.secret_type);
        }
        ObjectKind::Policy => {
            if let Some(policy) = &object.policy {
                out["spec"] = policy.written.clone();
            }
        }
        ObjectKind::Claim => {
            if let Some(claim) = &object.claim {
                claim_value(claim, &mut out);
            }
        }
    }
    out
}

/// What a claim asks for and has. A directory that asks for a size is told to have it,
/// as provisioners of such directories do.
fn claim_value(claim: &ClaimSpec, out: &mut Value) {
    let size = Bytes(claim.bytes).to_string();
    let modes = &claim.access_modes;
    out["spec"] = json!({
        "accessModes": modes,
        "resources": {"requests": {"storage": size}},
        "storageClassName": claim.class(),
        "volumeMode": claim.volume_mode(),
    });
    out["status"] = json!({
        "phase": "Bound",
        "accessModes": modes,
        "capacity": {"storage": size},
    });
}

fn table(found: &[Kept], kind: ObjectKind, scope: &Scope) -> Table {
    let mut heads = match kind {
        ObjectKind::ConfigMap => vec!["NAME", "DATA", "AGE"],
        ObjectKind::Secret => vec!["NAME", "TYPE", "DATA", "AGE"],
        ObjectKind::Policy => vec!["NAME", "POD-SELECTOR", "AGE"],
        ObjectKind::Claim => vec![
            "NAME",
            "STATUS",
            "CAPACITY",
            "ACCESS MODES",
            "STORAGECLASS",
            "AGE",
        ],
    };
    if scope.all_namespaces {
        heads.insert(0, "NAMESPACE");
    }
    let mut table = Table::new(&heads);
    for kept in found {
        let object = &kept.object;
        let mut row = vec![object.name.clone()];
        match (kind, &object.claim) {
            (ObjectKind::Claim, Some(claim)) => {
                row.push("Bound".to_owned());
                row.push(crate::spec::Bytes(claim.bytes).to_string());
                row.push(access_modes(claim));
                row.push(claim.class().to_owned());
            }
            (ObjectKind::Policy, _) => {
                let policy = object.policy.as_ref();
                row.extend(policy.map(|policy| policy.pods.to_string()));
            }
            _ => {
                row.extend(object.secret_type.clone());
                row.push(object.count().to_string());
            }
        }
        row.push(age(kept.created));
        if scope.all_namespaces {
            row.insert(0, object.namespace.clone());
        }
        table.row(row);
    }
    table
}

fn access_modes(claim: &ClaimSpec) -> String {
    let short = claim.access_modes.iter().map(|mode| match mode.as_str() {
        "ReadWriteOnce" => "RWO",
        "ReadWriteMany" => "RWX",
        "ReadOnlyMany" => "ROX",
        _ => "RWOP",
    });
    short.collect::<Vec<_>>().join(",")
}

/// A page for each object, by its name.
pub fn describe(
    settings: &Settings,
    scope: &Scope,
    kind: ObjectKind,
    names: &[String],
) -> Result<Vec<(String, Page)>, CliError> {
    let found = choose(settings, scope, kind, names)?;
    let pages = found.iter().map(|kept| {
        let page = match (kind, &kept.object.claim) {
            (ObjectKind::Claim, Some(claim)) => claim_page(settings, kept, claim)?,
            (ObjectKind::Policy, _) => policy_page(kept)?,
            _ => data_page(kept),
        };
        Ok((kept.object.name.clone(), page))
    });
    pages.collect()
}

fn head(kept: &Kept) -> Page {
    let object = &kept.object;
    let mut page = Page(Vec::new());
    page.field(0, "Name", &object.name);
    page.field(0, "Namespace", &object.namespace);
    page.field(0, "UID", &kept.uid);
    page.field(0, "Created", rfc3339(kept.created));
    page.list(0, "Labels", &pairs(&object.labels));
    page.list(0, "Annotations", &pairs(&object.annotations));
    page
}

/// Whom a policy is for, and what it says, as it was written.
fn policy_page(kept: &Kept) -> Result<Page, CliError> {
    let mut page = head(kept);
    if let Some(policy) = &kept.object.policy {
        page.field(0, "Pod Selector", policy.pods.to_string());
        data(&mut page, "Spec", &crate::cli::yaml(&policy.written)?);
    }
    Ok(page)
}

/// What a ConfigMap says, and of a Secret how long it is: as kubectl has it.
fn data_page(kept: &Kept) -> Page {
    let object = &kept.object;
    let mut page = head(kept);
    page.optional(0, "Type", object.secret_type.as_ref());
    if object.immutable {
        page.field(0, "Immutable", "true");
    }
    if object.text.is_empty() && object.binary.is_empty() {
        page.field(0, "Data", "<none>");
        return page;
    }
    page.head("Data");
    for (key, text) in &object.text {
        data(&mut page, key, text);
    }
    for (key, bytes) in &object.binary {
        page.field(2, key, format!("{} bytes", bytes.0.len()));
    }
    page
}

/// A text of several lines stands below its key.
fn data(page: &mut Page, key: &str, text: &str) {
    let mut lines = text.lines();
    match (lines.next(), lines.next()) {
        (one, None) => page.field(2, key, one.unwrap_or_default()),
        _ => page.block(2, key, text),
    }
}

fn claim_page(settings: &Settings, kept: &Kept, claim: &ClaimSpec) -> Result<Page, CliError> {
    let ConfigObject {
        namespace, name, ..
    } = &kept.object;
    let mut page = head(kept);
    page.field(0, "Status", "Bound");
    page.field(0, "Capacity", Bytes(claim.bytes).to_string());
    page.field(0, "Access Modes", access_modes(claim));
    page.field(0, "VolumeMode", claim.volume_mode());
    page.field(0, "StorageClass", claim.class());
    let directory = objects::directory(settings, namespace, ObjectKind::Claim);
    let path = directory.join(claim.file_name(name));
    page.field(0, "Path", path.display().to_string());
    let holders = engine::claims::holders(settings, namespace, name)?;
    page.list(0, "Used By", &holders);
    Ok(page)
}
