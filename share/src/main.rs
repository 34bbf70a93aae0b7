//! `beluga-share --socket N --root N [--read-only] [--file]`.

use beluga_share::calls::{self, CallsError};
use beluga_share::options::Options;
use beluga_share::server::Server;
use beluga_share::{jail, rights, transport};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["--version"] {
        println!("beluga-share {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let Some(options) = Options::parse(&arguments) else {
        eprintln!("usage: beluga-share --socket N --root N [--read-only] [--file] | --version");
        return ExitCode::from(2);
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = std::error::Error::source(&error);
            let cause = cause.map_or(String::new(), |cause| format!(": {cause}"));
            eprintln!("beluga-share: {error}{cause}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until the VMM is gone.
fn run(options: Options) -> Result<(), ShareError> {
    let named = [options.socket.as_raw_fd(), options.root.as_raw_fd()];
    jail::close_all_but(named).map_err(ShareError::Jail)?;
    let descriptors = rights::raise_descriptor_limit();
    let possible = rights::possible();
    // The server's own descriptor of it is gone into a table.
    let root = options.root.try_clone().map_err(ShareError::Jail)?;
    let server = Server::new(options.root, options.view, descriptors).map_err(ShareError::Root)?;
    jail::enter(root.as_fd(), options.view.single_file).map_err(ShareError::Jail)?;
    drop(root);
    let rights = rights::drop_all_others(possible).map_err(ShareError::Rights)?;
    calls::limit()?;
    transport::serve(&options.socket, server.with_rights(rights)).map_err(ShareError::Socket)
}

/// Why it ended before its VMM.
#[derive(Debug, thiserror::Error)]
enum ShareError {
    #[error("the shared directory cannot be used")]
    Root(#[source] rustix::io::Errno),
    #[error("the process cannot be shut in")]
    Jail(#[source] std::io::Error),
    #[error("rights cannot be dropped")]
    Rights(#[source] rustix::io::Errno),
    #[error("system calls cannot be limited")]
    Calls(#[from] CallsError),
    #[error("the socket to the VMM failed")]
    Socket(#[source] rustix::io::Errno),
}
