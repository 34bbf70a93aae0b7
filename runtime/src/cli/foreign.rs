//! Words of kubectl, podman and docker that Beluga has no such word for, and what it has instead.

/// Verbs, and what to say here.
const VERBS: &[(&[&str], &str)] = &[
    (
        &["create", "replace"],
        "beluga apply -f FILE makes what a manifest says; beluga run IMAGE makes a pod of an image",
    ),
    (
        &["edit"],
        "beluga get pod NAME -o yaml > FILE, change it, then beluga apply -f FILE; or beluga patch",
    ),
    (
        &["scale", "autoscale", "rollout"],
        "change the manifest, spec.replicas or the template, and beluga apply -f FILE again; \
         beluga restart ends pods and runs them again",
    ),
    (
        &[
            "cluster-info",
            "info",
            "node",
            "nodes",
            "config",
            "context",
            "machine",
        ],
        "there is no cluster and no daemon: beluga doctor looks at this host, beluga version says \
         what is installed",
    ),
    (
        &["api-resources", "api-versions", "explain"],
        "docs/fields.md lists what manifests may say; beluga get pods, deployments, jobs, \
         configmaps, secrets, persistentvolumeclaims, networkpolicies, events",
    ),
    (
        &["event", "events"],
        "beluga get events, or beluga describe pod NAME with what happened to it",
    ),
    (
        &["kill"],
        "beluga stop -t 0 POD, or beluga delete pod NAME --force",
    ),
    (
        &["pause", "unpause"],
        "beluga stop POD and beluga start POD; a pod of the shim can be paused with ctr",
    ),
    (
        &["list", "ls", "container", "containers", "pod", "pods"],
        "beluga get pods, or beluga ps",
    ),
    (
        &["play", "kube", "compose", "up"],
        "beluga run -f FILE stays with the pods of a manifest, beluga apply -f FILE does not",
    ),
    (&["down"], "beluga delete -f FILE"),
    (
        &["volume", "volumes"],
        "beluga get pvc lists claims, beluga delete pvc NAME deletes one",
    ),
    (
        &["port", "expose", "proxy"],
        "beluga get pods -o wide shows addresses and ports, beluga port-forward POD PORT opens one",
    ),
    (&["diff"], "beluga apply --dry-run -f FILE shows the plan"),
    (&["system"], "beluga df, beluga prune and beluga gc"),
    (
        &["commit", "export", "import"],
        "beluga build makes an image of a directory, beluga cp copies out of a pod, and beluga \
         save and load move images",
    ),
    (
        &["rename"],
        "a pod keeps its name: delete it and run it under another",
    ),
    (
        &["search"],
        "registries are searched in their own pages; beluga pull NAME fetches",
    ),
    (
        &["cordon", "uncordon", "drain", "taint"],
        "this host is the only node: beluga stop --all ends its pods",
    ),
];

/// Flags of `podman run` and `docker run`, and what to say here.
const FLAGS: &[(&[&str], &str)] = &[
    (
        &["--publish-all", "-P", "--expose"],
        "the pod's IP has every port of it; -p PORT puts one at a port of this host",
    ),
    (
        &["--pids-limit"],
        "BELUGA_POD_PIDS_LIMIT is the number for each pod and each container",
    ),
    (
        &["--shm-size"],
        "/dev/shm has 64 MiB; --tmpfs /dev/shm:size=SIZE puts another in its place",
    ),
    (
        &["--init"],
        "a container's first process is its PID 1, as in Kubernetes; images bring tini where they \
         need one",
    ),
    (
        &["--gpus", "--device", "--device-cgroup-rule"],
        "a pod's machine has none of this host's devices",
    ),
    (
        &[
            "--pid",
            "--ipc",
            "--uts",
            "--userns",
            "--cgroupns",
            "--cgroup-parent",
        ],
        "a pod has a kernel of its own, and no namespace of this host's",
    ),
    (
        &["--security-opt"],
        "a manifest has securityContext.seccompProfile and allowPrivilegeEscalation: --dry-run \
         prints one to begin with",
    ),
    (
        &[
            "--cpu-shares",
            "--cpu-quota",
            "--cpu-period",
            "--cpuset-cpus",
        ],
        "--cpus is the limit; resources.requests.cpu of a manifest is the share",
    ),
    (
        &[
            "--memory-swap",
            "--memory-swappiness",
            "--memory-reservation",
            "--oom-kill-disable",
        ],
        "-m is the limit, and a pod's machine has no swap",
    ),
    (
        &[
            "--health-cmd",
            "--health-interval",
            "--health-retries",
            "--health-timeout",
            "--health-start-period",
            "--no-healthcheck",
        ],
        "a manifest has livenessProbe, readinessProbe and startupProbe: --dry-run prints one to \
         begin with",
    ),
    (
        &["--log-driver", "--log-opt"],
        "beluga logs reads them; BELUGA_LOGS has the sizes of files",
    ),
    (
        &["--ulimit"],
        "a container's limits are those of the pod's machine, which bounds it",
    ),
    (
        &["--ip", "--ip6", "--mac-address"],
        "a pod keeps the address that it is given: beluga get pods -o wide",
    ),
    (
        &["--link", "--network-alias"],
        "pods of a network find each other by their names",
    ),
    (
        &["--pod", "--volumes-from"],
        "containers of one pod stand in one manifest: --dry-run prints one to begin with",
    ),
    (
        &["--attach", "-a", "--sig-proxy", "--detach-keys"],
        "without -d the command stays with the pod, and Ctrl-C ends it; beluga attach joins it",
    ),
    (
        &["--cidfile", "--pidfile"],
        "a pod is found by its name: --name NAME",
    ),
    (
        &["--secret"],
        "beluga apply -f FILE keeps a Secret, and a manifest has it as a volume or in env",
    ),
    (
        &["--platform", "--arch", "--os"],
        "beluga pull --platform OS/ARCH IMAGE fetches it; run -d --pull=never IMAGE uses it",
    ),
    (
        &["--runtime", "--isolation"],
        "each pod runs in a machine of its own; there is no other way",
    ),
];

fn ours(known: &[(&[&str], &'static str)], word: &str) -> Option<&'static str> {
    let found = known.iter().find(|(words, _)| words.contains(&word));
    found.map(|(_, ours)| *ours)
}

/// What to say in place of a verb that there is not.
pub fn verb(word: &str) -> Option<&'static str> {
    ours(VERBS, word)
}

/// What to say in place of a flag of `run` that there is not; `shown` is how clap shows it, which
/// may have its value behind it.
pub fn flag_of_run(shown: &str) -> Option<&'static str> {
    let flag = shown.split([' ', '=']).next().unwrap_or(shown);
    ours(FLAGS, flag)
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn no_word_of_ours_is_foreign() {
        let command = Cli::command();
        let verbs = VERBS.iter().flat_map(|(words, _)| *words);
        for word in verbs {
            assert!(command.find_subcommand(word).is_none(), "{word}");
        }
        let run = command.find_subcommand("run").unwrap();
        for flag in FLAGS.iter().flat_map(|(words, _)| *words) {
            let mut arguments = run.get_arguments();
            let bare = flag.trim_start_matches('-');
            let is_ours = arguments.any(|argument| {
                let long = argument.get_long_and_visible_aliases().unwrap_or_default();
                let short = argument.get_short_and_visible_aliases().unwrap_or_default();
                long.contains(&bare) || short.iter().any(|short| *flag == format!("-{short}"))
            });
            assert!(!is_ours, "{flag}");
        }
    }
}
