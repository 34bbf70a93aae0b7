//! A `beluga-cri` of a story's own, and a client of the interface.

mod client;

use crate::{Beluga, shared};
pub use client::Client;
pub use k8s_cri::v1::{self as api, *};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;
pub use tonic::{Code, Response, Status, Streaming};

/// What came, by channel.
pub type Heard = BTreeMap<u8, Vec<u8>>;

/// A server that serves; killed when it is dropped.
#[derive(Debug)]
pub struct Cri {
    /// Where it lies: its socket, its configuration, logs of pods.
    pub place: TempDir,
    child: Mutex<Child>,
    client: Client,
}

impl Cri {
    /// A server over the pods and images of an instance.
    #[must_use]
    pub fn start(beluga: &Beluga) -> Self {
        let place = tempfile::Builder::new();
        let place = { place }.prefix("cri-").tempdir().expect("a place in /tmp");
        let config = format!(
            "socket = {:?}\nroot = {:?}\nstate = {:?}\n",
            place.path().join("cri.sock"),
            beluga.root(),
            beluga.state()
        );
        std::fs::write(place.path().join("cri.toml"), config).expect("a file");
        let socket = place.path().join("cri.sock");
        let client = Client::new(&socket, "", place.path().join("logs"));
        let child = Mutex::new(spawn(place.path()));
        let cri = Self {
            place,
            child,
            client,
        };
        cri.answers();
        cri
    }

    /// Kills the server at once and starts another one.
    pub fn restart(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.kill().expect("it is ours");
        child.wait().expect("it has ended");
        *child = spawn(self.place.path());
        drop(child);
        self.answers();
    }
}

impl Deref for Cri {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Cri {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let child = child.unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A server over the shared instance with a sandbox that several stories fill, to
/// save a boot for each: the first of them starts both, the last removes them.
#[derive(Debug)]
pub struct CommonSandbox {
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    stories_to_come: usize,
    place: Option<Arc<Filled>>,
}

/// A server and its sandbox, removed with the value.
#[derive(Debug)]
pub struct Filled {
    cri: Cri,
    sandbox: String,
}

impl CommonSandbox {
    /// One that so many stories ask for, each once.
    #[must_use]
    pub const fn new(stories: usize) -> Self {
        let kept = Kept {
            stories_to_come: stories,
            place: None,
        };
        Self {
            kept: Mutex::new(kept),
        }
    }

    /// The server and its sandbox.
    pub fn get(&self) -> Arc<Filled> {
        // A story that could not start it says so itself; the next one tries again.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let cri = Cri::start(shared());
            let sandbox = cri.run(cri.sandbox("shared")).expect("it runs");
            Arc::new(Filled { cri, sandbox })
        };
        let place = Arc::clone(kept.place.get_or_insert_with(start));
        kept.stories_to_come = kept.stories_to_come.saturating_sub(1);
        if kept.stories_to_come == 0 {
            kept.place = None;
        }
        place
    }
}

impl Filled {
    /// The server, and the sandbox's identifier.
    #[must_use]
    pub fn parts(&self) -> (&Cri, &str) {
        (&self.cri, &self.sandbox)
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.cri.place.path().join("server.log"));
            eprintln!("--- beluga-cri\n{}", log.unwrap_or_default());
        }
        self.cri.remove_sandbox(&self.sandbox);
    }
}

fn spawn(place: &Path) -> Child {
    let log = std::fs::File::options();
    let log = { log }
        .create(true)
        .append(true)
        .open(place.join("server.log"));
    Command::new("beluga-cri")
        .arg("--config")
        .arg(place.join("cri.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("a file"))
        .spawn()
        .expect("beluga-cri is built")
}

/// A container of busybox that runs a line of the shell.
#[must_use]
pub fn busybox(name: &str, line: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: "busybox".to_owned(),
            ..ImageSpec::default()
        }),
        command: ["sh", "-c", line].map(str::to_owned).to_vec(),
        log_path: format!("{name}/0.log"),
        labels: [("name".to_owned(), name.to_owned())].into(),
        ..ContainerConfig::default()
    }
}

/// Bytes as text, without white space around it.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
