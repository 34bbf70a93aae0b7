//! Who may use the host's files, or kernel parameters that are not safe: nobody,
//! until the operator says so.

use super::CliError;
use super::error::UsageError;
use crate::engine::{EngineError, PodView};
use crate::host::share::prefix;
use crate::host::{HostError, ordinary};
use crate::plan::{HostStep, Tenant, beyond_baseline, is_allowed};
use crate::settings::Settings;
use crate::spec::{
    Document, Issue, ManifestError, VolumeSource, forbidden_sysctl, is_allowed_sysctl,
    sysctl_pattern,
};
use std::path::PathBuf;

/// What verbs that start pods take.
#[derive(Debug, clap::Args)]
pub struct Allowed {
    /// Let hostPath volumes use what lies below PATH [also: BELUGA_ALLOW_HOST_PATH, a list with colons]
    #[arg(long = "allow-host-path", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Let pods set these kernel parameters, like 'kernel.msg*,net.core.somaxconn' [also: BELUGA_ALLOWED_UNSAFE_SYSCTLS]
    #[arg(
        long = "allowed-unsafe-sysctls",
        value_name = "PATTERN,…",
        value_delimiter = ','
    )]
    unsafe_sysctls: Vec<String>,
    /// Hold pods to a profile: 'tenant' has no files of the host, nothing privileged, traffic only
    /// where a NetworkPolicy allows it, and lets no command in [also: BELUGA_PROFILE]
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// With the profile tenant: let exec, cp, attach and debug in [also: BELUGA_PROFILE=tenant,exec]
    #[arg(long)]
    allow_exec: bool,
    /// Where networks of CNI are configured [default: /etc/cni/net.d, or BELUGA_CNI_CONF_DIR]
    #[arg(long, value_name = "DIR")]
    cni_conf_dir: Option<PathBuf>,
    /// Where CNI's plugins are [default: /opt/cni/bin, /usr/lib/cni, or BELUGA_CNI_BIN_DIR]
    #[arg(long, value_name = "DIR")]
    cni_bin_dir: Vec<PathBuf>,
}

/// What pods can be held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Profile {
    Tenant,
}

impl Allowed {
    /// The settings, with these paths beside those that they have.
    pub fn settings(&self, settings: &Settings) -> Result<Settings, CliError> {
        let mut settings = settings.clone();
        for path in &self.paths {
            let allowed = prefix(path).ok_or_else(|| {
                let path = path.display().to_string();
                UsageError::flag("--allow-host-path", &path, "must not contain '..'")
            })?;
            settings.host_paths.push(allowed);
        }
        for text in &self.unsafe_sysctls {
            let pattern = sysctl_pattern(text).map_err(|why| {
                let flag = "--allowed-unsafe-sysctls";
                UsageError::flag(flag, text, why)
            })?;
            settings.unsafe_sysctls.push(pattern);
        }
        if let Some(Profile::Tenant) = self.profile {
            settings.tenant = Some(Tenant::default());
        }
        match &mut settings.tenant {
            Some(tenant) => tenant.exec |= self.allow_exec,
            None if self.allow_exec => {
                return Err(UsageError::ExecOfNobody.into());
            }
            None => {}
        }
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        if let Some(path) = &self.cni_conf_dir {
            settings.cni.configs = absolute(path);
        }
        if !self.cni_bin_dir.is_empty() {
            settings.cni.plugins = self.cni_bin_dir.iter().map(absolute).collect();
        }
        Ok(settings)
    }
}

/// Refuses what nobody has allowed, with its place in the manifest, and what an ordinary
/// user's pods cannot have.
pub fn admit<'d>(
    settings: &Settings,
    documents: impl IntoIterator<Item = &'d Document>,
) -> Result<(), CliError> {
    for document in documents {
        if settings.is_ordinary {
            let admitted = ordinary::admit(settings, &document.spec);
            admitted.map_err(|error| EngineError::from(HostError::from(error)))?;
        }
        let places = document.volume_places.iter();
        let volumes = document.spec.volumes.iter().zip(places);
        let mut issues: Vec<Issue> = volumes
            .filter_map(|(volume, (at, path_of))| match &volume.source {
                VolumeSource::HostPath { path, .. }
                    if settings.tenant.is_none() && !is_allowed(path, &settings.host_paths) =>
                {
                    Some(Issue {
                        at: *at,
                        path: format!("{path_of}.hostPath"),
                        message: format!(
                            "forbidden by policy: {path} is below no path that pods may use"
                        ),
                        hint: Some(format!(
                            "allow it with --allow-host-path {path}, or in BELUGA_ALLOW_HOST_PATH"
                        )),
                    })
                }
                _ => None,
            })
            .collect();
        issues.extend(forbidden_sysctls(settings, document));
        if settings.tenant.is_some() {
            issues.extend(beyond_tenants(document));
        }
        issues.sort();
        if !issues.is_empty() {
            let source_name = document.source_name.clone();
            return Err(ManifestError {
                source_name,
                issues,
            }
            .into());
        }
    }
    Ok(())
}

/// What the profile tenant does not have, with its place.
fn beyond_tenants(document: &Document) -> impl Iterator<Item = Issue> {
    let volumes = document.spec.volumes.iter().zip(&document.volume_places);
    let of_host = volumes.filter(|(one, _)| matches!(one.source, VolumeSource::HostPath { .. }));
    let of_host =
        of_host.map(|(_, (at, path))| (*at, format!("{path}.hostPath"), "files of the host"));
    let beyond = beyond_baseline(&document.spec);
    let beyond = beyond.into_iter().map(|one| {
        let (at, path) = document.nearest(&one.path);
        (at, path, one.what)
    });
    of_host.chain(beyond).map(|(at, path, what)| Issue {
        at,
        path,
        message: format!("forbidden by policy: the profile tenant has no {what}"),
        hint: None,
    })
}

fn forbidden_sysctls(settings: &Settings, document: &Document) -> Vec<Issue> {
    let names = document.spec.sysctls.keys();
    let forbidden = names.filter(|name| !is_allowed_sysctl(name, &settings.unsafe_sysctls));
    let issues = forbidden.filter_map(|name| {
        let (at, path) = document.sysctl_places.get(name)?;
        Some(Issue {
            at: *at,
            path: path.clone(),
            message: forbidden_sysctl(name),
            hint: Some(format!(
                "allow it with --allowed-unsafe-sysctls {name}, or in BELUGA_ALLOWED_UNSAFE_SYSCTLS"
            )),
        })
    });
    issues.collect()
}

/// What a pod was allowed when it was started, it is allowed when it is started
/// again.
pub fn as_before(settings: &Settings, pod: &PodView) -> Settings {
    let mut settings = settings.clone();
    let steps = pod.plan.iter().flat_map(|plan| &plan.host);
    // A claim's directory is nobody's to allow.
    let is_claim = |name: &str| {
        let mut volumes = pod.spec.volumes.iter();
        volumes.any(|one| one.name == name && matches!(one.source, VolumeSource::Claim { .. }))
    };
    for step in steps {
        if let HostStep::Share(share) = step
            && !is_claim(&share.volume)
        {
            settings.host_paths.extend(share.allowed.iter().cloned());
        }
    }
    if let Some(plan) = &pod.plan {
        settings
            .unsafe_sysctls
            .extend(plan.guest.sysctls.keys().cloned());
        settings.memory_throttling = settings.memory_throttling.or(plan.memory_throttling);
        settings.tenant = plan.tenant;
        settings.pod_pids_limit = settings.pod_pids_limit.or(plan.guest.cgroup.pids_max);
    }
    let carried = pod.plan.iter().flat_map(|plan| &plan.identity.carried);
    if let Some(carried) = carried.last() {
        settings.cni = carried.cni.clone();
    }
    settings.host_paths.sort();
    settings.host_paths.dedup();
    settings
}
