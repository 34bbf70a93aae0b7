//! What the pod is, without a single descriptor: which containers and commands
//! there are, how far each is, and which moves are legal.
//!
//! ```text
//! container:  Starting ──executed──► Running ──first process ended──► Ending ──group empty──► Ended ──removed──► (none)
//!                 │ └──────────────first process ended──────────────────▲
//!                 └──failed──► (none)
//! command:    Starting ──executed──► Running ──ended──► (none)
//!                 └──failed──► (none)
//! ```

use beluga_proto::agent::{ContainerState, ProcessExit, Target};
use beluga_proto::{ContainerId, Event, ExecId, Fault, FaultCode};
use std::collections::BTreeMap;

/// Why a move is not legal now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PodError {
    /// Nothing can run before the pod is set up.
    #[error("the pod is not set up yet")]
    NotSetUp,
    /// The pod is set up once.
    #[error("the pod is set up already")]
    SetUpAlready,
    /// Identifiers are used once.
    #[error("{what} {id} exists already")]
    Exists {
        /// Container or command.
        what: &'static str,
        /// Which.
        id: String,
    },
    /// There is no such container or command.
    #[error("there is no {what} {id}")]
    NoSuch {
        /// Container or command.
        what: &'static str,
        /// Which.
        id: String,
    },
    /// It does not run.
    #[error("container {id} is {phase}")]
    Phase {
        /// Which.
        id: String,
        /// What it is doing instead.
        phase: &'static str,
    },
}

impl From<&PodError> for FaultCode {
    fn from(error: &PodError) -> Self {
        match error {
            PodError::NotSetUp | PodError::Phase { .. } => Self::FailedPrecondition,
            PodError::SetUpAlready | PodError::Exists { .. } => Self::AlreadyExists,
            PodError::NoSuch { .. } => Self::NotFound,
        }
    }
}

impl From<PodError> for Fault {
    fn from(error: PodError) -> Self {
        Fault::from_error((&error).into(), &error)
    }
}

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its helper prepares the root.
    Starting,
    /// Its program runs.
    Running,
    /// Its first process is gone; the others are being killed.
    Ending(ProcessExit),
    /// Nothing runs in it.
    Ended(ProcessExit),
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Starting => "still starting",
            Self::Running => "running",
            Self::Ending(_) => "ending",
            Self::Ended(_) => "ended",
        }
    }
}

#[derive(Debug)]
struct Container {
    name: String,
    pid: u32,
    phase: Phase,
    /// What it left behind as its last message.
    message: Option<String>,
}

#[derive(Debug)]
struct Exec {
    pid: u32,
    running: bool,
}

/// Whose first process a PID is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A container's.
    Container(ContainerId),
    /// A command's.
    Exec(ExecId),
}

/// The pod.
#[derive(Debug, Default)]
pub struct Pod {
    set_up: bool,
    containers: BTreeMap<ContainerId, Container>,
    execs: BTreeMap<ExecId, Exec>,
    owners: BTreeMap<u32, Owner>,
}

impl Pod {
    /// Errors when the pod has been set up.
    pub fn admit_setup(&self) -> Result<(), PodError> {
        if self.set_up {
            Err(PodError::SetUpAlready)
        } else {
            Ok(())
        }
    }

    /// The pod is ready for containers.
    pub fn is_set_up_now(&mut self) {
        self.set_up = true;
    }

    /// Whether a container of this identifier may be started.
    pub fn admit_container(&self, id: &ContainerId) -> Result<(), PodError> {
        if !self.set_up {
            return Err(PodError::NotSetUp);
        }
        if self.containers.contains_key(id) {
            return Err(PodError::Exists {
                what: "container",
                id: id.to_string(),
            });
        }
        Ok(())
    }

    /// Whether a command may be run; gives the container's first process.
    pub fn admit_exec(&self, container: &ContainerId, exec: &ExecId) -> Result<u32, PodError> {
        if self.execs.contains_key(exec) {
            return Err(PodError::Exists {
                what: "command",
                id: exec.to_string(),
            });
        }
        self.first_process(container)
    }

    /// The first process of a container whose program runs.
    pub fn first_process(&self, id: &ContainerId) -> Result<u32, PodError> {
        let found = self.container(id)?;
        match found.phase {
            Phase::Running => Ok(found.pid),
            other => Err(PodError::Phase {
                id: id.to_string(),
                phase: other.name(),
            }),
        }
    }

    fn container(&self, id: &ContainerId) -> Result<&Container, PodError> {
        self.containers.get(id).ok_or_else(|| PodError::NoSuch {
            what: "container",
            id: id.to_string(),
        })
    }

    /// A helper was started that becomes the container's first process.
    pub fn container_spawned(&mut self, id: ContainerId, name: String, pid: u32) {
        self.owners.insert(pid, Owner::Container(id.clone()));
        let phase = Phase::Starting;
        let container = Container {
            name,
            pid,
            phase,
            message: None,
        };
        self.containers.insert(id, container);
    }

    /// A helper was started that becomes the command's process.
    pub fn exec_spawned(&mut self, exec: ExecId, pid: u32) {
        self.owners.insert(pid, Owner::Exec(exec.clone()));
        let running = false;
        self.execs.insert(exec, Exec { pid, running });
    }

    /// Whose first process this is.
    pub fn owner(&self, pid: u32) -> Option<&Owner> {
        self.owners.get(&pid)
    }

    /// The helper has become the program, which has a PID of its own or the
    /// helper's.
    pub fn executed(&mut self, helper: u32, pid: u32) {
        let Some(owner) = self.owners.remove(&helper) else {
            return;
        };
        match &owner {
            Owner::Container(id) => {
                if let Some(container) = self.containers.get_mut(id)
                    && container.phase == Phase::Starting
                {
                    container.phase = Phase::Running;
                    container.pid = pid;
                }
            }
            Owner::Exec(id) => {
                if let Some(exec) = self.execs.get_mut(id) {
                    exec.running = true;
                    exec.pid = pid;
                }
            }
        }
        self.owners.insert(pid, owner);
    }

    /// The helper could not become the program: what it was for is no more.
    pub fn failed(&mut self, pid: u32) -> Option<Owner> {
        let owner = self.owners.remove(&pid)?;
        match &owner {
            Owner::Container(id) => drop(self.containers.remove(id)),
            Owner::Exec(id) => drop(self.execs.remove(id)),
        }
        Some(owner)
    }

    /// A first process ended. A command is forgotten; a container is ending
    /// until [`Pod::emptied`].
    pub fn exited(&mut self, pid: u32, exit: ProcessExit) -> Option<Owner> {
        let owner = self.owners.remove(&pid)?;
        match &owner {
            Owner::Container(id) => {
                if let Some(container) = self.containers.get_mut(id) {
                    container.phase = Phase::Ending(exit);
                }
            }
            Owner::Exec(id) => drop(self.execs.remove(id)),
        }
        Some(owner)
    }

    /// The last process of an ending container is gone: what to report.
    pub fn emptied(&mut self, id: &ContainerId, message: Option<String>) -> Option<Event> {
        let container = self.containers.get_mut(id)?;
        let Phase::Ending(exit) = container.phase else {
            return None;
        };
        container.phase = Phase::Ended(exit);
        container.message.clone_from(&message);
        Some(Event::Exited {
            container: id.clone(),
            exit,
            message,
        })
    }

    /// Containers that wait for their last process to go.
    pub fn ending(&self) -> impl Iterator<Item = &ContainerId> {
        self.containers
            .iter()
            .filter(|(_, container)| matches!(container.phase, Phase::Ending(_)))
            .map(|(id, _)| id)
    }

    /// How far a container is.
    pub fn phase(&self, id: &ContainerId) -> Result<Phase, PodError> {
        Ok(self.container(id)?.phase)
    }

    /// The process that a signal goes to, and whether its program runs yet.
    pub fn signal_target(&self, target: &Target) -> Result<(u32, bool), PodError> {
        match target {
            Target::Container { id } => {
                let container = self.container(id)?;
                match container.phase {
                    Phase::Starting => Ok((container.pid, false)),
                    Phase::Running => Ok((container.pid, true)),
                    other => Err(PodError::Phase {
                        id: id.to_string(),
                        phase: other.name(),
                    }),
                }
            }
            Target::Exec { id } => match self.execs.get(id) {
                Some(exec) => Ok((exec.pid, exec.running)),
                None => Err(PodError::NoSuch {
                    what: "command",
                    id: id.to_string(),
                }),
            },
        }
    }

    /// Forgets an ended container.
    pub fn remove(&mut self, id: &ContainerId) -> Result<(), PodError> {
        match self.container(id)?.phase {
            Phase::Ended(_) => {
                self.containers.remove(id);
                Ok(())
            }
            other => Err(PodError::Phase {
                id: id.to_string(),
                phase: other.name(),
            }),
        }
    }

    /// What a supervisor is told.
    pub fn list(&self) -> Vec<ContainerState> {
        self.containers
            .iter()
            .map(|(id, container)| ContainerState {
                id: id.clone(),
                name: container.name.clone(),
                pid: container.pid,
                exit: match container.phase {
                    Phase::Ended(exit) => Some(exit),
                    _ => None,
                },
                message: container.message.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: ProcessExit = ProcessExit {
        code: 37,
        signal: None,
        oom_killed: false,
        unix_nanos: 1,
    };

    fn id(digit: u8) -> ContainerId {
        ContainerId::from_random([digit; 16])
    }

    fn exec(digit: u8) -> ExecId {
        ExecId::from_random([digit; 16])
    }

    fn running() -> Pod {
        let mut pod = Pod::default();
        pod.is_set_up_now();
        pod.container_spawned(id(1), "web".to_owned(), 10);
        pod.executed(10, 10);
        pod
    }

    #[test]
    fn nothing_runs_before_the_pod_is_set_up() {
        let mut pod = Pod::default();
        assert_eq!(pod.admit_container(&id(1)), Err(PodError::NotSetUp));
        pod.is_set_up_now();
        assert_eq!(pod.admit_container(&id(1)), Ok(()));
        assert_eq!(pod.admit_setup(), Err(PodError::SetUpAlready));
    }

    #[test]
    fn a_container_is_reported_once_and_only_when_it_is_empty() {
        let mut pod = running();
        assert_eq!(pod.emptied(&id(1), None), None, "still running");
        assert_eq!(pod.exited(10, EXIT), Some(Owner::Container(id(1))));
        assert_eq!(pod.list()[0].exit, None, "others may still run");
        assert_eq!(pod.ending().collect::<Vec<_>>(), [&id(1)]);
        let event = Event::Exited {
            container: id(1),
            exit: EXIT,
            message: Some("bye".to_owned()),
        };
        let message = || Some("bye".to_owned());
        assert_eq!(pod.emptied(&id(1), message()), Some(event));
        assert_eq!(pod.emptied(&id(1), None), None);
        assert_eq!(pod.list()[0].exit, Some(EXIT));
        assert_eq!(pod.list()[0].message, message());
        assert_eq!(pod.exited(10, EXIT), None, "the PID may be somebody else's");
    }

    #[test]
    fn a_failed_start_leaves_nothing() {
        let mut pod = Pod::default();
        pod.is_set_up_now();
        pod.container_spawned(id(1), "web".to_owned(), 10);
        assert!(matches!(
            pod.admit_container(&id(1)),
            Err(PodError::Exists { .. })
        ));
        assert_eq!(pod.failed(10), Some(Owner::Container(id(1))));
        assert_eq!(pod.admit_container(&id(1)), Ok(()));
        assert_eq!(pod.owner(10), None);
    }

    #[test]
    fn commands_need_a_running_container() {
        let mut pod = running();
        assert_eq!(pod.admit_exec(&id(1), &exec(1)), Ok(10));
        assert!(matches!(
            pod.admit_exec(&id(2), &exec(1)),
            Err(PodError::NoSuch { .. })
        ));
        pod.exec_spawned(exec(1), 11);
        assert!(matches!(
            pod.admit_exec(&id(1), &exec(1)),
            Err(PodError::Exists { .. })
        ));
        pod.exited(10, EXIT);
        assert!(matches!(
            pod.admit_exec(&id(1), &exec(2)),
            Err(PodError::Phase { .. })
        ));
        assert_eq!(pod.exited(11, EXIT), Some(Owner::Exec(exec(1))));
        let target = Target::Exec { id: exec(1) };
        assert!(matches!(
            pod.signal_target(&target),
            Err(PodError::NoSuch { .. })
        ));
    }

    #[test]
    fn only_ended_containers_are_removed() {
        let mut pod = running();
        assert!(matches!(pod.remove(&id(1)), Err(PodError::Phase { .. })));
        pod.exited(10, EXIT);
        assert!(matches!(pod.remove(&id(1)), Err(PodError::Phase { .. })));
        pod.emptied(&id(1), None);
        assert_eq!(pod.remove(&id(1)), Ok(()));
        assert!(matches!(pod.remove(&id(1)), Err(PodError::NoSuch { .. })));
    }

    #[test]
    fn a_start_that_is_killed_ends_like_any_other() {
        let mut pod = Pod::default();
        pod.is_set_up_now();
        pod.container_spawned(id(1), "web".to_owned(), 10);
        let target = Target::Container { id: id(1) };
        assert_eq!(pod.signal_target(&target), Ok((10, false)));
        assert_eq!(pod.exited(10, EXIT), Some(Owner::Container(id(1))));
        pod.executed(10, 10);
        assert_eq!(pod.phase(&id(1)), Ok(Phase::Ending(EXIT)));
    }
}
