//! `beluga pull`, and how a pull is shown wherever one happens.

use super::images::megabytes;
use super::style::Style;
use super::{CliError, error::ImageError, exit, interrupt, terminal};
use crate::settings::Settings;
use beluga_image::{
    CredentialError, Digest, Keyring, LoadError, Platform, PullOptions, PullProgress, PulledImage,
    Reference, Registry, Store,
};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two drawings of the bar.
const REDRAW: Duration = Duration::from_millis(100);
const BAR: usize = 24;
/// The longest number beside it, whose place is kept free.
const PERCENT: &str = " 100 %";
/// A bar that is shorter shows nothing.
const SHORTEST_BAR: usize = 6;

/// Arguments of `pull`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `NAME`, `NAME:TAG`, `NAME@DIGEST`, with or without a registry
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Which image of several under one name, like linux/amd64
    #[arg(long, value_name = "OS/ARCH", value_parser = platform)]
    platform: Option<Platform>,
    /// No progress; prints the image's identifier only
    #[arg(short, long)]
    quiet: bool,
}

/// Reads `OS/ARCH` or `OS/ARCH/VARIANT`.
pub fn platform(text: &str) -> Result<Platform, String> {
    text.parse().map_err(str::to_owned)
}

/// Runs `pull`.
pub fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let store = Store::open(settings.images())?;
    let mut options = PullOptions::default();
    if let Some(platform) = &args.platform {
        options.platform = platform.clone();
    }
    let registry = registry(settings)?;
    for image in &args.images {
        let name = image.parse::<Reference>()?;
        let shown = Shown::new(&name, args.quiet);
        let pulled = pull(&store, &name, &registry, &options, shown);
        let pulled = pulled.map_err(|source| ImageError::Pull {
            place: None,
            image: name.familiar(),
            near: None,
            source: Box::new(source),
        })?;
        if args.quiet {
            say!("{}", pulled.image.id);
            continue;
        }
        let name = name.familiar();
        say!("Digest: {}", pulled.digest);
        let image = &pulled.image;
        if pulled.digest != image.manifest_digest {
            let platform = &image.config.platform;
            say!("Manifest: {} ({platform})", image.manifest_digest);
        }
        if pulled.was_present {
            say!("Image is up to date: {name}");
        } else {
            say!("Pulled image: {name}");
        }
    }
    Ok(exit::OK)
}

/// How registries are reached, with the credentials of whoever runs this.
pub fn registry(settings: &Settings) -> Result<Registry, CliError> {
    let mut keyring = Keyring::default();
    for file in credential_files() {
        match keyring.add_file(&file) {
            // As docker: most images need none.
            Err(error @ CredentialError::Malformed { .. }) => {
                let cause = error.source().map(ToString::to_string);
                let warning = Style::stderr().warn("warning:");
                tell!("{warning} {error}: {}", cause.unwrap_or_default());
            }
            added => added.map_err(|source| ImageError::Credentials {
                name: file.display().to_string(),
                source,
            })?,
        }
    }
    Ok(Registry {
        certs_dirs: settings.certs_dirs.clone(),
        keyring,
    })
}

fn given(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// `config.json` in `$DOCKER_CONFIG` or `~/.docker`.
pub fn docker_config() -> Option<PathBuf> {
    let dir = given("DOCKER_CONFIG").or_else(|| Some(given("HOME")?.join(".docker")));
    Some(dir?.join("config.json"))
}

/// Where docker and podman write credentials, in the order in which they are tried. Those of
/// podman, buildah and skopeo lie as containers-auth.json(5) says.
fn credential_files() -> Vec<PathBuf> {
    let run = given("XDG_RUNTIME_DIR").unwrap_or_else(|| {
        let user = rustix::process::geteuid().as_raw();
        PathBuf::from(format!("/run/containers/{user}"))
    });
    let run = match run.starts_with("/run/containers") {
        true => run,
        false => run.join("containers"),
    };
    let all = [
        given("REGISTRY_AUTH_FILE"),
        docker_config(),
        Some(run.join("auth.json")),
    ];
    all.into_iter().flatten().collect()
}

/// Pulls one image and shows how far it is.
pub fn pull(
    store: &Store,
    name: &Reference,
    registry: &Registry,
    options: &PullOptions,
    mut shown: Shown,
) -> Result<PulledImage, LoadError> {
    let mut progress = |step| shown.step(step);
    let pulled = interrupt::during(&options.cancel, || {
        store.pull(name, registry, options, &mut progress)
    });
    shown.clear();
    pulled
}

/// The progress of a pull, on standard error: a bar for a person, lines for a pipe.
pub struct Shown {
    name: String,
    how: How,
    begun: Instant,
    drawn: Option<Instant>,
    layers: usize,
    bytes: u64,
    /// Bytes of each layer that has begun, and whether it is done.
    parts: BTreeMap<Digest, (u64, bool)>,
    /// Nothing is said of what is there already.
    only_news: bool,
    /// Bytes that were there already: of no account for the speed.
    reused: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Not,
    Bar,
    Lines,
}

impl Shown {
    /// The progress of pulling that image.
    pub fn new(name: &Reference, quiet: bool) -> Self {
        let how = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => How::Not,
            (false, true) => How::Bar,
            (false, false) => How::Lines,
        };
        Self {
            name: name.familiar(),
            how,
            begun: Instant::now(),
            drawn: None,
            layers: 0,
            bytes: 0,
            parts: BTreeMap::new(),
            only_news: false,
            reused: 0,
        }
    }

    /// The same for an image that a pod needs: only what has to come is told.
    pub fn of_news(name: &Reference, quiet: bool) -> Self {
        Self {
            only_news: true,
            ..Self::new(name, quiet)
        }
    }

    /// Whether it is lines for a pipe that are shown.
    pub fn is_lines(&self) -> bool {
        self.how == How::Lines
    }

    /// Takes a step and shows it.
    pub fn step(&mut self, step: PullProgress) {
        if self.how == How::Lines {
            self.line(&step);
        }
        match step {
            PullProgress::Resolved { layers, bytes, .. } => {
                (self.layers, self.bytes) = (layers, bytes);
            }
            PullProgress::Layer { blob, done, .. } => {
                self.parts.insert(blob, (done, false));
            }
            PullProgress::LayerDone {
                blob,
                total,
                reused,
            } => {
                self.parts.insert(blob, (total, true));
                self.reused += if reused { total } else { 0 };
            }
            PullProgress::Busy { host, wait } if self.how == How::Bar => {
                // It stays there until something comes.
                let secs = wait.as_secs();
                eprint!("\r\x1b[Kregistry {host} is busy: the next try is in {secs} s");
                drop(std::io::stderr().flush());
                return;
            }
            _ => {}
        }
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW);
        if self.how == How::Bar && due {
            self.drawn = Some(Instant::now());
            eprint!("\r\x1b[K{}", self.bar(terminal::error_width()));
            drop(std::io::stderr().flush());
        }
    }

    /// What a pipe is told: what has come to an end or is held up, nothing in between.
    fn line(&self, step: &PullProgress) {
        let name = &self.name;
        match step {
            PullProgress::Resolved { .. } | PullProgress::LayerDone { reused: true, .. }
                if self.only_news => {}
            PullProgress::Waiting => {
                tell!("{name}: waiting for another command that uses the image store");
            }
            PullProgress::Resolved { layers, bytes, .. } => {
                tell!("{name}: {layers} layers, {}", megabytes(*bytes));
            }
            PullProgress::Busy { host, wait } => {
                let secs = wait.as_secs();
                tell!("{name}: registry {host} is busy: the next try is in {secs} s");
            }
            PullProgress::LayerWaits { blob } => {
                tell!("{name}: layer {}: another command pulls it", blob.short());
            }
            PullProgress::LayerBroke { blob, at, why } => {
                let at = megabytes(*at);
                tell!("{name}: layer {}: broke at {at}: {why}", blob.short());
            }
            PullProgress::LayerDone {
                blob,
                total,
                reused,
            } => {
                let how = if *reused { "is there already" } else { "done" };
                let total = megabytes(*total);
                tell!("{name}: layer {}: {how}, {total}", blob.short());
            }
            _ => {}
        }
    }

    /// The bar in less than a line of so many characters: one that reached the next line would
    /// stay there when it is drawn anew. What has no room is left out from the right.
    fn bar(&self, width: usize) -> String {
        let done: u64 = self.parts.values().map(|(done, _)| *done).sum();
        let done = done.min(self.bytes);
        let percent = done.saturating_mul(100).checked_div(self.bytes);
        let percent = percent.unwrap_or(0);
        let whole = self.parts.values().filter(|(_, whole)| *whole).count();
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let speed = done.saturating_sub(self.reused).saturating_mul(1000) / millis.max(1);
        // The last column stays free: some terminals go on to the next line when it is written.
        let room = width.saturating_sub(1);
        let most = room.saturating_sub(PERCENT.len());
        let mut line: String = self.name.chars().take(most).collect();
        let mut left = room.saturating_sub(line.chars().count());
        let parts = [
            gauge(percent, left),
            format!("  {} of {}", megabytes(done), megabytes(self.bytes)),
            format!("  {}/s", megabytes(speed)),
            format!("  {whole} of {} layers", self.layers),
        ];
        for part in parts {
            let length = part.chars().count();
            if length > left {
                break;
            }
            line += &part;
            left -= length;
        }
        line
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if self.how == How::Bar {
            eprint!("\r\x1b[K");
            drop(std::io::stderr().flush());
        }
    }
}

/// How far it is, as a bar with a number, or as the number alone where a bar has no room.
fn gauge(percent: u64, room: usize) -> String {
    let number = format!(" {percent} %");
    let length = BAR.min(room.saturating_sub(PERCENT.len() + " []".len()));
    if length < SHORTEST_BAR {
        return number;
    }
    let filled = usize::try_from(percent).unwrap_or(0) * length / 100;
    let (filled, empty) = ("#".repeat(filled), ".".repeat(length - filled));
    format!(" [{filled}{empty}]{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pull of which a quarter has come.
    fn begun(name: &str) -> Shown {
        let name = name.parse::<Reference>().unwrap();
        let mut shown = Shown::new(&name, true);
        let bytes = 4_000_000;
        let (digest, layers) = ("sha256:".to_owned() + &"0".repeat(64), 2);
        let digest: Digest = digest.parse().unwrap();
        shown.step(PullProgress::Resolved {
            digest,
            layers,
            bytes,
        });
        shown.step(PullProgress::Layer {
            blob: digest,
            done: 1_000_000,
            total: bytes,
        });
        shown
    }

    #[test]
    fn the_bar_tells_how_far_it_is() {
        let bar = begun("nginx").bar(200);
        assert!(bar.starts_with("nginx:latest [######..................] 25 %"));
        assert!(bar.contains("1.0 MB of 4.0 MB") && bar.ends_with("0 of 2 layers"));
    }

    #[test]
    fn the_bar_stays_in_its_line() {
        let short = begun("nginx");
        let bar = short.bar(80);
        assert!(bar.contains("25 %  1.0 MB of 4.0 MB"), "{bar}");
        assert_eq!(short.bar(40), "nginx:latest [####..............] 25 %");
        assert_eq!(short.bar(20), "nginx:latest 25 %");
        let long = begun("registry.example.com:5000/some/team/some-service:2026.11.22");
        assert!(
            long.bar(80)
                .ends_with("service:2026.11.22 [##.........] 25 %")
        );
        assert_eq!(long.bar(40), "registry.example.com:5000/some/te 25 %");
        for width in 0..200 {
            for bar in [short.bar(width), long.bar(width)] {
                let length = bar.chars().count();
                assert!(length < width.max(1), "{width}: {bar}");
            }
        }
    }
}
