//! What a job makes of a pod that has failed, by its `podFailurePolicy`. Pure:
//! the rules and how the pod ended in, a verdict out.

use super::plan::Verdict;
use crate::engine::PodView;
use crate::plan::ContainerKind;
use crate::spec::{FailureAction, FailureRule, FailureSign};
use crate::store::status::ContainerState;

/// A pod that has failed, as the rules see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// `NAMESPACE/NAME`.
    pub pod: String,
    /// Containers that ended badly and with which exit code, init containers last.
    pub codes: Vec<(String, i32)>,
    /// Types and statuses of its conditions.
    pub conditions: Vec<(String, String)>,
}

impl Failure {
    /// Of a pod that has ended.
    pub fn of(pod: &PodView) -> Self {
        let bad = |is_app: bool| {
            let all = pod
                .status
                .containers
                .iter()
                .filter(move |one| match one.kind {
                    ContainerKind::App => is_app,
                    ContainerKind::Init | ContainerKind::Sidecar => !is_app,
                    // Whoever looks into a pod is no part of its work.
                    ContainerKind::Ephemeral => false,
                });
            all.filter_map(|one| match &one.state {
                ContainerState::Terminated(end) if end.exit_code != 0 => {
                    Some((one.name.clone(), end.exit_code))
                }
                _ => None,
            })
        };
        let own = pod.conditions().map(|(kind, holds)| {
            let word = if holds { "True" } else { "False" };
            (kind.to_owned(), word.to_owned())
        });
        let given = pod.spec.conditions.iter();
        let given = given.map(|(kind, given)| (kind.clone(), given.status.clone()));
        Self {
            pod: format!("{}/{}", pod.namespace, pod.name),
            codes: bad(true).chain(bad(false)).collect(),
            conditions: own.into_iter().chain(given).collect(),
        }
    }

    /// What the first rule that fits makes of it, and why where the job has failed
    /// by it.
    pub fn judge(&self, rules: &[FailureRule]) -> (Verdict, Option<String>) {
        let found = rules.iter().enumerate().find_map(|(at, rule)| {
            let why = self.sign(&rule.sign)?;
            Some((at, rule.action, why))
        });
        match found {
            None | Some((_, FailureAction::Count, _)) => (Verdict::Counts, None),
            Some((_, FailureAction::Ignore, _)) => (Verdict::Ignored, None),
            Some((_, FailureAction::FailIndex, _)) => (Verdict::FailsIndex, None),
            Some((at, action @ FailureAction::FailJob, why)) => {
                let word = action.word();
                let message = format!("{why} matching {word} rule at index {at}");
                (Verdict::Counts, Some(message))
            }
        }
    }

    /// How the sign shows, if it does.
    fn sign(&self, sign: &FailureSign) -> Option<String> {
        match sign {
            FailureSign::ExitCodes {
                container,
                is_in,
                codes,
            } => {
                let is_meant = |name: &str| container.as_ref().is_none_or(|only| only == name);
                let mut all = self.codes.iter();
                let (name, code) =
                    all.find(|(name, code)| is_meant(name) && codes.contains(code) == *is_in)?;
                let pod = &self.pod;
                Some(format!(
                    "Container {name} for pod {pod} failed with exit code {code}"
                ))
            }
            FailureSign::Conditions(wanted) => {
                let (kind, _) = self.conditions.iter().find(|one| wanted.contains(one))?;
                Some(format!("Pod {} has condition {kind}", self.pod))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(action: FailureAction, container: Option<&str>, is_in: bool) -> FailureRule {
        let sign = FailureSign::ExitCodes {
            container: container.map(str::to_owned),
            is_in,
            codes: vec![3, 42],
        };
        FailureRule { action, sign }
    }

    fn failure(codes: &[(&str, i32)]) -> Failure {
        let owned = |(name, code): &(&str, i32)| ((*name).to_owned(), *code);
        Failure {
            pod: "default/sum-x".into(),
            codes: codes.iter().map(owned).collect(),
            conditions: vec![("Ready".into(), "False".into())],
        }
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rules = [
            codes(FailureAction::FailJob, Some("main"), true),
            codes(FailureAction::Ignore, None, true),
            codes(FailureAction::FailIndex, Some("main"), false),
        ];
        let told = |ends: &[(&str, i32)]| failure(ends).judge(&rules);
        let (verdict, why) = told(&[("main", 42)]);
        assert_eq!(verdict, Verdict::Counts);
        let expected = "Container main for pod default/sum-x failed with exit code 42 matching \
                        FailJob rule at index 0";
        assert_eq!(why.as_deref(), Some(expected));
        assert_eq!(told(&[("log", 3)]), (Verdict::Ignored, None));
        assert_eq!(
            told(&[("log", 1), ("main", 1)]),
            (Verdict::FailsIndex, None)
        );
        assert_eq!(told(&[("log", 1)]), (Verdict::Counts, None));
        // A pod that is gone, or whose machine did not come up.
        assert_eq!(told(&[]), (Verdict::Counts, None));
        let counts = [
            codes(FailureAction::Count, None, true),
            codes(FailureAction::FailJob, None, true),
        ];
        let told = failure(&[("main", 3)]).judge(&counts);
        assert_eq!(told, (Verdict::Counts, None));
    }

    #[test]
    fn a_condition_must_have_the_status_too() {
        let rule = |kind: &str, status: &str| FailureRule {
            action: FailureAction::FailJob,
            sign: FailureSign::Conditions(vec![
                ("DisruptionTarget".into(), "True".into()),
                (kind.into(), status.into()),
            ]),
        };
        let told = |rule| failure(&[("main", 1)]).judge(&[rule]).1;
        assert_eq!(told(rule("Ready", "True")), None);
        assert_eq!(told(rule("ConfigIssue", "False")), None);
        let expected = "Pod default/sum-x has condition Ready matching FailJob rule at index 0";
        assert_eq!(told(rule("Ready", "False")).as_deref(), Some(expected));
    }
}
