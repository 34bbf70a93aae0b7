//! Who may use the host's files: nobody, until the operator says so.

use super::CliError;
use crate::engine::PodView;
use crate::host::share::prefix;
use crate::plan::{HostStep, is_allowed};
use crate::settings::Settings;
use crate::spec::{Document, Issue, ManifestError, VolumeSource};
use std::path::PathBuf;

/// What verbs that start pods take.
#[derive(Debug, clap::Args)]
pub struct Allowed {
    /// Let hostPath volumes use what lies below PATH [also: BELUGA_ALLOW_HOST_PATH, a list with colons]
    #[arg(long = "allow-host-path", value_name = "PATH")]
    paths: Vec<PathBuf>,
}

impl Allowed {
    /// The settings, with these paths beside those that they have.
    pub fn settings(&self, settings: &Settings) -> Result<Settings, CliError> {
        let mut settings = settings.clone();
        for path in &self.paths {
            let allowed = prefix(path).ok_or_else(|| CliError::Usage {
                message: format!(
                    "--allow-host-path {}: must not contain '..'",
                    path.display()
                ),
            })?;
            settings.host_paths.push(allowed);
        }
        Ok(settings)
    }
}

/// Refuses what nobody has allowed, with its place in the manifest.
pub fn admit<'d>(
    settings: &Settings,
    documents: impl IntoIterator<Item = &'d Document>,
) -> Result<(), CliError> {
    for document in documents {
        let places = document.volume_places.iter();
        let volumes = document.spec.volumes.iter().zip(places);
        let issues: Vec<Issue> = volumes
            .filter_map(|(volume, (at, path_of))| match &volume.source {
                VolumeSource::HostPath { path, .. } if !is_allowed(path, &settings.host_paths) => {
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

/// What a pod was allowed when it was started, it is allowed when it is started
/// again.
pub fn as_before(settings: &Settings, pod: &PodView) -> Settings {
    let mut settings = settings.clone();
    let steps = pod.plan.iter().flat_map(|plan| &plan.host);
    for step in steps {
        if let HostStep::Share(share) = step {
            settings.host_paths.extend(share.allowed.iter().cloned());
        }
    }
    settings.host_paths.sort();
    settings.host_paths.dedup();
    settings
}
