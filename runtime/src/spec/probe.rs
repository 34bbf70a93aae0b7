//! Probes and hooks of a container.

use super::check::Check;
use super::names;
use super::types::{Hooks, Probe, Probes};
use super::yaml::join;
use beluga_proto::probe::Handler;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::net::{IpAddr, Ipv4Addr};

/// What probes and hooks refer to.
pub struct Owner<'a> {
    /// Whose they are.
    pub container: &'a core::Container,
    /// An init container that the others wait for to end.
    pub ends: bool,
    /// Seconds from the pod's stop signal to SIGKILL.
    pub grace_seconds: u32,
}

/// Reads the probes of a container.
pub fn probes(path: &str, owner: &Owner<'_>, check: &mut Check<'_>) -> Probes {
    let container = owner.container;
    let mut one = |field: &str, probe: &Option<core::Probe>| {
        let path = join(path, field);
        let probe = probe.as_ref()?;
        not_of_one_that_ends(&path, owner, check);
        self::probe(&path, field, probe, owner, check)
    };
    Probes {
        startup: one("startupProbe", &container.startup_probe),
        readiness: one("readinessProbe", &container.readiness_probe),
        liveness: one("livenessProbe", &container.liveness_probe),
    }
}

/// Reads the hooks of a container.
pub fn hooks(path: &str, owner: &Owner<'_>, check: &mut Check<'_>) -> Hooks {
    let Some(lifecycle) = &owner.container.lifecycle else {
        return Hooks::default();
    };
    let core::Lifecycle {
        post_start,
        pre_stop,
        stop_signal: _,
    } = lifecycle;
    let path = join(path, "lifecycle");
    not_of_one_that_ends(&path, owner, check);
    let mut one = |field: &str, hook: &Option<core::LifecycleHandler>| {
        self::hook(&join(&path, field), hook.as_ref()?, owner, check)
    };
    Hooks {
        post_start: one("postStart", post_start),
        pre_stop: one("preStop", pre_stop),
    }
}

fn not_of_one_that_ends(path: &str, owner: &Owner<'_>, check: &mut Check<'_>) {
    if owner.ends {
        check.wrong(
            path,
            "may not be set for init containers without restartPolicy=Always",
        );
    }
}

fn probe(
    path: &str,
    field: &str,
    probe: &core::Probe,
    owner: &Owner<'_>,
    check: &mut Check<'_>,
) -> Option<Probe> {
    let core::Probe {
        exec,
        failure_threshold,
        grpc,
        http_get,
        initial_delay_seconds,
        period_seconds,
        success_threshold,
        tcp_socket,
        termination_grace_period_seconds,
        timeout_seconds,
    } = probe;
    let mut number = |name: &str, value: &Option<i32>, default: u32| {
        let path = join(path, name);
        let value = i64::from(value.unwrap_or_default());
        match check.number(&path, value, "a number from 0 to 2147483647") {
            Some(0) | None => default,
            Some(number) => number,
        }
    };
    let initial_delay_seconds = number("initialDelaySeconds", initial_delay_seconds, 0);
    let period_seconds = number("periodSeconds", period_seconds, 10);
    let timeout_seconds = number("timeoutSeconds", timeout_seconds, 1);
    let success_threshold = number("successThreshold", success_threshold, 1);
    let failure_threshold = number("failureThreshold", failure_threshold, 3);
    if success_threshold != 1 && field != "readinessProbe" {
        check.wrong(&join(path, "successThreshold"), "must be 1 for this probe");
    }
    let grace = *termination_grace_period_seconds;
    let grace_seconds = grace.and_then(|seconds| own_grace(path, field, seconds, check));
    let found = [
        ("exec", exec.is_some()),
        ("httpGet", http_get.is_some()),
        ("tcpSocket", tcp_socket.is_some()),
        ("grpc", grpc.is_some()),
    ];
    only_one(path, &found, check)?;
    let (handler, target) = if let Some(exec) = exec {
        self::exec(path, exec, check)?
    } else if let Some(get) = http_get {
        self::http(&join(path, "httpGet"), get, owner, check)?
    } else if let Some(tcp) = tcp_socket {
        self::tcp(&join(path, "tcpSocket"), tcp, owner, check)?
    } else {
        self::grpc(&join(path, "grpc"), grpc.as_ref()?, check)?
    };
    Some(Probe {
        handler,
        target,
        initial_delay_seconds,
        period_seconds,
        timeout_seconds,
        success_threshold,
        failure_threshold,
        grace_seconds,
    })
}

/// Seconds that a container has to end when this probe has failed.
fn own_grace(path: &str, field: &str, seconds: i64, check: &mut Check<'_>) -> Option<u32> {
    let path = join(path, "terminationGracePeriodSeconds");
    if field == "readinessProbe" {
        check.wrong(&path, "must not be set for readinessProbes");
    } else if seconds < 1 {
        check.wrong(&path, "must be greater than 0");
    }
    u32::try_from(seconds).ok()
}

fn hook(
    path: &str,
    hook: &core::LifecycleHandler,
    owner: &Owner<'_>,
    check: &mut Check<'_>,
) -> Option<Handler> {
    let core::LifecycleHandler {
        exec,
        http_get,
        sleep,
        tcp_socket,
    } = hook;
    if tcp_socket.is_some() {
        check.wrong(
            &join(path, "tcpSocket"),
            "refused: no Kubernetes has ever run such a hook",
        );
    }
    let found = [
        ("exec", exec.is_some()),
        ("httpGet", http_get.is_some()),
        ("sleep", sleep.is_some()),
        ("tcpSocket", tcp_socket.is_some()),
    ];
    only_one(path, &found, check)?;
    if let Some(exec) = exec {
        return Some(self::exec(path, exec, check)?.0);
    }
    if let Some(get) = http_get {
        return Some(self::http(&join(path, "httpGet"), get, owner, check)?.0);
    }
    let core::SleepAction { seconds } = sleep.as_ref()?;
    let grace = owner.grace_seconds;
    if !(0..=i64::from(grace)).contains(seconds) {
        check.wrong(
            &format!("{path}.sleep.seconds"),
            format!("{seconds} is not from 0 to the terminationGracePeriodSeconds ({grace})"),
        );
    }
    let seconds = u32::try_from(*seconds).ok()?;
    Some(Handler::Sleep { seconds })
}

fn only_one(path: &str, found: &[(&str, bool)], check: &mut Check<'_>) -> Option<()> {
    let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
    match found.iter().filter(|(_, is_there)| *is_there).count() {
        0 => check.wrong(path, format!("required: one of {}", names.join(", "))),
        1 => return Some(()),
        _ => check.wrong(path, format!("only one of {} may be set", names.join(", "))),
    }
    None
}

fn exec(path: &str, exec: &core::ExecAction, check: &mut Check<'_>) -> Option<(Handler, String)> {
    let core::ExecAction { command } = exec;
    let path = join(path, "exec");
    let command = command.clone().unwrap_or_default();
    if command.first().is_none_or(String::is_empty) {
        check.wrong(&join(&path, "command"), "required: the program to run");
        return None;
    }
    for (at, word) in command.iter().enumerate() {
        if word.contains('\0') {
            check.wrong(&format!("{path}.command[{at}]"), "contains a NUL character");
        }
    }
    let target = format!("exec [{}]", command.join(" "));
    Some((Handler::Exec { command }, target))
}

fn http(
    path: &str,
    get: &core::HTTPGetAction,
    owner: &Owner<'_>,
    check: &mut Check<'_>,
) -> Option<(Handler, String)> {
    let core::HTTPGetAction {
        host,
        http_headers,
        path: page,
        port,
        scheme,
    } = get;
    let schemes = [("HTTP", false), ("HTTPS", true)];
    let is_tls = check.choice(&join(path, "scheme"), scheme.as_deref(), &schemes);
    let shown_host = host.as_deref().unwrap_or_default();
    let host = self::host(&join(path, "host"), host.as_deref(), check);
    let page = page.as_deref().filter(|page| !page.is_empty());
    let page = page.unwrap_or("/");
    let slash = if page.starts_with('/') { "" } else { "/" };
    let url = if is_tls { "https" } else { "http" };
    let target = format!("http-get {url}://{shown_host}:{}{slash}{page}", shown(port));
    let headers = headers(path, http_headers.as_deref().unwrap_or_default(), check);
    needs_port(path, check)?;
    let port = self::port(&join(path, "port"), port, owner, check)?;
    // What stands behind `#` is for the asker alone.
    let page = page.split('#').next().unwrap_or_default();
    let path = escaped(&format!("{slash}{page}"));
    let handler = Handler::Http {
        host,
        port,
        path,
        headers,
        tls: is_tls,
    };
    Some((handler, target))
}

/// As a URL has it: what is no visible ASCII is escaped.
fn escaped(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'!'..=b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn headers(path: &str, list: &[core::HTTPHeader], check: &mut Check<'_>) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (at, header) in list.iter().enumerate() {
        let core::HTTPHeader { name, value } = header;
        let path = format!("{path}.httpHeaders[{at}]");
        let is_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        check.shape(&join(&path, "name"), name, |name| {
            let fits = name.chars().all(is_name);
            fits.then_some(()).ok_or("is no name of an HTTP header")
        });
        if value.chars().any(|c| c.is_control() && c != '\t') {
            // A line break would write other headers.
            check.wrong(&join(&path, "value"), "contains a control character");
        }
        out.push((name.clone(), value.clone()));
    }
    out
}

fn tcp(
    path: &str,
    tcp: &core::TCPSocketAction,
    owner: &Owner<'_>,
    check: &mut Check<'_>,
) -> Option<(Handler, String)> {
    let core::TCPSocketAction { host, port } = tcp;
    let target = format!(
        "tcp-socket {}:{}",
        host.as_deref().unwrap_or_default(),
        shown(port)
    );
    let host = self::host(&join(path, "host"), host.as_deref(), check);
    needs_port(path, check)?;
    let port = self::port(&join(path, "port"), port, owner, check)?;
    Some((Handler::Tcp { host, port }, target))
}

fn grpc(path: &str, grpc: &core::GRPCAction, check: &mut Check<'_>) -> Option<(Handler, String)> {
    let core::GRPCAction { port, service } = grpc;
    let service = service.clone().unwrap_or_default();
    needs_port(path, check)?;
    let port = number(&join(path, "port"), i64::from(*port), check)?;
    let target = format!("grpc <pod>:{port} {service}");
    Some((Handler::Grpc { port, service }, target))
}

fn host(path: &str, host: Option<&str>, check: &mut Check<'_>) -> Option<IpAddr> {
    let host = host.filter(|host| !host.is_empty())?;
    if host == "localhost" {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let address = host.parse().ok();
    if address.is_none() {
        let shown: String = host.chars().take(60).collect();
        check.wrong(path, format!("{shown:?} is not an IP address or localhost"));
    }
    address
}

fn shown(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

/// The type has a number where the manifest has none: 0, which nobody has written.
fn needs_port(path: &str, check: &mut Check<'_>) -> Option<()> {
    let path = join(path, "port");
    if check.is_written(&path) {
        return Some(());
    }
    check.wrong(&path, "required: the port to connect to");
    None
}

fn number(path: &str, port: i64, check: &mut Check<'_>) -> Option<u16> {
    let found = u16::try_from(port).ok().filter(|port| *port > 0);
    if found.is_none() {
        check.wrong(path, format!("{port} is not a port from 1 to 65535"));
    }
    found
}

/// A number, or the name of one of the container's ports.
fn port(path: &str, port: &IntOrString, owner: &Owner<'_>, check: &mut Check<'_>) -> Option<u16> {
    let name = match port {
        IntOrString::Int(port) => return number(path, i64::from(*port), check),
        IntOrString::String(name) => name,
    };
    // As the kubelet does with a number that was written as a text.
    if let Ok(port) = name.parse::<i64>() {
        return number(path, port, check);
    }
    check.shape(path, name, names::port_name);
    let ports = owner.container.ports.iter().flatten();
    let mut named = ports.filter(|port| port.name.as_ref() == Some(name));
    match named.next() {
        Some(port) => u16::try_from(port.container_port).ok(),
        None => {
            let shown: String = name.chars().take(60).collect();
            check.wrong(
                path,
                format!("{shown:?} is not the name of a port of the container"),
            );
            None
        }
    }
}
