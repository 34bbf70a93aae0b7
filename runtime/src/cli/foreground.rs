//! Pods in the foreground: progress while they start, what they print while
//! they run, their exit code at the end.
//!
//! ```text
//! starting ─► running ─► ended ─► exit code of the first container that failed
//!     └─ Ctrl-C ─► ending (grace period) ─ Ctrl-C again ─► killed
//! ```
//!
//! The end of the terminal is as good as Ctrl-C for pods that live no longer than we do, and for
//! one whose terminal it was; others go on.

mod end;
mod session;

use super::style::Style;
use super::{CliError, exit, interrupt, manifest, workloads};
use crate::engine::{self, PodView, StartRequest, Starting, StopRequest};
use crate::settings::Settings;
use crate::spec::Document;
use session::Session;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet};

/// How often a job is looked at for new pods.
const JOB_LOOK: Duration = Duration::from_millis(200);

/// How pods are run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Come back once they run.
    pub detach: bool,
    /// Delete them when they end.
    pub remove: bool,
    /// Tie the one container's streams to ours.
    pub interactive: bool,
    /// Its terminal is ours.
    pub tty: bool,
    /// Nothing is said of how it gets on.
    pub quiet: bool,
}

/// Starts all pods and stays with them, and with those that have been `begun`
/// already. Nothing is left running when one of them cannot be started.
pub async fn run(
    settings: &Settings,
    requests: Vec<(Document, StartRequest)>,
    mut begun: Vec<Starting>,
    options: Options,
) -> Result<u8, CliError> {
    let (interrupt, interrupts) = watch::channel(0u32);
    let several = requests.len() + begun.len() > 1;
    let local = LocalSet::new();
    let mut tasks = Vec::new();
    let mut error: Option<CliError> = None;
    let mut uids = Vec::new();
    for (document, request) in requests {
        engine::pace(settings, &uids).await?;
        match engine::start(settings, request).await {
            Ok(starting) => {
                uids.push(starting.view.uid.clone());
                begun.push(starting);
            }
            Err(failed) => {
                error = Some(manifest::placed(&document, failed).of_pod(&document.spec.name));
                break;
            }
        }
    }
    if let Some(error) = error {
        for starting in begun {
            delete(settings, &starting.view, Some(0)).await?;
        }
        return Err(error);
    }
    local.spawn_local(count_interrupts(interrupt, options));
    for starting in begun {
        let name = starting.view.name.clone();
        let session = Session::new(settings.clone(), starting, options, several);
        let interrupts = interrupts.clone();
        tasks.push(local.spawn_local(async move {
            let ended = session.run(interrupts).await;
            // Of several each says how it went, when it has.
            match ended {
                Err(error) if several => {
                    let (style, code) = (Style::stderr(), error.exit_code());
                    error.print(&style);
                    tell!("{}", style.dim(&format!("pod/{name}: exit code {code}")));
                    Ok(code)
                }
                ended => ended,
            }
        }));
    }
    local.run_until(ends(tasks)).await
}

/// Waits until all have ended; the first error, or the first exit code that is one.
async fn ends(tasks: Vec<JoinHandle<Result<u8, CliError>>>) -> Result<u8, CliError> {
    let mut code = exit::OK;
    let mut error = None;
    for task in tasks {
        match task.await {
            Ok(Ok(ended)) if code == exit::OK => code = ended,
            Ok(Ok(_)) => {}
            Ok(Err(failed)) => error = error.or(Some(failed)),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
    error.map_or(Ok(code), Err)
}

/// Stays with a job whose runner starts its pods, until it is done; then it is
/// as it ended. A first Ctrl-C deletes it.
pub async fn job(
    settings: &Settings,
    (namespace, name): (&str, &str),
    options: Options,
) -> Result<u8, CliError> {
    // The job's pods end by the job: they do not hear of an interrupt.
    let (_never, silence) = watch::channel(0u32);
    let (interrupt, interrupts) = watch::channel(0u32);
    let local = LocalSet::new();
    local.spawn_local(count_interrupts(interrupt, options));
    let followed = local.run_until(async {
        let mut sessions = BTreeMap::new();
        loop {
            let now = workloads::job(settings, (namespace, name)).await?;
            for pod in now.pods {
                if sessions.contains_key(&pod.uid) {
                    continue;
                }
                let watch = engine::watch(settings, &pod.uid).await?;
                let uid = pod.uid.clone();
                let starting = Starting { view: pod, watch };
                let session = Session::new(settings.clone(), starting, options, true);
                let silence = silence.clone();
                sessions.insert(uid, tokio::task::spawn_local(session.run(silence)));
            }
            if *interrupts.borrow() > 0 {
                return Ok(exit::INTERRUPTED);
            }
            if let Some(end) = now.end {
                let mut code = exit::POD_FAILED;
                for session in sessions.into_values() {
                    match session.await {
                        // How a pod failed is for the job to judge.
                        Ok(Ok(exit::OK) | Err(_)) => {}
                        Ok(Ok(ended)) => code = ended,
                        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                    }
                }
                return Ok(if end.complete { exit::OK } else { code });
            }
            tokio::time::sleep(JOB_LOOK).await;
        }
    });
    followed.await
}

async fn count_interrupts(interrupt: watch::Sender<u32>, options: Options) {
    let hears_hangup = !options.detach && (options.remove || options.interactive);
    let mut hangup = hears_hangup.then(interrupt::hangup).flatten();
    let (Ok(mut int), Ok(mut term)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return;
    };
    interrupt::hand_over();
    loop {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = async { hangup.as_mut()?.recv().await }, if hangup.is_some() => {}
        }
        interrupt.send_modify(|count| *count += 1);
    }
}

async fn delete(settings: &Settings, pod: &PodView, grace: Option<u32>) -> Result<(), CliError> {
    let request = StopRequest {
        grace,
        delete: true,
    };
    Ok(engine::stop(settings, &pod.uid, request).await?)
}
