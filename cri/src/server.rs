//! The socket, and who serves it.

use crate::config::{Config, ConfigError};
use crate::image::Images;
use crate::runtime::Runtime;
use crate::streaming::Streaming;
use beluga_runtime::engine;
use beluga_runtime::settings::{Settings, SettingsError};
use k8s_cri::v1::image_service_server::ImageServiceServer;
use k8s_cri::v1::runtime_service_server::RuntimeServiceServer;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;

/// Largest message that is taken or sent, as containerd and the kubelet have it.
const MAX_MESSAGE: usize = 16 << 20;

/// Kernel parameters that each pod has of its own.
const SYSCTLS: [&str; 5] = [
    "net.*",
    "kernel.shm*",
    "kernel.msg*",
    "kernel.sem",
    "fs.mqueue.*",
];

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A variable of the environment.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The socket.
    #[error("cannot listen on {path}", path = .path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Somebody else serves there.
    #[error("somebody serves on {path} already", path = .path.display())]
    Served {
        /// Where.
        path: PathBuf,
    },
    /// Something that is no socket, and not ours to replace.
    #[error("{path} is there and is no socket", path = .path.display())]
    NoSocket {
        /// Where.
        path: PathBuf,
    },
    /// The event loop, signals.
    #[error("cannot start")]
    Start(#[source] io::Error),
    /// gRPC.
    #[error("cannot serve")]
    Serve(#[source] tonic::transport::Error),
}

/// Serves until a signal says to end. Pods go on.
pub fn serve(config: Config) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServeError::Start)?;
    runtime.block_on(run(config))
}

async fn run(config: Config) -> Result<(), ServeError> {
    let mut settings = Settings::new(Some(config.root.clone()), Some(config.state.clone()))?;
    // Which kernel parameters pods may have is the kubelet's to say, and said before.
    settings.unsafe_sysctls = SYSCTLS.map(str::to_owned).to_vec();
    let path = config.socket.clone();
    let listener = listen(&path)?;
    // Pods that have lost their supervisors while nobody was here.
    if let Err(error) = engine::list(&settings).await {
        eprintln!("error: {}", beluga_runtime::error_chain(&error));
    }
    let images = ImageServiceServer::new(Images::new(settings.clone()));
    let streaming = Streaming::begin(settings.clone());
    let streaming = streaming.await.map_err(ServeError::Start)?;
    let runtime = RuntimeServiceServer::new(Runtime::new(settings, config, streaming));
    let mut ends = [SignalKind::terminate(), SignalKind::interrupt()]
        .map(signal)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(ServeError::Start)?;
    let (terminate, interrupt) = ends.split_at_mut(1);
    eprintln!("serving on {}", path.display());
    let serving = tonic::transport::Server::builder()
        .add_service(images.max_decoding_message_size(MAX_MESSAGE))
        .add_service(
            runtime
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(3 * MAX_MESSAGE),
        )
        .serve_with_incoming(UnixListenerStream::new(listener));
    tokio::select! {
        served = serving => served.map_err(ServeError::Serve),
        // What clients wait for fails, as when the process is killed.
        _ = terminate[0].recv() => Ok(()),
        _ = interrupt[0].recv() => Ok(()),
    }
}

/// A socket of root's alone. One that nobody serves is replaced.
fn listen(path: &Path) -> Result<UnixListener, ServeError> {
    let error = |source| ServeError::Listen {
        path: path.to_owned(),
        source,
    };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let path = path.to_owned();
        return Err(ServeError::Served { path });
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(error)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path).map_err(error)?,
        Ok(_) => {
            let path = path.to_owned();
            return Err(ServeError::NoSocket { path });
        }
        Err(source) if source.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(error(source)),
    }
    let listener = UnixListener::bind(path).map_err(error)?;
    let own = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, own).map_err(error)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_not_replaced_and_a_socket_that_nobody_serves_is() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        std::fs::write(&file, "kept").unwrap();
        let error = listen(&file).unwrap_err();
        assert!(matches!(error, ServeError::NoSocket { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
        let socket = place.path().join("socket");
        drop(listen(&socket).unwrap());
        assert!(socket.exists() && listen(&socket).is_ok());
    }
}
