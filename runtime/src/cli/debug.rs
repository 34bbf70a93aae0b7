//! `beluga debug`: a container of its own image beside those of a running pod,
//! to look at them; nothing of the pod is restarted.

use super::{CliError, attach, change, env, exit, logs, pods, terminal};
use crate::engine::{self, PodView};
use crate::settings::Settings;
use crate::store::status::{ContainerState, Termination};
use serde_json::{Value, json};

/// Arguments of `debug`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pod: NAME or pod/NAME
    pod: String,
    /// The image of the new container
    #[arg(long)]
    image: String,
    /// See the processes of this container of the pod
    #[arg(long, value_name = "CONTAINER")]
    target: Option<String>,
    /// Name of the new container; one is made up when it is missing
    #[arg(short, long = "container", visible_alias = "name", value_name = "NAME")]
    container: Option<String>,
    /// Hand standard input over, and stay attached
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Stay attached, with or without standard input
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    attach: Option<bool>,
    /// NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// What it may do
    #[arg(long, default_value = "general")]
    profile: Profile,
    /// Say nothing but what the container says
    #[arg(short, long)]
    quiet: bool,
    /// Namespace of the pod
    #[arg(short, long, default_value = pods::DEFAULT)]
    namespace: String,
    /// The command and its arguments, instead of the image's
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The profiles of kubectl debug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Profile {
    Legacy,
    General,
    Baseline,
    Restricted,
    Netadmin,
    Sysadmin,
}

impl Profile {
    fn security(self) -> Value {
        match self {
            Self::Legacy | Self::Baseline => Value::Null,
            Self::General => json!({"capabilities": {"add": ["SYS_PTRACE"]}}),
            Self::Restricted => json!({
                "runAsNonRoot": true,
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }),
            Self::Netadmin => json!({"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}),
            Self::Sysadmin => json!({"privileged": true}),
        }
    }
}

/// Runs the verb.
pub async fn run(settings: &Settings, mut args: Args) -> Result<u8, CliError> {
    let stays = args.attach.unwrap_or(args.stdin);
    args.tty = args.tty && (!stays || terminal::is_to_be_had(args.stdin));
    let pod = pods::one(settings, &args.namespace, &args.pod).await?;
    let name = name(&args);
    if let Some(target) = args.target.as_ref().filter(|_| !args.quiet) {
        tell!("Targeting container {target:?}.");
    }
    let generation = change::add(settings, &pod, container(&args, &name)?).await?;
    // Soon: what it says before somebody has joined it is only in its log.
    let changed = engine::get(settings, &pod.namespace, &pod.name).await?;
    let pod = changed.unwrap_or(pod);
    if stays {
        let to = attach::To {
            container: &name,
            stdin: args.stdin,
            tty: args.tty,
        };
        let joined = attach::join(settings, &pod, to).await;
        return match (joined, ended(settings, &pod, &name).await?) {
            // It waited for nobody: what it said is in its log.
            (Err(_), Some(end)) => {
                logs::print_all(settings, &pod, &name)?;
                Ok(exit::of_process(end.exit_code))
            }
            (joined, _) => joined,
        };
    }
    engine::change::outcome(settings, &pod, generation).await?;
    Ok(exit::OK)
}

/// How the container ended, if it has.
async fn ended(
    settings: &Settings,
    pod: &PodView,
    name: &str,
) -> Result<Option<Termination>, CliError> {
    let pod = pods::one(settings, &pod.namespace, &pod.name).await?;
    let mut all = pod.status.containers.into_iter();
    let found = all.find(|one| one.name == name);
    Ok(found.and_then(|one| match one.state {
        ContainerState::Terminated(end) => Some(end),
        _ => None,
    }))
}

fn name(args: &Args) -> String {
    if let Some(name) = &args.container {
        return name.clone();
    }
    let name = crate::spec::PodName::Generate("debugger-".to_owned());
    let name = name.resolve(crate::pod::random_bytes());
    if !args.quiet {
        tell!("Defaulting debug container name to {name}.");
    }
    name
}

fn container(args: &Args, name: &str) -> Result<Value, CliError> {
    let mut container = json!({
        "name": name,
        "image": args.image,
        "stdin": args.stdin,
        "stdinOnce": args.stdin,
        "tty": args.tty,
    });
    if !args.command.is_empty() {
        container["command"] = json!(args.command);
    }
    if let Some(target) = &args.target {
        container["targetContainerName"] = json!(target);
    }
    let security = args.profile.security();
    if !security.is_null() {
        container["securityContext"] = security;
    }
    let env = env::objects(&args.env, &[])?;
    if !env.is_empty() {
        container["env"] = json!(env);
    }
    Ok(container)
}
