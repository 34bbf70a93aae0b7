//! What resolv.conf of a pod shall say: `dnsPolicy` and `dnsConfig`.

use super::check::Check;
use super::names;
use super::pod::some;
use super::types::Dns;
use k8s_openapi::api::core::v1 as core;
use std::net::IpAddr;

/// Checks both and puts them together.
pub fn convert(spec: &core::PodSpec, check: &mut Check<'_>) -> Dns {
    let (from_host, cluster) = check.choice(
        "spec.dnsPolicy",
        spec.dns_policy.as_deref(),
        &[
            ("ClusterFirst", (true, true)),
            ("ClusterFirstWithHostNet", (true, true)),
            ("Default", (true, false)),
            ("None", (false, false)),
        ],
    );
    let mut out = Dns {
        from_host,
        cluster,
        ..Dns::default()
    };
    if let Some(config) = &spec.dns_config {
        read(config, check, &mut out);
    }
    if out.nameservers.len() > 3 {
        check.wrong(
            "spec.dnsConfig.nameservers",
            "more than the 3 that a resolver reads",
        );
    }
    if out.searches.len() > 32 {
        check.wrong("spec.dnsConfig.searches", "more than 32");
    }
    if out.searches.join(" ").len() > 2048 {
        check.wrong("spec.dnsConfig.searches", "more than 2048 characters");
    }
    let given = spec.dns_config.as_ref().map(|config| &config.nameservers);
    if !from_host && !given.is_some_and(some) {
        check.wrong(
            "spec.dnsConfig.nameservers",
            "required: at least one, with the dnsPolicy None",
        );
    }
    out
}

/// Reads `dnsConfig`.
fn read(config: &core::PodDNSConfig, check: &mut Check<'_>, out: &mut Dns) {
    let core::PodDNSConfig {
        nameservers,
        options,
        searches,
    } = config;
    for (at, server) in nameservers.iter().flatten().enumerate() {
        let path = format!("spec.dnsConfig.nameservers[{at}]");
        out.nameservers.extend(address(&path, server, check));
    }
    out.searches = searches.clone().unwrap_or_default();
    for (at, search) in out.searches.iter().enumerate() {
        let path = format!("spec.dnsConfig.searches[{at}]");
        check.shape(&path, search, names::search_domain);
    }
    for (at, option) in options.iter().flatten().enumerate() {
        let core::PodDNSConfigOption { name, value } = option;
        let name = name.as_deref().unwrap_or_default();
        let line = match value.as_deref() {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name.to_owned(),
        };
        let path = format!("spec.dnsConfig.options[{at}].name");
        if name.is_empty() {
            check.wrong(&path, "required");
            continue;
        }
        check.shape(&path, &line, |line| {
            // A line break would write other lines of resolv.conf.
            let one_word = line.bytes().all(|byte| byte.is_ascii_graphic());
            one_word.then_some(()).ok_or("must be one word")
        });
        out.options.push(line);
    }
}

/// The address that a field holds; told where it is none.
pub fn address(path: &str, text: &str, check: &mut Check<'_>) -> Option<IpAddr> {
    let ip = text.parse().ok();
    if ip.is_none() {
        let shown: String = text.chars().take(60).collect();
        check.wrong(path, format!("{shown:?} is not an IP address"));
    }
    ip
}
