//! `beluga logs`.

use super::output::{Printer, reader_gone};
use super::pods::{self, Scope};
use super::selector::Selector;
use super::tailing::{Changes, Tailing};
use super::{CliError, exit, objects, time};
use crate::engine::{self, EngineError, PodView, Update};
use crate::logs;
use crate::settings::Settings;
use crate::store::status::{ContainerState, PodStatus};
use std::io;
use std::time::Duration;
use tokio::task::LocalSet;

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pod
    #[arg(required_unless_present = "selector", conflicts_with = "selector")]
    pod: Option<String>,
    /// The container; the first one when it is not named
    #[arg(id = "which", value_name = "CONTAINER")]
    named: Option<String>,
    /// The container
    #[arg(short, long, conflicts_with = "which")]
    container: Option<String>,
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only so many of the last lines; with -l 10 of each, and all with -1
    #[arg(long, value_name = "LINES", allow_hyphen_values = true)]
    tail: Option<i64>,
    /// The run before the present one
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,
    /// Only lines that are newer than this, like 5s, 2m or 3h
    #[arg(long, value_name = "DURATION", value_parser = parse_since, conflicts_with = "since_time")]
    since: Option<Duration>,
    /// Only lines since this time, like 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_since_time)]
    since_time: Option<u64>,
    /// Time before each line
    #[arg(long)]
    timestamps: bool,
    /// [pod/NAME/CONTAINER] before each line
    #[arg(long)]
    prefix: bool,
    /// All containers, init containers first
    #[arg(long, conflicts_with_all = ["which", "container"])]
    all_containers: bool,
    /// All pods with these labels, like app=web,tier!=db
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<Selector>,
    /// Namespace of the pod
    #[arg(short, long, default_value = pods::DEFAULT)]
    namespace: String,
}

fn parse_since(text: &str) -> Result<Duration, String> {
    time::duration(text).ok_or_else(|| "write it like 5s, 2m or 3h".to_owned())
}

fn parse_since_time(text: &str) -> Result<u64, String> {
    time::parse_rfc3339(text).ok_or_else(|| "write it like 2026-01-31T12:00:00Z".to_owned())
}

struct Stream {
    container: String,
    tailing: Tailing,
    printer: Printer,
    /// Nanoseconds since 1970; older lines are left out.
    since: u64,
    watched: bool,
    done: bool,
}

/// Lines of each pod of many, as kubectl has it.
const TAIL_OF_MANY: i64 = 10;

/// Runs the verb.
pub async fn run(settings: &Settings, mut args: Args) -> Result<u8, CliError> {
    let Some(word) = args.pod.take() else {
        return of_many(settings, args).await;
    };
    let pod = pods::one(settings, &args.namespace, &word).await?;
    let mut streams = chosen(settings, &pod, &args)?;
    // A reader that has seen enough, like `head`, is no error of ours.
    match print(settings, &pod, &mut streams, args.follow).await {
        Err(CliError::Io { source, .. }) if reader_gone(&source) => Ok(exit::OK),
        other => other,
    }
}

/// The logs of all pods with some labels: one behind the other or, followed, as they come.
async fn of_many(settings: &Settings, mut args: Args) -> Result<u8, CliError> {
    let scope = Scope {
        namespace: args.namespace.clone(),
        all_namespaces: false,
        selector: args.selector.take(),
    };
    args.tail.get_or_insert(TAIL_OF_MANY);
    let pods = pods::all(settings, &scope).await?;
    if pods.is_empty() {
        objects::tell_none(&scope);
    }
    let local = LocalSet::new();
    let mut tasks = Vec::new();
    for pod in pods {
        let mut streams = chosen(settings, &pod, &args)?;
        let (settings, follow) = (settings.clone(), args.follow);
        let printed = async move { print(&settings, &pod, &mut streams, follow).await };
        tasks.push(local.spawn_local(printed));
    }
    let all = local.run_until(async {
        for task in tasks {
            match task.await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        Ok(exit::OK)
    });
    match all.await {
        Err(CliError::Io { source, .. }) if reader_gone(&source) => Ok(exit::OK),
        other => other,
    }
}

/// The streams of the containers of a pod that are meant.
fn chosen(settings: &Settings, pod: &PodView, args: &Args) -> Result<Vec<Stream>, CliError> {
    let named = args.container.as_deref().or(args.named.as_deref());
    let containers: Vec<String> = if args.all_containers {
        pod.spec
            .all_containers()
            .map(|one| one.name.clone())
            .collect()
    } else {
        vec![pods::container(pod, named)?.to_owned()]
    };
    streams(settings, pod, &containers, args)
}

/// Prints all that a container which has ended said in its last run.
pub fn print_all(settings: &Settings, pod: &PodView, container: &str) -> Result<(), CliError> {
    let directory = logs::directory(settings, &pod.uid, container);
    drain(&mut Stream {
        container: container.to_owned(),
        tailing: Tailing::new(directory, 0),
        printer: Printer::new(false, None, false),
        since: 0,
        watched: false,
        done: false,
    })
}

fn streams(
    settings: &Settings,
    pod: &PodView,
    containers: &[String],
    args: &Args,
) -> Result<Vec<Stream>, CliError> {
    let since = match (args.since, args.since_time) {
        (Some(span), _) => {
            let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
            time::now().saturating_sub(span)
        }
        (None, at) => at.unwrap_or(0),
    };
    let mut streams = Vec::new();
    for (at, container) in containers.iter().enumerate() {
        let directory = logs::directory(settings, &pod.uid, container);
        let now = pod
            .status
            .containers
            .iter()
            .find(|one| one.name == *container);
        let mut run = now.map_or(0, |now| now.restarts);
        if args.previous {
            run = run.checked_sub(1).ok_or_else(|| CliError::NoPrevious {
                container: container.clone(),
                pod: pod.name.clone(),
            })?;
        }
        let mut tailing = Tailing::new(directory, run);
        if let Ok(count) = usize::try_from(args.tail.unwrap_or(-1)) {
            let skipped = tailing.skip_to_last(count);
            skipped.map_err(|source| CliError::io("read the log", source))?;
        }
        // As kubectl has it.
        let source = format!("[pod/{}/{container}]", pod.name);
        let prefix = args.prefix.then_some((source.as_str(), at));
        streams.push(Stream {
            container: container.clone(),
            tailing,
            printer: Printer::new(args.timestamps, prefix, false),
            since,
            watched: false,
            done: false,
        });
    }
    Ok(streams)
}

async fn print(
    settings: &Settings,
    pod: &PodView,
    streams: &mut [Stream],
    follow: bool,
) -> Result<u8, CliError> {
    for stream in streams.iter_mut() {
        drain(stream)?;
    }
    if !follow {
        return Ok(exit::OK);
    }
    let changes = Changes::new();
    let mut watch = engine::watch(settings, &pod.uid).await?;
    let mut ended = false;
    while !ended && !streams.iter().all(|stream| stream.done) {
        for stream in streams.iter_mut().filter(|stream| !stream.watched) {
            let directory = logs::directory(settings, &pod.uid, &stream.container);
            stream.watched = changes.add(&directory);
        }
        let mut status = None;
        tokio::select! {
            update = watch.next() => match update {
                Ok(Some(Update::Status(now))) => status = Some(now),
                // The supervisor has gone: with its pod, or another follows it.
                Ok(None) | Err(_) => match engine::watch(settings, &pod.uid).await {
                    Ok(next) => watch = next,
                    Err(EngineError::Absent { .. }) => ended = true,
                    Err(error) => return Err(error.into()),
                },
            },
            () = changes.wait() => {}
        }
        for stream in streams.iter_mut() {
            // The file of a run is complete once the status says that it is over.
            drain(stream)?;
            stream.done |= status.as_ref().is_some_and(|now| is_over(stream, now));
        }
    }
    Ok(exit::OK)
}

/// Whether the run that a stream shows has ended.
fn is_over(stream: &Stream, status: &PodStatus) -> bool {
    let now = status
        .containers
        .iter()
        .find(|one| one.name == stream.container);
    status.phase.is_end()
        || now.is_some_and(|now| {
            now.restarts > stream.tailing.run()
                || matches!(now.state, ContainerState::Terminated(_))
                || matches!(now.state, ContainerState::Waiting { .. })
                    && now.last_termination.is_some()
        })
}

fn drain(stream: &mut Stream) -> Result<(), CliError> {
    let Stream {
        tailing,
        printer,
        since,
        ..
    } = stream;
    let mut failed: Option<io::Error> = None;
    tailing
        .drain(|line| {
            let is_wanted =
                *since == 0 || time::parse_rfc3339(&line.time).is_none_or(|at| at >= *since);
            if is_wanted && failed.is_none() {
                failed = printer.print(&line).err();
            }
        })
        .map_err(|source| CliError::io("read the log", source))?;
    match failed {
        Some(source) => Err(CliError::io("write the log", source)),
        None => Ok(()),
    }
}
