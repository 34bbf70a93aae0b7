//! The `beluga` command: kubectl's verbs and habits, one file per verb.

/// Prints a line. A reader that has gone, like `head`, is no error.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::output::write(format_args!("{}\n", format_args!($($text)*)))
    };
}

/// Prints a text that ends its own lines.
macro_rules! put {
    ($($text:tt)*) => {
        $crate::cli::output::write(format_args!($($text)*))
    };
}

mod again;
mod apply;
mod attach;
mod audit;
mod change;
mod completion;
mod conformance;
mod cp;
mod debug;
mod delete;
mod describe;
mod doctor;
mod dry;
mod ensure;
mod env;
mod error;
mod events;
mod exec;
pub mod exit;
mod foreground;
mod foreign;
mod gc;
mod get;
mod host_path;
mod image;
mod images;
mod interrupt;
mod jsonpath;
mod label;
mod login;
mod logs;
mod manifest;
mod network;
mod object;
mod objects;
mod output;
mod page;
mod patch;
mod patience;
mod plans;
mod pods;
mod port_forward;
mod publish;
mod pull;
mod resource;
mod run;
mod selector;
mod set;
mod style;
mod table;
mod tailing;
mod template;
mod terminal;
mod time;
mod together;
mod top;
mod version;
mod wait;
mod words;
mod workloads;

pub use error::CliError;

use crate::engine::EngineError;
use crate::settings::Settings;
use clap::{Parser, Subcommand};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use style::Style;

/// Where `--help` lists what every verb takes.
const GLOBAL: &str = "Options of every command";

/// Runs Kubernetes pods, each in a microVM of its own
#[derive(Debug, Parser)]
#[command(
    name = "beluga",
    version,
    max_term_width = 100,
    after_help = exit::TABLE,
    arg_required_else_help = true,
    args_override_self = true
)]
pub struct Cli {
    /// Directory of images and pods [default: /var/lib/beluga, an ordinary user's ~/.local/share/beluga; or BELUGA_ROOT]
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL)]
    root: Option<PathBuf>,
    /// Directory of sockets and locks [default: /run/beluga, an ordinary user's $XDG_RUNTIME_DIR/beluga, with another root with -HASH behind it; or BELUGA_STATE]
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL)]
    state: Option<PathBuf>,
    /// Namespace, before the verb as well as behind it
    // The words are put in order first, so that the verb reads it.
    #[arg(short, long = "namespace", value_name = "NAMESPACE")]
    _namespace: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run pods from a manifest, or one container from an image
    Run(Box<run::Args>),
    /// Make what a manifest says: pods, deployments, configmaps, secrets, claims
    Apply(apply::Args),
    /// List pods, deployments, configmaps and the like
    Get(get::Args),
    /// List pods
    Ps(get::PsArgs),
    /// Show everything about a pod
    Describe(describe::Args),
    /// Print what a container has printed
    Logs(logs::Args),
    /// Run a command in a container
    Exec(exec::Args),
    /// Copy files into a container or out of it
    Cp(cp::Args),
    /// Make ports of a pod reachable at ports of this host
    PortForward(port_forward::Args),
    /// Join a running container's streams
    Attach(attach::Args),
    /// Put a container beside those of a running pod, to look at them
    Debug(debug::Args),
    /// Replace containers of running pods by others
    Set(set::Args),
    /// Change fields of running pods
    Patch(patch::Args),
    /// Give running pods labels
    Label(label::Args),
    /// Give running pods annotations
    Annotate(label::Args),
    /// Wait until something is true of pods
    Wait(wait::Args),
    /// Show what the processes of a pod on this host can still touch
    Audit(audit::Args),
    /// Show what pods and containers use
    #[command(visible_alias = "stats")]
    Top(top::Args),
    /// End pods and keep their records and logs
    Stop(again::StopArgs),
    /// Run pods again that have ended
    Start(again::StartArgs),
    /// End pods and run them again
    Restart(again::StopArgs),
    /// End and delete pods or deployments; delete configmaps or secrets
    Delete(delete::Args),
    /// End and delete pods, as podman's users say it
    Rm(delete::RmArgs),
    /// List the images that are here
    Images(images::ListArgs),
    /// Make an image of a directory
    Build(Box<image::build::Args>),
    /// Fetch images from a registry
    Pull(pull::Args),
    /// Give an image to a registry
    Push(image::push::Args),
    /// Keep a password for a registry, where docker keeps it
    Login(login::Args),
    /// Forget a registry's password
    Logout(login::LogoutArgs),
    /// Load images from an archive
    Load(images::LoadArgs),
    /// Write images to an archive
    Save(image::save::Args),
    /// Show of which steps an image was made
    History(image::history::Args),
    /// Give an image a further name
    Tag(image::tag::Args),
    /// Remove images
    Rmi(images::RemoveArgs),
    /// Remove images that nothing uses
    Prune(image::prune::Args),
    /// Show what images, pods and claims take on the disk
    Df(image::df::Args),
    /// The same verbs of images, as docker and podman group them
    Image(image::Args),
    /// Show everything about pods or images, as JSON
    Inspect(image::inspect::Args),
    /// Make, list, show and remove networks of pods
    Network(network::Args),
    /// Check whether this host can run pods
    Doctor,
    /// Check that pods do on this host what pods must do
    Conformance(conformance::Args),
    /// Find and remove what ended pods have left
    Gc(gc::Args),
    /// Show versions
    Version(version::Args),
    /// Print the completion script of a shell
    Completion(completion::Args),
    /// What may stand in the place of a word, for completion scripts
    #[command(name = "__complete", hide = true)]
    Complete(completion::names::Args),
}

/// Runs the command of this process.
pub fn main() -> ExitCode {
    match begin(words::read()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            error.print(&Style::stderr());
            ExitCode::from(error.exit_code())
        }
    }
}

fn begin(cli: Cli) -> Result<u8, CliError> {
    let settings = Settings::new(cli.root, cli.state).map_err(EngineError::from)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::io("begin", source))?;
    let result = runtime.block_on(dispatch(&settings, cli.verb));
    // A read of standard input on a thread cannot be waited for.
    runtime.shutdown_background();
    crate::engine::release_images();
    output::finish().and(result)
}

async fn dispatch(settings: &Settings, verb: Verb) -> Result<u8, CliError> {
    match verb {
        Verb::Run(args) => run::run(settings, *args).await,
        Verb::Apply(args) => apply::run(settings, args).await,
        Verb::Get(args) => get::get(settings, args).await,
        Verb::Ps(args) => get::ps(settings, args).await,
        Verb::Describe(args) => describe::run(settings, args).await,
        Verb::Audit(args) => audit::run(settings, &args).await,
        Verb::Logs(args) => logs::run(settings, args).await,
        Verb::Exec(args) => exec::run(settings, args).await,
        Verb::Cp(args) => cp::run(settings, args).await,
        Verb::PortForward(args) => port_forward::run(settings, args).await,
        Verb::Attach(args) => attach::run(settings, args).await,
        Verb::Debug(args) => debug::run(settings, args).await,
        Verb::Set(args) => set::run(settings, args).await,
        Verb::Patch(args) => patch::run(settings, args).await,
        Verb::Label(args) => label::label(settings, args).await,
        Verb::Annotate(args) => label::annotate(settings, args).await,
        Verb::Wait(args) => wait::run(settings, args).await,
        Verb::Top(args) => top::run(settings, args).await,
        Verb::Stop(args) => again::stop(settings, args).await,
        Verb::Start(args) => again::start(settings, args).await,
        Verb::Restart(args) => again::restart(settings, args).await,
        Verb::Delete(args) => delete::run(settings, args).await,
        Verb::Rm(args) => delete::rm(settings, args).await,
        Verb::Images(args) => images::list(settings, &args),
        Verb::Build(args) => image::build::run(settings, &args),
        Verb::Pull(args) => pull::run(settings, &args),
        Verb::Push(args) => image::push::run(settings, &args),
        Verb::Login(args) => login::run(settings, &args),
        Verb::Logout(args) => login::logout(&args),
        Verb::Load(args) => images::load(settings, &args),
        Verb::Save(args) => image::save::run(settings, &args),
        Verb::History(args) => image::history::run(settings, &args),
        Verb::Tag(args) => image::tag::run(settings, &args),
        Verb::Prune(args) => image::prune::run(settings, &args).await,
        Verb::Df(args) => image::df::run(settings, &args).await,
        Verb::Image(args) => image::run(settings, args).await,
        Verb::Inspect(args) => image::inspect::run(settings, &args).await,
        Verb::Rmi(args) => images::remove(settings, &args).await,
        Verb::Network(args) => network::run(settings, &args),
        Verb::Doctor => doctor::run(settings),
        Verb::Conformance(args) => conformance::run(settings, &args).await,
        Verb::Gc(args) => gc::run(settings, &args).await,
        Verb::Version(args) => version::run(settings, &args),
        Verb::Completion(args) => completion::run(&args),
        Verb::Complete(args) => completion::names::run(settings, &args),
    }
}

/// A value as YAML.
fn yaml<T: Serialize>(value: &T) -> Result<String, CliError> {
    serde_saphyr::to_string(value)
        .map_err(|error| CliError::io("write YAML", std::io::Error::other(error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
