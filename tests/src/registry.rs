//! Debian's registry on this machine, and skopeo to fill it.

use crate::{Beluga, Ran, SOON, eventually, image, run};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;

/// A registry that runs as long as the value lives.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    /// `127.0.0.1:PORT`, and its name with a certificate: `localhost:PORT`.
    pub address: String,
    work: TempDir,
    /// Its access log, in Apache's combined format.
    log: Arc<Mutex<Vec<String>>>,
}

/// A request that a registry has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `/v2/…`, with what was asked for.
    pub path: String,
    /// 200, 206, …
    pub status: u16,
    /// Bytes of the answer that were sent.
    pub bytes: u64,
}

/// What a registry wants of its clients.
#[derive(Debug, Default, Clone, Copy)]
pub struct Wants {
    /// A password: `user` and `pass`.
    pub password: bool,
    /// TLS, with a certificate of an authority of its own.
    pub tls: bool,
}

impl Registry {
    /// One without anything in it.
    pub fn start(wants: Wants) -> Self {
        Self::certified(wants, certificates)
    }

    /// One with a certificate that is its own authority, as docker's manual makes it: `ca.crt`.
    pub fn self_signed() -> Self {
        let (password, tls) = (false, true);
        Self::certified(Wants { password, tls }, own_certificate)
    }

    fn certified(wants: Wants, certificates: impl Fn(&Path)) -> Self {
        let work = TempDir::new().expect("a directory");
        let (dir, mut more) = (work.path(), String::new());
        if wants.tls {
            certificates(dir);
            let dir = dir.display();
            more += &format!("  tls: {{certificate: {dir}/server.crt, key: {dir}/server.key}}\n");
        }
        if wants.password {
            let file = dir.join("htpasswd");
            let made = sh(&format!("htpasswd -Bbn user pass > {}", file.display()));
            made.ok();
            more += &format!(
                "auth:\n  htpasswd: {{realm: r, path: {}}}\n",
                file.display()
            );
        }
        let data = dir.join("data");
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http:\n  addr: 127.0.0.1:0\n{more}",
            data.display()
        );
        let file = dir.join("config.yml");
        fs::write(&file, config).expect("a configuration");
        let log = Arc::default();
        let (child, port) = serve(&file, &log);
        let name = if wants.tls { "localhost" } else { "127.0.0.1" };
        Self {
            child,
            address: format!("{name}:{port}"),
            work,
            log,
        }
    }

    /// What it was asked for by this method below paths that hold this text, in its order.
    pub fn requests(&self, method: &str, path: &str) -> Vec<Request> {
        self.settle();
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let all = log.iter().filter_map(|line| request(line, method));
        all.filter(|request| request.path.contains(path)).collect()
    }

    /// Files of this registry: `ca.crt`, `data`.
    pub fn place(&self) -> &Path {
        self.work.path()
    }

    /// `ADDRESS/NAME`.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Puts a test image into it, as docker would, with these words for skopeo.
    pub fn push(&self, from: &str, name: &str, more: &str) {
        let from = match from.contains(':') {
            true => from.to_owned(),
            false => format!("oci-archive:{}", image(from)),
        };
        sh(&format!(
            "skopeo copy -q --dest-tls-verify=false --dest-creds user:pass \
             {more} {from} docker://{}",
            self.name(name)
        ))
        .ok();
    }

    /// Waits until what was asked so far is in the log: a line comes after its answer.
    fn settle(&self) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("mark={}", COUNT.fetch_add(1, Ordering::Relaxed));
        let address = &self.address;
        let line =
            format!("curl -sk https://{address}/v2/?{mark} || curl -s http://{address}/v2/?{mark}");
        sh(&line).ok();
        eventually("the registry's log", || {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let seen = log.iter().any(|line| line.contains(&format!("{mark} ")));
            seen.then_some(())
        });
    }

    /// Ends it and starts it anew with what it has: at another port, with an empty log in which
    /// nothing can turn up that was asked before.
    pub fn restart(&mut self) {
        self.stop();
        self.log = Arc::default();
        let (child, port) = serve(&self.work.path().join("config.yml"), &self.log);
        let host = self.address.rsplit_once(':').map_or("", |(host, _)| host);
        (self.child, self.address) = (child, format!("{host}:{port}"));
    }

    /// Ends it.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts a registry; its port is in the line that says that it listens.
fn serve(config: &Path, log: &Arc<Mutex<Vec<String>>>) -> (Child, u16) {
    let mut child = Command::new("docker-registry")
        .arg("serve")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("docker-registry is installed");
    let stdout = child.stdout.take().expect("a pipe");
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            log.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
        }
    });
    let stderr = child.stderr.take().expect("a pipe");
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let line = lines
        .find(|line| line.contains("listening on"))
        .expect("it listens");
    let port = line.rsplit(':').find_map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    std::thread::spawn(move || lines.for_each(drop));
    (child, port.unwrap_or_else(|| panic!("no port in {line}")))
}

/// Reads `… "GET /v2/… HTTP/1.1" 200 1234 …`.
fn request(line: &str, method: &str) -> Option<Request> {
    let (_, rest) = line.split_once(&format!("\"{method} "))?;
    let (asked, answered) = rest.split_once("\" ")?;
    let mut numbers = answered.split(' ');
    Some(Request {
        path: asked.split(' ').next()?.to_owned(),
        status: numbers.next()?.parse().ok()?,
        bytes: numbers.next()?.parse().ok()?,
    })
}

/// An authority, and a server's certificate of it.
fn certificates(dir: &Path) {
    let script = "cd \"$0\" && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
        -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt \
        && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
        -keyout server.key -out server.csr \
        && printf 'subjectAltName=DNS:localhost,IP:127.0.0.1' > names \
        && openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
        -extfile names -out server.crt";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(dir);
    run(&mut command, SOON).ok();
}

/// A server's certificate that has signed itself.
fn own_certificate(dir: &Path) {
    let script = "cd \"$0\" && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
        -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
        -keyout server.key -out server.crt && cp server.crt ca.crt";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(dir);
    run(&mut command, SOON).ok();
}

/// Runs a line of shell.
pub fn sh(line: &str) -> Ran {
    run(Command::new("sh").args(["-c", line]), SOON)
}

/// A Beluga with nothing in it that knows no registry's configuration but its own.
#[derive(Debug)]
pub struct Puller {
    /// Its instance.
    pub beluga: Beluga,
    /// Where its configuration lies.
    pub home: TempDir,
}

impl Default for Puller {
    fn default() -> Self {
        Self::new()
    }
}

impl Puller {
    /// One without any configuration.
    pub fn new() -> Self {
        Self::of(Beluga::fresh())
    }

    /// One that pulls into this instance.
    pub fn of(beluga: Beluga) -> Self {
        Self {
            beluga,
            home: TempDir::new().expect("a directory"),
        }
    }

    /// `beluga …` with its own configuration of registries.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.beluga.command(words.iter().copied());
        command
            .env("DOCKER_CONFIG", self.home.path())
            .env("XDG_RUNTIME_DIR", self.home.path())
            .env("BELUGA_CERTS_DIR", self.home.path().join("certs.d"));
        command
    }

    /// Runs `beluga …`.
    pub fn run(&self, words: &[&str]) -> Ran {
        run(&mut self.command(words), SOON)
    }

    /// Writes a file of its configuration.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    /// Every blob and disk in the store, by name, and what else lies about.
    pub fn store(&self) -> Vec<String> {
        let images = self.beluga.root().join("images");
        let line = format!(
            "cd {} && find blobs layers ingest leases tmp -mindepth 1 -type f | sort",
            images.display()
        );
        sh(&line).ok().out.lines().map(str::to_owned).collect()
    }
}
