//! `beluga exec`.

use super::terminal::{self, Outputs, Raw};
use super::{CliError, pods};
use crate::engine::{self, ExecRequest};
use crate::settings::Settings;
use beluga_proto::container::TerminalSize;

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Hand standard input over
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// The container; the first one when it is not named
    #[arg(short, long)]
    container: Option<String>,
    /// Namespace of the pod
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// The pod
    pod: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    let pod = pods::one(settings, &args.namespace, &args.pod).await?;
    let container = pods::container(&pod, args.container.as_deref())?.to_owned();
    let tty = args.tty && wants_terminal(args.stdin);
    let request = ExecRequest {
        container: Some(container),
        args: args.command,
        env: Vec::new(),
        tty: tty.then(|| terminal::size().unwrap_or(TerminalSize { rows: 24, cols: 80 })),
        stdin: args.stdin,
        copy: None,
    };
    let session = engine::exec(settings, &pod.uid, request).await?;
    let raw = if tty && args.stdin {
        Some(Raw::enter()?)
    } else {
        None
    };
    let mut outputs = Outputs::default();
    outputs.add(session.stdout, false)?;
    if let Some(stderr) = session.stderr {
        outputs.add(stderr, true)?;
    }
    if let Some(stdin) = session.stdin {
        terminal::send_input(stdin)?;
    }
    let mut control = session.control;
    let code = terminal::follow(&mut control, outputs, tty).await;
    drop(raw);
    code
}

/// A terminal was asked for; without one of our own there is no point in it
/// where input comes from somewhere else.
fn wants_terminal(stdin: bool) -> bool {
    if stdin && !terminal::stdin_is_terminal() {
        tell!("Unable to use a TTY - input is not a terminal or the right kind of file");
        return false;
    }
    true
}
