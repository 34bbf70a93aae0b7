//! How a process begins: a container's first one, and commands beside it.

use super::requests::{failed, failed_to};
use super::{Agent, Container, Exec, Starting};
use crate::boot::{FILES, ROOT};
use crate::cgroup::{self, Cgroup};
use crate::layers;
use crate::link::Caller;
use crate::setup::writable_directory;
use crate::spawn::{
    self, DeviceNode, FileMount, ImageMount, LayerMount, Place, RootPlan, SpawnPlan, VolumeMount,
    Writable,
};
use crate::variables::Values;
use beluga_proto::agent::StdioNonces;
use beluga_proto::copy::CopySpec;
use beluga_proto::{ContainerId, ContainerSpec, ExecId, ExecSpec, Fault, FaultCode};

impl Agent {
    pub(super) fn start(
        &mut self,
        caller: Caller,
        mut spec: ContainerSpec,
        nonces: StdioNonces,
    ) -> Result<(), Fault> {
        self.pod.admit_container(&spec.id)?;
        let variables = Values::read(&spec.file_variables, &self.storage.volumes)?;
        variables.put_into(&mut spec);
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
            variables,
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
        let starting = Starting::new(spawning, caller, nonces);
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

    /// The process whose PID namespace a container joins; none for one of its own.
    fn shared_pid(&self, spec: &ContainerSpec) -> Result<Option<u32>, Fault> {
        // In a shared namespace everybody is seen anyway.
        if let Some(pause) = self.pause.filter(|_| !spec.own_processes) {
            return Ok(Some(pause));
        }
        let target = spec.processes_of.as_ref();
        let found = target.map(|one| self.pod.first_process(one));
        Ok(found.transpose()?)
    }

    /// What the helper is to do for a container's first process.
    fn plan(&self, spec: &ContainerSpec) -> Result<SpawnPlan, Fault> {
        let volume = |name: &String| {
            self.storage.volumes.get(name).cloned().ok_or_else(|| {
                let message = format!("there is no volume {name:?}");
                Fault::new(FaultCode::NotFound, message)
            })
        };
        let mounts = spec.mounts.iter().map(|mount| {
            Ok(VolumeMount {
                source: volume(&mount.volume)?,
                destination: mount.destination.clone(),
                sub_path: mount.sub_path.clone(),
                read_only: mount.read_only,
                propagation: mount.propagation,
            })
        });
        let devices = spec.devices.iter().map(|device| {
            Ok(DeviceNode {
                source: volume(&device.volume)?,
                destination: device.destination.clone(),
                read_only: device.read_only,
            })
        });
        let images = spec.mounts.iter().filter_map(|mount| {
            let layers = self.storage.images.get(&mount.volume)?;
            let mount_point = self.storage.volumes.get(&mount.volume)?.clone();
            Some(self.layer_mounts(layers).map(|layers| ImageMount {
                layers,
                mount_point,
            }))
        });
        let shared_pid = self.shared_pid(spec)?;
        let files = ["hosts", "resolv.conf", "hostname"].map(|name| FileMount {
            source: format!("{FILES}/{name}"),
            destination: format!("/etc/{name}"),
        });
        let root = RootPlan {
            layers: self.layer_mounts(&spec.layers)?,
            lower: self.lower(spec)?,
            images: images.collect::<Result<_, Fault>>()?,
            writable: Writable::default(),
            read_only: spec.read_only_root,
            root: ROOT.to_owned(),
            mounts: mounts.collect::<Result<_, Fault>>()?,
            devices: devices.collect::<Result<_, Fault>>()?,
            files: files.into(),
            covered: spec.covered.clone(),
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

    /// The directory that somebody else has put a container's root together in.
    fn lower(&self, spec: &ContainerSpec) -> Result<Option<String>, Fault> {
        let Some(root) = &spec.root else {
            return Ok(None);
        };
        let volume = self.storage.volumes.get(&root.volume).ok_or_else(|| {
            let message = format!("there is no volume {:?}", root.volume);
            Fault::new(FaultCode::NotFound, message)
        })?;
        Ok(Some(format!("{volume}/{}", root.directory)))
    }

    fn layer_mounts(&self, partitions: &[u8]) -> Result<Vec<LayerMount>, Fault> {
        let layers = partitions.iter().map(|&partition| {
            if !self.layers.has(partition) {
                let message = format!("layer {partition} has not been added");
                return Err(Fault::new(FaultCode::FailedPrecondition, message));
            }
            Ok(LayerMount {
                device: layers::device(partition),
                mount_point: layers::mount_point(partition),
            })
        });
        layers.collect()
    }

    /// Errors where nobody comes in but by the pod's card.
    pub(super) fn admit_outside(&self) -> Result<(), Fault> {
        if !self.no_exec {
            return Ok(());
        }
        let message = "the pod was set up without commands and connections from outside";
        Err(Fault::new(FaultCode::PermissionDenied, message))
    }

    pub(super) fn exec(
        &mut self,
        caller: Caller,
        container: ContainerId,
        exec: ExecId,
        (mut process, copy): (ExecSpec, Option<CopySpec>),
        nonces: StdioNonces,
    ) -> Result<(), Fault> {
        self.admit_outside()?;
        let first = self.pod.admit_exec(&container, &exec)?;
        let group = match self.containers.get(&container) {
            Some(container) => {
                container.variables.put_into_process(&mut process);
                container.cgroup.clone()
            }
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
        let starting = Starting::new(spawning, caller, nonces);
        starting
            .watch(self)
            .map_err(|error| failed_to("watch a process", &error))?;
        self.pod.exec_spawned(exec.clone(), pid);
        self.execs.insert(exec, record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use beluga_proto::container::{Seccomp, UserSpec};

    /// What a supervisor, or who has got hold of its connection, is told when it asks
    /// for a command and for a connection.
    fn told(no_exec: bool) -> [FaultCode; 2] {
        let nowhere = |_| Err(std::io::ErrorKind::ConnectionReset.into());
        let mut agent = Agent::new(nowhere, "boot".to_owned()).unwrap();
        agent.no_exec = no_exec;
        let process = ExecSpec {
            args: vec!["true".to_owned()],
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: UserSpec::default(),
            capabilities: Vec::new(),
            no_new_privileges: true,
            seccomp: Seccomp::RuntimeDefault,
            rlimits: Vec::new(),
            oom_score_adj: 0,
            tty: None,
            stdin: false,
        };
        let (container, exec) = (
            ContainerId::from_random([1; 16]),
            ExecId::from_random([2; 16]),
        );
        let nonces = StdioNonces {
            stdin: None,
            stdout: None,
            stderr: None,
        };
        // Port 1 of the loopback: nobody listens there.
        let connected = agent.connect(1, &nonces).unwrap_err();
        let begun = agent.exec(Caller::NOBODY, container, exec, (process, None), nonces);
        [begun.unwrap_err().code, connected.code]
    }

    #[test]
    fn a_pod_set_up_without_commands_lets_nobody_in_from_outside() {
        assert_eq!(told(true), [FaultCode::PermissionDenied; 2]);
        // Where it does, there is no such container and nobody who listens.
        let expected = [FaultCode::NotFound, FaultCode::FailedPrecondition];
        assert_eq!(told(false), expected);
    }
}
