//! Why a registry gives nothing.

use std::path::PathBuf;
use std::time::Duration;

use super::credentials::CredentialError;
use super::hosts::HostsError;
use super::patience::spoken;
use super::trust::Distrust;

/// Why a registry gives nothing.
// Over fifteen variants: each is one thing that a registry can do wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Nobody answers.
    #[error("registry {host} cannot be reached")]
    Unreachable {
        /// Its address.
        host: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// It answers, and what it sends us to does not.
    #[error("registry {host} sends us to {target}, which cannot be reached")]
    Elsewhere {
        /// Its address.
        host: String,
        /// Where to: scheme, host and port.
        target: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The way to it leads through a proxy, which does not let us through, or is not there.
    #[error("registry {host} cannot be reached through the proxy {proxy}")]
    Proxy {
        /// Its address.
        host: String,
        /// The proxy's.
        proxy: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// It answers, and nothing says that it is what it claims to be.
    #[error("registry {host} is not trusted")]
    Untrusted {
        /// Its address, or that of the host it sends us to.
        host: String,
        /// Why.
        #[source]
        source: Distrust,
    },
    /// This machine trusts nobody.
    #[error("there is no certificate of any authority to know registry {host} by")]
    NoAuthority {
        /// Its address.
        host: String,
    },
    /// It is busy for longer than anybody waits.
    #[error("registry {host}: {what}: {status}{said}; it wants to be asked again in {after}",
        after = spoken(.wait))]
    Busy {
        /// Its address.
        host: String,
        /// What was asked for.
        what: String,
        /// `429 Too Many Requests`.
        status: String,
        /// Its own words, after a colon; or nothing.
        said: String,
        /// How long it wants to be left alone.
        wait: Duration,
    },
    /// It answers with an error.
    #[error("registry {host}: {what}: {status}{said}")]
    Refused {
        /// Its address.
        host: String,
        /// What was asked for.
        what: String,
        /// `404 Not Found`.
        status: String,
        /// Its own words, after a colon; or nothing.
        said: String,
        /// The number of the status.
        code: u16,
        /// With which credentials, when it is about them.
        #[source]
        tried: Option<Box<Tried>>,
    },
    /// Each of several hosts failed.
    #[error("no host has it: {}",
        .errors.iter().map(with_cause).collect::<Vec<_>>().join("; "))]
    NoHost {
        /// In the order of asking.
        errors: Vec<RegistryError>,
    },
    /// The configuration leaves nobody to ask.
    #[error("no host is configured that could {action} images of {registry}")]
    NoCapability {
        /// The registry.
        registry: String,
        /// `pull` or `resolve`.
        action: &'static str,
    },
    /// Sent from one place to the next.
    #[error("registry {host} redirects more than {limit} times")]
    Redirects {
        /// Its address.
        host: String,
        /// How often is allowed.
        limit: usize,
    },
    /// Sent to a place where nothing can be fetched.
    #[error("registry {host} redirects to {location:?}, which is {why}")]
    Location {
        /// Its address.
        host: String,
        /// The place.
        location: String,
        /// `no address`, `not encrypted`.
        why: &'static str,
    },
    /// It wants to be told who asks in a way that is not known.
    #[error("registry {host} asks for {scheme:?} authentication, which is not supported")]
    Challenge {
        /// Its address.
        host: String,
        /// As it says.
        scheme: String,
    },
    /// The token service's answer is none.
    #[error("the token service {realm} of registry {host} gives no token")]
    Token {
        /// The registry.
        host: String,
        /// Its token service.
        realm: String,
        /// Where the answer goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A document of absurd length.
    #[error("registry {host}: {what} is longer than {limit} bytes")]
    TooLong {
        /// Its address.
        host: String,
        /// Which.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// What was asked for by its digest is something else.
    #[error("registry {host}: {what} has the wrong contents: their digest is {actual}")]
    WrongDigest {
        /// Its address.
        host: String,
        /// Which.
        what: String,
        /// As found.
        actual: crate::Digest,
    },
    /// What should be an image's document is none: some other server answers.
    #[error("registry {host}: {what} is no document of an image, and comes as {media_type:?}")]
    NoDocument {
        /// Its address.
        host: String,
        /// Which.
        what: String,
        /// As it says.
        media_type: String,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// It has something else than images under this name.
    #[error("registry {host}: {what} is of the type {media_type:?}, which is not supported")]
    MediaType {
        /// Its address.
        host: String,
        /// Which.
        what: String,
        /// As it says.
        media_type: String,
    },
    /// A connection broke, again and again.
    #[error("registry {host}: {what}: the connection broke {attempts} times, at last at byte {at}")]
    Broken {
        /// Its address.
        host: String,
        /// Which.
        what: String,
        /// How often without a byte in between.
        attempts: u32,
        /// How far it came.
        at: u64,
        /// How it broke.
        #[source]
        source: std::io::Error,
    },
    /// A certificate or a key cannot be used.
    #[error("{path} holds no usable {what}", path = .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// `certificate`, `key`.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A header of `hosts.toml`, or a credential, that HTTP cannot carry.
    #[error("{what} cannot be sent to registry {host}")]
    Header {
        /// The registry.
        host: String,
        /// Which.
        what: String,
    },
    /// The registry's configuration.
    #[error("the configuration of registry {registry} cannot be used")]
    Hosts {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: HostsError,
    },
    /// Its credentials.
    #[error("there are no credentials for registry {registry}")]
    Credentials {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: CredentialError,
    },
}

impl RegistryError {
    /// Whether it may be otherwise a moment later: nobody answers, or connections break.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Elsewhere { .. }
            | Self::Proxy { .. }
            | Self::Busy { .. }
            | Self::Broken { .. } => true,
            Self::Refused { code, .. } => matches!(code, 429 | 500..),
            Self::NoHost { errors } => errors.iter().any(Self::is_passing),
            _ => false,
        }
    }
}

impl RegistryError {
    /// Whether it is of no use to ask again soon.
    pub(crate) fn is_for_later(&self) -> bool {
        match self {
            Self::Busy { .. } => true,
            Self::NoHost { errors } => errors.iter().all(|one| one.is_for_later()),
            _ => false,
        }
    }
}

/// With which credentials a registry was asked in vain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Tried {
    /// With none.
    #[error("there are no credentials for {account}{places}", places = in_places(.places))]
    Nothing {
        /// Under what they would be kept.
        account: String,
        /// Where was looked.
        places: Vec<String>,
    },
    /// With all that there are.
    #[error("the registry does not take the credentials of {users}", users = .users.join(", nor of "))]
    Refused {
        /// Under what they are kept.
        account: String,
        /// Whose, and where they come from.
        users: Vec<String>,
    },
}

impl Tried {
    /// Under what the credentials are kept: a registry's name.
    #[must_use]
    pub fn account(&self) -> &str {
        match self {
            Self::Nothing { account, .. } | Self::Refused { account, .. } => account,
        }
    }
}

fn in_places(places: &[String]) -> String {
    match places.is_empty() {
        true => String::new(),
        false => format!(" in {}", places.join(" or ")),
    }
}

/// An error and what it came from, in one line: several are told side by side.
fn with_cause(error: &RegistryError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
