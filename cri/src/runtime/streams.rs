//! Addresses of streams: what is asked for is checked before one is given out.

use super::{Runtime, cri};
use crate::error::{CallError, missing};
use crate::pods::Found;
use crate::streaming::Session;
use crate::{container, sandbox};

impl Runtime {
    pub(super) async fn exec_url(&self, request: cri::ExecRequest) -> Result<String, CallError> {
        let (tty, stdin) = (request.tty, request.stdin);
        check(tty, request.stderr)?;
        let outputs = usize::from(request.stdout) + usize::from(request.stderr);
        if request.cmd.is_empty() {
            return Err(missing("cmd"));
        }
        some_stream(stdin, outputs)?;
        let Found { pod, name } = self.running(&request.container_id).await?;
        self.streaming.url(Session::Exec {
            uid: pod.uid,
            name,
            args: request.cmd,
            tty,
            stdin,
            outputs,
        })
    }

    pub(super) async fn attach_url(
        &self,
        request: cri::AttachRequest,
    ) -> Result<String, CallError> {
        let (tty, stdin) = (request.tty, request.stdin);
        check(tty, request.stderr)?;
        let outputs = usize::from(request.stdout) + usize::from(request.stderr);
        some_stream(stdin, outputs)?;
        let found = self.running(&request.container_id).await?;
        let stdin_once = found
            .parts()
            .is_some_and(|(note, _)| note.config.stdin_once);
        let Found { pod, name } = found;
        self.streaming.url(Session::Attach {
            uid: pod.uid,
            name,
            tty,
            stdin,
            stdin_once,
            outputs,
        })
    }

    pub(super) async fn forward_url(
        &self,
        request: cri::PortForwardRequest,
    ) -> Result<String, CallError> {
        let pod = self.pods.sandbox(&request.pod_sandbox_id).await?;
        if sandbox::state(&pod) != cri::PodSandboxState::SandboxReady {
            let message = format!("the sandbox {} is not ready", pod.uid);
            return Err(CallError::State { message });
        }
        let ports = request.port.iter().map(|port| {
            let port = u16::try_from(*port).ok().filter(|port| *port > 0);
            port.ok_or_else(|| CallError::Invalid {
                field: "port",
                why: "not a port from 1 to 65535".to_owned(),
            })
        });
        let ports = ports.collect::<Result<Vec<u16>, _>>()?;
        let uid = pod.uid;
        self.streaming.url(Session::Forward { uid, ports })
    }

    async fn running(&self, id: &str) -> Result<Found, CallError> {
        let found = self.pods.container(id).await?;
        let state = found.parts().map(|(_, status)| container::state(status));
        if state == Some(cri::ContainerState::ContainerRunning) {
            return Ok(found);
        }
        let message = format!("the container {id} is not running");
        Err(CallError::State { message })
    }
}

/// Without any there is nothing that an address would be for.
fn some_stream(stdin: bool, outputs: usize) -> Result<(), CallError> {
    match stdin || outputs > 0 {
        true => Ok(()),
        false => Err(CallError::Invalid {
            field: "stdin, stdout, stderr",
            why: "one of them is required".to_owned(),
        }),
    }
}

/// A terminal has one output.
fn check(tty: bool, stderr: bool) -> Result<(), CallError> {
    if tty && stderr {
        return Err(CallError::Invalid {
            field: "stderr",
            why: "a terminal has no standard error of its own".to_owned(),
        });
    }
    Ok(())
}
