//! `beluga exec`.

use super::error::UsageError;
use super::terminal::{self, Outputs, Raw};
use super::{CliError, env, pods};
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
    /// NAME=VALUE, or NAME to take the value from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Name or number, instead of the container's user
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory, instead of the container's
    #[arg(short, long, value_name = "PATH")]
    workdir: Option<String>,
    /// Namespace of the pod
    #[arg(short, long, default_value = pods::DEFAULT)]
    namespace: String,
    /// The pod
    pod: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    let env = variables(&args)?;
    let pod = pods::one(settings, &args.namespace, &args.pod).await?;
    let container = pods::container(&pod, args.container.as_deref())?.to_owned();
    let tty = args.tty && terminal::is_to_be_had(args.stdin);
    let request = ExecRequest {
        container: Some(container),
        args: args.command,
        env,
        user: args.user,
        workdir: args.workdir,
        tty: tty.then(|| terminal::size().unwrap_or(TerminalSize { rows: 24, cols: 80 })),
        stdin: args.stdin,
        ..ExecRequest::default()
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

/// `NAME=value`; what is wrong with one, or with the directory and the user, is told before a
/// pod is looked for.
fn variables(args: &Args) -> Result<Vec<String>, CliError> {
    if let Some(path) = args.workdir.as_ref().filter(|path| !path.starts_with('/')) {
        let why = "it is an absolute path in the container";
        return Err(UsageError::flag("--workdir", path, why).into());
    }
    if let Some(user) = args.user.as_ref().filter(|user| {
        let (name, group) = user.split_once(':').unwrap_or((user, "-"));
        name.is_empty() || group.is_empty() || group.contains(':')
    }) {
        let why = "it is written USER or USER:GROUP, names or numbers";
        return Err(UsageError::flag("--user", user, why).into());
    }
    let mut out = Vec::new();
    for text in &args.env {
        let variable = env::variable(text)?;
        out.extend(variable.map(|(name, value)| format!("{name}={value}")));
    }
    Ok(out)
}
