//! `beluga cp`: files into a container and out of it. The image needs no
//! program for it.

use super::error::UsageError;
use super::style::Style;
use super::{CliError, exit, pods};
use crate::copy;
use crate::engine::{self, ExecRequest, ExecSession};
use crate::settings::Settings;
use beluga_proto::copy::CopySpec;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Bytes that lie between a file and the stream.
const BUFFER: usize = 128 << 10;

/// Arguments of `cp`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `[NAMESPACE/]POD:PATH`, or a path here
    from: OsString,
    /// The same, the other way
    to: OsString,
    /// The container; the first one when it is not named
    #[arg(short, long)]
    container: Option<String>,
    /// Namespace of the pod
    #[arg(short, long, default_value = pods::DEFAULT)]
    namespace: String,
}

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Here(PathBuf),
    There {
        namespace: Option<String>,
        pod: String,
        path: String,
    },
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    match (end(&args.from)?, end(&args.to)?) {
        (
            End::There {
                namespace,
                pod,
                path,
            },
            End::Here(to),
        ) => {
            let name = OsString::from(last(&path).unwrap_or(&pod));
            let copy = CopySpec { path, name: None };
            let session = session(settings, &args, (namespace, &pod), copy).await?;
            out(session, to, name).await
        }
        (
            End::Here(from),
            End::There {
                namespace,
                pod,
                path,
            },
        ) => {
            let whole = std::fs::canonicalize(&from).map_err(|e| CliError::read(&from, e))?;
            let shown = from.file_name().or(whole.file_name());
            let name = shown.and_then(OsStr::to_str).map(str::to_owned);
            let name = name.ok_or(UsageError::NamelessSource)?;
            let copy = CopySpec {
                path,
                name: Some(name),
            };
            let session = session(settings, &args, (namespace, &pod), copy).await?;
            into(session, from).await
        }
        _ => Err(UsageError::OneEndInPod.into()),
    }
}

/// An end as kubectl reads it; what begins with a dot or slash is here.
fn end(word: &OsStr) -> Result<End, CliError> {
    let here = || Ok(End::Here(PathBuf::from(word)));
    let Some(text) = word.to_str() else {
        return here();
    };
    if text.starts_with(['/', '.']) {
        return here();
    }
    let Some((pod, path)) = text.split_once(':') else {
        return here();
    };
    let (namespace, pod) = match pod.split_once('/') {
        Some((namespace, pod)) => (Some(namespace.to_owned()), pod),
        None => (None, pod),
    };
    if pod.is_empty() || pod.contains('/') || path.is_empty() {
        return Err(UsageError::FileSpec.into());
    }
    Ok(End::There {
        namespace,
        pod: pod.to_owned(),
        path: path.to_owned(),
    })
}

/// The last part of a path in a container, if it is a name.
fn last(path: &str) -> Option<&str> {
    let name = Path::new(path).file_name()?.to_str()?;
    (!name.is_empty()).then_some(name)
}

async fn session(
    settings: &Settings,
    args: &Args,
    (namespace, pod): (Option<String>, &str),
    copy: CopySpec,
) -> Result<ExecSession, CliError> {
    let namespace = namespace.unwrap_or_else(|| args.namespace.clone());
    let pod = pods::one(settings, &namespace, pod).await?;
    let container = pods::container(&pod, args.container.as_deref())?.to_owned();
    let request = ExecRequest {
        container: Some(container),
        args: vec!["cp".to_owned()],
        stdin: copy.name.is_some(),
        copy: Some(copy),
        ..ExecRequest::default()
    };
    Ok(engine::exec(settings, &pod.uid, request).await?)
}

fn note(text: String) {
    let style = Style::stderr();
    tell!("{} {}", style.bad("error:"), crate::printable(&text));
}

fn stream(fd: OwnedFd) -> Result<File, CliError> {
    rustix::io::ioctl_fionbio(&fd, false)
        .map_err(|errno| CliError::io("use the stream", errno.into()))?;
    Ok(File::from(fd))
}

async fn out(session: ExecSession, to: PathBuf, name: OsString) -> Result<u8, CliError> {
    let from = BufReader::with_capacity(BUFFER, stream(session.stdout)?);
    let received = tokio::task::spawn_blocking(move || copy::receive(&to, &name, from, note)).await;
    received.map_err(|error| CliError::io("copy", std::io::Error::other(error)))??;
    let mut control = session.control;
    Ok(exit::of_process(control.wait().await?.code))
}

async fn into(session: ExecSession, from: PathBuf) -> Result<u8, CliError> {
    let stdin = session.stdin.ok_or(engine::EngineError::from(
        crate::api::client::ClientError::Answer,
    ))?;
    let to = stream(stdin)?;
    let back = BufReader::with_capacity(BUFFER, stream(session.stdout)?);
    let told = tokio::task::spawn_blocking(move || copy::notes(back, note));
    let sent = tokio::task::spawn_blocking(move || {
        let mut to = BufWriter::with_capacity(BUFFER, to);
        copy::send(&from, &mut to, note)?;
        Ok::<_, copy::CopyError>(to.flush()?)
    });
    let sent = sent.await;
    let told = told.await;
    let mut control = session.control;
    let code = control.wait().await?.code;
    let failed = |error| CliError::io("copy", std::io::Error::other(error));
    match (sent.map_err(failed)?, told.map_err(failed)?) {
        // What was told from there says more than a broken stream.
        (Err(_), Ok(true)) => Ok(exit::ERROR),
        (Err(error), _) | (Ok(()), Err(error)) => Err(error.into()),
        (Ok(()), Ok(_)) => Ok(exit::of_process(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_those_of_kubectl() {
        let of = |text: &str| end(OsStr::new(text));
        let there = |namespace: Option<&str>, pod: &str, path: &str| End::There {
            namespace: namespace.map(str::to_owned),
            pod: pod.to_owned(),
            path: path.to_owned(),
        };
        for (text, expected) in [
            ("web:/etc/x", there(None, "web", "/etc/x")),
            ("ns/web:x:y", there(Some("ns"), "web", "x:y")),
            ("file", End::Here("file".into())),
            ("./a:b", End::Here("./a:b".into())),
            ("/tmp/a:b", End::Here("/tmp/a:b".into())),
        ] {
            assert_eq!(of(text).unwrap(), expected, "{text}");
        }
        for bad in [":x", "web:", "a/b/c:x"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert_eq!(
            (last("/a/b"), last("/a/b/"), last("/")),
            (Some("b"), Some("b"), None)
        );
    }
}
