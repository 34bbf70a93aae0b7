//! Kubernetes' class of service, which follows from requests and limits.

use super::types::{PodSpec, Resources};

impl PodSpec {
    /// `Guaranteed`, `Burstable` or `BestEffort`. Where the pod itself says what it
    /// asks for and may use, its containers count for nothing; a sandbox's own
    /// amounts are those of its machine.
    #[must_use]
    pub fn quality(&self) -> &'static str {
        let own = Some(&self.resources).filter(|own| self.sandbox.is_none() && is_given(own));
        let all: Vec<&Resources> = match own {
            Some(own) => vec![own],
            None => self.own_containers().map(|one| &one.resources).collect(),
        };
        let any = all.iter().any(|resources| {
            // Who requests 0 on purpose may have a limit all the same.
            let limits = [resources.cpu_limit_milli, resources.memory_limit];
            is_given(resources) || limits.iter().any(Option::is_some)
        });
        let guaranteed = all.iter().all(|resources| {
            resources.cpu_limit_milli.is_some()
                && resources.memory_limit.is_some()
                && resources.cpu_limit_milli == resources.cpu_request_milli
                && resources.memory_limit == resources.memory_request
        });
        match (guaranteed, any) {
            (true, _) => "Guaranteed",
            (false, true) => "Burstable",
            (false, false) => "BestEffort",
        }
    }
}

/// A limit is a request as well.
fn is_given(resources: &Resources) -> bool {
    resources.cpu_request_milli.is_some() || resources.memory_request.is_some()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_pod_itself_says_decides_alone() {
        let quality = |pod: &str, container: &str| {
            let text = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{resources: {pod}, \
                 containers: [{{name: a, image: b, resources: {container}}}]}}\n"
            );
            let read = crate::spec::parse("pod.yaml", &text);
            read.expect("a good manifest").remove(0).spec.quality()
        };
        let whole = "{limits: {cpu: 1, memory: 64Mi}}";
        for (pod, container, class) in [
            ("{}", "{}", "BestEffort"),
            ("{}", whole, "Guaranteed"),
            ("{}", "{requests: {cpu: 0}, limits: {cpu: 1}}", "Burstable"),
            // 0 is as good as nothing.
            ("{}", "{requests: {cpu: 0, memory: 0}}", "BestEffort"),
            ("{}", "{limits: {cpu: 0}}", "BestEffort"),
            (whole, "{}", "Guaranteed"),
            ("{limits: {cpu: 1}}", "{}", "Burstable"),
            ("{requests: {memory: 128Mi}}", whole, "Burstable"),
            // What the containers request is what the pod does.
            (whole, "{requests: {cpu: 500m}}", "Burstable"),
        ] {
            assert_eq!(quality(pod, container), class, "{pod} {container}");
        }
    }
}
