//! What a registry is told of who asks: pull secrets, docker's `config.json` and its helpers.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::helper;
use super::login::Login;

/// Under what docker keeps the credentials of Docker Hub.
pub(super) const HUB_KEY: &str = "https://index.docker.io/v1/";
/// What the keys of Docker Hub come down to.
const HUB_HOSTS: [&str; 3] = ["index.docker.io", "docker.io", "registry-1.docker.io"];
const MAX_CONFIG: u64 = 4 << 20;

/// One way to say who asks. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    Password {
        user: String,
        password: String,
    },
    /// For the token service, in exchange for a token.
    Identity(String),
    /// For the registry itself.
    Token(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

/// A credential, and where it comes from.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub credential: Credential,
    from: String,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.credential {
            Credential::Password { user, .. } => write!(f, "{user:?} from {}", self.from),
            Credential::Identity(_) | Credential::Token(_) => {
                write!(f, "a token from {}", self.from)
            }
        }
    }
}

/// Why credentials cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// docker's configuration cannot be read.
    #[error("cannot read {path}", path = .path.display())]
    Read {
        /// `config.json`.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// docker's configuration cannot be written.
    #[error("cannot write {path}", path = .path.display())]
    Write {
        /// `config.json`.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A configuration or secret that is not what docker writes.
    #[error("{name} is no docker configuration")]
    Malformed {
        /// A file or a secret.
        name: String,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A name that would run something else.
    #[error("{name:?} is no name of a credential helper")]
    HelperName {
        /// As configured.
        name: String,
    },
    /// A helper could not be run.
    #[error("cannot run docker-credential-{name}")]
    Run {
        /// The helper.
        name: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A helper failed.
    #[error("docker-credential-{name} knows no credentials for {server}: {said}")]
    Helper {
        /// The helper.
        name: String,
        /// For what.
        server: String,
        /// Its own words.
        said: String,
    },
}

/// Everything that may hold credentials, in the order in which it is asked.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    configs: Vec<Config>,
    /// How many of them are secrets: those come first.
    secrets: usize,
    /// Where was looked, whatever was there.
    places: Vec<String>,
}

/// docker's configuration, as far as it is about credentials.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    /// A file, or a secret.
    #[serde(skip)]
    name: String,
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Clone, Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry")
    }
}

impl Keyring {
    /// Adds what a file holds that docker or podman has written; nothing when there is none.
    pub fn add_file(&mut self, file: &Path) -> Result<(), CredentialError> {
        let name = file.display().to_string();
        self.places.push(name.clone());
        let read = |source| CredentialError::Read {
            path: file.to_owned(),
            source,
        };
        let opened = match std::fs::File::open(file) {
            Ok(opened) => opened,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(read(error)),
        };
        let mut text = Vec::new();
        opened
            .take(MAX_CONFIG)
            .read_to_end(&mut text)
            .map_err(read)?;
        let config: Config = parse(&name, &text)?;
        self.configs.push(Config { name, ..config });
        Ok(())
    }

    /// Adds what somebody has just typed.
    pub(super) fn add_login(&mut self, login: &Login<'_>) {
        let entry = Entry {
            username: Some(login.user.to_owned()),
            password: Some(login.password.to_owned()),
            ..Entry::default()
        };
        self.add_secret(
            "this login",
            BTreeMap::from([(login.registry.to_owned(), entry)]),
        );
    }

    /// Where was looked for credentials.
    pub(super) fn places(&self) -> &[String] {
        &self.places
    }

    /// Adds a Secret of the type `kubernetes.io/dockerconfigjson`.
    pub fn add_docker_config_json(
        &mut self,
        name: &str,
        json: &[u8],
    ) -> Result<(), CredentialError> {
        let Config { auths, .. } = parse(name, json)?;
        self.add_secret(name, auths);
        Ok(())
    }

    /// Adds a Secret of the older type `kubernetes.io/dockercfg`.
    pub fn add_dockercfg(&mut self, name: &str, json: &[u8]) -> Result<(), CredentialError> {
        let auths = parse(name, json)?;
        self.add_secret(name, auths);
        Ok(())
    }

    /// Before the files of whoever runs this, and behind the secrets that are there.
    fn add_secret(&mut self, name: &str, auths: BTreeMap<String, Entry>) {
        let at = self.secrets;
        self.secrets += 1;
        self.places.insert(at, name.to_owned());
        let name = name.to_owned();
        let secret = Config {
            name,
            auths,
            ..Config::default()
        };
        self.configs.insert(at, secret);
    }

    /// Whatever may open a repository, the likeliest first.
    pub(super) fn lookup(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Vec<Known>, CredentialError> {
        let mut found: Vec<Known> = Vec::new();
        for config in &self.configs {
            let of_file = config.matching(registry, repository);
            let of_file = of_file.into_iter().map(|credential| Known {
                credential,
                from: config.name.clone(),
            });
            found.extend(config.helper_credential(registry)?);
            found.extend(of_file);
        }
        found.dedup_by(|one, other| one.credential == other.credential);
        Ok(found)
    }
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(
    name: &str,
    json: &[u8],
) -> Result<T, CredentialError> {
    serde_json::from_slice(json).map_err(|source| CredentialError::Malformed {
        name: name.to_owned(),
        source,
    })
}

impl Config {
    fn helper_credential(&self, registry: &str) -> Result<Option<Known>, CredentialError> {
        let is_hub = registry == "docker.io";
        let server = if is_hub { HUB_KEY } else { registry };
        let own = self.cred_helpers.get(server).or_else(|| {
            let mut helpers = self.cred_helpers.iter();
            let found = helpers.find(|(key, _)| host_of(key).0 == registry);
            found.map(|(_, helper)| helper)
        });
        match own.or(self.creds_store.as_ref()) {
            Some(helper) if !helper.is_empty() => {
                let found = helper::ask(helper, server)?;
                Ok(found.map(|credential| Known {
                    credential,
                    from: format!("docker-credential-{helper}"),
                }))
            }
            _ => Ok(None),
        }
    }

    /// The entries whose key is this repository or a part of the way to it, the longest first:
    /// the order of the kubelet.
    fn matching(&self, registry: &str, repository: &str) -> Vec<Credential> {
        let mut keys: Vec<(&str, &str, &Entry)> = self
            .auths
            .iter()
            .map(|(key, entry)| {
                let (host, path) = host_of(key);
                (host, path, entry)
            })
            .collect();
        keys.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)));
        let matching = keys
            .into_iter()
            .filter(|(host, path, _)| is_host(host, registry) && is_way(path, repository));
        matching
            .filter_map(|(_, _, entry)| entry.credential())
            .collect()
    }
}

/// The host and the path of a key: `https://index.docker.io/v1/`, `quay.io/team`.
fn host_of(key: &str) -> (&str, &str) {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.trim_end_matches('/');
    let versioned = ["v1", "v2"]
        .iter()
        .find_map(|version| path.strip_prefix(version));
    let path = match versioned {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.trim_start_matches('/'),
        _ => path,
    };
    (host, path)
}

fn is_way(path: &str, repository: &str) -> bool {
    repository.starts_with(path)
}

/// Whether a key's host, in which `*` stands for a part of a name, is a registry.
fn is_host(key: &str, registry: &str) -> bool {
    if registry == "docker.io" && HUB_HOSTS.contains(&key) {
        return true;
    }
    let port = |host: &str| host.split_once(':').map(|(_, port)| port.to_owned());
    let name = |host: &str| host.split(':').next().unwrap_or_default().to_owned();
    if key == registry {
        return true;
    }
    let (pattern, target) = (name(key), name(registry));
    let (parts, targets): (Vec<_>, Vec<_>) =
        (pattern.split('.').collect(), target.split('.').collect());
    port(key) == port(registry)
        && parts.len() == targets.len()
        && parts
            .iter()
            .zip(&targets)
            .all(|(part, target)| is_like(part, target))
}

/// `*` is any number of characters.
fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            let starts = (0..=rest.len()).filter(|at| rest.is_char_boundary(*at));
            { starts }.any(|at| is_like(tail, &rest[at..]))
        }),
    }
}

impl Entry {
    fn credential(&self) -> Option<Credential> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Some(Credential::Identity(token));
        }
        if let Some(token) = given(&self.registrytoken) {
            return Some(Credential::Token(token));
        }
        if let Some(user) = given(&self.username) {
            let password = self.password.clone().unwrap_or_default();
            return Some(Credential::Password { user, password });
        }
        let packed = given(&self.auth)?;
        let unpacked = String::from_utf8(STANDARD.decode(packed.trim()).ok()?).ok()?;
        let (user, password) = unpacked.split_once(':')?;
        // Old versions of docker pad with zeros.
        let password = password.trim_end_matches('\0').to_owned();
        let user = user.to_owned();
        Some(Credential::Password { user, password })
    }
}

/// Whether a key of `auths` is this registry's own.
pub(super) fn is_key_of(key: &str, registry: &str) -> bool {
    let (host, path) = host_of(key);
    path.is_empty() && (host == registry || (registry == "docker.io" && HUB_HOSTS.contains(&host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(known: &Known) -> &str {
        match &known.credential {
            Credential::Password { user, .. } => user,
            Credential::Identity(_) => "<identity>",
            Credential::Token(_) => "<token>",
        }
    }

    fn user(found: &[Known]) -> Vec<&str> {
        found.iter().map(name).collect()
    }

    fn ring(json: &str) -> Keyring {
        let mut ring = Keyring::default();
        ring.add_docker_config_json("secret", json.as_bytes())
            .unwrap();
        ring
    }

    #[test]
    fn the_longest_way_comes_first_and_a_star_is_a_part_of_a_name() {
        let ring = ring(
            r#"{"auths":{"quay.io":{"username":"a"},"https://quay.io/team":{"username":"b"},
            "*.example.com:5000":{"username":"c"},"reg.example.com":{"username":"d"}}}"#,
        );
        let found = |registry, repository| ring.lookup(registry, repository).unwrap();
        assert_eq!(user(&found("quay.io", "team/app")), ["b", "a"]);
        assert_eq!(user(&found("quay.io", "other")), ["a"]);
        assert_eq!(user(&found("x.example.com:5000", "app")), ["c"]);
        assert!(found("x.y.example.com:5000", "app").is_empty());
        assert!(found("x.example.com", "app").is_empty());
    }

    #[test]
    fn docker_hub_has_several_names() {
        for key in [
            "https://index.docker.io/v1/",
            "docker.io",
            "index.docker.io",
        ] {
            let ring = ring(&format!(
                "{{\"auths\":{{\"{key}\":{{\"auth\":\"dTpwOncA\"}}}}}}"
            ));
            let found = ring.lookup("docker.io", "library/nginx").unwrap();
            let (user, password) = ("u".to_owned(), "p:w".to_owned());
            let credential = Credential::Password { user, password };
            assert!(
                found.len() == 1 && found[0].credential == credential,
                "{key}"
            );
            assert_eq!(found[0].to_string(), "\"u\" from secret");
        }
    }

    #[test]
    fn both_types_of_secrets_and_tokens() {
        let mut ring = Keyring::default();
        ring.add_dockercfg("s", br#"{"r":{"identitytoken":"i"}}"#)
            .unwrap();
        ring.add_docker_config_json("t", br#"{"auths":{"r":{"registrytoken":"t"}}}"#)
            .unwrap();
        assert_eq!(
            user(&ring.lookup("r", "a").unwrap()),
            ["<identity>", "<token>"]
        );
        assert!(ring.add_dockercfg("s", b"[").is_err());
    }

    #[test]
    fn a_helper_is_a_name_and_no_path() {
        let error = helper::ask("../../bin/sh", "r").unwrap_err();
        assert!(matches!(error, CredentialError::HelperName { .. }));
        let error = helper::ask("no-such-helper", "r").unwrap_err();
        assert!(matches!(error, CredentialError::Run { .. }));
    }
}
