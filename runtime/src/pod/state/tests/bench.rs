//! A state machine on its own, with pods made for it.

use super::super::*;
use super::SIGTERM;
use crate::plan::{ContainerPlan, ContainerTemplate, Identity, SizeSource, Sizing, VmPlan};
use crate::spec::RestartPolicy;
use beluga_proto::container::{CgroupLimits, CoveredPaths, Seccomp, UserSpec};
use beluga_proto::{ExecSpec, PodSetup, PodUid};

pub fn container(name: &str, kind: ContainerKind, restart: RestartPolicy) -> ContainerPlan {
    let process = ExecSpec {
        args: vec!["true".into()],
        env: Vec::new(),
        cwd: "/".into(),
        user: UserSpec::default(),
        capabilities: Vec::new(),
        no_new_privileges: false,
        seccomp: Seccomp::RuntimeDefault,
        rlimits: Vec::new(),
        oom_score_adj: 0,
        tty: None,
        stdin: false,
    };
    ContainerPlan {
        kind,
        image: "busybox".into(),
        image_id: String::new(),
        template: ContainerTemplate {
            name: name.into(),
            layers: vec![1],
            writable_limit: None,
            read_only_root: false,
            process,
            file_variables: Vec::new(),
            mounts: Vec::new(),
            devices: Vec::new(),
            cgroup: CgroupLimits::default(),
            privileged: false,
            mask_paths: true,
            covered: CoveredPaths::default(),
            termination_log: None,
            probes: Vec::new(),
            target: None,
            own_processes: false,
            root: None,
        },
        stop_signal: SIGTERM,
        restart,
        restart_rules: Vec::new(),
        message_or_output: false,
        hooks: crate::spec::Hooks::default(),
        startup_grace_seconds: None,
        liveness_grace_seconds: None,
        stdin_once: false,
        resources: crate::spec::Resources::default(),
        log: None,
        fifos: None,
    }
}

pub fn plan(containers: Vec<ContainerPlan>) -> Plan {
    Plan {
        volume_images: Vec::new(),
        memory_throttling: None,
        tenant: None,
        identity: Identity {
            uid: PodUid::from_random([7; 16]),
            name: "web".into(),
            namespace: "default".into(),
            network: None,
            carried: None,
        },
        host: Vec::new(),
        vm: VmPlan {
            name: "web".into(),
            vcpus: 1,
            memory_mib: 128,
            sizing: Sizing {
                cpu_source: SizeSource::Default,
                cpu_terms: Vec::new(),
                memory_source: SizeSource::Default,
                memory_terms: Vec::new(),
                overhead_mib: 0,
            },
            kernel: "/k".into(),
            initramfs: "/i".into(),
            cmdline: String::new(),
            disks: Vec::new(),
            nets: Vec::new(),
            guest_cid: 3,
            rng: true,
            balloon: true,
        },
        guest: PodSetup {
            hostname: "web".into(),
            interfaces: Vec::new(),
            hosts: String::new(),
            resolv_conf: String::new(),
            scratch: None,
            shm_bytes: 1 << 20,
            volumes: Vec::new(),
            share_processes: false,
            guest_processes: false,
            no_exec: false,
            sysctls: std::collections::BTreeMap::new(),
            cgroup: beluga_proto::container::CgroupLimits::default(),
            clock_unix_nanos: 0,
        },
        layers: Vec::new(),
        containers,
        warnings: Vec::new(),
        grace_seconds: 30,
        active_deadline_seconds: None,
        sandbox: false,
    }
}

/// A pod and a clock that only the test moves.
pub struct Bench {
    pub state: PodState,
    pub time: u64,
    pub backoff: Backoff,
    pub log: Vec<String>,
}

impl Bench {
    pub fn new(containers: Vec<ContainerPlan>) -> Self {
        let now = Now { boot: 0, unix: 0 };
        Self {
            state: PodState::new(&plan(containers), now),
            time: 0,
            backoff: Backoff::default(),
            log: Vec::new(),
        }
    }

    /// A pod whose containers come and go.
    pub fn sandbox() -> Self {
        let plan = Plan {
            sandbox: true,
            ..plan(Vec::new())
        };
        let now = Now { boot: 0, unix: 0 };
        Self {
            state: PodState::new(&plan, now),
            ..Self::new(Vec::new())
        }
    }

    pub fn give(&mut self, input: Input) -> Vec<String> {
        let now = Now {
            boot: self.time,
            unix: self.time,
        };
        let actions = self.state.step(input, now, &self.backoff);
        let told: Vec<String> = actions.iter().map(|action| self.name(action)).collect();
        self.log.extend(told.clone());
        told
    }

    pub fn name(&self, action: &Action) -> String {
        let name = |id: &ContainerId| {
            self.state.find(id).map_or("old".to_owned(), |(index, _)| {
                self.state.status.containers[index].name.clone()
            })
        };
        match action {
            Action::Start { index, .. } => {
                format!("start {}", self.state.status.containers[*index].name)
            }
            Action::Signal { id, signal, .. } => format!("signal {} {signal}", name(id)),
            Action::Hook { id, hook, .. } => format!("hook {} {hook:?}", name(id)),
            Action::Remove { .. } => "remove".to_owned(),
            Action::RollBack => "roll back".to_owned(),
            Action::Settle => "settle".to_owned(),
            Action::EndVm => "end".to_owned(),
        }
    }

    pub fn id(&self, name: &str) -> ContainerId {
        let found = self.state.status.containers.iter().find(|c| c.name == name);
        found.unwrap().id.clone().unwrap()
    }

    pub fn started(&mut self, name: &str) -> Vec<String> {
        let id = self.id(name);
        self.give(Input::Started { id })
    }

    pub fn exited(&mut self, name: &str, code: i32) -> Vec<String> {
        let exit = ProcessExit {
            code,
            signal: None,
            oom_killed: false,
            unix_nanos: 0,
        };
        let id = self.id(name);
        let message = None;
        self.give(Input::Exited { id, exit, message })
    }

    pub fn phase(&self) -> Phase {
        self.state.status.phase
    }
}
