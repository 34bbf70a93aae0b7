//! What a manifest says of a container's ends: restarts, the stop signal, the
//! last message.

use super::check::Check;
use super::types::{RestartPolicy, RestartRule, TerminationMessage};
use super::yaml::join;
use k8s_openapi::api::core::v1 as core;

/// Most rules of one container, and most exit codes of one rule, as in Kubernetes.
const MAX_RULES: usize = 20;
const MAX_CODES: usize = 255;

/// Longest path of the file with the last message.
const MAX_PATH: usize = 4095;

/// The container's own policy; whether it makes an init container a sidecar.
pub fn restart(
    path: &str,
    policy: Option<&str>,
    init: bool,
    check: &mut Check<'_>,
) -> (Option<RestartPolicy>, bool) {
    let path = join(path, "restartPolicy");
    let policy = policy.map(|_| {
        check.choice(
            &path,
            policy,
            &[
                ("Always", RestartPolicy::Always),
                ("OnFailure", RestartPolicy::OnFailure),
                ("Never", RestartPolicy::Never),
            ],
        )
    });
    (policy, init && policy == Some(RestartPolicy::Always))
}

/// The rules that stand before the policy.
pub fn restart_rules(
    path: &str,
    container: &core::Container,
    check: &mut Check<'_>,
) -> Vec<RestartRule> {
    let rules = container
        .restart_policy_rules
        .as_deref()
        .unwrap_or_default();
    let path = join(path, "restartPolicyRules");
    if !rules.is_empty() && container.restart_policy.is_none() {
        check.wrong(&path, "must stand beside a restartPolicy of the container");
    }
    if rules.len() > MAX_RULES {
        check.wrong(&path, format!("more than {MAX_RULES} rules"));
    }
    let rules = rules.iter().enumerate();
    rules
        .map(|(at, rule)| one_rule(&format!("{path}[{at}]"), rule, check))
        .collect()
}

fn one_rule(path: &str, rule: &core::ContainerRestartRule, check: &mut Check<'_>) -> RestartRule {
    let core::ContainerRestartRule { action, exit_codes } = rule;
    check.choice(&join(path, "action"), Some(action), &[("Restart", ())]);
    let path = join(path, "exitCodes");
    let Some(codes) = exit_codes else {
        check.wrong(&path, "required: after which exit codes");
        return RestartRule {
            exit_codes: Vec::new(),
            negated: false,
        };
    };
    let core::ContainerRestartRuleOnExitCodes { operator, values } = codes;
    let values = values.clone().unwrap_or_default();
    match values.len() {
        0 => check.wrong(&join(&path, "values"), "required: at least one exit code"),
        count if count > MAX_CODES => {
            check.wrong(&join(&path, "values"), format!("more than {MAX_CODES}"));
        }
        _ => {}
    }
    for (at, code) in values.iter().enumerate() {
        if !(0..=255).contains(code) {
            let message = format!("{code} is not an exit code from 0 to 255");
            check.wrong(&format!("{path}.values[{at}]"), message);
        }
    }
    let negated = check.choice(
        &join(&path, "operator"),
        Some(operator),
        &[("In", false), ("NotIn", true)],
    );
    RestartRule {
        exit_codes: values,
        negated,
    }
}

/// The signal that asks the container to end; `has_os`: the pod names its
/// operating system, without which Kubernetes takes no signal.
pub fn stop_signal(
    path: &str,
    signal: Option<&str>,
    has_os: bool,
    check: &mut Check<'_>,
) -> Option<String> {
    let signal = signal?;
    let path = format!("{path}.lifecycle.stopSignal");
    let known = signal.starts_with("SIG") && crate::plan::signal_number(signal).is_some();
    if !known {
        let shown: String = signal.chars().take(40).collect();
        check.wrong(&path, format!("{shown:?} is not a signal, like SIGTERM"));
    } else if !has_os {
        check.wrong_with_hint(
            &path,
            "needs spec.os.name",
            "write os: {name: linux} in spec".into(),
        );
    }
    Some(signal.to_owned())
}

/// Where the last message comes from.
pub fn termination_message(
    path: &str,
    container: &core::Container,
    check: &mut Check<'_>,
) -> TerminationMessage {
    let default = TerminationMessage::default();
    let file = match container.termination_message_path.as_deref() {
        None | Some("") => default.path,
        Some(file) => {
            let parts = file.split('/').filter(|part| !matches!(*part, "" | "."));
            let is_file = parts.clone().next().is_some() && !parts.clone().any(|part| part == "..");
            let usable = file.starts_with('/') && !file.ends_with('/') && !file.contains('\0');
            if !is_file || !usable || file.len() > MAX_PATH {
                let shown: String = file.chars().take(60).collect();
                check.wrong(
                    &join(path, "terminationMessagePath"),
                    format!("{shown:?} is not an absolute path of a file"),
                );
            }
            file.to_owned()
        }
    };
    let or_output = check.choice(
        &join(path, "terminationMessagePolicy"),
        container.termination_message_policy.as_deref(),
        &[("File", false), ("FallbackToLogsOnError", true)],
    );
    TerminationMessage {
        path: file,
        or_output,
    }
}
