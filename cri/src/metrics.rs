//! ListPodSandboxMetrics: what cAdvisor tells of containers on the host, from the
//! guest's own account and by the same names.

mod table;

use crate::error::CallError;
use crate::pods::{self, container_id, nanos};
use crate::stats;
use beluga_proto::agent::{ContainerStats, PodStats};
use beluga_runtime::engine::PodView;
use beluga_runtime::pod::now;
use beluga_runtime::settings::Settings;
use beluga_runtime::spec::Resources;
use beluga_runtime::store::status::ContainerState;
use k8s_cri::v1 as cri;
pub use table::number;
use table::{Known, METRICS, Reading};

/// The labels of all metrics, which are cAdvisor's.
const LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// What the container of a metric of the whole sandbox is called.
const SANDBOX: &str = "POD";

/// A container, or what all of a sandbox shares.
struct Subject<'s> {
    labels: [String; 6],
    pod: &'s PodStats,
    own: Option<Own<'s>>,
}

/// What a container has of its own.
struct Own<'s> {
    stats: &'s ContainerStats,
    limits: &'s Resources,
    started: u64,
}

/// Every metric that there is.
pub fn descriptors() -> Vec<cri::MetricDescriptor> {
    let described = METRICS.iter().map(|metric| cri::MetricDescriptor {
        name: metric.name.to_owned(),
        help: metric.help.to_owned(),
        label_keys: LABELS
            .iter()
            .chain(metric.labels)
            .map(|label| (*label).to_owned())
            .collect(),
    });
    described.collect()
}

/// The metrics of a sandbox and its containers; nothing of one that does not run.
pub async fn of_pod(
    settings: &Settings,
    pod: &PodView,
) -> Result<Option<cri::PodSandboxMetrics>, CallError> {
    let usage = stats::usage(settings, pod).await?;
    Ok(usage.map(|usage| show(pod, &usage)))
}

fn show(pod: &PodView, usage: &PodStats) -> cri::PodSandboxMetrics {
    let sandbox = pods::note(pod).config.metadata.unwrap_or_default();
    let labels = |container: &str, id: &str, image: &str, name: &str| {
        let all = [
            container,
            id,
            image,
            name,
            &sandbox.namespace,
            &sandbox.name,
        ];
        all.map(str::to_owned)
    };
    let whole = Subject {
        labels: labels(SANDBOX, pod.uid.as_str(), "", pod.uid.as_str()),
        pod: usage,
        own: None,
    };
    let containers = pods::containers(pod).filter_map(|(spec, note, status)| {
        // The guest has an account of one that has ended, too, until it is removed.
        let ContainerState::Running { started } = status.state else {
            return None;
        };
        let run = status.id.as_ref()?;
        let stats = usage.containers.iter().find(|one| one.id == *run)?;
        let container_id = container_id(&pod.uid, &spec.name);
        let name = note.config.metadata.unwrap_or_default().name;
        let image = note.config.image.unwrap_or_default().image;
        let subject = Subject {
            labels: labels(&name, &container_id, &image, &container_id),
            pod: usage,
            own: Some(Own {
                stats,
                limits: &spec.resources,
                started,
            }),
        };
        Some(cri::ContainerMetrics {
            container_id,
            metrics: subject.metrics(),
        })
    });
    cri::PodSandboxMetrics {
        pod_sandbox_id: pod.uid.to_string(),
        metrics: whole.metrics(),
        container_metrics: containers.collect(),
    }
}

impl Subject<'_> {
    fn metrics(&self) -> Vec<cri::Metric> {
        let timestamp = nanos(now().unix);
        let known = Known {
            pod: self.pod,
            own: self.own.as_ref().map(|own| (own.stats, own.limits)),
            started: self.own.as_ref().map(|own| own.started),
            now: now().unix,
        };
        let told = METRICS.iter().flat_map(|metric| {
            let readings = (metric.read)(&known).into_iter();
            readings.map(move |Reading { labels, value }| (metric, labels, value))
        });
        told.map(|(metric, labels, value)| cri::Metric {
            name: metric.name.to_owned(),
            timestamp,
            metric_type: metric.kind.into(),
            label_values: self.labels.iter().cloned().chain(labels).collect(),
            value: Some(cri::UInt64Value { value }),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use beluga_proto::ContainerId;
    use beluga_proto::agent::DiskStats;

    fn container() -> ContainerStats {
        let files = [
            (
                "cpu.stat",
                "usage_usec 3000000\nuser_usec 2000000\nnr_periods 4\n",
            ),
            ("memory.stat", "anon 10\nfile 20\npgfault 5\n"),
            ("memory.events", "max 1\noom_kill 2\n"),
            ("io.stat", "253:16 rbytes=1 wbytes=2 rios=3 wios=4\n"),
            (
                "cpu.pressure",
                "some avg10=0.00 total=7000000\nfull avg10=0.00 total=0\n",
            ),
        ];
        ContainerStats {
            id: ContainerId::from_random([1; 16]),
            cpu_nanos: 0,
            memory_bytes: 100,
            working_set_bytes: 90,
            pids: 3,
            writable_bytes: 11,
            read_bytes: 1,
            write_bytes: 2,
            processes: Vec::new(),
            files: files
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .into(),
            descriptors: 6,
            sockets: 1,
        }
    }

    fn told(subject: &Subject<'_>, name: &str) -> Vec<(Vec<String>, u64)> {
        let all = subject.metrics().into_iter().filter(|one| one.name == name);
        let own = |one: cri::Metric| {
            let labels = one.label_values[LABELS.len()..].to_vec();
            (labels, one.value.unwrap().value)
        };
        all.map(own).collect()
    }

    #[test]
    fn every_metric_has_the_labels_that_are_described_and_the_kernels_value() {
        let pod = PodStats {
            memory_total: 1000,
            memory_available: 500,
            cpu_nanos: 0,
            uptime_nanos: 0,
            interfaces: Vec::new(),
            containers: Vec::new(),
            cards: "a\nb\n eth0: 500 4 1 2 0 0 0 0 700 5 0 3 0 0 0 0\n".to_owned(),
            disk: Some(DiskStats {
                bytes: 50,
                inodes: 40,
                inodes_free: 30,
            }),
        };
        let (stats, limits) = (container(), Resources::default());
        let own = Own {
            stats: &stats,
            limits: &limits,
            started: 5_000_000_000,
        };
        let labels = || LABELS.map(str::to_owned);
        let container = Subject {
            labels: labels(),
            pod: &pod,
            own: Some(own),
        };
        let whole = Subject {
            labels: labels(),
            pod: &pod,
            own: None,
        };
        let described = descriptors();
        let mut named = std::collections::BTreeSet::new();
        for metric in container.metrics().into_iter().chain(whole.metrics()) {
            let own = described.iter().find(|one| one.name == metric.name);
            let keys = &own.expect("it is described").label_keys;
            assert_eq!(keys.len(), metric.label_values.len(), "{}", metric.name);
            named.insert(metric.name);
        }
        let silent = described.iter().filter(|one| !named.contains(&one.name));
        assert_eq!(silent.map(|one| &*one.name).collect::<Vec<_>>(), [""; 0]);
        let sole = |name| told(&container, name).first().map(|(_, value)| *value);
        assert_eq!(sole("container_cpu_usage_seconds_total"), Some(3));
        assert_eq!(sole("container_memory_rss"), Some(10));
        assert_eq!(sole("container_oom_events_total"), Some(2));
        assert_eq!(
            sole("container_pressure_cpu_waiting_seconds_total"),
            Some(7)
        );
        assert_eq!(sole("container_start_time_seconds"), Some(5));
        let errors = told(&whole, "container_network_receive_errors_total");
        assert_eq!(errors, [(vec!["eth0".to_owned()], 1)]);
    }
}
