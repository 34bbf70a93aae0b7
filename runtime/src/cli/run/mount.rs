//! `--mount` and `--tmpfs`, as docker and podman write them.

use super::volume::{Mount, Place, absolute, host};
use crate::cli::CliError;
use crate::cli::error::UsageError;

/// Reads `PATH`, or `PATH:size=SIZE`.
pub fn tmpfs(text: &str) -> Result<Mount, CliError> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let read = || {
        let mut mount = Mount {
            place: Place::Nameless,
            path: absolute(path)?,
            read_only: false,
        };
        let mut most = None;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("size", size)) => most = Some(bytes(size)?),
                None if option == "ro" => mount.read_only = true,
                None if option == "rw" => mount.read_only = false,
                _ => return Err(format!("{option:?} is not one of size=SIZE, ro, rw")),
            }
        }
        mount.place = Place::Memory(most);
        Ok(mount)
    };
    read().map_err(|why: String| UsageError::flag("--tmpfs", text, why).into())
}

/// Reads `type=bind,source=/DIR,target=PATH,readonly` and the like.
pub fn mount(text: &str) -> Result<Mount, CliError> {
    let wrong = |why: String| UsageError::flag("--mount", text, why).into();
    Words::read(text).and_then(Words::mount).map_err(wrong)
}

/// What `--mount` says, word by word.
#[derive(Debug, Default)]
struct Words<'t> {
    kind: Option<&'t str>,
    source: Option<&'t str>,
    target: Option<&'t str>,
    size: Option<u64>,
    read_only: bool,
}

impl<'t> Words<'t> {
    fn read(text: &'t str) -> Result<Self, String> {
        let mut words = Self::default();
        for word in text.split(',') {
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (word, None),
            };
            match (key, value) {
                ("type", Some(kind)) => words.kind = Some(kind),
                ("source" | "src", Some(source)) => words.source = Some(source),
                ("target" | "destination" | "dst", Some(target)) => words.target = Some(target),
                ("tmpfs-size", Some(size)) => words.size = Some(bytes(size)?),
                ("readonly" | "ro", None | Some("true" | "1")) => words.read_only = true,
                ("readonly" | "ro", Some("false" | "0")) => words.read_only = false,
                _ => {
                    return Err(format!(
                        "{word:?} is not one of type=, source=, target=, readonly, tmpfs-size="
                    ));
                }
            }
        }
        Ok(words)
    }

    fn mount(self) -> Result<Mount, String> {
        // docker's and podman's own default.
        let kind = self.kind.unwrap_or("volume");
        let needed = |what: Option<&'t str>, key| {
            what.ok_or_else(|| format!("a mount of type {kind} needs {key}="))
        };
        let place = match kind {
            "bind" => match needed(self.source, "source")? {
                // Nothing else is a place on the host here, and a name would be a claim.
                source if !source.contains('/') => host(&format!("./{source}"))?,
                source => host(source)?,
            },
            "volume" => match self.source {
                Some(name) if name.contains('/') => {
                    return Err(format!("{name} is a place on the host: that is type=bind"));
                }
                Some(name) => Place::Named(name.to_owned()),
                None => Place::Nameless,
            },
            "tmpfs" => Place::Memory(self.size),
            "image" => Place::Image(needed(self.source, "source")?.to_owned()),
            other => {
                return Err(format!(
                    "{other:?} is not one of the types bind, volume, tmpfs, image"
                ));
            }
        };
        Ok(Mount {
            place,
            path: absolute(needed(self.target, "target")?)?,
            read_only: self.read_only,
        })
    }
}

/// A size in the units of docker, which are powers of 1024: `64m`, `1g`; and of Kubernetes: `64Mi`.
fn bytes(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| !c.is_ascii_digit());
    let bits = match &lower[digits.len()..] {
        "" | "b" => Some(0),
        "k" | "kb" | "ki" => Some(10),
        "m" | "mb" | "mi" => Some(20),
        "g" | "gb" | "gi" => Some(30),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
    let size = number.zip(bits);
    size.and_then(|(number, bits)| number.checked_mul(1 << bits))
        .ok_or_else(|| format!("{text:?} is not a size, like 64m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(place: Place, path: &str, read_only: bool) -> Mount {
        Mount {
            place,
            path: path.to_owned(),
            read_only,
        }
    }

    #[test]
    fn a_mount_is_written_in_words() {
        let named = || Place::Named("data".into());
        for (text, place, path, read_only) in [
            ("source=data,target=/d", named(), "/d", false),
            ("type=volume,src=data,dst=/d,ro", named(), "/d", true),
            ("type=volume,destination=/d", Place::Nameless, "/d", false),
            (
                "type=bind,source=/usr/.,target=/u,readonly=true",
                Place::Host("/usr".into()),
                "/u",
                true,
            ),
            (
                "type=tmpfs,target=/t,tmpfs-size=64m",
                Place::Memory(Some(64 << 20)),
                "/t",
                false,
            ),
            (
                "type=image,source=tools,target=/t",
                Place::Image("tools".into()),
                "/t",
                false,
            ),
        ] {
            let read = mount(text).unwrap();
            assert_eq!(read, meant(place, path, read_only), "{text}");
        }
    }

    #[test]
    fn memory_is_mounted_with_a_size() {
        for (text, size, read_only) in [
            ("/t", None, false),
            ("/t:size=1g,ro", Some(1 << 30), true),
            ("/t:rw,size=4096", Some(4096), false),
        ] {
            let read = tmpfs(text).unwrap();
            assert_eq!(read, meant(Place::Memory(size), "/t", read_only), "{text}");
        }
    }

    #[test]
    fn what_is_no_mount_is_told_with_the_flag() {
        for (text, why) in [
            ("type=bind,target=/t", "type bind needs source="),
            (
                "type=bind,source=none-x,target=/t",
                "./none-x: no such file",
            ),
            ("type=volume,source=data", "type volume needs target="),
            ("type=volume,source=/x,target=/t", "that is type=bind"),
            (
                "type=devpts,target=/t",
                "\"devpts\" is not one of the types",
            ),
            ("type=bind,bind-propagation=shared", "is not one of type="),
            ("target=t", "\"t\" is no absolute path"),
        ] {
            let error = mount(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--mount {text:?}: ")), "{error}");
            assert!(error.contains(why), "{error}");
        }
        for (text, why) in [
            ("t", "\"t\" is no absolute path"),
            ("/t:size=many", "\"many\" is not a size"),
            ("/t:size=99999999999g", "is not a size"),
            ("/t:noexec", "\"noexec\" is not one of size=SIZE, ro, rw"),
        ] {
            let error = tmpfs(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--tmpfs {text:?}: ")), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }
}
