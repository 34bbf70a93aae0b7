//! One run of a plugin: its configuration on standard input, its result or its
//! error on standard output, and the rest in the environment (CNI's
//! specification, section 2).

use super::CniError;
use super::config::{Network, can};
use crate::host::process;
use serde_json::{Map, Value, json};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Longest that a plugin may take, in milliseconds: the kubelet's patience with
/// a sandbox.
const PATIENCE_MILLIS: u32 = 120_000;

/// Most that a plugin's answer is read of, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// What a plugin is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Make the attachment.
    Add,
    /// Say whether it is as it was made.
    Check,
    /// Take it back.
    Del,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
        }
    }
}

/// What all plugins of one attachment are told.
#[derive(Debug, Clone)]
pub struct Attachment<'a> {
    /// The pod's UID.
    pub container: &'a str,
    /// File of the network namespace; empty when it is gone.
    pub netns: &'a str,
    /// The interface in it.
    pub interface: &'a str,
    /// `KEY=VALUE;…`.
    pub args: &'a str,
    /// Where plugins are.
    pub plugins: &'a [PathBuf],
    /// By capability.
    pub capabilities: &'a Map<String, Value>,
}

/// Runs one plugin of a network; gives what it answers.
pub fn run(
    verb: Verb,
    network: &Network,
    plugin: &Map<String, Value>,
    attachment: &Attachment<'_>,
    previous: Option<&Value>,
) -> Result<Value, CniError> {
    let kind = plugin.get("type").and_then(Value::as_str);
    let kind = kind.unwrap_or_default();
    let program = find(kind, attachment.plugins).ok_or_else(|| CniError::NoPlugin {
        plugin: kind.to_owned(),
        network: network.name.clone(),
        looked: attachment.plugins.to_vec(),
    })?;
    let config = config(network, plugin, attachment.capabilities, previous);
    let answered = answer(verb, &program, attachment, &config);
    let (is_done, out, err) = answered.map_err(|source| CniError::Run {
        plugin: program.clone(),
        source,
    })?;
    if is_done {
        // CHECK and DEL say nothing.
        return Ok(serde_json::from_slice(&out).unwrap_or(Value::Null));
    }
    let said: Value = serde_json::from_slice(&out).unwrap_or(Value::Null);
    let text = |key: &str| said.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut message = text("msg").to_owned();
    for more in [text("details"), String::from_utf8_lossy(&err).trim()] {
        if !more.is_empty() && (more == text("details") || message.is_empty()) {
            message = if message.is_empty() {
                more.to_owned()
            } else {
                format!("{message}; {more}")
            };
        }
    }
    Err(CniError::Plugin {
        plugin: kind.to_owned(),
        network: network.name.clone(),
        verb: verb.word(),
        message,
        code: said.get("code").and_then(Value::as_u64).unwrap_or_default(),
    })
}

fn find(kind: &str, places: &[PathBuf]) -> Option<PathBuf> {
    let all = places.iter().map(|place| place.join(kind));
    all.into_iter().find(|path| path.is_file())
}

/// The plugin's own configuration with what is known at run time.
fn config(
    network: &Network,
    plugin: &Map<String, Value>,
    capabilities: &Map<String, Value>,
    previous: Option<&Value>,
) -> Value {
    let mut config = plugin.clone();
    config.insert("name".into(), json!(network.name));
    config.insert("cniVersion".into(), json!(network.version));
    let known = capabilities.iter().filter(|(name, _)| can(plugin, name));
    let known: Map<_, _> = known.map(|(k, v)| (k.clone(), v.clone())).collect();
    if !known.is_empty() {
        config.insert("runtimeConfig".into(), Value::Object(known));
    }
    if let Some(previous) = previous {
        config.insert("prevResult".into(), previous.clone());
    }
    Value::Object(config)
}

/// Whether it ended well, and what it said on both streams.
fn answer(
    verb: Verb,
    program: &Path,
    attachment: &Attachment<'_>,
    config: &Value,
) -> std::io::Result<(bool, Vec<u8>, Vec<u8>)> {
    let path = std::env::join_paths(attachment.plugins).unwrap_or_default();
    let mut child = Command::new(program)
        .env("CNI_COMMAND", verb.word())
        .env("CNI_CONTAINERID", attachment.container)
        .env("CNI_NETNS", attachment.netns)
        .env("CNI_IFNAME", attachment.interface)
        .env("CNI_ARGS", attachment.args)
        .env("CNI_PATH", path)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    // Not reaped yet, so the number is its own.
    let watched = process::identify(pid).and_then(process::open);
    let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let bytes = serde_json::to_vec(config)?;
    let said = std::thread::scope(|scope| {
        // Whoever does not read its configuration has a reason, and says it.
        scope.spawn(move || input.map(|mut to| to.write_all(&bytes)));
        let out = scope.spawn(move || read(out));
        let err = scope.spawn(move || read(err));
        if let Some(pidfd) = &watched
            && !process::wait_end(pidfd, PATIENCE_MILLIS)
        {
            let _ = process::kill(pidfd);
            return Err(std::io::Error::from(std::io::ErrorKind::TimedOut));
        }
        let joined = |ended: std::thread::Result<Vec<u8>>| ended.unwrap_or_default();
        Ok((joined(out.join()), joined(err.join())))
    });
    let status = reap(&mut child)?;
    said.map(|(out, err)| (status, out, err))
}

fn read(from: Option<impl std::io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        let _ = from.take(MAX_ANSWER).read_to_end(&mut bytes);
    }
    bytes
}

fn reap(child: &mut Child) -> std::io::Result<bool> {
    child.wait().map(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_told_what_it_knows_and_no_more() {
        let source = json!({"cniVersion": "0.4.0", "name": "a", "plugins": [
            {"type": "bridge", "mtu": 1400}, {"type": "portmap", "capabilities": {"portMappings": true}}]});
        let network = Network::of(source).unwrap();
        let capabilities = json!({"portMappings": [{"hostPort": 1}], "bandwidth": {}});
        let capabilities = capabilities.as_object().unwrap();
        let first = config(&network, &network.plugins[0], capabilities, None);
        assert_eq!(
            first,
            json!({"cniVersion": "0.4.0", "name": "a", "type": "bridge", "mtu": 1400})
        );
        let result = json!({"ips": []});
        let second = config(&network, &network.plugins[1], capabilities, Some(&result));
        assert_eq!(
            second["runtimeConfig"],
            json!({"portMappings": [{"hostPort": 1}]})
        );
        assert_eq!(second["prevResult"], result);
    }
}
