//! `beluga top`: what pods and their containers use.

use super::pods::{self, Scope};
use super::table::Table;
use super::{CliError, exit};
use crate::api::client::ClientError;
use crate::engine::{self, EngineError, PodView, Usage};
use crate::link;
use crate::settings::Settings;
use beluga_proto::FaultCode;
use beluga_proto::agent::InterfaceStats;
use std::time::{Duration, Instant};

/// CPU use is what was used between two looks this far apart.
const WINDOW: Duration = Duration::from_millis(500);

/// What has not been measured.
const UNKNOWN: &str = "<unknown>";

/// The row of all that a pod's machine is, beside its containers: no container has
/// such a name.
const MACHINE: &str = "(machine)";

/// What is not there to be told: a container's share of the host, a machine's PIDs.
const NOTHING: &str = "-";

/// What the columns are.
const COLUMNS: &str = "\
Columns:
  CPU(cores)     CPU time that containers used over half a second; 1000m is one CPU
  MEMORY(bytes)  working set of containers: without file pages that were not used lately
  LIMIT          the machine's memory; of a container its limit
  HOST           memory of this host that VMM, supervisor and servers of host files hold
  OVERHEAD       HOST without MEMORY: the guest's kernel and cache, agent, VMM and supervisor
With --containers also:
  PIDS           processes and threads
  WRITABLE       what it has written to its own file system
  READ, WRITTEN  what it has read from disks and written to them
  RECEIVED, SENT what the pod has received and sent; containers share its cards
(machine) is the line of the pod's machine as a whole.";

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
#[command(after_help = COLUMNS)]
pub struct Args {
    /// `pod`, `pod NAME…` or `pod/NAME…`
    #[arg(value_name = "TYPE [NAME]")]
    what: Vec<String>,
    /// A line for each container, and one for each pod's machine
    #[arg(long)]
    containers: bool,
    /// A line for each process of a container, by its PID in the pod's machine
    #[arg(long, conflicts_with = "containers")]
    processes: bool,
    /// No line with the heads of the columns
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    scope: Scope,
}

/// A pod, looked at twice.
struct Sample {
    pod: PodView,
    before: Usage,
    after: Usage,
    elapsed: Duration,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    let names = pods::names(&args.what)?;
    let mut live = pods::all(settings, &args.scope).await?;
    if let Some(absent) = names
        .iter()
        .find(|name| !live.iter().any(|pod| pod.name == **name))
    {
        return Err(CliError::NotFound {
            what: "pod",
            name: absent.clone(),
        });
    }
    live.retain(|pod| {
        !pod.status.phase.is_end() && (names.is_empty() || names.contains(&pod.name))
    });
    let mut first = Vec::new();
    for pod in live {
        match engine::usage(settings, &pod.uid).await {
            Ok(usage) => first.push((pod, usage, Instant::now())),
            Err(error) if is_silent(&error) => {
                tell!("{}: {}", pod.name, crate::error_chain(&error));
            }
            // One that is just starting or ending has nothing to show.
            Err(_) => {}
        }
    }
    tokio::time::sleep(WINDOW).await;
    let mut samples = Vec::new();
    for (pod, before, at) in first {
        if let Ok(after) = engine::usage(settings, &pod.uid).await {
            samples.push(Sample {
                pod,
                before,
                after,
                elapsed: at.elapsed(),
            });
        }
    }
    if samples.is_empty() {
        tell!("No running pods found.");
        return Ok(exit::OK);
    }
    let table = if args.containers {
        containers(&samples)
    } else if args.processes {
        processes(&samples)
    } else {
        summary(&samples)
    };
    for line in table.lines(0).iter().skip(usize::from(args.no_headers)) {
        say!("{line}");
    }
    Ok(exit::OK)
}

/// A pod that is there and does not say what it uses.
fn is_silent(error: &EngineError) -> bool {
    match error {
        EngineError::Client(ClientError::Fault(fault)) => fault.code == FaultCode::DeadlineExceeded,
        EngineError::Client(ClientError::Silent { .. } | ClientError::Stopped { .. }) => true,
        _ => false,
    }
}

fn summary(samples: &[Sample]) -> Table {
    let mut table = Table::new(&[
        "NAME",
        "CPU(cores)",
        "MEMORY(bytes)",
        "LIMIT",
        "HOST",
        "OVERHEAD",
    ]);
    for sample in samples {
        let name = sample.pod.name.clone();
        let cells = machine(&sample.before, &sample.after, sample.elapsed);
        table.row(std::iter::once(name).chain(cells).collect());
    }
    table
}

/// CPU and memory that a pod's containers use together, the memory that its machine
/// has, what of the host's it holds, and how much more that is.
fn machine(before: &Usage, after: &Usage, elapsed: Duration) -> [String; 5] {
    let (nanos, memory) = used(before, after);
    let host = after.host_bytes;
    [
        cpu(nanos, elapsed),
        memory.map_or_else(|| UNKNOWN.to_owned(), mebibytes),
        mebibytes(after.guest.memory_total),
        mebibytes(host),
        mebibytes(host.saturating_sub(memory.unwrap_or(0))),
    ]
}

/// What a pod's containers used between two looks, and have now: nothing is known of a container
/// that was not there for both, and of a pod whose first one has not been born.
fn used(before: &Usage, after: &Usage) -> (Option<u64>, Option<u64>) {
    let now = &after.guest.containers;
    let nanos = now.iter().filter_map(|now| {
        let mut then = before.guest.containers.iter();
        let then = then.find(|then| then.id == now.id)?;
        Some(now.cpu_nanos.saturating_sub(then.cpu_nanos))
    });
    let nanos = nanos.reduce(u64::saturating_add);
    let memory = now.iter().map(|one| one.working_set_bytes);
    (nanos, memory.reduce(u64::saturating_add))
}

fn containers(samples: &[Sample]) -> Table {
    let mut table = Table::new(&[
        "POD",
        "NAME",
        "CPU(cores)",
        "MEMORY(bytes)",
        "LIMIT",
        "HOST",
        "OVERHEAD",
        "PIDS",
        "WRITABLE",
        "READ",
        "WRITTEN",
        "RECEIVED",
        "SENT",
    ]);
    for sample in samples {
        for status in &sample.pod.status.containers {
            let find = |usage: &Usage| {
                let mut all = usage.guest.containers.iter();
                all.find(|one| Some(&one.id) == status.id.as_ref()).cloned()
            };
            let Some(after) = find(&sample.after) else {
                continue;
            };
            let before = find(&sample.before).map(|one| one.cpu_nanos);
            let nanos = before.map(|before| after.cpu_nanos.saturating_sub(before));
            let mut spec = sample.pod.spec.all_containers();
            let limit = spec
                .find(|one| one.name == status.name)
                .and_then(|one| one.resources.memory_limit);
            table.row(vec![
                sample.pod.name.clone(),
                status.name.clone(),
                cpu(nanos, sample.elapsed),
                mebibytes(after.working_set_bytes),
                limit.map_or_else(|| "<none>".to_owned(), mebibytes),
                NOTHING.to_owned(),
                NOTHING.to_owned(),
                after.pids.to_string(),
                mebibytes(after.writable_bytes),
                mebibytes(after.read_bytes),
                mebibytes(after.write_bytes),
                NOTHING.to_owned(),
                NOTHING.to_owned(),
            ]);
        }
        let names = [sample.pod.name.clone(), MACHINE.to_owned()];
        let cells = machine(&sample.before, &sample.after, sample.elapsed);
        let rest = std::iter::repeat_n(NOTHING.to_owned(), 4);
        let traffic = traffic(&sample.after);
        table.row(
            names
                .into_iter()
                .chain(cells)
                .chain(rest)
                .chain(traffic)
                .collect(),
        );
    }
    table
}

/// What has come in and gone out over the cards that a pod's containers share.
fn traffic(usage: &Usage) -> [String; 2] {
    let cards = &usage.guest.interfaces;
    let sum =
        |bytes: fn(&InterfaceStats) -> u64| cards.iter().map(bytes).fold(0, u64::saturating_add);
    [sum(|card| card.rx_bytes), sum(|card| card.tx_bytes)].map(kibibytes)
}

fn processes(samples: &[Sample]) -> Table {
    let mut table = Table::new(&["POD", "NAME", "PID", "COMMAND"]);
    for sample in samples {
        for status in &sample.pod.status.containers {
            let all = &sample.after.guest.containers;
            let found = all.iter().find(|one| Some(&one.id) == status.id.as_ref());
            for process in found.iter().flat_map(|one| &one.processes) {
                table.row(vec![
                    sample.pod.name.clone(),
                    status.name.clone(),
                    process.pid.to_string(),
                    link::one_line(&process.command),
                ]);
            }
        }
    }
    table
}

fn cpu(nanos: Option<u64>, elapsed: Duration) -> String {
    nanos.map_or_else(|| UNKNOWN.to_owned(), |nanos| millicores(nanos, elapsed))
}

/// As kubectl has it: thousandths of a CPU, rounded up.
fn millicores(nanos: u64, elapsed: Duration) -> String {
    let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).max(1);
    let milli = u128::from(nanos) * 1000;
    format!("{}m", milli.div_ceil(u128::from(elapsed)))
}

fn kibibytes(bytes: u64) -> String {
    format!("{}Ki", bytes.div_ceil(1 << 10))
}

fn mebibytes(bytes: u64) -> String {
    format!("{}Mi", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_are_rounded_up_as_kubectl_does() {
        assert_eq!(millicores(0, WINDOW), "0m");
        assert_eq!(millicores(1, WINDOW), "1m");
        assert_eq!(millicores(500_000_000, WINDOW), "1000m");
        assert_eq!(mebibytes(0), "0Mi");
        assert_eq!(mebibytes((1 << 20) + 1), "2Mi");
    }
    #[test]
    fn what_was_not_there_for_both_looks_is_unknown() {
        let usage = |containers: &[(&str, u64)]| {
            let one = |(id, cpu): &(&str, u64)| {
                json!({
                    "id": id, "cpu_nanos": cpu, "memory_bytes": 9, "working_set_bytes": 7,
                    "writable_bytes": 0, "read_bytes": 0, "write_bytes": 0, "pids": 1,
                    "processes": [],
                })
            };
            let containers: Vec<_> = containers.iter().map(one).collect();
            let guest = json!({
                "memory_total": 1, "memory_available": 1, "cpu_nanos": 1, "uptime_nanos": 1,
                "interfaces": [], "containers": containers,
            });
            let guest = serde_json::from_value(guest).unwrap();
            Usage {
                guest,
                host_bytes: 0,
            }
        };
        let [a, b] = [1, 2].map(|digit| format!("{digit:032x}"));
        let nothing = usage(&[]);
        let born = usage(&[(&a, 100)]);
        let both = usage(&[(&a, 150), (&b, 900)]);
        assert_eq!(used(&nothing, &nothing), (None, None));
        assert_eq!(used(&nothing, &born), (None, Some(7)));
        assert_eq!(used(&born, &both), (Some(50), Some(14)));
        assert_eq!(cpu(None, WINDOW), "<unknown>");
        let host = Usage {
            host_bytes: 3 << 20,
            ..both
        };
        assert_eq!(
            machine(&born, &host, WINDOW),
            ["1m", "1Mi", "1Mi", "3Mi", "3Mi"]
        );
    }
}
