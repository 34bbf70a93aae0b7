//! Processes while they run: those beside a task, and a task's own input.

use crate::error::ShimError;
use crate::service::Shim;
use crate::stdio;
use crate::task::{Asked, Exit, Stdio};
use beluga_proto::PodUid;
use beluga_proto::container::TerminalSize;
use beluga_runtime::engine::{
    self, AttachRequest, AttachSession, ExecRequest, ExecSession, Remote,
};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, mpsc};

/// How long the streams of a process that has ended may stay open: a child of it
/// may hold them.
const STREAM_PATIENCE: Duration = Duration::from_secs(5);

/// SIGKILL.
const KILL: i32 = 9;

/// A terminal's size until somebody says another.
const TERMINAL: TerminalSize = TerminalSize { rows: 24, cols: 80 };

impl Shim {
    /// A conversation with the supervisor about a task's own process.
    pub async fn attach(&self, id: &str, stdin: bool) -> Result<AttachSession, ShimError> {
        let request = AttachRequest {
            container: Some(crate::oci::container_name(id)),
            stdin,
            quiet: true,
        };
        Ok(engine::attach(&self.settings, &self.uid()?, request).await?)
    }

    /// Carries a task's input to it, until the task has ended.
    pub fn feed(self: &Arc<Self>, id: &str, stdin: String) -> mpsc::UnboundedSender<Asked> {
        let (asks, mut asked) = mpsc::unbounded_channel();
        let (shim, id) = (Arc::clone(self), id.to_owned());
        tokio::spawn(async move {
            let Ok(session) = shim.attach(&id, true).await else {
                return;
            };
            let AttachSession {
                stdin: to,
                mut control,
                ..
            } = session;
            let Some(to) = to else {
                return;
            };
            let closed = Notify::new();
            let feeding = stdio::feed(Path::new(&stdin), to, &closed);
            tokio::pin!(feeding);
            let mut is_fed = false;
            loop {
                tokio::select! {
                    _ = &mut feeding, if !is_fed => is_fed = true,
                    one = asked.recv() => match one {
                        Some(Asked::CloseInput) => closed.notify_one(),
                        Some(_) => {}
                        None => return,
                    },
                    _ = control.wait() => return,
                }
            }
        });
        asks
    }

    /// Runs a process beside a task's own. Returns when it runs.
    pub async fn exec(
        self: &Arc<Self>,
        uid: &PodUid,
        (id, exec): (&str, &str),
    ) -> Result<(), ShimError> {
        let (spec, stdio) = self.table(|table| {
            if table.task(id)?.own.is_paused {
                // It would stand still before its program is executed, and its caller wait.
                let message = "cannot exec in a paused container".to_owned();
                return Err(ShimError::State { message });
            }
            let process = table.process(id, exec)?;
            let spec = process.spec.clone().unwrap_or_default();
            Ok::<_, ShimError>((spec, process.stdio.clone()))
        })?;
        let size = spec.console_size().map(|size| TerminalSize {
            rows: u16::try_from(size.height()).unwrap_or(TERMINAL.rows),
            cols: u16::try_from(size.width()).unwrap_or(TERMINAL.cols),
        });
        let request = ExecRequest {
            container: Some(crate::oci::container_name(id)),
            args: spec.args().clone().unwrap_or_default(),
            env: spec.env().clone().unwrap_or_default(),
            tty: stdio.terminal.then(|| size.unwrap_or(TERMINAL)),
            stdin: !stdio.stdin.is_empty(),
            workdir: Some(spec.cwd().display().to_string()),
            user: Some(format!("{}:{}", spec.user().uid(), spec.user().gid())),
            copy: None,
        };
        let session = engine::exec(&self.settings, uid, request).await?;
        let (asks, asked) = mpsc::unbounded_channel();
        self.table(|table| {
            let pid = table.task(id)?.own.pid;
            let process = table.process(id, exec)?;
            process.asks = Some(asks);
            (process.is_started, process.pid) = (true, pid);
            Ok::<_, ShimError>(())
        })?;
        let (shim, id, exec) = (Arc::clone(self), id.to_owned(), exec.to_owned());
        tokio::spawn(async move {
            let exit = tend(session, stdio, asked).await;
            shim.end(&id, &exec, exit);
        });
        Ok(())
    }
}

/// Until the process has ended and its output is where it belongs.
async fn tend(
    session: ExecSession,
    stdio: Stdio,
    mut asked: mpsc::UnboundedReceiver<Asked>,
) -> Exit {
    let ExecSession {
        stdin,
        stdout,
        stderr,
        mut control,
    } = session;
    let out = stdio.stdout.clone();
    let out = tokio::spawn(async move { stdio::drain(stdout, &out).await });
    let err = stderr.map(|stderr| {
        let path = stdio.stderr.clone();
        tokio::spawn(async move { stdio::drain(stderr, &path).await })
    });
    let closed = Arc::new(Notify::new());
    let fed = stdin.map(|stdin| {
        let (path, closed) = (stdio.stdin.clone(), Arc::clone(&closed));
        tokio::spawn(async move { stdio::feed(Path::new(&path), stdin, &closed).await })
    });
    let exit = loop {
        tokio::select! {
            exit = control.wait() => break exit,
            one = asked.recv() => match one {
                Some(Asked::CloseInput) => closed.notify_one(),
                // A probe that is late is killed so; what it has started would stay
                // for as long as the container, one after the other.
                Some(Asked::Signal(KILL)) => drop(control.kill().await),
                Some(one) => ask(&control, one).await,
                None => break control.wait().await,
            },
        }
    };
    if let Some(fed) = fed {
        fed.abort();
    }
    let output = async {
        let _ = out.await;
        if let Some(err) = err {
            let _ = err.await;
        }
    };
    let _ = tokio::time::timeout(STREAM_PATIENCE, output).await;
    match exit {
        Ok(exit) => Exit {
            code: u32::try_from(exit.code).unwrap_or(255),
            at: SystemTime::UNIX_EPOCH + Duration::from_nanos(exit.unix_nanos),
        },
        // Its machine has ended with it.
        Err(_) => Exit::now(137),
    }
}

/// Passes a wish on. Who cannot be reached has ended, which shows by itself.
pub async fn ask(control: &Remote, asked: Asked) {
    let _ = match asked {
        Asked::Signal(signal) => control.signal(signal).await,
        Asked::Size(rows, cols) => control.resize(TerminalSize { rows, cols }).await,
        Asked::CloseInput => Ok(()),
    };
}
