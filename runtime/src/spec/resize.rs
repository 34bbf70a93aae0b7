//! Resources that change while a pod runs: what may, and what needs a restart.

use super::check::Check;
use super::container::Context;
use super::resources::together;
use super::types::{Container, PodSpec, ResizeRestart, Resources, RestartPolicy};
use k8s_openapi::api::core::v1 as core;

/// Converts a container's resizePolicy.
pub fn policy(
    path: &str,
    container: &core::Container,
    own: Option<RestartPolicy>,
    context: &Context<'_>,
    check: &mut Check<'_>,
) -> ResizeRestart {
    let list = container.resize_policy.as_deref().unwrap_or_default();
    let field = |at: usize, name: &str| format!("{path}.resizePolicy[{at}].{name}");
    let numbered = list.iter().enumerate();
    let names = numbered.map(|(at, one)| (field(at, "resourceName"), one.resource_name.as_str()));
    check.unique("resizePolicy of the container", names);
    let mut out = ResizeRestart::default();
    for (at, one) in list.iter().enumerate() {
        let core::ContainerResizePolicy {
            resource_name,
            restart_policy,
        } = one;
        let restarts = check.choice(
            &field(at, "restartPolicy"),
            Some(restart_policy),
            &[("NotRequired", false), ("RestartContainer", true)],
        );
        if restarts && own.unwrap_or(context.restart_policy) == RestartPolicy::Never {
            check.wrong(
                &field(at, "restartPolicy"),
                "must be 'NotRequired' when `restartPolicy` is 'Never'",
            );
        }
        let resource = check.choice(
            &field(at, "resourceName"),
            Some(resource_name),
            &[("cpu", true), ("memory", false)],
        );
        if resource {
            out.cpu |= restarts;
        } else {
            out.memory |= restarts;
        }
    }
    out
}

/// Why resources cannot change like that, in an API server's words.
pub fn refusal(present: &PodSpec, next: &PodSpec) -> Option<String> {
    let lists = [
        (
            "initContainers",
            &present.init_containers,
            &next.init_containers,
        ),
        ("containers", &present.containers, &next.containers),
    ];
    for (list, olds, news) in lists {
        for (at, (old, new)) in olds.iter().zip(news).enumerate() {
            if let Some((field, why)) = refusal_of(list == "initContainers", old, new) {
                return Some(format!("spec.{list}[{at}].resources{field}: {why}"));
            }
        }
    }
    if is_other_pod(present, next) {
        return Some(
            "spec.resources: what the containers may use together cannot change while the pod runs"
                .to_owned(),
        );
    }
    (present.quality() != next.quality())
        .then(|| "spec: Pod QOS Class may not change as a result of resizing".to_owned())
}

/// Whether the pod's own amounts are others. A request that is that of the
/// containers follows them.
fn is_other_pod(present: &PodSpec, next: &PodSpec) -> bool {
    let (from, to) = (&present.resources, &next.resources);
    let limits = |of: &Resources| (of.cpu_limit_milli, of.memory_limit);
    let other_request = |amount: fn(&Resources) -> Option<u64>| {
        let follows = |spec: &PodSpec| amount(&spec.resources) == together(spec, amount);
        amount(from) != amount(to) && !(follows(present) && follows(next))
    };
    limits(from) != limits(to)
        || other_request(|of| of.cpu_request_milli)
        || other_request(|of| of.memory_request)
}

fn refusal_of(
    init: bool,
    old: &Container,
    new: &Container,
) -> Option<(&'static str, &'static str)> {
    let (from, to) = (&old.resources, &new.resources);
    if from == to {
        return None;
    }
    let storage = |of: &Resources| (of.storage_request, of.storage_limit);
    let gone = |old: Option<u64>, new: Option<u64>| old.is_some() && new.is_none();
    if init && !old.sidecar {
        return Some((
            "",
            "resources for non-sidecar init containers are immutable",
        ));
    }
    if storage(from) != storage(to) {
        return Some(("", "only cpu and memory resources are mutable"));
    }
    if gone(from.cpu_limit_milli, to.cpu_limit_milli) || gone(from.memory_limit, to.memory_limit) {
        return Some((".limits", "resource limits cannot be removed"));
    }
    if gone(from.cpu_request_milli, to.cpu_request_milli)
        || gone(from.memory_request, to.memory_request)
    {
        return Some((".requests", "resource requests cannot be removed"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(resources: &str) -> PodSpec {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{containers: [{{name: a, image: b, resources: {resources}}}]}}\n"
        );
        let read = crate::spec::parse("pod.yaml", &text);
        read.expect("a good manifest").remove(0).spec
    }

    #[test]
    fn what_an_api_server_refuses_is_refused_in_its_words() {
        let old = spec("{limits: {cpu: 1, memory: 64Mi}, requests: {cpu: 500m}}");
        for (resources, why) in [
            (
                "{limits: {cpu: 2, memory: 32Mi}, requests: {cpu: 500m}}",
                None,
            ),
            (
                "{limits: {memory: 64Mi}, requests: {cpu: 500m}}",
                Some("spec.containers[0].resources.limits: resource limits cannot be removed"),
            ),
            (
                "{limits: {cpu: 1, memory: 64Mi, ephemeral-storage: 1Gi}, requests: {cpu: 500m}}",
                Some("spec.containers[0].resources: only cpu and memory resources are mutable"),
            ),
            (
                "{limits: {cpu: 1, memory: 64Mi}}",
                Some("spec: Pod QOS Class may not change as a result of resizing"),
            ),
        ] {
            assert_eq!(
                refusal(&old, &spec(resources)).as_deref(),
                why,
                "{resources}"
            );
        }
    }

    #[test]
    fn a_pods_own_amounts_stay_and_follow_its_containers() {
        let spec = |pod: &str, container: &str| {
            let text = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{resources: {pod}, \
                 containers: [{{name: a, image: b, resources: {container}}}]}}\n"
            );
            let read = crate::spec::parse("pod.yaml", &text);
            read.expect("a good manifest").remove(0).spec
        };
        let (pod, own) = ("{limits: {cpu: 2}}", "{requests: {cpu: 500m}}");
        let old = spec(pod, own);
        assert_eq!(old.resources.cpu_request_milli, Some(500));
        let found = crate::spec::difference(&old, &spec(pod, "{requests: {cpu: 250m}}"));
        assert_eq!((found.refusal, found.is_more), (None, false));
        assert_eq!(found.resized.len(), 1);
        for other in [
            "{limits: {cpu: 1}}",
            "{limits: {cpu: 2, memory: 64Mi}}",
            "{limits: {cpu: 2}, requests: {cpu: 1}}",
        ] {
            let found = crate::spec::difference(&old, &spec(other, own));
            let why = found.refusal.expect(other);
            assert!(why.starts_with("spec.resources: "), "{why}");
            assert!(!found.is_more);
        }
    }

    #[test]
    fn a_policy_says_which_change_restarts() {
        let restart = ResizeRestart {
            cpu: false,
            memory: true,
        };
        let old = Resources {
            cpu_limit_milli: Some(1000),
            memory_limit: Some(1 << 20),
            ..Resources::default()
        };
        let cpu = Resources {
            cpu_limit_milli: Some(500),
            ..old.clone()
        };
        let memory = Resources {
            memory_limit: Some(2 << 20),
            ..old.clone()
        };
        assert!(!restart.needed(&old, &cpu) && restart.needed(&old, &memory));
    }
}
