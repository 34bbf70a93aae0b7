//! What a registry asks for before it gives something, and the answers to that.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::credentials::Credential;

/// What `WWW-Authenticate` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        /// Where tokens are given.
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
    /// Of another kind, by its name.
    Other(String),
}

impl Challenge {
    /// The first that can be answered, of all that the headers hold.
    pub(super) fn read<'h>(headers: impl Iterator<Item = &'h str>) -> Option<Self> {
        let mut other = None;
        for header in headers {
            for challenge in http_auth::parse_challenges(header).unwrap_or_default() {
                let parameter = |name: &str| {
                    let mut all = challenge.params.iter();
                    let found = all.find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    return Some(Self::Basic);
                }
                match parameter("realm") {
                    Some(realm) if challenge.scheme.eq_ignore_ascii_case("bearer") => {
                        return Some(Self::Bearer {
                            realm,
                            service: parameter("service"),
                            scope: parameter("scope"),
                        });
                    }
                    _ => other = Some(Self::Other(challenge.scheme.to_owned())),
                }
            }
        }
        other
    }
}

/// What is sent to the token service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TokenRequest {
    pub url: String,
    /// `Authorization`.
    pub header: Option<String>,
    /// A form to be posted; without one it is a GET.
    pub form: Option<String>,
}

/// How to ask for a token.
pub(super) fn token_request(
    realm: &str,
    service: Option<&str>,
    scopes: &[&str],
    credential: Option<&Credential>,
) -> TokenRequest {
    let service = service.map(|service| ("service", service));
    if let Some(Credential::Identity(token)) = credential {
        // OAuth has them in one field, the older way has a field for each.
        let joined = scopes.join(" ");
        let mut fields = vec![("scope", joined.as_str())];
        fields.extend(service);
        fields.extend([
            ("grant_type", "refresh_token"),
            ("client_id", "beluga"),
            ("refresh_token", token.as_str()),
        ]);
        return TokenRequest {
            url: realm.to_owned(),
            header: None,
            form: Some(query(&fields)),
        };
    }
    let scopes = scopes.iter().map(|scope| ("scope", *scope));
    let fields: Vec<_> = scopes.chain(service).collect();
    let separator = if realm.contains('?') { '&' } else { '?' };
    TokenRequest {
        url: format!("{realm}{separator}{}", query(&fields)),
        header: credential.and_then(basic),
        form: None,
    }
}

/// `Basic …` of a password; nothing else can be sent so.
pub(super) fn basic(credential: &Credential) -> Option<String> {
    match credential {
        Credential::Password { user, password } => {
            let pair = STANDARD.encode(format!("{user}:{password}"));
            Some(format!("Basic {pair}"))
        }
        Credential::Identity(_) | Credential::Token(_) => None,
    }
}

/// The token service's answer.
#[derive(Deserialize)]
pub(super) struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Token {
    pub(super) fn header(self) -> String {
        let token = self.token.filter(|token| !token.is_empty());
        format!("Bearer {}", token.or(self.access_token).unwrap_or_default())
    }
}

fn query(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("{key}={}", encode(value)))
        .collect();
    pairs.join("&")
}

/// RFC 3986: all but the unreserved characters as `%XX`.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_told_apart() {
        let read = |text| Challenge::read([text].into_iter());
        assert_eq!(read("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(
            read("Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:x:pull\""),
            Some(Challenge::Bearer {
                realm: "https://a/t".into(),
                service: Some("s".into()),
                scope: Some("repository:x:pull".into()),
            })
        );
        assert_eq!(
            read("Negotiate"),
            Some(Challenge::Other("Negotiate".into()))
        );
        assert_eq!(
            read("Bearer service=\"s\""),
            Some(Challenge::Other("Bearer".into()))
        );
        assert_eq!(read("\"\""), None);
    }

    #[test]
    fn a_token_is_asked_for_with_a_password_or_an_older_token() {
        let password = Credential::Password {
            user: "u".into(),
            password: "p".into(),
        };
        let request = token_request(
            "https://a/t",
            Some("s t"),
            &["repository:x:pull"],
            Some(&password),
        );
        assert_eq!(
            request.url,
            "https://a/t?scope=repository%3Ax%3Apull&service=s%20t"
        );
        assert_eq!(request.header.as_deref(), Some("Basic dTpw"));
        let identity = Credential::Identity("i&".into());
        let request = token_request("https://a/t", None, &["x", "y"], Some(&identity));
        assert_eq!(request.url, "https://a/t");
        let form = request.form.unwrap();
        assert!(form.starts_with("scope=x%20y&") && form.ends_with("refresh_token=i%26"));
    }
}
