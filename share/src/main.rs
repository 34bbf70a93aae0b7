//! `beluga-share --socket N --root N [--read-only] [--file]`.

use beluga_share::options::Options;
use beluga_share::server::Server;
use beluga_share::{rights, transport};
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
            eprintln!("beluga-share: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until the VMM is gone.
fn run(options: Options) -> Result<(), Error> {
    let descriptors = rights::raise_descriptor_limit();
    let server = Server::new(options.root, options.view, descriptors).map_err(Error::Root)?;
    let rights = rights::drop_all_others().map_err(Error::Rights)?;
    transport::serve(&options.socket, server.with_rights(rights)).map_err(Error::Socket)
}

/// Why it ended before its VMM.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the shared directory cannot be used: {0}")]
    Root(rustix::io::Errno),
    #[error("rights cannot be dropped: {0}")]
    Rights(rustix::io::Errno),
    #[error("the socket to the VMM failed: {0}")]
    Socket(rustix::io::Errno),
}
