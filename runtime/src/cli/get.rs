//! `beluga get`, and `beluga ps`.

mod fields;
mod format;
mod pods;
mod sort;
mod watch;

pub use format::Output;
pub use pods::status;

use super::error::UsageError;
use super::pods::Scope;
use super::resource::{self, Asked, Kind};
use super::table::Table;
use super::{CliError, events, exit, object, objects, workloads, yaml};
use crate::engine::{self, PodView};
use crate::settings::Settings;
use fields::Fields;
use format::Formats;
use serde_json::Value;
use sort::SortBy;

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `pods`, `pod NAME…`, `TYPE/NAME…`, `pods,deployments`, `all`, `configmaps`, `events`, …
    #[arg(required = true, value_name = "TYPE [NAME]")]
    what: Vec<String>,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    show: Show,
}

impl Args {
    /// The namespace that is looked into.
    #[cfg(test)]
    pub fn namespace(&self) -> &str {
        &self.scope.namespace
    }
}

/// Arguments of `ps`.
#[derive(Debug, clap::Args)]
pub struct PsArgs {
    /// Ended pods too, as always
    #[arg(short, long, hide = true)]
    all: bool,
    /// Only the names
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    show: Show,
}

/// How things are shown.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// How to print
    #[arg(short, long, value_name = "FORMAT", value_parser = Formats)]
    pub output: Option<Output>,
    /// No line with the heads of the columns
    #[arg(long)]
    pub no_headers: bool,
    /// A last column with the labels
    #[arg(long)]
    show_labels: bool,
    /// Go on and print what changes; with -o only wide
    #[arg(short, long)]
    watch: bool,
    /// In the order of this field, like .metadata.creationTimestamp
    #[arg(long, value_name = "PATH", value_parser = sort::read, conflicts_with = "watch")]
    pub sort_by: Option<SortBy>,
    /// Only pods whose fields are so, like status.phase=Running,metadata.name!=web
    #[arg(long, value_name = "FIELD=VALUE,…", conflicts_with = "watch")]
    field_selector: Option<Fields>,
    /// Exit code 0 when there is none of that name
    #[arg(long)]
    pub ignore_not_found: bool,
}

impl Show {
    /// Keeps the pods whose fields are as they are asked for.
    fn choose(&self, pods: &mut Vec<PodView>) {
        if let Some(fields) = &self.field_selector {
            pods.retain(|pod| fields.match_object(&object::object(pod)));
        }
    }
}

/// What there is of one type.
pub struct Found {
    /// The type.
    pub kind: Kind,
    /// The names, in the order of the lines.
    pub names: Vec<String>,
    /// A line for each.
    pub table: Table,
    /// The objects.
    pub objects: Vec<Value>,
}

/// Runs `get`.
pub async fn get(settings: &Settings, args: Args) -> Result<u8, CliError> {
    if matches!(args.what[0].as_str(), "events" | "event" | "ev") {
        if args.show.field_selector.is_some() {
            return Err(UsageError::FieldsOfPods.into());
        }
        return events::run(settings, &args.scope, &args.show).await;
    }
    let asked = resource::asked(&args.what)?;
    let asked = asked.ok_or_else(|| resource::unknown(&args.what[0]))?;
    show(settings, &args.scope, &asked, &args.show).await
}

/// Runs `ps`.
pub async fn ps(settings: &Settings, args: PsArgs) -> Result<u8, CliError> {
    if args.quiet {
        let mut pods = super::pods::all(settings, &args.scope).await?;
        args.show.choose(&mut pods);
        for pod in pods {
            say!("{}", pod.name);
        }
        return Ok(exit::OK);
    }
    let pods = Asked {
        kind: Kind::Pod,
        names: Vec::new(),
    };
    show(settings, &args.scope, &[pods], &args.show).await
}

async fn show(
    settings: &Settings,
    scope: &Scope,
    asked: &[Asked],
    show: &Show,
) -> Result<u8, CliError> {
    if show.watch {
        let is_wide = match &show.output {
            None => false,
            Some(Output::Wide) => true,
            Some(_) => return Err(UsageError::WatchedAsTable.into()),
        };
        return match asked {
            [
                Asked {
                    kind: Kind::Pod,
                    names,
                },
            ] => watch::pods(settings, scope, names, (is_wide, show.no_headers)).await,
            _ => Err(UsageError::NotWatched.into()),
        };
    }
    let is_choice = |one: &Asked| matches!(one.kind, Kind::Pod) && one.names.is_empty();
    if show.field_selector.is_some() && !asked.iter().all(is_choice) {
        return Err(UsageError::FieldsOfPods.into());
    }
    if asked.iter().any(is_choice) {
        crate::cli::pods::tell_damaged(settings, scope)?;
    }
    let mut pods = engine::list(settings).await?;
    show.choose(&mut pods);
    let mut found = Vec::new();
    for one in asked {
        let wide = show.output.is_some();
        found.push(match one.kind {
            Kind::Pod => of_pods(&pods, scope, &one.names, wide),
            Kind::Object(kind) => objects::found(settings, scope, kind, &one.names)?,
            Kind::Workload(kind) => workloads::found(settings, scope, kind, &one.names, &pods)?,
        });
    }
    if show.show_labels {
        found.iter_mut().for_each(with_labels);
    }
    if let Some(by) = &show.sort_by {
        by.sort(&mut found)?;
    }
    print(asked, &found, scope, show)?;
    let absent = asked.iter().zip(&found).flat_map(|(asked, found)| {
        let is_absent = |name: &&String| !found.names.contains(name);
        let names = asked.names.iter().filter(is_absent);
        names.map(|name| super::pods::absent(settings, asked.kind, &scope.namespace, name))
    });
    if show.ignore_not_found {
        return Ok(exit::OK);
    }
    super::error::all(absent.collect())
}

fn of_pods(pods: &[PodView], scope: &Scope, names: &[String], wide: bool) -> Found {
    let is_meant =
        |pod: &&PodView| scope.has(pod) && (names.is_empty() || names.contains(&pod.name));
    let chosen: Vec<PodView> = pods.iter().filter(is_meant).cloned().collect();
    Found {
        kind: Kind::Pod,
        names: chosen.iter().map(|pod| pod.name.clone()).collect(),
        table: pods::table(&chosen, scope, wide),
        objects: chosen.iter().map(object::object).collect(),
    }
}

fn with_labels(found: &mut Found) {
    let cell = |object: &Value| {
        let labels = object["metadata"]["labels"].as_object();
        let pairs = labels.into_iter().flatten();
        let pairs = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")));
        let pairs: Vec<String> = pairs.collect();
        if pairs.is_empty() {
            "<none>".to_owned()
        } else {
            pairs.join(",")
        }
    };
    let cells = found.objects.iter().map(cell);
    found.table.column("LABELS", cells);
}

fn print(asked: &[Asked], found: &[Found], scope: &Scope, show: &Show) -> Result<(), CliError> {
    // One named thing is an object, everything else a list, as kubectl has it.
    let value = || match (asked, found) {
        ([Asked { names, .. }], [one]) if names.len() == 1 && one.objects.len() == 1 => {
            one.objects[0].clone()
        }
        _ => object::list_of(found.iter().flat_map(|one| one.objects.clone()).collect()),
    };
    let is_nothing = found.iter().all(|one| one.names.is_empty());
    match &show.output {
        _ if is_nothing && asked.iter().any(|one| !one.names.is_empty()) => {}
        Some(Output::Json) => say!("{:#}", value()),
        Some(Output::Yaml) => put!("{}", yaml(&value())?),
        Some(Output::Name) => {
            for one in found {
                for name in &one.names {
                    say!("{}/{name}", one.kind.word());
                }
            }
        }
        Some(Output::Template(template)) => put!("{}", template.of(&value())),
        Some(Output::Columns(columns)) => {
            let objects = found.iter().flat_map(|one| &one.objects);
            columns.print(objects, show.no_headers);
        }
        Some(Output::Wide) | None if is_nothing => objects::tell_none(scope),
        Some(Output::Wide) | None => tables(found, scope, show.no_headers),
    }
    Ok(())
}

/// A table for each type that there is something of. Where several types are
/// asked for, names say their type.
fn tables(found: &[Found], scope: &Scope, no_headers: bool) {
    let at_name = usize::from(scope.all_namespaces);
    let filled = found.iter().filter(|one| !one.names.is_empty());
    for (at, one) in filled.enumerate() {
        if at > 0 {
            say!("");
        }
        let prefix = match found {
            [_] => String::new(),
            _ => format!("{}/", one.kind.word()),
        };
        let lines = one.table.lines_named(at_name, &prefix);
        for line in lines.iter().skip(usize::from(no_headers)) {
            say!("{line}");
        }
    }
}
