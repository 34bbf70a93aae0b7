//! All groups, one after the other, and what came of each check.

use super::instance::{ConformanceError, Instance};
use super::step::{Saved, fill};
use super::{Check, Group, Step};
use crate::settings::Settings;
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// How a check came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be.
    Passed,
    /// What was done, wanted and seen.
    Failed(String),
    /// Why it could not be checked.
    Skipped(String),
}

/// One row of the table.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The behaviour.
    pub behaviour: u32,
    /// In one sentence.
    pub what: String,
    /// How it came out.
    pub verdict: Verdict,
    /// How long that took; the group's pods count for its first check.
    pub took: Duration,
}

/// The user did not want to wait for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted(pub bool);

/// Runs the checks and leaves nothing behind, also when it is interrupted: then
/// the outcomes are those so far. `begun` hears of each check.
pub async fn all(
    settings: &Settings,
    images: &Path,
    groups: Vec<Group>,
    begun: impl Fn(&Check),
) -> Result<(Vec<Outcome>, Interrupted), ConformanceError> {
    let mut outcomes = Vec::new();
    let instance = Instance::take(settings).await?;
    let work = async {
        let images = images.to_string_lossy();
        instance.must(&["load", "-q", "-i", &images]).await?;
        for group in groups {
            one(&instance, &group, &begun, &mut outcomes).await;
        }
        Ok(())
    };
    let (result, interrupted) = tokio::select! {
        result = work => (result, Interrupted(false)),
        () = interruption() => (Ok(()), Interrupted(true)),
    };
    let left = instance.leave().await;
    result.and(left)?;
    outcomes.sort_by_key(|outcome| outcome.behaviour);
    Ok((outcomes, interrupted))
}

/// Comes back when somebody wants an end.
async fn interruption() {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// Runs the checks of a group on its pods.
async fn one(
    instance: &Instance,
    group: &Group,
    begun: &impl Fn(&Check),
    outcomes: &mut Vec<Outcome>,
) {
    let mut start = Instant::now();
    let mut saved = Saved::from([("port".to_owned(), free_port())]);
    if let Some(first) = group.checks.first() {
        begun(first);
    }
    let began = begin(instance, group, &mut saved).await;
    let mut failed = BTreeSet::new();
    for check in &group.checks {
        begun(check);
        let verdict = match &began {
            Ok(()) => judge(instance, check, &failed, &mut saved).await,
            Err(why) => Verdict::Failed(format!("its pods are not there: {why}")),
        };
        if verdict != Verdict::Passed {
            failed.insert(check.behaviour);
        }
        outcomes.push(Outcome {
            behaviour: check.behaviour,
            what: check.what.clone(),
            verdict,
            took: start.elapsed(),
        });
        start = Instant::now();
    }
    // What stays is told at the end, by all that are left over.
    drop(instance.clear().await);
}

/// A port of this host that nobody has, for now.
fn free_port() -> String {
    let listener = TcpListener::bind(("0.0.0.0", 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_or_else(|_| "38080".to_owned(), |address| address.port().to_string())
}

/// Starts the pods of a group and waits until they are as the checks want them.
async fn begin(instance: &Instance, group: &Group, saved: &mut Saved) -> Result<(), String> {
    if group.pods.is_empty() {
        return Ok(());
    }
    let path = instance.manifest();
    fs::write(&path, fill(&group.pods, saved)).map_err(|error| error.to_string())?;
    let apply = Step {
        host: Some("beluga apply -f \"$MANIFEST\"".to_owned()),
        ..Step::default()
    };
    for step in std::iter::once(&apply).chain(&group.before) {
        step.check(instance, saved).await?;
    }
    Ok(())
}

async fn judge(
    instance: &Instance,
    check: &Check,
    failed: &BTreeSet<u32>,
    saved: &mut Saved,
) -> Verdict {
    if let Some(program) = check.needs.iter().find(|program| !is_there(program)) {
        return Verdict::Skipped(format!("this host has no {program}"));
    }
    if let Some(number) = check.after.iter().find(|number| failed.contains(number)) {
        return Verdict::Failed(format!("it follows behaviour {number}, which failed"));
    }
    for step in &check.steps {
        if let Err(why) = step.check(instance, saved).await {
            return Verdict::Failed(why);
        }
    }
    Verdict::Passed
}

/// Whether the host has a program of that name.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
