//! `beluga get`, and `beluga ps`.

mod pods;

pub use pods::status;

use super::pods::Scope;
use super::resource::{self, Asked, Kind};
use super::table::Table;
use super::{CliError, events, exit, object, objects, output, workloads, yaml};
use crate::engine::{self, PodView};
use crate::settings::Settings;
use pods::cells;
use serde_json::Value;
use std::time::Duration;

/// How often `--watch` looks.
const WATCH_STEP: Duration = Duration::from_millis(200);

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
    #[arg(short, long, value_enum)]
    pub output: Option<Output>,
    /// No line with the heads of the columns
    #[arg(long)]
    pub no_headers: bool,
    /// Go on and print what changes
    #[arg(short, long, conflicts_with = "output")]
    watch: bool,
    /// Exit code 0 when there is none of that name
    #[arg(long)]
    pub ignore_not_found: bool,
}

/// How pods are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Columns, more of them
    Wide,
    /// The objects
    Json,
    /// The objects
    Yaml,
    /// pod/NAME
    Name,
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
        let Show {
            output, no_headers, ..
        } = args.show;
        return events::run(settings, &args.scope, output, no_headers).await;
    }
    let asked = resource::asked(&args.what)?;
    let asked = asked.ok_or_else(|| resource::unknown(&args.what[0]))?;
    show(settings, &args.scope, &asked, &args.show).await
}

/// Runs `ps`.
pub async fn ps(settings: &Settings, args: PsArgs) -> Result<u8, CliError> {
    if args.quiet {
        for pod in super::pods::all(settings, &args.scope).await? {
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
        return match asked {
            [
                Asked {
                    kind: Kind::Pod,
                    names,
                },
            ] => watch(settings, scope, names, show).await,
            _ => Err(CliError::Usage {
                message: "only pods can be watched".into(),
            }),
        };
    }
    let pods = engine::list(settings).await?;
    let mut found = Vec::new();
    for one in asked {
        let wide = show.output.is_some();
        found.push(match one.kind {
            Kind::Pod => of_pods(&pods, scope, &one.names, wide),
            Kind::Object(kind) => objects::found(settings, scope, kind, &one.names)?,
            Kind::Workload(kind) => workloads::found(settings, scope, kind, &one.names, &pods)?,
        });
    }
    print(asked, &found, scope, show)?;
    let absent = asked.iter().zip(&found).flat_map(|(asked, found)| {
        let is_absent = |name: &&String| !found.names.contains(name);
        let names = asked.names.iter().filter(is_absent);
        names.map(|name| asked.kind.absent(name))
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

fn print(asked: &[Asked], found: &[Found], scope: &Scope, show: &Show) -> Result<(), CliError> {
    // One named thing is an object, everything else a list, as kubectl has it.
    let value = || match (asked, found) {
        ([Asked { names, .. }], [one]) if names.len() == 1 && one.objects.len() == 1 => {
            one.objects[0].clone()
        }
        _ => object::list_of(found.iter().flat_map(|one| one.objects.clone()).collect()),
    };
    let is_nothing = found.iter().all(|one| one.names.is_empty());
    match show.output {
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

/// Prints a line for each pod, then one for each whose line has changed, for
/// ever.
async fn watch(
    settings: &Settings,
    scope: &Scope,
    names: &[String],
    show: &Show,
) -> Result<u8, CliError> {
    let mut before: Vec<PodView> = Vec::new();
    let mut no_headers = show.no_headers;
    loop {
        let mut now = super::pods::all(settings, scope).await?;
        now.retain(|pod| names.is_empty() || names.contains(&pod.name));
        let is_news = |pod: &&PodView| {
            let same = |old: &&PodView| old.uid == pod.uid;
            before
                .iter()
                .find(same)
                .is_none_or(|old| cells(old, scope, false)[..4] != cells(pod, scope, false)[..4])
        };
        let news: Vec<PodView> = now.iter().filter(is_news).cloned().collect();
        if !news.is_empty() {
            let lines = pods::table(&news, scope, false).lines(0);
            for line in lines.iter().skip(usize::from(no_headers)) {
                say!("{line}");
            }
            no_headers = true;
        }
        before = now;
        if output::is_unread() {
            return Ok(exit::OK);
        }
        tokio::time::sleep(WATCH_STEP).await;
    }
}
