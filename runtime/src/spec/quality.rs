//! Kubernetes' class of service, which follows from requests and limits.

use super::types::PodSpec;

impl PodSpec {
    /// `Guaranteed`, `Burstable` or `BestEffort`.
    #[must_use]
    pub fn quality(&self) -> &'static str {
        let mut all = self.own_containers().map(|one| &one.resources);
        let any = self.own_containers().any(|container| {
            let resources = &container.resources;
            resources.cpu_request_milli.is_some() || resources.memory_request.is_some()
        });
        let guaranteed = all.all(|resources| {
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
