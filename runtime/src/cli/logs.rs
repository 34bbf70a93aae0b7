//! `beluga logs`.

use super::output::{Printer, reader_gone};
use super::pods;
use super::tailing::{Changes, Tailing};
use super::{CliError, exit};
use crate::engine::{self, PodView, Update};
use crate::logs;
use crate::settings::Settings;
use crate::store::status::{ContainerState, PodStatus};
use std::io;

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pod
    pod: String,
    /// The container; the first one when it is not named
    #[arg(id = "which")]
    named: Option<String>,
    /// The container
    #[arg(short, long, conflicts_with = "which")]
    container: Option<String>,
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only so many of the last lines
    #[arg(
        long,
        value_name = "LINES",
        default_value = "-1",
        allow_hyphen_values = true
    )]
    tail: i64,
    /// Time before each line
    #[arg(long)]
    timestamps: bool,
    /// Container before each line
    #[arg(long)]
    prefix: bool,
    /// All containers, init containers first
    #[arg(long, conflicts_with_all = ["which", "container"])]
    all_containers: bool,
    /// Namespace of the pod
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

struct Stream {
    container: String,
    tailing: Tailing,
    printer: Printer,
    watched: bool,
    done: bool,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    let pod = pods::one(settings, &args.namespace, &args.pod).await?;
    let named = args.container.as_deref().or(args.named.as_deref());
    let containers: Vec<String> = if args.all_containers {
        pod.spec
            .all_containers()
            .map(|one| one.name.clone())
            .collect()
    } else {
        vec![pods::container(&pod, named)?.to_owned()]
    };
    let mut streams = streams(settings, &pod, &containers, &args)?;
    // A reader that has seen enough, like `head`, is no error of ours.
    match print(settings, &pod, &mut streams, args.follow).await {
        Err(CliError::Io { source, .. }) if reader_gone(&source) => Ok(exit::OK),
        other => other,
    }
}

fn streams(
    settings: &Settings,
    pod: &PodView,
    containers: &[String],
    args: &Args,
) -> Result<Vec<Stream>, CliError> {
    let mut streams = Vec::new();
    for (at, container) in containers.iter().enumerate() {
        let directory = logs::directory(settings, &pod.uid, container);
        let now = pod
            .status
            .containers
            .iter()
            .find(|one| one.name == *container);
        let mut tailing = Tailing::new(directory, now.map_or(0, |now| now.restarts));
        if let Ok(count) = usize::try_from(args.tail) {
            let skipped = tailing.skip_to_last(count);
            skipped.map_err(|source| CliError::io("read the log", source))?;
        }
        let prefix = args.prefix.then_some((container.as_str(), at));
        streams.push(Stream {
            container: container.clone(),
            tailing,
            printer: Printer::new(args.timestamps, prefix, false),
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
            update = watch.next() => match update? {
                Some(Update::Status(now)) => status = Some(now),
                None => ended = true,
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
        tailing, printer, ..
    } = stream;
    let mut failed: Option<io::Error> = None;
    tailing
        .drain(|line| {
            if failed.is_none() {
                failed = printer.print(&line).err();
            }
        })
        .map_err(|source| CliError::io("read the log", source))?;
    match failed {
        Some(source) => Err(CliError::io("write the log", source)),
        None => Ok(()),
    }
}
