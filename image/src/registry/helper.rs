//! docker's credential helpers: programs that keep passwords.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::credentials::{Credential, CredentialError, HUB_KEY, parse};
use super::login::Login;

const MAX_ANSWER: u64 = 64 << 10;
/// What a helper says that knows no such registry.
const NOT_FOUND: &str = "credentials not found in native keychain";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Runs `docker-credential-NAME store`.
pub(super) fn store(name: &str, login: &Login<'_>) -> Result<(), CredentialError> {
    let server = match login.registry {
        "docker.io" => HUB_KEY,
        other => other,
    };
    let run = |source| CredentialError::Run {
        name: name.to_owned(),
        source,
    };
    let told = serde_json::json!({
        "ServerURL": server, "Username": login.user, "Secret": login.password,
    });
    let mut command = command(name, "store")?;
    let mut child = command.stdout(Stdio::null()).spawn().map_err(run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read what it is told says so itself.
        let _ = stdin.write_all(told.to_string().as_bytes());
    }
    match child.wait().map_err(run)?.success() {
        true => Ok(()),
        false => Err(CredentialError::Helper {
            name: name.to_owned(),
            server: server.to_owned(),
            said: "it keeps nothing".to_owned(),
        }),
    }
}

/// A helper's command. Its name is from a file, and must not lead anywhere.
fn command(name: &str, verb: &str) -> Result<Command, CredentialError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !name.chars().all(plain) {
        return Err(CredentialError::HelperName { name: name.into() });
    }
    let mut command = Command::new(format!("docker-credential-{name}"));
    command.arg(verb).stdin(Stdio::piped());
    Ok(command)
}

/// Runs `docker-credential-NAME get`; `None` when it knows nothing of the server.
pub(super) fn ask(name: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
    let run = |source| CredentialError::Run {
        name: name.to_owned(),
        source,
    };
    let mut command = command(name, "get")?;
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read what it is asked says so itself.
        let _ = stdin.write_all(server.as_bytes());
    }
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout
            .take(MAX_ANSWER)
            .read_to_end(&mut said)
            .map_err(run)?;
    }
    let ended = child.wait().map_err(run)?;
    let text = String::from_utf8_lossy(&said).trim().to_owned();
    if !ended.success() {
        if text.contains(NOT_FOUND) {
            return Ok(None);
        }
        return Err(CredentialError::Helper {
            name: name.to_owned(),
            server: server.to_owned(),
            said: text.lines().next().unwrap_or("nothing").to_owned(),
        });
    }
    let answer: Answer = parse(&format!("the answer of docker-credential-{name}"), &said)?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Credential::Identity(answer.secret),
        user => Credential::Password {
            user: user.to_owned(),
            password: answer.secret,
        },
    }))
}
