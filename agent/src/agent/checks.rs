//! Probes and hooks: which attempts are under way, and for what.

use super::Agent;
use crate::cgroup::Cgroup;
use crate::check::{Check, Command, Outcome, Page, Socket};
use crate::probe::Probe;
use crate::spawn::{Place, SpawnPlan};
use beluga_proto::agent::StdioNonces;
use beluga_proto::bytes::Bytes;
use beluga_proto::container::ContainerSpec;
use beluga_proto::probe::{Handler, HookKind, ProbeKind, ProbeSpec};
use beluga_proto::{ContainerId, Event, ExecSpec, Fault, FaultCode};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// What is probed and asked of containers.
#[derive(Default)]
pub struct Checks {
    /// The pod's own address.
    pub address: Option<IpAddr>,
    last: u32,
    // Few of each: a map's code would be larger than what it saves.
    subjects: Vec<Subject>,
    running: Vec<Running>,
}

/// A container that runs.
struct Subject {
    id: ContainerId,
    /// How its own process is run: commands are run alike.
    process: ExecSpec,
    spec: Vec<ProbeSpec>,
    /// Probes begin when the hook after its start has ended well.
    waits: bool,
    /// From its start.
    probes: Vec<Probe>,
    /// Hooks that have been asked for.
    hooks: Vec<HookKind>,
}

/// An attempt and what it is for.
struct Running {
    id: u32,
    container: ContainerId,
    purpose: Purpose,
    timeout: Option<Duration>,
    check: Check,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Probe(ProbeKind),
    Hook(HookKind),
}

impl Purpose {
    /// Name of the cgroup of its commands.
    fn name(self) -> &'static str {
        match self {
            Self::Probe(ProbeKind::Startup) => "beluga-startup",
            Self::Probe(ProbeKind::Readiness) => "beluga-readiness",
            Self::Probe(ProbeKind::Liveness) => "beluga-liveness",
            Self::Hook(HookKind::PostStart) => "beluga-post-start",
            Self::Hook(HookKind::PreStop) => "beluga-pre-stop",
        }
    }
}

impl Subject {
    /// Whether a probe waits for another one.
    fn is_held(&self, probe: &Probe) -> bool {
        probe.spec.kind != ProbeKind::Startup
            && self
                .probes
                .iter()
                .any(|other| other.spec.kind == ProbeKind::Startup && !other.passes())
    }

    fn due(&self) -> impl Iterator<Item = (ProbeKind, Instant)> {
        let free = self.probes.iter().filter(|probe| !self.is_held(probe));
        free.filter_map(|probe| Some((probe.spec.kind, probe.due()?)))
    }
}

impl Checks {
    /// When the next thing is to be done.
    pub fn deadline(&self) -> Option<Instant> {
        let due = self.subjects.iter().flat_map(Subject::due);
        let running = self.running.iter().filter_map(|one| one.check.deadline());
        due.map(|(_, at)| at).chain(running).min()
    }

    /// A container is on its way.
    pub fn add(&mut self, spec: &ContainerSpec) {
        let mut process = spec.process.clone();
        process.tty = None;
        process.stdin = false;
        let subject = Subject {
            id: spec.id.clone(),
            process,
            spec: spec.probes.clone(),
            waits: spec.probes_wait,
            probes: Vec::new(),
            hooks: Vec::new(),
        };
        self.subjects.push(subject);
    }

    /// A container's program runs.
    pub fn started(&mut self, id: &ContainerId) {
        let now = Instant::now();
        let subject = self.subject(id);
        if let Some(subject) = subject.filter(|subject| !subject.waits) {
            let specs = std::mem::take(&mut subject.spec).into_iter();
            subject.probes = specs.map(|spec| Probe::new(spec, now)).collect();
        }
    }

    /// The hook after a container's start has ended well.
    fn stop_waiting(&mut self, id: &ContainerId) {
        if let Some(subject) = self.subject(id) {
            subject.waits = false;
        }
        self.started(id);
    }

    fn subject(&mut self, id: &ContainerId) -> Option<&mut Subject> {
        self.subjects.iter_mut().find(|subject| subject.id == *id)
    }

    fn attempt(&mut self, id: u32) -> Result<&mut Running, Fault> {
        let found = self.running.iter_mut().find(|one| one.id == id);
        found.ok_or_else(over)
    }

    fn address(&self, host: Option<IpAddr>, port: u16) -> SocketAddr {
        let ip = host.or(self.address);
        SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port)
    }
}

fn over() -> Fault {
    Fault::new(FaultCode::NotFound, "the attempt is over")
}

impl Agent {
    /// Begins what is due and ends what has taken too long.
    pub(super) fn turn_checks(&mut self) {
        let now = Instant::now();
        if self.checks.deadline().is_none_or(|at| now < at) {
            return;
        }
        let subjects = self.checks.subjects.iter();
        let due: Vec<(ContainerId, ProbeKind)> = subjects
            .flat_map(|subject| {
                let due = subject.due().filter(move |(_, at)| *at <= now);
                due.map(|(kind, _)| (subject.id.clone(), kind))
            })
            .collect();
        for (id, kind) in due {
            self.begin_probe(&id, kind, now);
        }
        let running = self.checks.running.iter_mut();
        let over: Vec<(u32, Outcome)> = running
            .filter_map(|one| Some((one.id, one.check.look_at_clock(now, one.timeout)?)))
            .collect();
        for (id, outcome) in over {
            self.check_ended(id, outcome);
        }
    }

    fn begin_probe(&mut self, id: &ContainerId, kind: ProbeKind, now: Instant) {
        let subject = self.checks.subject(id);
        let mut probes = subject.into_iter().flat_map(|subject| &mut subject.probes);
        let Some(probe) = probes.find(|probe| probe.spec.kind == kind) else {
            return;
        };
        probe.begins(now);
        let timeout = Some(probe.timeout());
        let handler = probe.spec.handler.clone();
        self.begin_check(id, Purpose::Probe(kind), &handler, timeout);
    }

    /// Runs a hook, once for each run of a container.
    pub(super) fn hook(
        &mut self,
        id: &ContainerId,
        hook: HookKind,
        handler: &Handler,
        timeout: Option<Duration>,
    ) -> Result<(), Fault> {
        self.pod.first_process(id)?;
        let Some(subject) = self.checks.subject(id) else {
            return Ok(());
        };
        if !subject.hooks.contains(&hook) {
            subject.hooks.push(hook);
            self.begin_check(id, Purpose::Hook(hook), handler, timeout);
        }
        Ok(())
    }

    fn begin_check(
        &mut self,
        container: &ContainerId,
        purpose: Purpose,
        handler: &Handler,
        timeout: Option<Duration>,
    ) {
        self.checks.last = self.checks.last.wrapping_add(1);
        let id = self.checks.last;
        match self.make_check(id, container, purpose, handler, timeout) {
            Ok(check) => {
                let container = container.clone();
                let running = Running {
                    id,
                    container,
                    purpose,
                    timeout,
                    check,
                };
                self.checks.running.push(running);
                // It may be over already.
                self.check_has_news(id);
            }
            Err(outcome) => self.tell_check(container, purpose, outcome),
        }
    }

    fn make_check(
        &mut self,
        id: u32,
        container: &ContainerId,
        purpose: Purpose,
        handler: &Handler,
        timeout: Option<Duration>,
    ) -> Result<Check, Outcome> {
        let check = match handler {
            Handler::Exec { command } => {
                let command = self.make_command(id, container, purpose, command)?;
                return Ok(Check::exec(command, timeout));
            }
            Handler::Http {
                host,
                port,
                path,
                headers,
                tls,
            } => {
                let page = Page {
                    address: self.checks.address(*host, *port),
                    path,
                    tls: *tls,
                    headers,
                    // The kubelet does not look at what a hook is answered.
                    any_status: matches!(purpose, Purpose::Hook(_)),
                };
                Check::http(&page, &self.poller, id)?
            }
            Handler::Tcp { host, port } => {
                Check::tcp(self.checks.address(*host, *port), &self.poller, id)?
            }
            Handler::Grpc { port, service } => {
                let address = self.checks.address(None, *port);
                Check::grpc(address, service, &self.poller, id)?
            }
            Handler::Sleep { seconds } => Check::sleep(Duration::from_secs(u64::from(*seconds))),
        };
        Ok(check.within(timeout))
    }

    fn make_command(
        &mut self,
        id: u32,
        container: &ContainerId,
        purpose: Purpose,
        args: &[String],
    ) -> Result<Command, Outcome> {
        let error = |error: &dyn std::error::Error| Outcome::Errored(crate::log::chain(error));
        let pid = self.pod.first_process(container).map_err(|e| error(&e))?;
        let (Some(subject), Some(owner)) = (
            self.checks.subject(container),
            self.containers.get(container),
        ) else {
            return Err(Outcome::Errored("the container has ended".to_owned()));
        };
        let group: Cgroup = owner.cgroup.below(purpose.name()).map_err(|e| error(&e))?;
        let plan = SpawnPlan {
            place: Place::Join { pid, unseen: false },
            process: ExecSpec {
                args: args.to_vec(),
                ..subject.process.clone()
            },
            cgroup: group.path().to_owned(),
            privileged: false,
            mask_paths: false,
            copy: None,
        };
        Command::start(&plan, group, &self.poller, id)
    }

    /// A descriptor of an attempt is ready.
    pub(super) fn check_has_news(&mut self, id: u32) {
        let Some(running) = self.checks.running.iter_mut().find(|one| one.id == id) else {
            return;
        };
        let timeout = running.timeout;
        let outcome = running.check.advance(&self.poller, id, timeout);
        self.look_at_check(id, outcome);
    }

    /// An attempt has gone on: it is over, or wants TLS.
    fn look_at_check(&mut self, id: u32, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            self.check_ended(id, outcome);
            return;
        }
        let running = self.checks.running.iter_mut().find(|one| one.id == id);
        let wanted = running.and_then(|running| {
            let request = running.check.tls()?.wants_tls(&self.poller)?;
            Some((request, running.timeout))
        });
        if let Some((request, timeout)) = wanted {
            self.link.report(Event::TlsWanted {
                attempt: id,
                request: Bytes(request),
                timeout_millis: timeout
                    .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            });
        }
    }

    /// Gives an attempt's connection to the supervisor, which speaks TLS over it.
    pub(super) fn tls_connect(&mut self, id: u32, stdio: &StdioNonces) -> Result<(), Fault> {
        let connection = self.checks.attempt(id)?.check.tls();
        let connection = connection.and_then(Socket::for_tls).ok_or_else(over)?;
        let opened = connection.and_then(|socket| self.open_socket(socket, stdio));
        opened.map_err(|error| super::requests::failed_to("open the connection's streams", &error))
    }

    /// What an attempt's server has answered over TLS.
    pub(super) fn tls_answer(
        &mut self,
        id: u32,
        bytes: &[u8],
        failure: Option<String>,
    ) -> Result<(), Fault> {
        let attempt = self.checks.attempt(id)?;
        let outcome = attempt.check.tls_answer(bytes, failure, &self.poller, id);
        self.look_at_check(id, outcome);
        Ok(())
    }

    /// A process is gone; whether it was an attempt's.
    pub(super) fn check_exited(&mut self, pid: u32, code: i32) -> bool {
        let mut running = self.checks.running.iter_mut();
        let ended = running.find_map(|one| Some((one.id, one.check.exited(pid, code)?)));
        let Some((id, outcome)) = ended else {
            return false;
        };
        self.check_ended(id, outcome);
        true
    }

    fn check_ended(&mut self, id: u32, outcome: Outcome) {
        let running = &mut self.checks.running;
        if let Some(at) = running.iter().position(|one| one.id == id) {
            let mut running = running.swap_remove(at);
            running.check.end(&self.poller);
            self.link.forget_tls(id);
            self.tell_check(&running.container, running.purpose, outcome);
        }
    }

    fn tell_check(&mut self, container: &ContainerId, purpose: Purpose, outcome: Outcome) {
        let event = match purpose {
            Purpose::Hook(hook) => {
                if hook == HookKind::PostStart && outcome == Outcome::Passed {
                    self.checks.stop_waiting(container);
                }
                Some(Event::HookEnded {
                    container: container.clone(),
                    hook,
                    failure: match outcome {
                        Outcome::Passed => None,
                        Outcome::Failed(why) | Outcome::Errored(why) => Some(why),
                    },
                })
            }
            Purpose::Probe(kind) => {
                let subject = self.checks.subject(container);
                let mut probes = subject.into_iter().flat_map(|subject| &mut subject.probes);
                let probe = probes.find(|probe| probe.spec.kind == kind);
                let news = probe.and_then(|probe| probe.ended(outcome));
                news.map(|news| Event::Probed {
                    container: container.clone(),
                    kind,
                    passed: news.passed,
                    failures: news.failures,
                    message: news.message,
                })
            }
        };
        if let Some(event) = event {
            self.link.report(event);
        }
    }

    /// A container ends: nothing of it is probed any more. Its processes are
    /// killed with it.
    pub(super) fn end_checks(&mut self, container: &ContainerId) {
        let checks = &mut self.checks;
        checks.subjects.retain(|subject| subject.id != *container);
        for one in &mut checks.running {
            if one.container == *container {
                one.check.give_up(&self.poller);
                self.link.forget_tls(one.id);
            }
        }
        checks.running.retain(|one| one.container != *container);
    }
}
