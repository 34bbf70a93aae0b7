//! `beluga port-forward`: ports of a pod at ports of this host, over vsock, so
//! that a pod without a network is reached as well.

use super::error::{StateError, UsageError};
use super::{CliError, pods};
use crate::engine::{self, PodView, Update};
use crate::settings::Settings;
use crate::spec::PodSpec;
use crate::store::status::Phase;
use beluga_proto::PodUid;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// Arguments of `port-forward`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Addresses to listen on, with commas; localhost is 127.0.0.1 and ::1
    #[arg(long, value_delimiter = ',', default_value = "localhost")]
    address: Vec<String>,
    /// Namespace of the pod
    #[arg(short, long, default_value = pods::DEFAULT)]
    namespace: String,
    /// The pod: NAME, pod/NAME, or the first one of deployment/NAME
    pod: String,
    /// Port here and port of the pod, a number or a name; without a port here any free one
    #[arg(required = true, value_name = "[LOCAL:]REMOTE")]
    ports: Vec<String>,
}

/// A port of this host and one of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    /// 0: any free one.
    local: u16,
    remote: u16,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    let pod = pods::one(settings, &args.namespace, &args.pod).await?;
    let phase = pod.status.phase;
    if phase != Phase::Running {
        return Err(StateError::NotRunning { phase }.into());
    }
    let pairs: Vec<Pair> = args
        .ports
        .iter()
        .map(|text| pair(text, &pod.spec))
        .collect::<Result<_, _>>()?;
    let addresses = addresses(&args.address)?;
    let mut is_listening = false;
    for pair in &pairs {
        for (listener, local) in listen(*pair, &addresses).await {
            is_listening = true;
            say!("Forwarding from {local} -> {}", pair.remote);
            let server = Server {
                settings: settings.clone(),
                uid: pod.uid.clone(),
                pair: Pair {
                    local: local.port(),
                    ..*pair
                },
            };
            tokio::spawn(server.serve(listener));
        }
    }
    if !is_listening {
        let listed: Vec<String> = pairs
            .iter()
            .map(|pair| format!("{{{} {}}}", pair.local, pair.remote))
            .collect();
        return Err(StateError::NoPort {
            listed: listed.join(" "),
        }
        .into());
    }
    until_the_end(settings, pod).await
}

/// Waits for the pod's end, through any number of supervisors.
async fn until_the_end(settings: &Settings, pod: PodView) -> Result<u8, CliError> {
    let lost = || CliError::LostPod {
        name: pod.name.clone(),
    };
    loop {
        let mut watch = engine::watch(settings, &pod.uid)
            .await
            .map_err(|_| lost())?;
        while let Ok(Some(Update::Status(status))) = watch.next().await {
            if status.phase.is_end() {
                return Err(lost());
            }
        }
    }
}

/// `8080:80`, `:80`, `80`, and names of the containers' ports for the latter.
fn pair(text: &str, spec: &PodSpec) -> Result<Pair, CliError> {
    let (local, remote) = match text.split_once(':') {
        Some((_, remote)) if remote.contains(':') => {
            return Err(UsageError::PortFormat {
                text: text.to_owned(),
            }
            .into());
        }
        Some((local, remote)) => (Some(local), remote),
        None => (None, text),
    };
    let remote = match remote.parse::<u16>() {
        Ok(0) => return Err(UsageError::RemotePortZero.into()),
        Ok(port) => port,
        Err(_) => named(remote, spec).ok_or_else(|| {
            let remote = remote.to_owned();
            UsageError::RemotePort { remote }
        })?,
    };
    let local = match local {
        None => remote,
        Some("") => 0,
        Some(local) => local.parse().map_err(|_| {
            let local = local.to_owned();
            UsageError::LocalPort { local }
        })?,
    };
    Ok(Pair { local, remote })
}

fn named(name: &str, spec: &PodSpec) -> Option<u16> {
    let mut ports = spec.all_containers().flat_map(|one| &one.ports);
    let found = ports.find(|port| port.name.as_deref() == Some(name));
    found.map(|port| port.port)
}

/// Where to listen; whether it is enough that one of `localhost`'s works.
fn addresses(words: &[String]) -> Result<Vec<Vec<IpAddr>>, CliError> {
    let one = |word: &String| match word.as_str() {
        "localhost" => Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]),
        word => word
            .parse()
            .map(|ip| vec![ip])
            .map_err(|_| UsageError::flag("--address", word, "is not a valid IP").into()),
    };
    words.iter().map(one).collect()
}

/// Listens wherever that is possible, and tells where it is not. A free port
/// that one address got is tried at the others too.
async fn listen(mut pair: Pair, addresses: &[Vec<IpAddr>]) -> Vec<(TcpListener, SocketAddr)> {
    let mut listeners = Vec::new();
    for group in addresses {
        let mut errors = Vec::new();
        let before = listeners.len();
        for ip in group {
            let address = SocketAddr::new(*ip, pair.local);
            let bound = TcpListener::bind(address).await;
            match bound.and_then(|listener| Ok((listener.local_addr()?, listener))) {
                Ok((local, listener)) => {
                    pair.local = local.port();
                    listeners.push((listener, local));
                }
                Err(error) => errors.push(format!("listen {address}: {}", plain(&error))),
            }
        }
        if listeners.len() == before {
            tell!(
                "Unable to listen on port {}: {}",
                pair.local,
                errors.join("; ")
            );
        }
    }
    listeners
}

/// What the system says, without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

/// One port and its connections.
#[derive(Clone)]
struct Server {
    settings: Settings,
    uid: PodUid,
    pair: Pair,
}

impl Server {
    async fn serve(self, listener: TcpListener) {
        /// Between two attempts while there are no descriptors left.
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
        loop {
            let Ok((client, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            say!("Handling connection for {}", self.pair.local);
            let server = self.clone();
            tokio::spawn(async move {
                let Pair { local, remote } = server.pair;
                if let Err(why) = server.carry(client).await {
                    tell!("an error occurred forwarding {local} -> {remote}: {why}");
                }
            });
        }
    }

    /// Connects, and moves bytes both ways until both have ended. An end of one
    /// direction is passed on.
    async fn carry(&self, mut client: TcpStream) -> Result<(), String> {
        let streams = engine::connect(&self.settings, &self.uid, self.pair.remote).await;
        let (to, from) = streams.map_err(|error| error.to_string())?;
        let stream = |fd: OwnedFd| {
            let stream = UnixStream::from_std(std::os::unix::net::UnixStream::from(fd));
            stream.map_err(|error| error.to_string())
        };
        let mut pod = tokio::io::join(stream(from)?, stream(to)?);
        // How one of the two ends is their matter.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut pod).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> PodSpec {
        let text = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [
            {name: c, image: i, ports: [{name: web, containerPort: 8000}]}]}}";
        crate::spec::parse("test", text).unwrap().remove(0).spec
    }

    #[test]
    fn ports_are_those_of_kubectl() {
        let of = |text: &str| pair(text, &spec()).map(|pair| (pair.local, pair.remote));
        for (text, expected) in [
            ("8080:80", (8080, 80)),
            (":80", (0, 80)),
            ("0:80", (0, 80)),
            ("80", (80, 80)),
            ("web", (8000, 8000)),
            ("9000:web", (9000, 8000)),
        ] {
            assert_eq!(of(text).unwrap(), expected, "{text}");
        }
        for (text, why) in [
            ("0", "remote port must be > 0"),
            ("1:2:3", "invalid port format '1:2:3'"),
            ("x:80", "local port 'x'"),
            ("80:", "remote port ''"),
            ("80:nobody", "remote port 'nobody'"),
            ("70000", "remote port '70000'"),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn localhost_is_two_addresses() {
        let words = ["localhost".to_owned(), "10.0.0.1".to_owned()];
        let all = addresses(&words).unwrap();
        assert_eq!((all[0].len(), all[1].len()), (2, 1));
        assert!(addresses(&["example".to_owned()]).is_err());
    }
}
