//! The server of one pod's tasks.

use crate::error::ShimError;
use crate::events::Events;
use crate::options::Options;
use crate::service::{Service, Shim};
use containerd_shim_protos::shim_async::create_task;
use containerd_shim_protos::ttrpc::r#async::Server;
use rustix::fs::OFlags;
use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

/// What a server says when it serves.
pub const READY: &str = "ready";

/// The names that the service has had: the messages are the same.
const NAMES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// Serves until there are no tasks and containerd says so.
pub fn serve(options: Options) -> Result<(), ShimError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ShimError::system("start"))?;
    runtime.block_on(run(options))
}

async fn run(options: Options) -> Result<(), ShimError> {
    let path = options.socket.trim_start_matches("unix://").to_owned();
    let listener = listen(&path)?;
    let events = Events::begin(&options.namespace);
    let shim = Arc::new(Shim::new(&options, events)?);
    let services: HashMap<_, _> = NAMES
        .iter()
        .filter_map(|name| {
            let made = create_task(Arc::new(Service::of(&shim)));
            let service = made.into_values().next()?;
            Some(((*name).to_owned(), service))
        })
        .collect();
    let listener = listener.try_into().map_err(ShimError::system("listen"))?;
    let mut server = Server::new()
        .add_listener(listener)
        .register_service(services);
    let started = server.start().await;
    started.map_err(|source| ShimError::Ttrpc {
        action: "serve",
        source,
    })?;
    say_ready()?;
    shim.finished().await;
    let _ = std::fs::remove_file(&path);
    let _ = server.shutdown().await;
    Ok(())
}

/// Takes the place of a server that is gone.
fn listen(path: &str) -> Result<std::os::unix::net::UnixListener, ShimError> {
    let error = || ShimError::path::<std::io::Error>("listen on", path);
    if let Some(directory) = Path::new(path).parent() {
        std::fs::create_dir_all(directory).map_err(error())?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(error())?;
    listener.set_nonblocking(true).map_err(error())?;
    Ok(listener)
}

/// Tells whoever started us, and lets go of the streams that it gave us.
fn say_ready() -> Result<(), ShimError> {
    let error = || ShimError::system::<std::io::Error>("say that it serves");
    let mut stdout = std::io::stdout();
    write!(stdout, "{READY}").map_err(error())?;
    stdout.flush().map_err(error())?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty());
    let null = null.map_err(|errno| error()(errno.into()))?;
    rustix::stdio::dup2_stdout(&null).map_err(|errno| error()(errno.into()))?;
    rustix::stdio::dup2_stderr(&null).map_err(|errno| error()(errno.into()))
}
