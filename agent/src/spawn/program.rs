//! The last steps: environment, working directory, and the program itself.

use super::error::{Context, HelperError};
use super::resolve::{Boundary, directory};
use super::status::Reporter;
use crate::sys::spawn::{Strings, exec};
use beluga_proto::ExecSpec;
use rustix::fs::Mode;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Where programs are sought when the image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with all that execve wants of it.
pub struct Program {
    command: String,
    search: String,
    args: Strings,
    environment: Strings,
}

/// Checks and converts what execve will want, before anything is given up.
pub fn prepare(process: &ExecSpec, home: &str) -> Result<Program, HelperError> {
    let Some(command) = process.args.first().filter(|command| !command.is_empty()) else {
        return Err(invalid("the container has no command"));
    };
    let mut environment = process.env.clone();
    if !has(&environment, "HOME") {
        environment.push(format!("HOME={home}"));
    }
    if !has(&environment, "PATH") {
        environment.push(format!("PATH={DEFAULT_PATH}"));
    }
    if process.tty.is_some() && !has(&environment, "TERM") {
        environment.push("TERM=xterm".to_owned());
    }
    let search = environment
        .iter()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH)
        .to_owned();
    Ok(Program {
        command: command.clone(),
        search,
        args: strings(&process.args, "an argument")?,
        environment: strings(&environment, "an environment variable")?,
    })
}

fn has(environment: &[String], name: &str) -> bool {
    environment.iter().any(|entry| {
        entry
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('='))
    })
}

fn strings(texts: &[String], what: &str) -> Result<Strings, HelperError> {
    let texts: Result<Vec<_>, _> = texts
        .iter()
        .map(|text| CString::new(text.as_str()))
        .collect();
    match texts {
        Ok(texts) => Ok(Strings::new(texts)),
        Err(_) => Err(invalid(&format!("{what} contains a zero byte"))),
    }
}

fn invalid(what: &str) -> HelperError {
    HelperError::Invalid {
        what: what.to_owned(),
    }
}

/// Opens the working directory inside a root, made when missing.
pub fn working_directory(root: &OwnedFd, path: &str) -> Result<OwnedFd, HelperError> {
    if !path.starts_with('/') {
        return Err(bad_directory(path, "is not absolute"));
    }
    directory(root, path, Mode::from(0o755), Boundary::Root).map_err(|source| {
        HelperError::WorkingDirectory {
            path: path.to_owned(),
            source,
        }
    })
}

/// Enters the working directory. It must be reachable from the root: one that
/// is not would be a handle on the guest's own tree (CVE-2024-21626).
pub fn enter(directory: impl AsFd, path: &str) -> Result<(), HelperError> {
    rustix::process::fchdir(directory).to_with("enter working directory", path)?;
    let here = rustix::process::getcwd(Vec::new()).to("find the working directory")?;
    if here.to_bytes().first() == Some(&b'/') {
        Ok(())
    } else {
        Err(bad_directory(path, "lies outside of the root"))
    }
}

fn bad_directory(path: &str, why: &'static str) -> HelperError {
    HelperError::BadWorkingDirectory {
        path: path.to_owned(),
        why,
    }
}

impl Program {
    /// Becomes the program; gives back why not.
    pub fn execute(&self, reporter: &Reporter) -> HelperError {
        if let Err(error) = reporter.executing().to("report to the agent") {
            return error;
        }
        if self.command.contains('/') {
            return self.failed(&self.try_at(&self.command), "the container's root");
        }
        let mut refused = None;
        // An entry that is not absolute would mean the working directory,
        // which strangers may write to.
        for place in self
            .search
            .split(':')
            .filter(|place| place.starts_with('/'))
        {
            let error = self.try_at(&format!("{}/{}", place.trim_end_matches('/'), self.command));
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                Some(libc::EACCES | libc::ENAMETOOLONG | libc::ELOOP) => refused = Some(error),
                _ => return self.failed(&error, "PATH"),
            }
        }
        let error = refused.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ENOENT));
        self.failed(&error, &format!("PATH ({})", self.search))
    }

    fn try_at(&self, path: &str) -> io::Error {
        match CString::new(path) {
            Ok(path) => exec(&path, &self.args, &self.environment),
            Err(_) => io::ErrorKind::InvalidInput.into(),
        }
    }

    fn failed(&self, error: &io::Error, place: &str) -> HelperError {
        let code = error.raw_os_error().unwrap_or(libc::EINVAL);
        let source = io::Error::from_raw_os_error(code);
        let command = self.command.clone();
        match code {
            // A script or program whose interpreter is missing says ENOENT too.
            libc::ENOENT if command.contains('/') && rustix::fs::stat(&command).is_ok() => {
                HelperError::CommandNotFound {
                    command,
                    place: "the container's root: it is there, but its interpreter is not"
                        .to_owned(),
                }
            }
            libc::ENOENT | libc::ENOTDIR => HelperError::CommandNotFound {
                command,
                place: place.to_owned(),
            },
            libc::E2BIG => invalid("arguments and environment are too long together"),
            libc::ENOMEM | libc::EAGAIN | libc::EMFILE | libc::ENFILE => HelperError::Os {
                what: format!("execute {command:?}"),
                source,
            },
            _ => HelperError::CommandNotExecutable { command, source },
        }
    }
}
