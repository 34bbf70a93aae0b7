//! Logging in: a password is tried, and kept where docker keeps it.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::credentials::{CredentialError, HUB_KEY, Keyring, is_key_of};
use super::endpoint::Endpoint;
use super::helper;
use super::request::Ask;
use super::{Patience, Registry, RegistryError, hosts};

/// Who somebody says to be.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// A registry: `docker.io`, `registry.example.com:5000`.
    pub registry: &'a str,
    /// The name there.
    pub user: &'a str,
    /// Never printed.
    pub password: &'a str,
}

impl Registry {
    /// Whether a registry takes a password. One that asks for none takes every one.
    pub fn check(&self, login: &Login<'_>) -> Result<(), RegistryError> {
        let wrong = |source| RegistryError::Hosts {
            registry: login.registry.to_owned(),
            source,
        };
        let found = hosts::hosts(login.registry, &self.certs_dirs).map_err(wrong)?;
        // Mirrors come first; the registry itself is the last.
        let Some(own) = found.into_iter().next_back() else {
            return Err(RegistryError::NoCapability {
                registry: login.registry.to_owned(),
                action: "resolve",
            });
        };
        let endpoint = Endpoint::new(own, login.registry, "", &Patience::default())?;
        let mut keyring = Keyring::default();
        keyring.add_login(login);
        let ask = Ask::get("", "the login");
        endpoint.get(&ask, &keyring).map(drop)
    }
}

impl Login<'_> {
    /// Keeps the password in docker's configuration, or in the helper that is configured there.
    pub fn keep(&self, file: &Path) -> Result<(), CredentialError> {
        let mut config = read(file)?;
        if let Some(name) = helper_of(&config, self.registry) {
            return helper::store(&name, self);
        }
        let packed = STANDARD.encode(format!("{}:{}", self.user, self.password));
        let auths = config.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        auths[key(self.registry)] = json!({"auth": packed});
        write(file, &config)
    }
}

/// Forgets what a file of docker has for a registry; whether there was anything.
pub fn forget(file: &Path, registry: &str) -> Result<bool, CredentialError> {
    let mut config = read(file)?;
    let Some(auths) = config.get_mut("auths").and_then(Value::as_object_mut) else {
        return Ok(false);
    };
    let before = auths.len();
    auths.retain(|key, _| !is_key_of(key, registry));
    if auths.len() == before {
        return Ok(false);
    }
    write(file, &config).map(|()| true)
}

fn key(registry: &str) -> &str {
    match registry {
        "docker.io" => HUB_KEY,
        other => other,
    }
}

fn helper_of(config: &Map<String, Value>, registry: &str) -> Option<String> {
    let own = config
        .get("credHelpers")
        .and_then(|all| all.get(key(registry)));
    let helper = own.or_else(|| config.get("credsStore"))?.as_str()?;
    (!helper.is_empty()).then(|| helper.to_owned())
}

fn read(file: &Path) -> Result<Map<String, Value>, CredentialError> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        Err(source) => {
            let path = file.to_owned();
            return Err(CredentialError::Read { path, source });
        }
    };
    serde_json::from_slice(&text).map_err(|source| CredentialError::Malformed {
        name: file.display().to_string(),
        source,
    })
}

/// Only its owner may read it, and it is there whole or as it was.
fn write(file: &Path, config: &Map<String, Value>) -> Result<(), CredentialError> {
    let failed = |source| CredentialError::Write {
        path: file.to_owned(),
        source,
    };
    // A link stays one: what it leads to is written.
    let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let dir = target.parent().unwrap_or(Path::new("/"));
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(dir).map_err(failed)?;
    let temporary = dir.join(format!("config.json.{}", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut out| {
            out.write_all(format!("{:#}\n", Value::Object(config.clone())).as_bytes())?;
            out.sync_all()?;
            fs::rename(&temporary, &target)
        });
    if written.is_err() {
        // The error that counts is the first.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_login_is_kept_beside_others_and_forgotten_alone() {
        let dir = std::env::temp_dir().join(format!("beluga-login-{}", std::process::id()));
        let file = dir.join("deep/config.json");
        let login = |registry| Login {
            registry,
            user: "u",
            password: "p:w",
        };
        login("r:5000").keep(&file).unwrap();
        login("docker.io").keep(&file).unwrap();
        let kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(kept["auths"]["r:5000"]["auth"], "dTpwOnc=");
        assert!(kept["auths"][HUB_KEY].is_object());
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let mut keyring = Keyring::default();
        keyring.add_file(&file).unwrap();
        assert_eq!(keyring.lookup("r:5000", "a").unwrap().len(), 1);
        assert!(forget(&file, "docker.io").unwrap());
        assert!(!forget(&file, "docker.io").unwrap());
        let kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(kept["auths"].as_object().unwrap().len(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }
}
