//! Patterns that run unchanged: the manifests of `examples/`, as they are.

use beluga_tests::{Pod, Ran, SOON, eventually, run, shared};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// The manifest of an example.
fn example(name: &str) -> String {
    let path = directory().join(format!("{name}.yaml"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Asks a pod until its page is as `holds` says, and gives that page.
#[track_caller]
fn page(pod: &Pod<'_>, path: &str, holds: impl Fn(&str) -> bool) -> String {
    let url = format!("http://{}{path}", pod.ip());
    eventually(&format!("the page {path} of pod {}", pod.name()), || {
        let mut curl = Command::new("curl");
        let Ran { code, out, .. } = run(
            curl.args(["-sS", "-f", "--max-time", "10", &url]),
            Duration::from_secs(15),
        );
        (code == 0 && holds(&out)).then_some(out)
    })
}

/// Deletes what a manifest has made besides its pod.
fn forget(manifest: &str) {
    shared()
        .feed(["delete", "-f", "-"], manifest.as_bytes())
        .ok();
}

/// The manifests of `examples/`, without what their files end with.
fn examples() -> Vec<String> {
    let entries = std::fs::read_dir(directory()).expect("the examples");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let files = names.map(|name| name.to_string_lossy().into_owned());
    let manifests = files.filter(|file| file != "README.md");
    let stem = |file: String| file.strip_suffix(".yaml").map(str::to_owned);
    manifests
        .map(|file| stem(file).expect("only manifests"))
        .collect()
}

#[test]
fn every_example_has_a_story() {
    let stories = include_str!("patterns.rs");
    let readme = std::fs::read_to_string(directory().join("README.md")).expect("a table");
    let all = examples();
    assert!(all.len() >= 8, "{all:?}");
    for name in all {
        let (call, link) = (format!("example(\"{name}\")"), format!("({name}.yaml)"));
        assert!(stories.contains(&call), "no story runs {name}");
        assert!(readme.contains(&link), "README.md lacks {name}");
    }
}

#[test]
fn b36_a_sidecar_refreshes_what_nginx_serves() {
    let pod = shared().pod(&example("sidecar"));
    let first = page(&pod, "/", |page| page.starts_with("page "));
    page(&pod, "/", |page| page.starts_with("page ") && page != first);
    assert!(
        pod.logs("web").contains("GET / HTTP"),
        "the access log goes to /dev/stdout"
    );
}

#[test]
fn b37_an_ambassador_carries_localhost_to_another_pod() {
    let example = example("ambassador");
    let (redis, app) = example.split_once("---\n").expect("redis comes first");
    let redis = shared().pod(redis);
    let app = app.replace("host: 10.88.0.2", &format!("host: {}", redis.ip()));
    let pod = shared().pod(&app);
    eventually("a count of the other pod's redis", || {
        pod.logs("app").contains("visits: 3\n").then_some(())
    });
    let there = redis.sh("redis", "redis-cli get visits");
    assert!(there.parse::<u32>().expect("a count") >= 3, "{there}");
    forget(&app);
}

#[test]
fn b38_an_adapter_turns_what_redis_says_into_metrics() {
    let manifest = example("adapter");
    let pod = shared().pod(&manifest);
    let one = "redis_connected_clients 1\n";
    let metrics = page(&pod, ":9121/cgi-bin/metrics", |page| page.contains(one));
    assert!(metrics.lines().count() > 20, "{metrics}");
    assert!(metrics.lines().all(is_metric), "{metrics}");
    forget(&manifest);
}

/// Whether a line is a name of redis and a number.
fn is_metric(line: &str) -> bool {
    let value = line.split_once(' ').map(|(_, value)| value.parse::<f64>());
    line.starts_with("redis_") && matches!(value, Some(Ok(_)))
}

#[test]
fn b39_a_log_tailer_follows_a_file_that_is_rotated() {
    let pod = shared().pod(&example("log-tailer"));
    let logs = eventually("lines of a second file", || {
        let logs = pod.logs("tailer");
        logs.contains("request 24\n").then_some(logs)
    });
    // On standard error it tells when it goes over to another file.
    let lines = logs.lines().filter(|line| !line.starts_with("tail: "));
    for (line, number) in lines.zip(1..) {
        assert_eq!(line, format!("request {number}"), "none is lost: {logs}");
    }
    pod.sh("tailer", "test -s /logs/app.log.1");
}

#[test]
fn b40_a_backup_is_compressed_and_the_last_three_are_kept() {
    let manifest = example("backup");
    let pod = shared().pod(&manifest);
    pod.sh("redis", "redis-cli set greeting hello-from-redis");
    let backups = || pod.sh("backup", "ls | sort");
    let first = eventually("a backup", || backups().lines().next().map(str::to_owned));
    let kept = eventually("the fourth one", || {
        let kept = backups();
        (!kept.contains(&first) && kept.lines().count() == 3).then_some(kept)
    });
    assert!(kept.lines().all(|name| name.ends_with(".rdb.gz")), "{kept}");
    pod.sh(
        "backup",
        "zcat $(ls -r dump-* | head -1) | grep -q hello-from-redis",
    );
}

#[test]
fn b41_a_changed_config_map_makes_nginx_reload() {
    let manifest = example("config-reloader");
    let pod = shared().pod(&manifest);
    page(&pod, "/", |page| page == "first\n");
    let changed = shared().apply(&manifest.replace("first", "second"));
    changed.ok().says("configmap/config-reloader configured");
    page(&pod, "/", |page| page == "second\n");
    assert_eq!(pod.container("web")["restartCount"], 0);
    forget(&manifest);
    shared().types("get cm config-reloader").exits(1);
}

/// The visits that the page of the stack tells.
fn visits(pod: &Pod<'_>) -> u32 {
    let page = page(pod, "/visits", |page| page.starts_with("visits: "));
    let count = page.trim().strip_prefix("visits: ").map(str::parse);
    count.expect("a page").expect("a count")
}

#[test]
fn b42_web_app_and_database_are_one_pod() {
    let manifest = example("stack");
    shared()
        .feed(["apply", "-f", "-"], manifest.as_bytes())
        .ok();
    let pod = shared().here("stack");
    // An emulated processor makes a database cluster in a minute or more.
    let words = ["wait", "--for=condition=Ready", "pod/stack", "--timeout=9m"];
    run(&mut shared().command(words), SOON * 7).ok();
    let first = visits(&pod);
    assert!(visits(&pod) > first);
    let count = "psql -h localhost -U postgres -Atqc 'SELECT count(*) FROM visits'";
    let in_database: u32 = pod.sh("database", count).parse().expect("a count");
    assert!(in_database > first, "{in_database}");
    forget(&manifest);
}

#[test]
fn b43_a_loader_makes_ready_what_the_app_serves() {
    let manifest = example("data-loader");
    let pod = shared().pod(&manifest);
    let served = page(&pod, "/riga.json", |_| true);
    assert_eq!(served, "{\"city\":\"riga\",\"people\":605273}\n");
    assert_eq!(
        pod.field("/status/initContainerStatuses/0/state/terminated/exitCode"),
        "0"
    );
    forget(&manifest);
}
