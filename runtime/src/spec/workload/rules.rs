//! What a job makes of how its pods end: the rules of `podFailurePolicy` and of
//! `successPolicy`, checked as the API server checks them.

use crate::spec::check::Check;
use crate::spec::names;
use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::api::core::v1::PodSpec;
use std::collections::BTreeSet;

/// Most rules of a policy, and most conditions of a rule.
const MAX_RULES: usize = 20;

/// Most exit codes of a rule.
const MAX_CODES: usize = 255;

/// Longest list of indexes, in bytes.
const MAX_INDEXES: usize = 64 << 10;

const FAILURE: &str = "spec.podFailurePolicy.rules";
const SUCCESS: &str = "spec.successPolicy.rules";

/// What is done about a pod that has failed. The first rule that fits counts;
/// without one the failure is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureRule {
    /// What is done.
    pub action: FailureAction,
    /// When.
    pub sign: FailureSign,
}

/// What is done about a pod that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureAction {
    /// It counts against the limits, and is replaced.
    Count,
    /// It is replaced, and does not count.
    Ignore,
    /// Its index has failed and gets no other pod.
    FailIndex,
    /// The job has failed.
    FailJob,
}

impl FailureAction {
    const WORDS: [(&str, Self); 4] = [
        ("Count", Self::Count),
        ("FailIndex", Self::FailIndex),
        ("FailJob", Self::FailJob),
        ("Ignore", Self::Ignore),
    ];

    /// As manifests have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        let known = Self::WORDS.into_iter().find(|(_, action)| *action == self);
        known.map_or("", |(word, _)| word)
    }
}

/// What a rule knows a failure by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureSign {
    /// A container ended badly with one of the codes, or with none of them.
    ExitCodes {
        /// The only container that is looked at.
        container: Option<String>,
        /// `In`, otherwise `NotIn`.
        is_in: bool,
        /// In rising order.
        codes: Vec<i32>,
    },
    /// The pod has one of these conditions: type and status.
    Conditions(Vec<(String, String)>),
}

/// When a job is complete before all of its indexes are: all of `indexes` have
/// succeeded, or `count` of them; without `indexes` any `count`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuccessRule {
    /// First and last of each run of indexes, in rising order.
    pub indexes: Option<Vec<(u32, u32)>>,
    /// How many.
    pub count: Option<u32>,
}

/// One of a set of words that must be there.
fn word<T: Copy>(path: &str, text: &str, words: &[(&str, T)], check: &mut Check<'_>) -> T {
    if text.is_empty() {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        check.wrong(path, format!("required: one of {}", names.join(", ")));
    }
    check.choice(path, Some(text).filter(|text| !text.is_empty()), words)
}

fn bounded(path: &str, length: usize, most: usize, check: &mut Check<'_>) {
    if length > most {
        check.wrong(path, format!("{length} are more than {most}"));
    }
}

/// The rules about pods that fail.
pub(super) fn failure(spec: &batch::JobSpec, check: &mut Check<'_>) -> Vec<FailureRule> {
    let Some(batch::PodFailurePolicy { rules }) = &spec.pod_failure_policy else {
        return Vec::new();
    };
    bounded(FAILURE, rules.len(), MAX_RULES, check);
    let names = containers(spec.template.spec.as_ref());
    let mut found = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let base = format!("{FAILURE}[{at}]");
        let batch::PodFailurePolicyRule {
            action,
            on_exit_codes,
            on_pod_conditions,
        } = rule;
        let path = format!("{base}.action");
        let action = word(&path, action, &FailureAction::WORDS, check);
        if action == FailureAction::FailIndex && spec.backoff_limit_per_index.is_none() {
            check.wrong(&path, "\"FailIndex\" needs spec.backoffLimitPerIndex");
        }
        let conditions = on_pod_conditions.as_deref().unwrap_or_default();
        let sign = match (on_exit_codes, conditions) {
            (Some(codes), []) => exit_codes(&format!("{base}.onExitCodes"), codes, &names, check),
            (None, [_, ..]) => {
                pod_conditions(&format!("{base}.onPodConditions"), conditions, check)
            }
            _ => {
                check.wrong(&base, "takes one of onExitCodes and onPodConditions");
                continue;
            }
        };
        found.push(FailureRule { action, sign });
    }
    found
}

fn containers(pod: Option<&PodSpec>) -> BTreeSet<&str> {
    let lists = pod.map(|pod| (pod.init_containers.iter().flatten(), &pod.containers));
    let all = lists.into_iter().flat_map(|(init, apps)| init.chain(apps));
    all.map(|one| one.name.as_str()).collect()
}

fn exit_codes(
    base: &str,
    codes: &batch::PodFailurePolicyOnExitCodesRequirement,
    names: &BTreeSet<&str>,
    check: &mut Check<'_>,
) -> FailureSign {
    let batch::PodFailurePolicyOnExitCodesRequirement {
        container_name,
        operator,
        values,
    } = codes;
    if let Some(name) = container_name
        && !names.contains(name.as_str())
    {
        let shown: String = name.chars().take(80).collect();
        let message = format!("{shown:?} is the name of no container of the template");
        check.wrong(&format!("{base}.containerName"), message);
    }
    let operators = [("In", true), ("NotIn", false)];
    let is_in = word(&format!("{base}.operator"), operator, &operators, check);
    let path = format!("{base}.values");
    if values.is_empty() {
        check.wrong(&path, "required: at least one exit code");
    }
    bounded(&path, values.len(), MAX_CODES, check);
    if !values.is_sorted_by(|one, next| one < next) {
        check.wrong(&path, "must be in rising order, each once");
    }
    if is_in && values.contains(&0) {
        check.wrong(&path, "0 is no failure: it may not stand beside In");
    }
    FailureSign::ExitCodes {
        container: container_name.clone(),
        is_in,
        codes: values.clone(),
    }
}

fn pod_conditions(
    base: &str,
    patterns: &[batch::PodFailurePolicyOnPodConditionsPattern],
    check: &mut Check<'_>,
) -> FailureSign {
    bounded(base, patterns.len(), MAX_RULES, check);
    let mut found = Vec::new();
    for (at, pattern) in patterns.iter().enumerate() {
        let base = format!("{base}[{at}]");
        check.shape(&format!("{base}.type"), &pattern.type_, names::qualified);
        let words = ["True", "False", "Unknown"].map(|word| (word, word));
        let status = pattern.status.as_deref();
        let status = check.choice(&format!("{base}.status"), status, &words);
        found.push((pattern.type_.clone(), status.to_owned()));
    }
    FailureSign::Conditions(found)
}

/// The rules about indexes that succeed, of a job that has so many.
pub(super) fn success(
    spec: &batch::JobSpec,
    completions: Option<u32>,
    check: &mut Check<'_>,
) -> Vec<SuccessRule> {
    let Some(batch::SuccessPolicy { rules }) = &spec.success_policy else {
        return Vec::new();
    };
    if rules.is_empty() {
        check.wrong(SUCCESS, "required: at least one rule");
    }
    bounded(SUCCESS, rules.len(), MAX_RULES, check);
    // Without completions there are other errors than too large an index.
    let completions = completions.unwrap_or(u32::MAX);
    let rules = rules.iter().enumerate();
    rules
        .map(|(at, rule)| success_rule(&format!("{SUCCESS}[{at}]"), rule, completions, check))
        .collect()
}

fn success_rule(
    base: &str,
    rule: &batch::SuccessPolicyRule,
    completions: u32,
    check: &mut Check<'_>,
) -> SuccessRule {
    let batch::SuccessPolicyRule {
        succeeded_count,
        succeeded_indexes,
    } = rule;
    if succeeded_count.is_none() && succeeded_indexes.is_none() {
        check.wrong(base, "takes succeededIndexes, succeededCount or both");
    }
    let path = format!("{base}.succeededIndexes");
    let indexes = succeeded_indexes.as_deref().and_then(|text| {
        bounded(&path, text.len(), MAX_INDEXES, check);
        let found = indexes(text, completions);
        found.map_err(|why| check.wrong(&path, why)).ok()
    });
    let most = indexes.as_deref().map_or(completions, total);
    let count = succeeded_count.and_then(|count| {
        let good = u32::try_from(count)
            .ok()
            .filter(|count| (1..=most).contains(count));
        if good.is_none() {
            let message = format!("{count} is not from 1 to {most}, the number of indexes");
            check.wrong(&format!("{base}.succeededCount"), message);
        }
        good
    });
    SuccessRule { indexes, count }
}

/// How many indexes there are in runs that do not overlap.
fn total(runs: &[(u32, u32)]) -> u32 {
    let each = runs.iter().map(|(first, last)| last - first + 1);
    each.fold(0, u32::saturating_add)
}

/// Runs of indexes below `completions`: `0,2-4`. Errors with the end of a sentence.
fn indexes(text: &str, completions: u32) -> Result<Vec<(u32, u32)>, String> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for part in text.split(',') {
        let shown: String = part.chars().take(40).collect();
        let number = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            is_plain.then(|| text.parse::<u32>().ok()).flatten()
        };
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(format!("{shown:?} is neither an index nor a run like 2-4"));
        };
        if last >= completions {
            return Err(format!(
                "{shown:?} is not below the {completions} completions"
            ));
        }
        if first > last {
            return Err(format!("{shown:?} runs backwards"));
        }
        if runs.last().is_some_and(|(_, before)| *before >= first) {
            return Err(format!("{shown:?} is not above what stands before it"));
        }
        runs.push((first, last));
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_read_as_kubernetes_reads_them() {
        assert_eq!(indexes("0,2-4,7", 8), Ok(vec![(0, 0), (2, 4), (7, 7)]));
        assert_eq!(total(&[(0, 0), (2, 4)]), 4);
        for (text, part) in [
            ("", "neither an index"),
            ("0,,1", "neither an index"),
            ("1-2-3", "neither an index"),
            ("+1", "neither an index"),
            ("99999999999", "neither an index"),
            ("0-8", "not below the 8 completions"),
            ("3-2", "runs backwards"),
            ("0-3,3", "not above"),
        ] {
            let why = indexes(text, 8).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
