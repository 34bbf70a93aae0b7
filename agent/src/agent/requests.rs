//! What the supervisor asks for.

use super::stdio::resize;
use super::{Agent, Container, Ending, Exec, SHUTDOWN, Starting};
use crate::boot::{FILES, ROOT};
use crate::cgroup::{self, Cgroup};
use crate::layers;
use crate::link::Caller;
use crate::setup::{self, writable_directory};
use crate::spawn::{
    self, FileMount, LayerMount, Place, RootPlan, SpawnPlan, VolumeMount, Writable,
};
use crate::stats;
use crate::sys;
use beluga_proto::agent::{ResumeStream, StdioNonces, Target};
use beluga_proto::container::{CgroupLimits, TerminalSize};
use beluga_proto::copy::CopySpec;
use beluga_proto::{
    ContainerId, ContainerSpec, ExecId, ExecSpec, Fault, FaultCode, Nonce, PodSetup, Reply,
    Request, Stamp,
};
use std::io;
use std::time::{Duration, Instant};

/// A limit that was reached, or else a fault of the agent or the guest's
/// kernel, with its causes.
fn failed(error: impl std::error::Error + 'static) -> Fault {
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
fn failed_to(what: &str, error: &io::Error) -> Fault {
    Fault::new(spawn::code_of(error), format!("cannot {what}: {error}"))
}

impl Agent {
    /// Does what is asked, or begins to; every request is answered once.
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
                setup::set_clock(unix_nanos)
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
        let cards = setup.interfaces.iter();
        let mut addresses = cards.flat_map(|card| &card.addresses);
        self.checks.address = addresses.next().map(|address| address.ip);
        if setup.share_processes {
            let group = Cgroup::named("pause");
            group.create(&Default::default()).map_err(failed)?;
            self.pause = Some(spawn::start_pause(group.path()).map_err(failed)?);
        }
        self.pod.is_set_up_now();
        sys::stamp(Stamp::PodReady);
        Ok(())
    }

    fn start(
        &mut self,
        caller: Caller,
        spec: ContainerSpec,
        nonces: StdioNonces,
    ) -> Result<(), Fault> {
        self.pod.admit_container(&spec.id)?;
        let mut plan = self.plan(&spec)?;
        let group = Cgroup::named(spec.id.as_str());
        group.create(&spec.cgroup).map_err(failed)?;
        let container = Container {
            cgroup: group,
            writable: String::new(),
            project: None,
            streams: Default::default(),
            oom_kills: 0,
            give_up_at: None,
        };
        let begun = self.begin(caller, &spec, &mut plan, nonces, container);
        begun.map_err(|(fault, container)| {
            self.discard(&spec.id, *container, None);
            fault
        })
    }

    /// The steps of a start that leave something to be given back.
    fn begin(
        &mut self,
        caller: Caller,
        spec: &ContainerSpec,
        plan: &mut SpawnPlan,
        nonces: StdioNonces,
        mut container: Container,
    ) -> Result<(), (Fault, Box<Container>)> {
        macro_rules! or_give_back {
            ($result:expr) => {
                match $result {
                    Ok(value) => value,
                    Err(fault) => return Err((fault, Box::new(container))),
                }
            };
        }
        if let Place::Create(root) = &mut plan.place {
            let limit = spec.writable_limit;
            let dir = writable_directory(spec.id.as_str(), limit, &self.storage);
            container.writable = or_give_back!(dir.map_err(Fault::from));
            root.writable.dir.clone_from(&container.writable);
            if self.storage.on_disk {
                let project = self.storage.project(limit);
                container.project = Some(project.id);
                root.writable.project = Some(project);
            }
        }
        let watched = self.watches.add(&spec.id, &container.cgroup);
        or_give_back!(watched.map_err(|error| failed_to("watch a cgroup", &error)));
        let opened = self.open_stdio(&spec.process, &nonces, true);
        let opened = opened.map_err(|error| failed_to("open standard streams", &error));
        let (stdio, streams) = or_give_back!(opened);
        container.streams = streams;
        let spawning = or_give_back!(spawn::start(plan, stdio).map_err(failed));
        let pid = spawning.pid;
        let starting = Starting {
            spawning,
            caller,
            nonces,
            failed: None,
            handed_over: false,
            kill: false,
        };
        // Without a watch its end is still seen by the reaper.
        if let Err(error) = starting.watch(self) {
            or_give_back!(Err(failed_to("watch a process", &error)));
        }
        self.pod
            .container_spawned(spec.id.clone(), spec.name.clone(), pid);
        self.containers.insert(spec.id.clone(), container);
        self.checks.add(spec);
        Ok(())
    }

    /// What the helper is to do for a container's first process.
    fn plan(&self, spec: &ContainerSpec) -> Result<SpawnPlan, Fault> {
        let layers = spec.layers.iter().map(|&partition| {
            if !self.layers.has(partition) {
                let message = format!("layer {partition} has not been added");
                return Err(Fault::new(FaultCode::FailedPrecondition, message));
            }
            Ok(LayerMount {
                device: layers::device(partition),
                mount_point: layers::mount_point(partition),
            })
        });
        let mounts = spec.mounts.iter().map(|mount| {
            let source = self.storage.volumes.get(&mount.volume).ok_or_else(|| {
                let message = format!("there is no volume {:?}", mount.volume);
                Fault::new(FaultCode::NotFound, message)
            })?;
            Ok(VolumeMount {
                source: source.clone(),
                destination: mount.destination.clone(),
                sub_path: mount.sub_path.clone(),
                read_only: mount.read_only,
            })
        });
        let shared_pid = match (&spec.processes_of, self.pause) {
            // In a shared namespace everybody is seen anyway.
            (Some(target), None) => Some(self.pod.first_process(target)?),
            (_, pause) => pause,
        };
        let files = ["hosts", "resolv.conf", "hostname"].map(|name| FileMount {
            source: format!("{FILES}/{name}"),
            destination: format!("/etc/{name}"),
        });
        let root = RootPlan {
            layers: layers.collect::<Result<_, Fault>>()?,
            writable: Writable {
                dir: String::new(),
                project: None,
            },
            read_only: spec.read_only_root,
            root: ROOT.to_owned(),
            mounts: mounts.collect::<Result<_, Fault>>()?,
            files: files.into(),
            termination_log: spec.termination_log.clone(),
            shared_pid,
        };
        Ok(SpawnPlan {
            place: Place::Create(Box::new(root)),
            process: spec.process.clone(),
            cgroup: Cgroup::named(spec.id.as_str()).path().to_owned(),
            privileged: spec.privileged,
            mask_paths: spec.mask_paths,
            copy: None,
        })
    }

    fn exec(
        &mut self,
        caller: Caller,
        container: ContainerId,
        exec: ExecId,
        (process, copy): (ExecSpec, Option<CopySpec>),
        nonces: StdioNonces,
    ) -> Result<(), Fault> {
        let first = self.pod.admit_exec(&container, &exec)?;
        let group = match self.containers.get(&container) {
            Some(container) => container.cgroup.clone(),
            None => {
                let message = "cannot run a command: the container has no cgroup";
                return Err(Fault::new(FaultCode::Internal, message));
            }
        };
        let plan = SpawnPlan {
            place: Place::Join {
                pid: first,
                unseen: true,
            },
            cgroup: cgroup::of_process(first).unwrap_or_else(|| group.path().to_owned()),
            privileged: false,
            mask_paths: false,
            process,
            copy,
        };
        let (stdio, streams) = self
            .open_stdio(&plan.process, &nonces, false)
            .map_err(|error| failed_to("open standard streams", &error))?;
        let started = spawn::start(&plan, stdio).map_err(failed);
        let spawning = started.inspect_err(|_| self.close_streams(&streams))?;
        let pid = spawning.pid;
        let oom_kills = group.oom_kills();
        let record = Exec {
            cgroup: group,
            streams,
            oom_kills,
        };
        let starting = Starting {
            spawning,
            caller,
            nonces,
            failed: None,
            handed_over: false,
            kill: false,
        };
        starting
            .watch(self)
            .map_err(|error| failed_to("watch a process", &error))?;
        self.pod.exec_spawned(exec.clone(), pid);
        self.execs.insert(exec, record);
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
