//! `beluga df`: what is on the disk, and what could be free.

use crate::cli::images::{self, megabytes};
use crate::cli::table::Table;
use crate::cli::{CliError, exit, yaml};
use crate::engine;
use crate::objects;
use crate::settings::Settings;
use crate::spec::ObjectKind;
use beluga_image::{Digest, Reference, Usage, allocated};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Arguments of `df`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Each image
    #[arg(short, long)]
    verbose: bool,
    /// Print as json or yaml
    #[arg(short, long, value_enum, visible_alias = "format")]
    output: Option<Format>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Json,
    Yaml,
}

/// A line of the table.
struct Row {
    kind: &'static str,
    count: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let store = images::to_read(settings)?;
    let usage = store
        .as_ref()
        .map_or(Ok(Usage::default()), |store| store.usage())?;
    let users = engine::image_users(settings, false).await?;
    let rows = [
        of_images(&usage, &users),
        pods(settings).await?,
        claims(settings)?,
    ];
    match args.output {
        Some(Format::Json) => say!("{:#}", value(&rows, &usage, &users)),
        Some(Format::Yaml) => put!("{}", yaml(&value(&rows, &usage, &users))?),
        None => {
            summary(&rows);
            if usage.unfinished > 0 {
                say!("\nUnfinished pulls: {}", megabytes(usage.unfinished));
            }
            if usage.damaged > 0 {
                say!("\nDamaged images: {}", megabytes(usage.damaged));
            }
            if args.verbose {
                say!("\nImages:\n");
                each(&usage, &users);
            }
        }
    }
    if let Some(store) = &store {
        images::tell_damage(store, &store.broken()?)?;
    }
    Ok(exit::OK)
}

fn of_images(usage: &Usage, users: &BTreeMap<Digest, Vec<String>>) -> Row {
    let kept: BTreeSet<Digest> = users.keys().copied().collect();
    let all = &usage.images;
    Row {
        kind: "Images",
        count: all.len(),
        active: all
            .iter()
            .filter(|one| kept.contains(&one.image.id))
            .count(),
        size: usage.total,
        reclaimable: usage.reclaimable(&kept),
    }
}

/// Pods with their logs and scratch disks; what has ended can be deleted.
async fn pods(settings: &Settings) -> Result<Row, CliError> {
    let mut row = Row {
        kind: "Pods",
        count: 0,
        active: 0,
        size: 0,
        reclaimable: 0,
    };
    for pod in engine::list(settings).await? {
        let size = allocated(&settings.pod_dir(&pod.uid));
        row.count += 1;
        row.size += size;
        if pod.status.phase.is_end() {
            row.reclaimable += size;
        } else {
            row.active += 1;
        }
    }
    Ok(row)
}

/// Claims: what somebody made them for is in them, so only unused ones count as free.
fn claims(settings: &Settings) -> Result<Row, CliError> {
    let mut row = Row {
        kind: "Claims",
        count: 0,
        active: 0,
        size: 0,
        reclaimable: 0,
    };
    for claim in objects::list(settings, ObjectKind::Claim)? {
        let (namespace, name) = (&claim.object.namespace, &claim.object.name);
        let directory = objects::directory(settings, namespace, ObjectKind::Claim);
        let file = claim.object.claim.as_ref().map(|one| one.file_name(name));
        let size = file.map_or(0, |file| allocated(&directory.join(file)));
        row.count += 1;
        row.size += size;
        if engine::claims::holders(settings, namespace, name)?.is_empty() {
            row.reclaimable += size;
        } else {
            row.active += 1;
        }
    }
    Ok(row)
}

fn summary(rows: &[Row]) {
    let mut table = Table::new(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    for row in rows {
        let share = row.reclaimable.saturating_mul(100).checked_div(row.size);
        table.row(vec![
            row.kind.to_owned(),
            row.count.to_string(),
            row.active.to_string(),
            megabytes(row.size),
            format!("{} ({} %)", megabytes(row.reclaimable), share.unwrap_or(0)),
        ]);
    }
    table.print();
}

fn each(usage: &Usage, users: &BTreeMap<Digest, Vec<String>>) {
    let mut table = Table::new(&[
        "IMAGE", "IMAGE ID", "DISKS", "PACKED", "SHARED", "UNIQUE", "PODS",
    ]);
    for one in &usage.images {
        let name = one.image.names.first().or(one.image.digests.first());
        let pods = users.get(&one.image.id).map_or(0, Vec::len);
        table.row(vec![
            name.map_or("<none>".into(), Reference::familiar),
            one.image.id.short(),
            megabytes(one.disks),
            megabytes(one.blobs),
            megabytes(one.shared),
            megabytes(one.unique),
            pods.to_string(),
        ]);
    }
    table.print();
}

fn value(rows: &[Row], usage: &Usage, users: &BTreeMap<Digest, Vec<String>>) -> Value {
    let row = |row: &Row| {
        json!({
            "type": row.kind,
            "total": row.count,
            "active": row.active,
            "size": row.size,
            "reclaimable": row.reclaimable,
        })
    };
    let images = usage.images.iter().map(|one| {
        let names: Vec<String> = one.image.names.iter().map(Reference::familiar).collect();
        json!({
            "id": one.image.id.to_string(),
            "repoTags": names,
            "disks": one.disks,
            "packed": one.blobs,
            "shared": one.shared,
            "unique": one.unique,
            "pods": users.get(&one.image.id).cloned().unwrap_or_default(),
        })
    });
    json!({
        "summary": rows.iter().map(row).collect::<Vec<_>>(),
        "unfinished": usage.unfinished,
        "images": images.collect::<Vec<_>>(),
    })
}
