//! `beluga build`: an image of one layer from a directory.

use crate::cli::error::{ImageError, UsageError};
use crate::cli::images::megabytes;
use crate::cli::pull::platform;
use crate::cli::{CliError, exit, interrupt};
use crate::settings::Settings;
use beluga_image::{
    BuildOptions, BuildProgress, Cancel, ImageConfig, Limits, Platform, Reference, Store,
};
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two lines of progress.
const REDRAW: Duration = Duration::from_millis(100);
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What another tool makes images from.
const RECIPES: [&str; 2] = ["Dockerfile", "Containerfile"];

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory; its files become the image's, with owners, modes, times, links and attributes
    dir: PathBuf,
    /// A name for the image; may be given again
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Vec<String>,
    /// The program and its first arguments, as JSON or in words
    #[arg(long, value_name = "[\"WORD\",…]|WORDS", value_parser = words, allow_hyphen_values = true)]
    entrypoint: Option<Words>,
    /// Further arguments, which a container's own replace, as JSON or in words
    #[arg(long, value_name = "[\"WORD\",…]|WORDS", value_parser = words, allow_hyphen_values = true)]
    cmd: Option<Words>,
    /// NAME=VALUE, or NAME to take the value from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Whom its programs run as: USER or UID, with or without :GROUP or :GID
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory
    #[arg(short, long, visible_alias = "workingdir", value_name = "PATH")]
    workdir: Option<String>,
    /// A label of the image
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// A port that its programs listen at
    #[arg(long, visible_alias = "port", value_name = "PORT[/PROTOCOL]", value_parser = port)]
    expose: Vec<String>,
    /// A directory that expects a volume
    #[arg(long, value_name = "PATH")]
    volume: Vec<String>,
    /// What its programs are asked to end with, like SIGQUIT
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// What the image is for, when not for machines like this one
    #[arg(long, value_name = "OS/ARCH", value_parser = platform)]
    platform: Option<Platform>,
    /// Owner of every file, instead of each its own
    #[arg(long, value_name = "UID[:GID]", value_parser = owner)]
    chown: Option<(u32, u32)>,
    /// Date nothing later than this second since 1970; the same files become the same image
    #[arg(long, env = "SOURCE_DATE_EPOCH", value_name = "SECONDS")]
    timestamp: Option<i64>,
    /// Write the image's identifier to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Pack a directory with a Dockerfile, which is not read
    #[arg(long)]
    ignore_dockerfile: bool,
    /// No progress; prints the image's identifier only
    #[arg(short, long)]
    quiet: bool,
}

/// A command line, in its words.
#[derive(Debug, Clone)]
struct Words(Vec<String>);

fn words(text: &str) -> Result<Words, String> {
    if text.trim_start().starts_with('[') {
        let list = serde_json::from_str(text);
        return list.map(Words).map_err(|error| error.to_string());
    }
    let split = shlex::split(text);
    split.map(Words).ok_or("a quote has no end".into())
}

fn port(text: &str) -> Result<String, String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let is_port = number.parse::<u16>().is_ok_and(|number| number > 0);
    if !is_port || !["tcp", "udp", "sctp"].contains(&protocol) {
        return Err("it is written PORT or PORT/udp".into());
    }
    Ok(format!("{number}/{protocol}"))
}

fn owner(text: &str) -> Result<(u32, u32), String> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) => Ok((uid, gid)),
        _ => Err("it is written UID or UID:GID, in numbers".into()),
    }
}

/// Runs the verb.
pub fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let names = args.tag.iter().map(|name| name.parse::<Reference>());
    let names = names.collect::<Result<Vec<_>, _>>()?;
    if let Some(name) = names.iter().find(|name| name.digest().is_some()) {
        let why = "it has a digest, which nobody can choose";
        return Err(UsageError::flag("--tag", &name.to_string(), why).into());
    }
    let recipe = RECIPES.iter().map(|name| args.dir.join(name));
    if let Some(recipe) = { recipe }.find(|path| path.is_file() && !args.ignore_dockerfile) {
        return Err(ImageError::Recipe { path: recipe }.into());
    }
    let store = Store::open(settings.images())?;
    let options = BuildOptions {
        names,
        config: config(args)?,
        owner: args.chown,
        latest: args.timestamp,
        limits: Limits::default(),
        cancel: Cancel::default(),
    };
    let mut shown = Shown::new(args.quiet);
    let cancel = options.cancel.clone();
    let built = interrupt::during(&cancel, || {
        store.build(&args.dir, &options, &mut |step| shown.step(step))
    });
    shown.clear();
    let built = built.map_err(|source| ImageError::Build {
        directory: args.dir.display().to_string(),
        source: Box::new(source),
    })?;
    let id = built.image.id;
    if let Some(file) = &args.iidfile {
        let written = std::fs::write(file, id.to_string());
        written.map_err(|source| CliError::io(format!("write {}", file.display()), source))?;
    }
    for name in built.names.iter().filter(|_| !args.quiet) {
        say!("Built image: {}", name.familiar());
    }
    if args.quiet || built.names.is_empty() {
        say!("{id}");
    }
    Ok(exit::OK)
}

/// What the image says of itself.
fn config(args: &Args) -> Result<ImageConfig, CliError> {
    let paths = args.workdir.iter().map(|path| ("--workdir", path));
    let volumes = args.volume.iter().map(|path| ("--volume", path));
    if let Some((flag, path)) = { paths }
        .chain(volumes)
        .find(|(_, path)| !path.starts_with('/'))
    {
        return Err(UsageError::flag(flag, path, "does not begin with a slash").into());
    }
    let mut env = Vec::new();
    for text in &args.env {
        let variable = crate::cli::env::variable(text)?;
        env.extend(variable.map(|(name, value)| format!("{name}={value}")));
    }
    if !env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.insert(0, PATH.to_owned());
    }
    let labels = args.label.iter().map(|text| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    });
    let created = match args.timestamp {
        Some(seconds) => jiff::Timestamp::from_second(seconds).map_err(|error| {
            let (seconds, why) = (seconds.to_string(), error.to_string());
            UsageError::flag("--timestamp", &seconds, why)
        })?,
        None => jiff::Timestamp::now(),
    };
    let words = |given: &Option<Words>| given.clone().map(|words| words.0).unwrap_or_default();
    Ok(ImageConfig {
        entrypoint: words(&args.entrypoint),
        cmd: words(&args.cmd),
        env,
        workdir: args.workdir.clone(),
        user: args.user.clone(),
        stop_signal: args.stop_signal.clone(),
        volumes: args.volume.clone(),
        exposed_ports: args.expose.clone(),
        labels: labels.collect::<BTreeMap<_, _>>(),
        platform: args.platform.clone().unwrap_or_else(Platform::host),
        created: Some(created.to_string()),
    })
}

/// The progress of a build on standard error.
struct Shown {
    quiet: bool,
    is_terminal: bool,
    drawn: Option<Instant>,
}

impl Shown {
    fn new(quiet: bool) -> Self {
        Self {
            quiet,
            is_terminal: !quiet && std::io::stderr().is_terminal(),
            drawn: None,
        }
    }

    fn step(&mut self, step: BuildProgress<'_>) {
        let line = match step {
            BuildProgress::Skipped { path } => return self.skipped(path),
            BuildProgress::Waiting => {
                "waiting for another command that uses the image store".to_owned()
            }
            BuildProgress::Packed { files, bytes } => {
                format!("packing {files} files, {}", megabytes(bytes))
            }
            BuildProgress::Disk { done, total } => {
                let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
                format!("making its disk {percent} %")
            }
            _ => return,
        };
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW);
        if self.is_terminal && due {
            self.drawn = Some(Instant::now());
            eprint!("\r\x1b[K{line}");
            drop(std::io::stderr().flush());
        }
    }

    /// Told to everyone: the image lacks it.
    fn skipped(&self, path: &Path) {
        self.clear();
        if !self.quiet {
            tell!("skipped: {} is a socket", path.display());
        }
    }

    fn clear(&self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
            drop(std::io::stderr().flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_json_or_words() {
        let split = |text: &str| words(text).map(|words| words.0);
        assert_eq!(split("[\"a b\", \"c\"]").unwrap(), ["a b", "c"]);
        assert_eq!(split("a 'b c' \"d\"").unwrap(), ["a", "b c", "d"]);
        assert!(split("[\"a\"").is_err() && split("'a").is_err());
    }

    #[test]
    fn ports_and_owners_are_read() {
        assert_eq!(port("80").as_deref(), Ok("80/tcp"));
        assert_eq!(port("53/udp").as_deref(), Ok("53/udp"));
        for text in ["0", "70000", "x", "80/icmp", "80/", ""] {
            assert!(port(text).is_err(), "{text}");
        }
        assert_eq!(owner("7"), Ok((7, 7)));
        assert_eq!(owner("7:8"), Ok((7, 8)));
        assert!(owner("root").is_err());
    }
}
