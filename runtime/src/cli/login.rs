//! `beluga login` and `logout`: passwords of registries, where docker keeps them.

use super::error::{ImageError, UsageError};
use super::{CliError, exit, pull};
use crate::settings::Settings;
use beluga_image::{CredentialError, Login, forget};
use rustix::termios::{self, LocalModes, OptionalActions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;

/// Arguments of `login`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The registry's name, with its port; Docker Hub without it
    #[arg(default_value = "docker.io", hide_default_value = true)]
    registry: String,
    /// The name there; asked for without it
    #[arg(short, long)]
    username: Option<String>,
    /// The password, which others on this host can see in the list of processes
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
}

/// Arguments of `logout`.
#[derive(Debug, clap::Args)]
pub struct LogoutArgs {
    /// The registry's name, with its port; Docker Hub without it
    #[arg(default_value = "docker.io", hide_default_value = true)]
    registry: String,
}

/// Runs `login`.
pub fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let registry = plain(&args.registry);
    let user = match &args.username {
        Some(user) => user.clone(),
        None => asked(&format!("Username for {registry}: "), true)?,
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => {
            let mut text = String::new();
            let read = io::stdin().lock().take(64 << 10).read_to_string(&mut text);
            read.map_err(|source| CliError::io("read the password", source))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        None => asked("Password: ", false)?,
    };
    let login = Login {
        registry,
        user: &user,
        password: &password,
    };
    let known = beluga_image::Registry {
        certs_dirs: settings.certs_dirs.clone(),
        ..beluga_image::Registry::default()
    };
    known.check(&login).map_err(|source| ImageError::Login {
        registry: registry.to_owned(),
        source: Box::new(source),
    })?;
    let file = file()?;
    login.keep(&file).map_err(of_file(&file))?;
    say!("Login Succeeded: kept in {}", file.display());
    Ok(exit::OK)
}

/// Runs `logout`.
pub fn logout(args: &LogoutArgs) -> Result<u8, CliError> {
    let (registry, file) = (plain(&args.registry), file()?);
    if forget(&file, registry).map_err(of_file(&file))? {
        say!("Removed the login of {registry} from {}", file.display());
    } else {
        say!("Not logged in to {registry}");
    }
    Ok(exit::OK)
}

/// As people copy it from a browser, and the older names of Docker Hub.
fn plain(registry: &str) -> &str {
    let bare = registry.strip_prefix("https://").unwrap_or(registry);
    match bare.split('/').next().unwrap_or(bare) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

fn file() -> Result<PathBuf, CliError> {
    let none = || {
        CliError::io(
            "find the configuration: HOME says nothing",
            io::ErrorKind::NotFound.into(),
        )
    };
    pull::docker_config().ok_or_else(none)
}

fn of_file(file: &std::path::Path) -> impl FnOnce(CredentialError) -> ImageError {
    let name = file.display().to_string();
    move |source| ImageError::Credentials { name, source }
}

/// Asks on the terminal; what is not to be seen is not shown.
fn asked(question: &str, is_shown: bool) -> Result<String, CliError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(UsageError::which("user", "Say -u USER and --password-stdin").into());
    }
    let failed = |source| CliError::io("read the answer", source);
    eprint!("{question}");
    drop(io::stderr().flush());
    let before = termios::tcgetattr(&stdin).map_err(|error| failed(error.into()))?;
    if !is_shown {
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        let set = termios::tcsetattr(&stdin, OptionalActions::Flush, &hidden);
        set.map_err(|error| failed(error.into()))?;
    }
    let mut answer = String::new();
    let read = stdin.read_line(&mut answer);
    if !is_shown {
        // A terminal that is gone needs no restoring.
        let _ = termios::tcsetattr(&stdin, OptionalActions::Flush, &before);
        eprintln!();
    }
    read.map_err(failed)?;
    Ok(answer.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_its_host_however_it_was_copied() {
        assert_eq!(plain("https://ghcr.io/v2/"), "ghcr.io");
        assert_eq!(plain("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(plain("r.example:5000"), "r.example:5000");
    }
}
