//! What the supervisor asks for.

use super::stdio::resize;
use super::{Agent, Ending, SHUTDOWN};
use crate::cgroup::{self, Cgroup};
use crate::clock;
use crate::link::Caller;
use crate::setup;
use crate::spawn;
use crate::stats;
use crate::sys;
use beluga_proto::agent::{ResumeStream, Target};
use beluga_proto::bytes::Bytes;
use beluga_proto::container::{CgroupLimits, TerminalSize};
use beluga_proto::{ContainerId, Fault, FaultCode, Nonce, PodSetup, Reply, Request, Stamp};
use std::io;
use std::time::{Duration, Instant};

/// A limit that was reached, or else a fault of the agent or the guest's
/// kernel, with its causes.
pub(super) fn failed(error: impl std::error::Error + 'static) -> Fault {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut code = FaultCode::Internal;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            code = spawn::code_of(error);
        }
        cause = error.source();
    }
    Fault::from_error(code, &error)
}

/// The same for an error of the system that says nothing of itself.
pub(super) fn failed_to(what: &str, error: &io::Error) -> Fault {
    Fault::new(spawn::code_of(error), format!("cannot {what}: {error}"))
}

impl Agent {
    /// Does what is asked, or begins to; every request is answered once.
    #[expect(clippy::too_many_lines, reason = "a total match: every request once")]
    pub(super) fn serve(&mut self, caller: Caller, request: Request) {
        let answer = match request {
            Request::Setup(setup) => Some(self.set_up(&setup).map(|()| Reply::Done)),
            Request::AddLayers { layers } => {
                self.layers.request(caller, layers);
                // At once where the disk is large enough: requests come without
                // waiting for replies, and the next one may use the layers.
                self.turn_layers();
                None
            }
            Request::WriteFiles {
                volume,
                files,
                first,
                last,
            } => Some(
                self.storage
                    .write_files(&volume, &files, first, last)
                    .map(|()| Reply::Done),
            ),
            Request::Start { spec, stdio } => self.start(caller, *spec, stdio).err().map(Err),
            Request::Exec {
                container,
                exec,
                process,
                stdio,
                copy,
            } => self
                .exec(caller, container, exec, (*process, copy), stdio)
                .err()
                .map(Err),
            Request::Signal {
                target,
                signal,
                all,
            } => Some(self.signal(&target, signal, all).map(|()| Reply::Done)),
            Request::Resize { target, size } => {
                Some(self.resize(&target, size).map(|()| Reply::Done))
            }
            Request::Hook {
                container,
                hook,
                handler,
                timeout_millis,
            } => {
                let timeout = timeout_millis.map(Duration::from_millis);
                let begun = self.hook(&container, hook, &handler, timeout);
                Some(begun.map(|()| Reply::Done))
            }
            Request::Limit { container, limits } => {
                Some(self.limit(&container, &limits).map(|()| Reply::Done))
            }
            Request::Freeze { container, frozen } => {
                Some(self.freeze(&container, frozen).map(|()| Reply::Done))
            }
            Request::Connect { port, stdio } => {
                Some(self.connect(port, &stdio).map(|()| Reply::Done))
            }
            Request::TlsConnect { attempt, stdio } => {
                Some(self.tls_connect(attempt, &stdio).map(|()| Reply::Done))
            }
            Request::TlsAnswer {
                attempt,
                bytes: Bytes(bytes),
                failure,
            } => {
                let heard = self.tls_answer(attempt, &bytes, failure);
                Some(heard.map(|()| Reply::Done))
            }
            Request::Remove { container } => self.remove(caller, &container).err().map(Err),
            Request::ResumeOutput {
                container,
                stdout,
                stderr,
                stdin,
            } => Some(
                self.resume(&container, stdout, stderr, stdin)
                    .map(|()| Reply::Done),
            ),
            Request::List => Some(Ok(Reply::Containers {
                containers: self.pod.list(),
            })),
            Request::Stats => Some(Ok(self.stats())),
            Request::SetClock { unix_nanos } => Some(
                clock::set(unix_nanos)
                    .map(|()| Reply::Done)
                    .map_err(|error| failed_to("set the clock", &error)),
            ),
            Request::Shutdown => {
                self.kill_all();
                let until = Instant::now() + SHUTDOWN;
                self.ending.get_or_insert(Ending { caller, until });
                None
            }
        };
        if let Some(result) = answer {
            self.link.reply(caller, result);
        }
    }

    fn set_up(&mut self, setup: &PodSetup) -> Result<(), Fault> {
        self.pod.admit_setup()?;
        self.storage = setup::set_up(setup)?;
        cgroup::limit_pod(&setup.cgroup).map_err(failed)?;
        let cards = setup.interfaces.iter();
        let mut addresses = cards.flat_map(|card| &card.addresses);
        self.checks.address = addresses.next().map(|address| address.ip);
        self.no_exec = setup.no_exec;
        if setup.share_processes {
            let group = Cgroup::named("pause");
            group.create(&Default::default()).map_err(failed)?;
            self.pause = Some(spawn::start_pause(group.path()).map_err(failed)?);
        } else if setup.guest_processes {
            // They come to be in the namespace of the agent itself.
            self.pause = Some(1);
        }
        self.pod.is_set_up_now();
        sys::stamp(Stamp::PodReady);
        Ok(())
    }

    fn limit(&self, id: &ContainerId, limits: &CgroupLimits) -> Result<(), Fault> {
        self.pod.first_process(id)?;
        let Some(container) = self.containers.get(id) else {
            return Ok(());
        };
        match container.cgroup.change(limits).map_err(failed)? {
            None => Ok(()),
            Some(used) => {
                let message = format!("its processes use {} MiB of memory", used.div_ceil(1 << 20));
                Err(Fault::new(FaultCode::ResourceExhausted, message))
            }
        }
    }

    fn freeze(&self, id: &ContainerId, frozen: bool) -> Result<(), Fault> {
        self.pod.first_process(id)?;
        let group = self.containers.get(id).map(|owner| &owner.cgroup);
        group.map_or(Ok(()), |group| group.freeze(frozen).map_err(failed))
    }

    fn signal(&mut self, target: &Target, signal: i32, all: bool) -> Result<(), Fault> {
        if !(1..=64).contains(&signal) {
            let message = format!("{signal} is no signal");
            return Err(Fault::new(FaultCode::InvalidArgument, message));
        }
        let (pid, running) = self.pod.signal_target(target)?;
        if !running && signal != libc::SIGKILL {
            // The helper would die of it instead of the program handling it.
            let message = "its program does not run yet";
            return Err(Fault::new(FaultCode::FailedPrecondition, message));
        }
        if let Some(starting) = self.starting.get_mut(&pid)
            && starting.handed_over
        {
            starting.kill = true;
            return Ok(());
        }
        match target {
            Target::Container { id } if all => self.signal_all(id, signal),
            // A command leads a session and a process group of its own.
            Target::Exec { .. } if all => {
                let group = i32::try_from(pid).map_or(0, i32::wrapping_neg);
                sys::kill(group, signal).map_err(|error| failed_to("signal", &error))
            }
            _ => {
                super::lifecycle::signal_process(pid, signal);
                Ok(())
            }
        }
    }

    fn signal_all(&mut self, id: &ContainerId, signal: i32) -> Result<(), Fault> {
        let Some(container) = self.containers.get(id) else {
            return Ok(());
        };
        if signal == libc::SIGKILL {
            return container.cgroup.kill().map_err(failed);
        }
        for pid in container.cgroup.processes(usize::MAX) {
            super::lifecycle::signal_process(pid, signal);
        }
        Ok(())
    }

    fn resize(&mut self, target: &Target, size: TerminalSize) -> Result<(), Fault> {
        let streams = match target {
            Target::Container { id } => self.containers.get(id).map(|c| &c.streams),
            Target::Exec { id } => self.execs.get(id).map(|exec| &exec.streams),
        };
        let terminal = streams.filter(|streams| streams.is_terminal);
        let terminal = terminal.and_then(|streams| {
            let ends = [streams.stdout, streams.stdin].into_iter().flatten();
            ends.filter_map(|id| self.streams.local(id)).next()
        });
        match terminal {
            Some(terminal) => {
                resize(terminal, size).map_err(|error| failed_to("resize a terminal", &error))
            }
            None => {
                self.pod.signal_target(target)?;
                let message = "the process has no terminal";
                Err(Fault::new(FaultCode::FailedPrecondition, message))
            }
        }
    }

    fn resume(
        &mut self,
        id: &ContainerId,
        stdout: Option<ResumeStream>,
        stderr: Option<ResumeStream>,
        stdin: Option<Nonce>,
    ) -> Result<(), Fault> {
        self.pod.phase(id)?;
        let Some(container) = self.containers.get(id) else {
            return Ok(());
        };
        let (input, output, error) = (
            container.streams.stdin,
            container.streams.stdout,
            container.streams.stderr,
        );
        for (stream, resume) in [(output, stdout), (error, stderr)] {
            if let Some(resume) = resume {
                self.streams
                    .resume_output(&self.poller, stream, &resume)
                    .map_err(|error| Fault::from_error(FaultCode::InvalidArgument, &error))?;
            }
        }
        if let (Some(stream), Some(nonce)) = (input, stdin) {
            self.streams.resume_input(&self.poller, stream, &nonce);
        }
        Ok(())
    }

    fn stats(&self) -> Reply {
        let mut stats = stats::pod();
        stats.containers = self
            .containers
            .iter()
            .map(|(id, container)| {
                let writable = (container.writable.as_str(), container.project);
                stats::container(id, &container.cgroup, writable)
            })
            .collect();
        Reply::Stats(Box::new(stats))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn::SpawnError;

    #[test]
    fn a_limit_that_is_reached_is_told_from_a_fault_of_ours() {
        let spawn = |errno| {
            failed(SpawnError::Os {
                what: "make a process",
                source: io::Error::from_raw_os_error(errno),
            })
        };
        for errno in [libc::EAGAIN, libc::ENOMEM, libc::ENOSPC, libc::EMFILE] {
            assert_eq!(spawn(errno).code, FaultCode::ResourceExhausted, "{errno}");
        }
        let fault = spawn(libc::EINVAL);
        assert_eq!(fault.code, FaultCode::Internal);
        assert_eq!(
            fault.message,
            "cannot make a process: Invalid argument (os error 22)"
        );
    }
}
