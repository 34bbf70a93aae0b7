//! `beluga wait`: until something is true of pods.

use super::error::UsageError;
use super::jsonpath::Path;
use super::object::object;
use super::pods::{self, Scope};
use super::resource::{self, Asked, Kind};
use super::{CliError, exit, time, workloads};
use crate::engine;
use crate::settings::Settings;
use crate::spec::WorkloadKind;
use serde_json::Value;
use std::str::FromStr;
use std::time::Duration;

/// A pod that nobody has made yet, or that goes, tells nobody: look this often.
const STEP: Duration = Duration::from_millis(50);

/// What kubectl waits at most when it is told to wait "for ever".
const A_WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Arguments of `wait`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `pod NAME…`, `pod/NAME…` or `deployment/NAME…`
    #[arg(value_name = "TYPE [NAME]")]
    what: Vec<String>,
    /// condition=NAME[=VALUE], phase=PHASE, jsonpath={.PATH}=VALUE, create or delete
    #[arg(long = "for", value_name = "WHAT")]
    goal: Goal,
    /// How long, like 30s or 2m; 0 looks once, a negative one waits for a week
    #[arg(long, default_value = "30s", value_parser = patience, allow_hyphen_values = true)]
    timeout: Duration,
    /// All pods of the namespace
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    scope: Scope,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Goal {
    Create,
    Delete,
    Condition { name: String, value: String },
    Path { path: Path, value: String },
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = |path: &str, value: &str| {
            Ok::<_, String>(Self::Path {
                path: Path::relaxed(path)?,
                value: value.trim_matches(['"', '\'']).to_owned(),
            })
        };
        match text.split_once('=') {
            None if text == "create" => Ok(Self::Create),
            None if text == "delete" => Ok(Self::Delete),
            Some(("phase", phase)) => path(".status.phase", phase),
            // A filter between the braces has signs of its own.
            Some(("jsonpath", rest)) => match rest
                .rfind("}=")
                .map_or(rest.rfind('='), |at| Some(at + 1))
            {
                Some(at) => path(&rest[..at], &rest[at + 1..]),
                None => Err("a jsonpath needs a value: jsonpath={.status.phase}=Running".into()),
            },
            Some(("condition", rest)) => {
                let (name, value) = rest.split_once('=').unwrap_or((rest, "True"));
                Ok(Self::Condition {
                    name: name.to_owned(),
                    value: value.to_owned(),
                })
            }
            _ => Err("it is condition=…, phase=…, jsonpath=…, create or delete".into()),
        }
    }
}

fn patience(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') {
        return Ok(A_WEEK);
    }
    time::duration(text).ok_or_else(|| "write it like 30s, 5m or 1h30m".to_owned())
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    let asked = resource::asked(&args.what)?.unwrap_or_else(|| {
        vec![Asked {
            kind: Kind::Pod,
            names: args.what.clone(),
        }]
    });
    for Asked { kind, names } in asked {
        match kind {
            Kind::Pod => of_pods(settings, &args, names).await?,
            Kind::Workload(kind) => of_workloads(settings, &args, kind, names).await?,
            Kind::Object(kind) => {
                return Err(UsageError::NothingToWaitFor { kind }.into());
            }
        }
    }
    Ok(exit::OK)
}

async fn of_pods(settings: &Settings, args: &Args, names: Vec<String>) -> Result<(), CliError> {
    let chosen: Vec<(String, String)> = if names.is_empty() {
        if !args.all && args.scope.selector.is_none() {
            return Err(UsageError::which("pods", "Name them, or say --all or -l").into());
        }
        let pods = pods::all(settings, &args.scope).await?;
        pods.into_iter()
            .map(|pod| (pod.namespace, pod.name))
            .collect()
    } else {
        let namespace = &args.scope.namespace;
        names
            .into_iter()
            .map(|name| (namespace.clone(), name))
            .collect()
    };
    if chosen.is_empty() {
        return Err(CliError::NotFound {
            what: "pod",
            name: "of these".into(),
        });
    }
    let until = tokio::time::Instant::now() + args.timeout;
    for (namespace, name) in chosen {
        let met = wait(settings, &namespace, &name, &args.goal);
        match tokio::time::timeout_at(until, met).await {
            Ok(met) => met?,
            Err(_) => {
                return Err(CliError::TimedOut {
                    what: format!("the condition on pods/{name}"),
                });
            }
        }
        say!("pod/{name} condition met");
    }
    Ok(())
}

async fn wait(
    settings: &Settings,
    namespace: &str,
    name: &str,
    goal: &Goal,
) -> Result<(), CliError> {
    let first = engine::get(settings, namespace, name).await?;
    let uid = match (&first, goal) {
        (None, Goal::Delete) => return Ok(()),
        (None, Goal::Create) => None,
        (None, _) => {
            return Err(CliError::NotFound {
                what: "pod",
                name: name.to_owned(),
            });
        }
        (Some(pod), _) => Some(pod.uid.clone()),
    };
    loop {
        let pod = engine::get(settings, namespace, name).await?;
        let is_met = match (goal, &pod) {
            (Goal::Create, pod) => pod.is_some(),
            (Goal::Delete, pod) => pod.as_ref().map(|pod| &pod.uid) != uid.as_ref(),
            (_, None) => {
                return Err(CliError::NotFound {
                    what: "pod",
                    name: name.to_owned(),
                });
            }
            (_, Some(pod)) => holds(&object(pod), goal),
        };
        if is_met {
            return Ok(());
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Waits for workloads, which nobody watches: they are looked at.
async fn of_workloads(
    settings: &Settings,
    args: &Args,
    kind: WorkloadKind,
    names: Vec<String>,
) -> Result<(), CliError> {
    let scope = &args.scope;
    let names = if names.is_empty() && (args.all || scope.selector.is_some()) {
        let found = workloads::names(settings, scope, kind)?;
        found.into_iter().map(|(_, name)| name).collect()
    } else {
        names
    };
    if names.is_empty() {
        return Err(UsageError::which(&kind.to_string(), "Name them, or say --all or -l").into());
    }
    let until = tokio::time::Instant::now() + args.timeout;
    for name in names {
        loop {
            let found = workloads::value(settings, scope, kind, &name).await?;
            let is_met = match (&args.goal, &found) {
                (Goal::Create, found) => found.is_some(),
                (Goal::Delete, found) => found.is_none(),
                (_, None) => {
                    let what = kind.word();
                    return Err(CliError::NotFound { what, name });
                }
                (goal, Some(object)) => holds(object, goal),
            };
            if is_met {
                break;
            }
            if tokio::time::Instant::now() >= until {
                return Err(CliError::TimedOut {
                    what: format!("the condition on {kind}/{name}"),
                });
            }
            tokio::time::sleep(STEP).await;
        }
        say!("{kind}/{name} condition met");
    }
    Ok(())
}

/// Whether an object that is there is as it shall be.
fn holds(object: &Value, goal: &Goal) -> bool {
    match goal {
        Goal::Create => true,
        Goal::Delete => false,
        Goal::Condition { name, value } => condition(object, name, value),
        Goal::Path { path, value } => is_at(object, path, value),
    }
}

fn condition(object: &Value, name: &str, wanted: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        let is = |key: &str, text: &str| {
            condition[key]
                .as_str()
                .is_some_and(|found| found.eq_ignore_ascii_case(text))
        };
        is("type", name) && is("status", wanted)
    })
}

/// Whether one value is there, and this one.
fn is_at(object: &Value, path: &Path, wanted: &str) -> bool {
    match path.of(object).as_slice() {
        [Value::String(text)] => text == wanted,
        [value] => wanted.parse().is_ok_and(|wanted: Value| **value == wanted),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_those_of_kubectl() {
        let goal = |text: &str| text.parse::<Goal>();
        assert_eq!(goal("delete"), Ok(Goal::Delete));
        assert_eq!(
            goal("condition=Ready"),
            Ok(Goal::Condition {
                name: "Ready".into(),
                value: "True".into()
            })
        );
        let phase = Goal::Path {
            path: Path::relaxed("status.phase").unwrap(),
            value: "Succeeded".into(),
        };
        assert_eq!(goal("phase=Succeeded"), Ok(phase.clone()));
        assert_eq!(goal("jsonpath={.status.phase}=Succeeded"), Ok(phase));
        let ready =
            goal("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True").unwrap();
        let object = serde_json::json!({"status": {"conditions": [
            {"type": "Initialized", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        assert!(holds(&object, &ready));
        assert!(goal("jsonpath={.status.phase}").is_err());
        assert!(goal("jsonpath={.status[}=x").is_err());
        assert!(goal("ready").is_err());
    }

    #[test]
    fn patience_is_a_duration() {
        assert_eq!(patience("0"), Ok(Duration::ZERO));
        assert_eq!(patience("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(patience("-1s"), Ok(A_WEEK));
        assert!(patience("soon").is_err());
    }
}
