//! Flags about what a pod from an image has around it: names, addresses, kernel parameters. Each
//! is a field of the manifest.

use crate::cli::CliError;
use crate::cli::error::UsageError;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The flags.
#[derive(Debug, clap::Args)]
#[group(id = "surroundings", conflicts_with = "files", multiple = true)]
pub struct Surroundings {
    /// Annotations of the pod
    #[arg(long, visible_alias = "annotations", value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Host name of the pod, instead of its name
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// A line of /etc/hosts
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// A name server, instead of Beluga's
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// A domain in which names are looked for
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// A kernel parameter of the pod
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
}

impl Surroundings {
    /// Writes them into a pod's metadata and spec.
    pub fn write(&self, metadata: &mut Value, spec: &mut Value) -> Result<(), CliError> {
        for (key, value) in pairs("--annotation", &self.annotation)? {
            metadata["annotations"][key] = json!(value);
        }
        if let Some(name) = &self.hostname {
            spec["hostname"] = json!(name);
        }
        let mut hosts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for text in &self.add_host {
            // An address of IPv6 has colons, a name has none.
            let (name, ip) = text
                .split_once(':')
                .ok_or_else(|| UsageError::flag("--add-host", text, "it is written NAME:IP"))?;
            hosts.entry(ip).or_default().push(name);
        }
        if !hosts.is_empty() {
            let aliases = hosts.iter();
            let aliases = aliases.map(|(ip, names)| json!({"ip": ip, "hostnames": names}));
            spec["hostAliases"] = aliases.collect();
        }
        if !self.dns.is_empty() {
            // With docker these are all; Kubernetes adds them to its own unless told so.
            spec["dnsPolicy"] = json!("None");
            spec["dnsConfig"]["nameservers"] = json!(self.dns);
        }
        if !self.dns_search.is_empty() {
            spec["dnsConfig"]["searches"] = json!(self.dns_search);
        }
        let sysctls = pairs("--sysctl", &self.sysctl)?;
        if !sysctls.is_empty() {
            let sysctls = sysctls.iter();
            let sysctls = sysctls.map(|(name, value)| json!({"name": name, "value": value}));
            spec["securityContext"]["sysctls"] = sysctls.collect();
        }
        Ok(())
    }
}

/// `KEY=VALUE` of many.
fn pairs<'t>(
    flag: &'static str,
    texts: &'t [String],
) -> Result<Vec<(&'t str, &'t str)>, UsageError> {
    let pairs = texts.iter().map(|text| {
        text.split_once('=')
            .ok_or_else(|| UsageError::flag(flag, text, "it is written KEY=VALUE"))
    });
    pairs.collect()
}

/// Labels, which one flag may have several of.
pub fn labels(texts: &[String]) -> Result<Map<String, Value>, UsageError> {
    let pairs = pairs("--labels", texts)?.into_iter();
    Ok(pairs
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect())
}
