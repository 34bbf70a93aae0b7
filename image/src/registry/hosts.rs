//! Where a registry's images are fetched from: containerd's `certs.d/HOST/hosts.toml`, the
//! certificate files that docker keeps in such a directory, or the registry's own address.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// What `docker.io` is served by.
const DOCKER_HUB: &str = "registry-1.docker.io";
/// A configuration of absurd length is none.
const MAX_FILE: u64 = 1 << 20;

/// A server that may have the images of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub scheme: Scheme,
    /// Name or address, and port when given.
    pub authority: String,
    /// Where its API begins: `/v2`.
    pub path: String,
    pub pull: bool,
    pub resolve: bool,
    pub push: bool,
    /// Files of certificates in PEM.
    pub authorities: Vec<PathBuf>,
    /// A certificate and its key, both perhaps in one file.
    pub client: Option<(PathBuf, Option<PathBuf>)>,
    pub skip_verify: bool,
    pub headers: Vec<(String, String)>,
    pub dial_timeout: Option<Duration>,
}

impl Host {
    /// What it is called in errors: several may share a name and a port.
    pub(super) fn label(&self) -> String {
        match self.path.as_str() {
            "/v2" => self.authority.clone(),
            path => format!("{}{path}", self.authority),
        }
    }
}

/// How a host is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
    /// This machine: HTTPS, and HTTP if that is all it speaks.
    Either,
}

/// Why a registry's configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostsError {
    /// It cannot be read.
    #[error("cannot read {path}", path = .path.display())]
    Read {
        /// A file or directory below `certs.d`.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is no TOML, or has something else in it than containerd reads there.
    #[error("{path} is no hosts.toml", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// One of its values means nothing.
    #[error("{path}: {key} = {value:?} is {why}", path = .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Which.
        key: &'static str,
        /// As it is there.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The hosts for a registry, in the order in which they are asked.
pub(super) fn hosts(registry: &str, dirs: &[PathBuf]) -> Result<Vec<Host>, HostsError> {
    let Some(dir) = directory(registry, dirs) else {
        return Ok(vec![own(registry)]);
    };
    let file = dir.join("hosts.toml");
    match fs::metadata(&file) {
        Ok(found) if found.len() > MAX_FILE => Err(HostsError::Value {
            path: file,
            key: "length",
            value: found.len().to_string(),
            why: "more than a hosts.toml has",
        }),
        Ok(found) if found.len() > 0 => from_file(registry, &dir, &file),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(read_error(&file, error)),
        _ => from_certificates(registry, &dir),
    }
}

/// containerd writes a port as `_5000_`, where a colon may not stand in a file name.
fn directory(registry: &str, dirs: &[PathBuf]) -> Option<PathBuf> {
    let spelled = registry
        .rsplit_once(':')
        .map(|(host, port)| format!("{host}_{port}_"));
    let names = spelled.as_deref().into_iter().chain([registry, "_default"]);
    let names: Vec<&str> = names.collect();
    let mut all = dirs
        .iter()
        .flat_map(|dir| names.iter().map(move |name| dir.join(name)));
    all.find(|path| path.is_dir())
}

/// A registry that is its own only host.
fn own(registry: &str) -> Host {
    let local = is_local(registry);
    let scheme = match registry.rsplit_once(':') {
        Some((_, "80")) if local => Scheme::Http,
        Some((_, "443")) => Scheme::Https,
        _ if local => Scheme::Either,
        _ => Scheme::Https,
    };
    let authority = match registry {
        "docker.io" => DOCKER_HUB,
        other => other,
    };
    Host {
        scheme,
        authority: authority.to_owned(),
        path: "/v2".to_owned(),
        pull: true,
        resolve: true,
        push: true,
        authorities: Vec::new(),
        client: None,
        skip_verify: false,
        headers: Vec::new(),
        dial_timeout: None,
    }
}

/// Whether a host is this machine: `localhost`, `127.0.0.0/8` or `::1`.
pub(super) fn is_local(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A table of `hosts.toml`: the file's own, which is the server's, or a mirror's.
#[derive(Debug, Default, Deserialize)]
struct Table {
    #[serde(default)]
    capabilities: Vec<String>,
    ca: Option<OneOrMany>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: toml::map::Map<String, toml::Value>,
    dial_timeout: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct File {
    server: Option<String>,
    /// Kept in the order of the file, which is the order of asking.
    #[serde(default)]
    host: toml::map::Map<String, toml::Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// One file with certificate and key, several of them, or pairs of files.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Client {
    One(String),
    Files(Vec<String>),
    Pairs(Vec<[String; 2]>),
}

fn from_file(registry: &str, dir: &Path, path: &Path) -> Result<Vec<Host>, HostsError> {
    let text = fs::read_to_string(path).map_err(|source| read_error(path, source))?;
    let malformed = |source| HostsError::Malformed {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let file: File = toml::from_str(&text).map_err(malformed)?;
    let root: Table = toml::from_str(&text).map_err(malformed)?;
    let mut hosts = Vec::new();
    for (address, table) in file.host {
        let table: Table = table.try_into().map_err(malformed)?;
        let mut host = own(registry);
        place(&mut host, &address, &table, path)?;
        fill(&mut host, table, dir, path)?;
        hosts.push(host);
    }
    let mut host = own(registry);
    if let Some(server) = file.server.filter(|server| !server.is_empty()) {
        place(&mut host, &server, &root, path)?;
    }
    fill(&mut host, root, dir, path)?;
    hosts.push(host);
    Ok(hosts)
}

/// Reads an address: `https://mirror.example:5000/team`, or without the scheme.
fn place(host: &mut Host, address: &str, table: &Table, path: &Path) -> Result<(), HostsError> {
    let (scheme, rest) = match address.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        None => (Scheme::Https, address),
        Some(_) => {
            return Err(HostsError::Value {
                path: path.to_owned(),
                key: "host",
                value: address.to_owned(),
                why: "neither HTTP nor HTTPS",
            });
        }
    };
    let (authority, api) = match rest.split_once('/') {
        Some((authority, api)) => (authority, api.trim_matches('/')),
        None => (rest, ""),
    };
    let readable = |c: char| c.is_ascii_alphanumeric() || ".-_:[]%".contains(c);
    if authority.is_empty() || !authority.chars().all(readable) {
        return Err(HostsError::Value {
            path: path.to_owned(),
            key: "host",
            value: address.to_owned(),
            why: "no address",
        });
    }
    host.scheme = scheme;
    host.authority = match authority {
        "docker.io" => DOCKER_HUB.to_owned(),
        other => other.to_owned(),
    };
    let is_root = api == "v2" || api.ends_with("/v2") || table.override_path;
    host.path = match (api, is_root) {
        ("", true) => String::new(),
        ("", false) => "/v2".to_owned(),
        (api, true) => format!("/{api}"),
        (api, false) => format!("/{api}/v2"),
    };
    Ok(())
}

fn fill(host: &mut Host, table: Table, dir: &Path, path: &Path) -> Result<(), HostsError> {
    let wrong = |key, value: &str, why| HostsError::Value {
        path: path.to_owned(),
        key,
        value: value.to_owned(),
        why,
    };
    if !table.capabilities.is_empty() {
        (host.pull, host.resolve, host.push) = (false, false, false);
    }
    for capability in &table.capabilities {
        match capability.to_lowercase().as_str() {
            "pull" => host.pull = true,
            "resolve" => host.resolve = true,
            "push" => host.push = true,
            _ => return Err(wrong("capabilities", capability, "no capability")),
        }
    }
    let files = match table.ca {
        None => Vec::new(),
        Some(OneOrMany::One(file)) => vec![file],
        Some(OneOrMany::Many(files)) => files,
    };
    host.authorities = files.iter().map(|file| dir.join(file)).collect();
    host.client = match table.client {
        None => None,
        Some(Client::One(file)) => Some((dir.join(file), None)),
        Some(Client::Files(files)) => files.first().map(|file| (dir.join(file), None)),
        Some(Client::Pairs(pairs)) => pairs
            .first()
            .map(|[certificate, key]| (dir.join(certificate), Some(dir.join(key)))),
    };
    host.skip_verify = table.skip_verify.unwrap_or(false);
    for (name, value) in table.header {
        let values = match value {
            toml::Value::String(one) => vec![one],
            toml::Value::Array(many) => many
                .into_iter()
                .filter_map(|one| one.as_str().map(str::to_owned))
                .collect(),
            other => return Err(wrong("header", other.type_str(), "no text")),
        };
        let named = values.into_iter().map(|value| (name.clone(), value));
        host.headers.extend(named);
    }
    if let Some(text) = table.dial_timeout {
        let span = duration(&text).ok_or_else(|| wrong("dial_timeout", &text, "no time"))?;
        host.dial_timeout = Some(span);
    }
    Ok(())
}

/// A span as Go writes it: `5s`, `1m30s`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let amount: u32 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let one = match &rest[..unit] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return None,
        };
        total = total.checked_add(one.checked_mul(amount)?)?;
        rest = &rest[unit..];
    }
    (!total.is_zero()).then_some(total)
}

/// As docker has it: `*.crt` are authorities, `NAME.cert` and `NAME.key` are the client's.
fn from_certificates(registry: &str, dir: &Path) -> Result<Vec<Host>, HostsError> {
    let mut host = own(registry);
    let entries = fs::read_dir(dir).map_err(|source| read_error(dir, source))?;
    for entry in entries {
        let path = entry.map_err(|source| read_error(dir, source))?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => host.authorities.push(path),
            Some("cert") if host.client.is_none() => {
                let key = path.with_extension("key");
                let key = key.exists().then_some(key);
                host.client = Some((path, key));
            }
            _ => {}
        }
    }
    host.authorities.sort();
    Ok(vec![host])
}

fn read_error(path: &Path, source: std::io::Error) -> HostsError {
    HostsError::Read {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
