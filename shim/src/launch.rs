//! `start`: the server of the pod, begun where it does not run yet.

use crate::error::ShimError;
use crate::oci;
use crate::options::Options;
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where containerd's shims have their sockets.
const SOCKETS: &str = "/run/containerd/s";

/// The file of a bundle that tells containerd, after a restart of its own, where
/// the server is.
pub const ADDRESS: &str = "address";

/// Prints the address of the server of the task's pod.
///
/// A bare address says version 2 of the task API, which every containerd from 1.6
/// on speaks.
pub fn start(options: &Options) -> Result<(), ShimError> {
    let bundle = std::env::current_dir().map_err(ShimError::system("find the bundle"))?;
    let spec = oci::read(&bundle)?;
    let group = match oci::kind(&spec) {
        oci::Kind::Member { sandbox } => sandbox,
        oci::Kind::Sandbox | oci::Kind::Alone => options.id.clone(),
    };
    let path = socket_path(&options.address, &options.namespace, &group);
    let address = format!("unix://{path}");
    if UnixStream::connect(&path).is_err() {
        spawn(options, &group, &address)?;
    }
    let file = bundle.join(ADDRESS);
    std::fs::write(&file, &address).map_err(ShimError::path("write", &file))?;
    let mut stdout = std::io::stdout();
    let told = write!(stdout, "{address}").and_then(|()| stdout.flush());
    told.map_err(ShimError::system("tell the address"))
}

/// The name that containerd's own shims would give it.
fn socket_path(address: &str, namespace: &str, group: &str) -> String {
    let name = Path::new(address).join(namespace).join(group);
    let digest = Sha256::digest(name.display().to_string());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{SOCKETS}/{digits}")
}

/// Starts a server and waits until it serves, which its output's end says.
fn spawn(options: &Options, group: &str, address: &str) -> Result<(), ShimError> {
    let program = std::env::current_exe().map_err(ShimError::system("find this program"))?;
    let mut child = Command::new(program)
        .args(["-namespace", &options.namespace, "-id", group])
        .args(["-address", &options.address, "-socket", address])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Signals of the terminal that containerd was started in are not for it.
        .process_group(0)
        .spawn()
        .map_err(ShimError::system("start the server"))?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        let read = stdout.read_to_string(&mut said);
        read.map_err(ShimError::system("hear of the server"))?;
    }
    if said == crate::serve::READY {
        return Ok(());
    }
    let mut why = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut why);
    }
    let _ = child.wait();
    Err(ShimError::State {
        message: format!("the server does not start: {}", why.trim()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_the_name_that_containerd_gives() {
        let path = socket_path("/run/containerd/containerd.sock", "default", "123");
        let digits = "0ddfbd72d02b3551e75f3a0ed90b9965b533401be618f43a568bc522764e0ad0";
        assert_eq!(path, format!("{SOCKETS}/{digits}"));
    }
}
