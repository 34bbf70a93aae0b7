//! Probes as the agent runs them.

use super::command;
use crate::spec::{Container, Probe};
use beluga_proto::probe::{Handler, ProbeKind, ProbeSpec};
use std::collections::BTreeMap;

/// The probes of a container. `own`: its variables, which are expanded in
/// commands, as the kubelet does for probes (and does not for hooks).
pub fn plan(container: &Container, own: &BTreeMap<String, String>) -> Vec<ProbeSpec> {
    let probes = &container.probes;
    let all = [
        (ProbeKind::Startup, &probes.startup),
        (ProbeKind::Readiness, &probes.readiness),
        (ProbeKind::Liveness, &probes.liveness),
    ];
    all.into_iter()
        .filter_map(|(kind, probe)| Some(one(kind, probe.as_ref()?, own)))
        .collect()
}

fn one(kind: ProbeKind, probe: &Probe, own: &BTreeMap<String, String>) -> ProbeSpec {
    let handler = match &probe.handler {
        Handler::Exec { command } => Handler::Exec {
            command: command
                .iter()
                .map(|word| command::expand(word, own))
                .collect(),
        },
        other => other.clone(),
    };
    ProbeSpec {
        kind,
        handler,
        initial_delay_seconds: probe.initial_delay_seconds,
        period_seconds: probe.period_seconds,
        timeout_seconds: probe.timeout_seconds,
        success_threshold: probe.success_threshold,
        failure_threshold: probe.failure_threshold,
    }
}
