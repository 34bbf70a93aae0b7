//! `beluga attach`: a running container's streams become ours.

use super::error::StateError;
use super::terminal::{self, Outputs, Raw};
use super::{CliError, pods};
use crate::engine::{self, AttachRequest, PodView};
use crate::settings::Settings;

/// Arguments of `attach`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Hand standard input over
    #[arg(short = 'i', long)]
    stdin: bool,
    /// The container's terminal is ours
    #[arg(short, long)]
    tty: bool,
    /// The container; the first one when it is not named
    #[arg(short, long)]
    container: Option<String>,
    /// Namespace of the pod
    #[arg(short, long, default_value = pods::DEFAULT)]
    namespace: String,
    /// The pod
    pod: String,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    let pod = pods::one(settings, &args.namespace, &args.pod).await?;
    let name = pods::container(&pod, args.container.as_deref())?.to_owned();
    let to = To {
        container: &name,
        stdin: args.stdin,
        tty: args.tty,
    };
    join(settings, &pod, to).await
}

/// What is joined, and how.
pub struct To<'n> {
    pub container: &'n str,
    pub stdin: bool,
    pub tty: bool,
}

/// Joins a container's streams until it ends; its exit code.
pub async fn join(settings: &Settings, pod: &PodView, to: To<'_>) -> Result<u8, CliError> {
    let name = to.container.to_owned();
    let container = pod.spec.all_containers().find(|one| one.name == name);
    let (has_stdin, has_tty) = container.map_or((false, false), |one| (one.stdin, one.tty));
    if to.stdin && !has_stdin {
        return Err(StateError::NoStdin { container: name }.into());
    }
    let tty = to.tty && has_tty;
    if to.tty && !has_tty {
        tell!("Unable to use a TTY - container {name} did not allocate one");
    }
    let request = AttachRequest {
        container: Some(name),
        stdin: to.stdin,
        quiet: false,
    };
    let session = engine::attach(settings, &pod.uid, request).await?;
    let raw = if tty && to.stdin {
        tell!("If you don't see a command prompt, try pressing enter.");
        Some(Raw::enter()?)
    } else {
        None
    };
    let mut outputs = Outputs::default();
    outputs.add(session.output, false)?;
    if let Some(stdin) = session.stdin {
        terminal::send_input(stdin)?;
    }
    let mut control = session.control;
    if let Some(size) = terminal::size().filter(|_| tty) {
        drop(control.resize(size).await);
    }
    let code = terminal::follow(&mut control, outputs, tty).await;
    drop(raw);
    code
}
