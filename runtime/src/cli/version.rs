//! `beluga version`.

use super::dry::Form;
use super::{CliError, exit, yaml};
use crate::settings::{Parts, Settings, SettingsError};
use beluga_image::Digest;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Arguments of `version`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only of this program
    #[arg(long)]
    client: bool,
    /// As an object
    #[arg(short, long, value_enum)]
    output: Option<Form>,
}

/// Runs the verb.
pub fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let parts = if args.client {
        Ok(Vec::new())
    } else {
        parts(settings)
    };
    if let Some(form) = args.output {
        // kubectl's name for the program that answers.
        let mut object = json!({"clientVersion": {"gitVersion": format!("v{VERSION}")}});
        match parts {
            Ok(parts) => {
                for (name, version, path) in parts {
                    object["parts"][name] = json!({"version": version, "path": path});
                }
            }
            Err(error) => object["error"] = json!(crate::error_chain(&error)),
        }
        match form {
            Form::Json => say!("{object:#}"),
            Form::Yaml => put!("{}", yaml(&object)?),
        }
        return Ok(exit::OK);
    }
    say!("beluga {VERSION}");
    match parts {
        Ok(parts) => {
            for (name, version, path) in parts {
                let version = version.as_deref().unwrap_or("unknown");
                say!("{name} {version} ({})", path.display());
            }
        }
        Err(error) => say!("{error}"),
    }
    Ok(exit::OK)
}

/// A part of what is installed: its name, its version, where it is.
type Part = (&'static str, Option<String>, PathBuf);

fn parts(settings: &Settings) -> Result<Vec<Part>, SettingsError> {
    let Parts {
        vmm,
        kernel,
        initramfs,
    } = settings.parts()?;
    let share = settings.share_server().ok();
    let mut parts = vec![("vmm", of_program(&vmm), vmm)];
    parts.extend(share.map(|share| ("share", of_program(&share), share)));
    parts.push(("kernel", of_kernel(&kernel), kernel));
    parts.push(("initramfs", of_initramfs(&initramfs), initramfs));
    Ok(parts)
}

/// The release of a guest kernel, like `6.12.117-beluga`: from the banner that
/// every uncompressed Linux holds.
pub fn of_kernel(path: &Path) -> Option<String> {
    word_behind(&std::fs::read(path).ok()?, b"Linux version ")
}

/// The version of the agent in an uncompressed initramfs.
pub fn of_initramfs(path: &Path) -> Option<String> {
    word_behind(&std::fs::read(path).ok()?, b"beluga-agent-version=")
}

/// What `rootfs/build.sh` notes beside the files that pods boot from, a line for
/// each: name, version, SHA-256.
const NOTE: &str = "guest.built";

/// Where a file that pods boot from comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was built with this version.
    Ours,
    /// It was built with another one.
    Other(String),
    /// It is not the file that was built.
    Changed,
    /// Nothing is noted of it.
    Unknown,
}

/// By what is noted beside the file.
pub fn origin(path: &Path) -> Origin {
    let noted = path.parent().map(|directory| directory.join(NOTE));
    let noted = noted.and_then(|note| std::fs::read_to_string(note).ok());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match (noted, std::fs::read(path)) {
        (Some(noted), Ok(bytes)) => origin_by(&noted, &name, &bytes),
        _ => Origin::Unknown,
    }
}

fn origin_by(noted: &str, name: &str, bytes: &[u8]) -> Origin {
    let mut lines = noted.lines().map(|line| line.split(' '));
    let line = lines.find_map(|mut words| {
        let is_its = words.next() == Some(name);
        is_its.then_some((words.next()?, words.next()?))
    });
    match line {
        None => Origin::Unknown,
        Some((_, digest)) if digest != Digest::of(bytes).hex() => Origin::Changed,
        Some((VERSION, _)) => Origin::Ours,
        Some((version, _)) => Origin::Other(version.to_owned()),
    }
}

/// The word behind the first place where `mark` and a digit stand.
fn word_behind(bytes: &[u8], mark: &[u8]) -> Option<String> {
    let behind = bytes
        .windows(mark.len() + 1)
        .position(|window| window.starts_with(mark) && window[mark.len()].is_ascii_digit())?
        + mark.len();
    let word = bytes[behind..]
        .iter()
        .take(64)
        .take_while(|byte| byte.is_ascii_graphic());
    Some(word.map(|byte| char::from(*byte)).collect())
}

/// What a program of ours says that it is, as `beluga-vmm 0.1.0` does.
pub fn of_program(program: &Path) -> Option<String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let said = of_ours(&String::from_utf8_lossy(&output.stdout));
    said.filter(|_| output.status.success())
}

/// The version in a line like `beluga-vmm 0.1.0`.
fn of_ours(line: &str) -> Option<String> {
    let (name, version) = line.trim().split_once(' ')?;
    let is_ours =
        name.starts_with("beluga-") && version.starts_with(|one: char| one.is_ascii_digit());
    is_ours.then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_stands_behind_its_mark() {
        let find = |text: &str| word_behind(text.as_bytes(), b"Linux version ");
        assert_eq!(
            find("\0Linux version %s\0Linux version 6.12.1-beluga (b@b)"),
            Some("6.12.1-beluga".into())
        );
        assert_eq!(find("Linux version 6"), Some("6".into()));
        assert_eq!(find("Linux version "), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn a_file_is_known_by_what_is_noted_of_it() {
        let digest = Digest::of(b"kernel").hex();
        let noted = format!("initramfs.cpio 0.0.9 {digest}\nvmlinux {VERSION} {digest}\n");
        let origin = |name: &str, bytes: &[u8]| origin_by(&noted, name, bytes);
        assert_eq!(origin("vmlinux", b"kernel"), Origin::Ours);
        assert_eq!(origin("vmlinux", b"another"), Origin::Changed);
        assert_eq!(
            origin("initramfs.cpio", b"kernel"),
            Origin::Other("0.0.9".into())
        );
        assert_eq!(origin("bzImage", b"kernel"), Origin::Unknown);
        assert_eq!(origin_by("vmlinux", "vmlinux", b"kernel"), Origin::Unknown);
    }

    #[test]
    fn programs_of_others_have_no_version_of_ours() {
        assert_eq!(of_ours("beluga-vmm 0.1.0\n"), Some("0.1.0".into()));
        let other = "true (GNU coreutils) 9.1\nWritten by Jim Meyering.\n";
        for line in [other, "beluga-vmm", "beluga-vmm x", ""] {
            assert_eq!(of_ours(line), None, "{line}");
        }
    }
}
