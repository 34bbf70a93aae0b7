//! Who a host takes us for: which credential is tried, and what it is exchanged for.

use std::sync::PoisonError;

use ureq::http::StatusCode;
use ureq::http::header::AUTHORIZATION;

use super::RegistryError;
use super::auth::{self, Challenge, Token};
use super::credentials::{Credential, Keyring, Known};
use super::endpoint::{Endpoint, body};
use super::request::{is_safe, origin};

/// What was found out about who may ask.
#[derive(Default)]
pub(super) struct Access {
    pub header: Option<String>,
    /// Something was given for this header.
    pub has_worked: bool,
    pub challenge: Option<Challenge>,
    pub credentials: Option<Vec<Known>>,
    pub next: usize,
}

impl Endpoint {
    /// The header to try next, after `used` was refused; `None` when there is no other.
    pub(super) fn answer(
        &self,
        challenge: Option<Challenge>,
        used: Option<&str>,
        keyring: &Keyring,
    ) -> Result<Option<String>, RegistryError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (challenge, credentials, mut at) = {
            let mut access = self.access();
            if access.header.as_deref() != used {
                return Ok(access.header.clone());
            }
            if let Some(challenge) = challenge {
                access.challenge = Some(challenge);
            }
            // A token that worked has run out: another one for the same credential.
            let stay = used.is_none() || access.has_worked;
            access.has_worked = false;
            let at = access.next + usize::from(!stay);
            (access.challenge.clone(), access.credentials.clone(), at)
        };
        let Some(challenge) = challenge else {
            return Ok(None);
        };
        let credentials = match credentials {
            Some(known) => known,
            None => self.credentials(keyring)?,
        };
        self.access().credentials = Some(credentials.clone());
        let mut refused = None;
        // Without any it is still asked, as nobody.
        while at < credentials.len().max(1) {
            let known = credentials.get(at).map(|known| &known.credential);
            match self.header(&challenge, known) {
                Ok(Some(header)) => {
                    let mut access = self.access();
                    (access.header, access.next) = (Some(header.clone()), at);
                    return Ok(Some(header));
                }
                Ok(None) => {}
                Err(error @ RegistryError::Refused { .. }) => refused = Some(error),
                Err(error) => return Err(error),
            }
            at += 1;
        }
        refused.map_or(Ok(None), Err)
    }

    fn credentials(&self, keyring: &Keyring) -> Result<Vec<Known>, RegistryError> {
        let found = keyring.lookup(&self.account, &self.repository);
        found.map_err(|source| RegistryError::Credentials {
            registry: self.account.clone(),
            source,
        })
    }

    /// What to send for a challenge; `None` when this credential is no answer to it.
    fn header(
        &self,
        challenge: &Challenge,
        credential: Option<&Credential>,
    ) -> Result<Option<String>, RegistryError> {
        match (challenge, credential) {
            (Challenge::Basic, credential) => Ok(credential.and_then(auth::basic)),
            (Challenge::Bearer { .. }, Some(Credential::Token(token))) => {
                Ok(Some(format!("Bearer {token}")))
            }
            (
                Challenge::Bearer {
                    realm,
                    service,
                    scope,
                },
                credential,
            ) => {
                let own = format!("repository:{}:pull", self.repository);
                // A login is for no repository.
                let own = (!self.repository.is_empty()).then_some(own.as_str());
                let one: Vec<&str> = scope.as_deref().or(own).into_iter().collect();
                let own: Vec<&str> = self.scopes.iter().map(String::as_str).collect();
                let scopes = if own.is_empty() { one } else { own };
                self.token(realm, service.as_deref(), &scopes, credential)
                    .map(Some)
            }
            (Challenge::Other(scheme), _) => Err(RegistryError::Challenge {
                host: self.host.label(),
                scheme: scheme.clone(),
            }),
        }
    }

    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scopes: &[&str],
        credential: Option<&Credential>,
    ) -> Result<String, RegistryError> {
        let host = || self.host.label();
        let plain = self.scheme.get() == Some(&"http") && !realm.starts_with("https:");
        if !(plain || is_safe(realm)) {
            return Err(RegistryError::Location {
                host: host(),
                location: realm.chars().take(200).collect(),
                why: "not encrypted",
            });
        }
        let request = auth::token_request(realm, service, scopes, credential);
        let sent = match request.form {
            Some(form) => {
                let post = self.agent.post(&request.url);
                let kind = "application/x-www-form-urlencoded";
                post.header("Content-Type", kind).send(form)
            }
            None => {
                let mut get = self.agent.get(&request.url);
                if let Some(header) = &request.header {
                    get = get.header(AUTHORIZATION, self.sensitive(header)?);
                }
                get.call()
            }
        };
        let response = sent.map_err(|source| self.unreachable(&request.url, source))?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(&format!("a token of {}", origin(realm)), response));
        }
        let answer = body(response);
        let token: Token =
            serde_json::from_slice(&answer).map_err(|source| RegistryError::Token {
                host: host(),
                realm: realm.to_owned(),
                source,
            })?;
        Ok(token.header())
    }
}
