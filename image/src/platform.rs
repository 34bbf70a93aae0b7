//! Operating systems and processors, and which images are for them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Operating system and processor, in Go's words: `linux/amd64`, `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v8`, where it is said.
    pub variant: Option<String>,
}

impl Platform {
    /// Linux on this machine's processor: what a guest here can run.
    pub fn host() -> Self {
        Platform {
            os: "linux".into(),
            architecture: std::env::consts::ARCH.into(),
            variant: None,
        }
        .plain()
    }

    /// Whether a program for `self` runs on `other`, as far as the kind of processor goes.
    pub fn runs_on(&self, other: &Platform) -> bool {
        let (own, other) = (self.clone().plain(), other.clone().plain());
        own.os == other.os && own.architecture == other.architecture
    }

    /// How good an offer of an index is for what is wanted, the least the best; `None` where it
    /// may hold instructions that the processor does not have. As containerd decides: a variant
    /// that is not named is the first one, and what is wanted runs all that came before it.
    pub(crate) fn distance(&self, wanted: &Platform) -> Option<u32> {
        let (own, wanted) = (self.clone().plain(), wanted.clone().plain());
        if own.os != wanted.os || own.architecture != wanted.architecture {
            return None;
        }
        let (first, least) = match own.architecture.as_str() {
            "amd64" => ((1, 0), (1, 0)),
            "arm64" => ((8, 0), (8, 0)),
            "arm" => ((7, 0), (0, 0)),
            _ => {
                let is_same = own.variant == wanted.variant;
                let is_open = own.variant.is_none() || wanted.variant.is_none();
                return (is_same || is_open).then_some(u32::from(!is_same));
            }
        };
        let level = |variant: Option<&str>| variant.map_or(Some(first), level);
        let offered = level(own.variant.as_deref());
        match offered.zip(level(wanted.variant.as_deref())) {
            Some((own, wanted)) if own <= wanted && own >= least => {
                Some((wanted.0 - own.0) * 100 + wanted.1.abs_diff(own.1))
            }
            Some(_) => None,
            // Names that say nothing about what comes before.
            None => (own.variant == wanted.variant).then_some(0),
        }
    }

    /// Under the names that images have.
    fn plain(mut self) -> Self {
        self.os.make_ascii_lowercase();
        self.architecture.make_ascii_lowercase();
        let variant = match self.architecture.as_str() {
            "x86_64" | "x86-64" => {
                self.architecture = "amd64".into();
                None
            }
            "aarch64" => {
                self.architecture = "arm64".into();
                None
            }
            "armhf" => {
                self.architecture = "arm".into();
                Some("v7")
            }
            "armel" => {
                self.architecture = "arm".into();
                Some("v6")
            }
            "i386" | "i686" => {
                self.architecture = "386".into();
                None
            }
            _ => None,
        };
        self.variant = self.variant.filter(|variant| !variant.is_empty());
        self.variant = self.variant.or_else(|| variant.map(str::to_owned));
        self
    }
}

/// `v8` and `8` are 8, `v8.1` is a little more.
fn level(variant: &str) -> Option<(u32, u32)> {
    let digits = variant.strip_prefix('v').unwrap_or(variant);
    let (major, minor) = digits.split_once('.').unwrap_or((digits, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

impl FromStr for Platform {
    type Err = &'static str;

    /// Reads `OS/ARCH`, `OS/ARCH/VARIANT`, or `ARCH` of Linux.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "it is written OS/ARCH, like linux/amd64";
        const ALONE: [&str; 9] = [
            "amd64", "x86_64", "x86-64", "arm64", "aarch64", "arm", "386", "riscv64", "s390x",
        ];
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [architecture] if ALONE.contains(&architecture) => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
            _ => return Err(FORM),
        };
        if os.is_empty() || architecture.is_empty() || variant.as_deref() == Some("") {
            return Err(FORM);
        }
        let platform = Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant,
        };
        Ok(platform.plain())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(offered: &str, wanted: &str) -> Option<u32> {
        let read = |text: &str| text.parse::<Platform>().unwrap();
        read(offered).distance(&read(wanted))
    }

    #[test]
    fn a_processor_has_several_names() {
        for (text, plain) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("arm64", "linux/arm64"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm64/v8", "linux/arm64/v8"),
        ] {
            let read = text.parse::<Platform>().map(|found| found.to_string());
            assert_eq!(read.as_deref(), Ok(plain));
        }
        for text in ["linux", "linux/", "/amd64", "a/b/c/d", "linux/arm64/"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_needs_more_than_the_processor_has_is_no_offer() {
        let plain = "linux/amd64";
        assert_eq!(distance(plain, plain), Some(0));
        assert_eq!(distance("linux/amd64/v1", plain), Some(0));
        for offered in [
            "linux/amd64/v2",
            "linux/amd64/v9",
            "linux/arm64",
            "windows/amd64",
        ] {
            assert_eq!(distance(offered, plain), None, "{offered}");
        }
        assert_eq!(distance("linux/amd64/v3", "linux/amd64/v3"), Some(0));
        assert!(distance("linux/amd64/v2", "linux/amd64/v3") < distance(plain, "linux/amd64/v3"));
        assert_eq!(distance("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(distance("linux/arm64/v8", "linux/arm64/v7"), None);
        assert_eq!(distance("linux/arm/v6", "linux/arm/v7"), Some(100));
        assert_eq!(distance("linux/riscv64/x", "linux/riscv64"), Some(1));
    }
}
