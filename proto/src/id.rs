//! Identifiers that cross a process boundary. Each is checked where it is
//! parsed, so that a holder may use it as a file name without a second look.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not of the shape that this identifier has.
    #[error("{text:?} is not {expected}")]
    Shape {
        /// What was given.
        text: String,
        /// The shape wanted.
        expected: &'static str,
    },
}

fn shape(text: &str, expected: &'static str) -> IdError {
    IdError::Shape {
        text: text.chars().take(80).collect(),
        expected,
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the shape. Errors when the text has another one.
            pub fn parse(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err(shape(&text, $expected)) }
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// The UID of a pod: a lower-case UUID. A replacement of the same name has a new one.
    PodUid,
    "a lower-case UUID",
    |text| {
        text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            })
    }
);

text_id!(
    /// One run of one container: 32 hexadecimal digits. A restart has a new one.
    ContainerId,
    "32 lower-case hexadecimal digits",
    |text| text.len() == 32 && is_lower_hex(text)
);

text_id!(
    /// One command run in a container beside its own: 32 hexadecimal digits.
    ExecId,
    "32 lower-case hexadecimal digits",
    |text| text.len() == 32 && is_lower_hex(text)
);

impl PodUid {
    /// A version 4 UUID from 16 random bytes.
    #[must_use]
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let digits = hex(&bytes);
        Self(format!(
            "{}-{}-{}-{}-{}",
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..]
        ))
    }
}

impl ContainerId {
    /// An identifier from 16 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(hex(&bytes))
    }
}

impl ExecId {
    /// An identifier from 16 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(hex(&bytes))
    }
}

/// 128 random bits that prove who opened a stream, used once; also the shape
/// of the token with which an agent proves itself when it dials again.
///
/// On a stream the sixteen raw bytes go first; in a frame they are 32 digits.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce([u8; 16]);

impl Nonce {
    /// Bytes on the stream before its first byte of data.
    pub const LEN: usize = 16;

    /// Wraps sixteen random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as they go over the stream.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Compares in a time that does not depend on where the two differ.
    #[must_use]
    pub fn matches(&self, other: &[u8; 16]) -> bool {
        self.0
            .iter()
            .zip(other)
            .fold(0u8, |acc, (a, b)| acc | (a ^ b))
            == 0
    }
}

/// A secret: never printed.
impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}

impl TryFrom<String> for Nonce {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        let bad = || shape("(hidden)", "32 lower-case hexadecimal digits");
        if text.len() != 32 || !is_lower_hex(&text) {
            return Err(bad());
        }
        let mut bytes = [0u8; 16];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> String {
        hex(&nonce.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_uid_is_a_version_4_uuid_and_parses_again() {
        let uid = PodUid::from_random([0xff; 16]);
        assert_eq!(uid.as_str(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(PodUid::parse(uid.as_str()), Ok(uid));
    }

    #[test]
    fn identifiers_refuse_what_could_be_a_path() {
        assert!(PodUid::parse("../../../../../../../../../etc/passwd").is_err());
        assert!(ContainerId::parse("0123456789abcdef0123456789abcde/").is_err());
        assert!(ContainerId::parse("0123456789ABCDEF0123456789ABCDEF").is_err());
        assert!(ContainerId::parse("").is_err());
    }

    #[test]
    fn a_nonce_survives_the_text_form_and_hides_itself() {
        let nonce = Nonce::from_random(*b"0123456789abcdef");
        let text = String::from(nonce.clone());
        let again = Nonce::try_from(text).expect("own output parses");
        assert!(again.matches(nonce.as_bytes()));
        assert!(!again.matches(&[0; 16]));
        assert_eq!(format!("{nonce:?}"), "Nonce(..)");
    }
}
