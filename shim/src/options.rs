//! The command line, as containerd writes it: one dash before long names.

use std::ffi::OsString;

/// What the program is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Action {
    /// Leave a server behind and print its address.
    Start,
    /// Clear up after a server that is gone.
    Delete,
    /// Do what of that takes time.
    Clear,
    /// Be the PID of a container.
    Hold,
    /// Be the server.
    #[default]
    Serve,
    /// Say the version.
    Version,
    /// Say what it is.
    Help,
    /// Say what it can do, to containerd.
    Info,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// What to do.
    pub action: Action,
    /// containerd's namespace.
    pub namespace: String,
    /// The task.
    pub id: String,
    /// The server's socket; `unix://…`.
    pub socket: String,
    /// containerd's own socket.
    pub address: String,
    /// Its bundle where that is not the working directory.
    pub bundle: String,
    /// The container of the pod that is to be cleared, where the pod itself is not.
    pub container: String,
}

/// What the program is, for people.
pub const HELP: &str = "\
Runs pods of containerd in microVMs. containerd starts it, for containers of the runtime
io.containerd.beluga.v2: ctr run --runtime io.containerd.beluga.v2 IMAGE NAME

usage: containerd-shim-beluga-v2 [OPTIONS] [start|delete]
  -namespace, -id, -address, -bundle, -socket VALUE   what containerd says of a task
  -info       what it can do, for containerd
  -v          the version
";

/// What cannot be meant.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OptionsError {
    /// An option.
    #[error("unknown option {0:?}")]
    Unknown(String),
    /// An option that stands alone.
    #[error("{0} wants a value")]
    NoValue(String),
    /// What to do.
    #[error("unknown action {0:?}: start, delete or none")]
    Action(String),
}

impl Options {
    /// Reads what follows the program's name.
    pub fn read(args: impl Iterator<Item = OsString>) -> Result<Self, OptionsError> {
        let mut options = Self::default();
        let mut args = args.map(|arg| arg.to_string_lossy().into_owned());
        while let Some(arg) = args.next() {
            let Some(name) = arg.strip_prefix('-') else {
                options.action = match arg.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    crate::cleanup::CLEAR => Action::Clear,
                    crate::holder::HOLD => Action::Hold,
                    _ => return Err(OptionsError::Action(arg)),
                };
                continue;
            };
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, given) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            let into = match name {
                "debug" => continue,
                "v" | "version" => {
                    options.action = Action::Version;
                    continue;
                }
                "h" | "help" => {
                    options.action = Action::Help;
                    continue;
                }
                "info" => {
                    options.action = Action::Info;
                    continue;
                }
                "namespace" => &mut options.namespace,
                "id" => &mut options.id,
                "socket" => &mut options.socket,
                "address" => &mut options.address,
                "bundle" => &mut options.bundle,
                "container" => &mut options.container,
                // Whom to tell of events in the days before ttrpc.
                "publish-binary" => &mut String::new(),
                _ => return Err(OptionsError::Unknown(arg)),
            };
            let value = given.or_else(|| args.next());
            *into = value.ok_or(OptionsError::NoValue(arg))?;
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, OptionsError> {
        Options::read(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_line_of_containerd_is_understood() {
        let options = read(
            "-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd -id a -debug start",
        );
        let options = options.unwrap();
        assert_eq!(options.action, Action::Start);
        assert_eq!((&*options.namespace, &*options.id), ("k8s.io", "a"));
        assert_eq!(read("--id=b").unwrap().id, "b");
        assert_eq!(read("-v").unwrap().action, Action::Version);
        assert_eq!(read("-info").unwrap().action, Action::Info);
        assert_eq!(read("--help").unwrap().action, Action::Help);
        assert_eq!(read("-id a hold").unwrap().action, Action::Hold);
    }

    #[test]
    fn what_is_unknown_is_refused() {
        assert_eq!(read("-x"), Err(OptionsError::Unknown("-x".into())));
        assert_eq!(read("-id"), Err(OptionsError::NoValue("-id".into())));
        assert_eq!(read("stop"), Err(OptionsError::Action("stop".into())));
    }
}
