//! Containers: what is asked for becomes the engine's, and how they are becomes the
//! interface's.

use crate::error::{CallError, missing};
use crate::pods::{self, ContainerNote, Found, container_id, nanos};
use crate::sandbox::{groups, limits};
use beluga_proto::container::CoveredPaths;
use beluga_runtime::engine::sandbox::{HostMount, NewContainer};
use beluga_runtime::engine::{self, Images, PodView};
use beluga_runtime::plan::{ImageFacts, image_facts};
use beluga_runtime::pod::{now, random_bytes};
use beluga_runtime::settings::Settings;
use beluga_runtime::spec::{
    Container, ContainerSecurity, EnvValue, Guest, Resources, RunAs, SeccompChoice,
};
use beluga_runtime::store::status::{ContainerState, ContainerStatus};
use k8s_cri::v1 as cri;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// Where files lie that are masked and write-protected in any case: that is the
/// agent's business, which has the same list as runc.
const MASKED: [&str; 2] = ["/proc/", "/sys/"];

/// The container that a request asks for, to be put into that pod, and what keeps its
/// image until it is there.
pub fn new(
    settings: &Settings,
    pod: &PodView,
    config: cri::ContainerConfig,
) -> Result<(NewContainer, Images), CallError> {
    let random: [u8; 16] = random_bytes();
    let name = format!("{:032x}", u128::from_le_bytes(random));
    refuse(&config)?;
    let linux = config.linux.clone().unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    let image = config.image.as_ref().map(|image| image.image.clone());
    let image = image.filter(|name| !name.is_empty());
    let image = image.ok_or_else(|| missing("image"))?;
    let (mut facts, held) = find_image(settings, &image)?;
    run_as(&security, &mut facts)?;
    let guest = Guest {
        log: log(pod, &config),
        groups: groups(&security.supplemental_groups)?,
        note: note(&config),
        ..Guest::default()
    };
    let words = |words: &[String]| words.iter().map(|word| literally(word)).collect();
    let target = security.namespace_options.as_ref();
    let target = target.filter(|one| one.pid() == cri::NamespaceMode::Target);
    let container = Container {
        command: words(&config.command),
        args: words(&config.args),
        working_dir: Some(config.working_dir).filter(|path| !path.is_empty()),
        env: config
            .envs
            .into_iter()
            .map(|one| (one.key, EnvValue::Text(literally(&one.value))))
            .collect(),
        resources: linux
            .resources
            .as_ref()
            .map_or_else(Resources::default, limits),
        target: target.map(|one| sibling(pod, &one.target_id)).transpose()?,
        security: rights(&security)?,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        ..Container::of_sandbox(name, image, guest)
    };
    let new = NewContainer {
        container,
        image: facts,
        mounts: config.mounts.iter().map(mount).collect::<Result<_, _>>()?,
    };
    Ok((new, held))
}

/// What a pod in a machine of its own does not have.
fn refuse(config: &cri::ContainerConfig) -> Result<(), CallError> {
    let security = config
        .linux
        .iter()
        .flat_map(|linux| &linux.security_context);
    let apparmor = security.clone().filter_map(|one| one.apparmor.as_ref());
    let localhost = cri::security_profile::ProfileType::Localhost;
    let has_profile = apparmor
        .into_iter()
        .any(|one| one.profile_type() == localhost);
    let machine = "the devices of the host are not in the pod's machine";
    let refused = [
        (!config.devices.is_empty(), "devices", machine),
        (!config.cdi_devices.is_empty(), "CDI_devices", machine),
        (
            has_profile,
            "apparmor",
            "the kernel of the pod's machine has no AppArmor",
        ),
    ];
    match refused.into_iter().find(|(is_asked, _, _)| *is_asked) {
        Some((_, field, why)) => Err(CallError::Refused { field, why }),
        None => Ok(()),
    }
}

/// Words of a request are meant as they are: the kubelet has put variables into
/// them, and nothing else is to be.
fn literally(word: &str) -> String {
    word.replace('$', "$$")
}

fn note(config: &cri::ContainerConfig) -> String {
    let note = ContainerNote {
        config: config.clone(),
        created: nanos(now().unix),
    };
    serde_json::to_string(&note).unwrap_or_default()
}

/// Where the kubelet looks for the log.
fn log(pod: &PodView, config: &cri::ContainerConfig) -> Option<std::path::PathBuf> {
    let directory = pods::note(pod).config.log_directory;
    let is_given = !directory.is_empty() && !config.log_path.is_empty();
    is_given.then(|| Path::new(&directory).join(&config.log_path))
}

fn find_image(settings: &Settings, name: &str) -> Result<(ImageFacts, Images), CallError> {
    let mut images = engine::hold_images(settings)?;
    let found = images.find(name)?.ok_or_else(|| CallError::Absent {
        what: "image",
        name: name.to_owned(),
    })?;
    Ok((image_facts(&found), images))
}

/// A name in place of the image's user is told like the image's own.
fn run_as(
    security: &cri::LinuxContainerSecurityContext,
    image: &mut ImageFacts,
) -> Result<(), CallError> {
    let name = &security.run_as_username;
    if security.run_as_group.is_some() && security.run_as_user.is_none() && name.is_empty() {
        return Err(CallError::Invalid {
            field: "run_as_group",
            why: "runAsGroup is specified without runAsUser".to_owned(),
        });
    }
    if !name.is_empty() {
        image.user.clone_from(name);
    }
    Ok(())
}

fn rights(security: &cri::LinuxContainerSecurityContext) -> Result<ContainerSecurity, CallError> {
    let number = |value: &Option<cri::Int64Value>, field| {
        let value = value.as_ref().map(|one| one.value);
        let number = value.map(|value| {
            u32::try_from(value).map_err(|_| CallError::Invalid {
                field,
                why: format!("{value} is no identifier"),
            })
        });
        number.transpose()
    };
    let capabilities = security.capabilities.clone().unwrap_or_default();
    if !capabilities.add_ambient_capabilities.is_empty() {
        return Err(CallError::Refused {
            field: "add_ambient_capabilities",
            why: "ambient capabilities are those that containers get, and no others",
        });
    }
    let names = |names: &[String]| -> BTreeSet<String> {
        let upper = names.iter().map(|name| name.to_ascii_uppercase());
        upper
            .map(|name| name.strip_prefix("CAP_").unwrap_or(&name).to_owned())
            .collect()
    };
    Ok(ContainerSecurity {
        privileged: security.privileged,
        run_as: RunAs {
            user: number(&security.run_as_user, "run_as_user")?,
            group: number(&security.run_as_group, "run_as_group")?,
            non_root: false,
        },
        add_capabilities: names(&capabilities.add_capabilities),
        drop_capabilities: names(&capabilities.drop_capabilities),
        read_only_root: security.readonly_rootfs,
        allow_privilege_escalation: !security.no_new_privs,
        unmasked_proc: false,
        covered: CoveredPaths {
            hidden: elsewhere(&security.masked_paths),
            protected: elsewhere(&security.readonly_paths),
        },
        seccomp: Some(seccomp(security.seccomp.as_ref())?),
    })
}

/// Paths that are not covered in any case.
fn elsewhere(paths: &[String]) -> Vec<String> {
    let is_covered = |path: &String| MASKED.iter().any(|below| path.starts_with(below));
    let others = paths.iter().filter(|path| !is_covered(path));
    others.cloned().collect()
}

fn seccomp(profile: Option<&cri::SecurityProfile>) -> Result<SeccompChoice, CallError> {
    use cri::security_profile::ProfileType;
    // So the interface has it: the kubelet says what it wants.
    let Some(profile) = profile else {
        return Ok(SeccompChoice::Unconfined);
    };
    Ok(match profile.profile_type() {
        ProfileType::RuntimeDefault => SeccompChoice::RuntimeDefault,
        ProfileType::Unconfined => SeccompChoice::Unconfined,
        ProfileType::Localhost => {
            // Clients of old wrote it as in an annotation.
            let path = &profile.localhost_ref;
            let path = path.strip_prefix("localhost/").unwrap_or(path);
            SeccompChoice::Localhost(absolute(path, "seccomp.localhost_ref")?)
        }
    })
}

fn absolute(path: &str, field: &'static str) -> Result<String, CallError> {
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    Err(CallError::Invalid {
        field,
        why: format!("{path:?} is no absolute path"),
    })
}

/// The name in the pod of another container of it.
fn sibling(pod: &PodView, id: &str) -> Result<String, CallError> {
    let mut all = pods::containers(pod);
    let found = all.find(|(one, _, _)| container_id(&pod.uid, &one.name) == id);
    let found = found.map(|(one, _, _)| one.name.clone());
    found.ok_or_else(|| CallError::Absent {
        what: "target container",
        name: id.to_owned(),
    })
}

fn mount(mount: &cri::Mount) -> Result<HostMount, CallError> {
    let refuse = |field, why| Err(CallError::Refused { field, why });
    if mount
        .image
        .as_ref()
        .is_some_and(|one| !one.image.is_empty())
    {
        return refuse("mounts.image", "an image is not mounted into a sandbox yet");
    }
    let propagation = mount.propagation();
    if propagation == cri::MountPropagation::PropagationBidirectional {
        let why = "what is mounted in the pod's machine does not reach the host";
        return refuse("mounts.propagation", why);
    }
    let follows_host = propagation == cri::MountPropagation::PropagationHostToContainer;
    if mount.recursive_read_only && (!mount.readonly || follows_host) {
        return Err(CallError::Invalid {
            field: "mounts.recursive_read_only",
            why: "only with readonly and private propagation".to_owned(),
        });
    }
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return refuse("mounts.uidMappings", "files keep their owners");
    }
    Ok(HostMount {
        source: absolute(&mount.host_path, "mounts.host_path")?.into(),
        destination: absolute(&mount.container_path, "mounts.container_path")?,
        read_only: mount.readonly,
        recursive: mount.recursive_read_only,
        follows_host,
    })
}

/// What it does.
pub fn state(status: &ContainerStatus) -> cri::ContainerState {
    match status.state {
        ContainerState::Waiting { .. } => cri::ContainerState::ContainerCreated,
        ContainerState::Running { .. } => cri::ContainerState::ContainerRunning,
        ContainerState::Terminated(_) => cri::ContainerState::ContainerExited,
    }
}

/// The containers of a pod, as in a list.
pub fn items(pod: &PodView) -> Vec<cri::Container> {
    pods::containers(pod)
        .map(|(spec, note, status)| cri::Container {
            id: container_id(&pod.uid, &spec.name),
            pod_sandbox_id: pod.uid.to_string(),
            metadata: note.config.metadata,
            image: note.config.image,
            image_ref: status.image_id.clone(),
            state: state(status).into(),
            created_at: note.created,
            labels: note.config.labels,
            annotations: note.config.annotations,
            image_id: status.image_id.clone(),
        })
        .collect()
}

/// The containers of a pod, all of each.
pub fn statuses(pod: &PodView) -> Vec<cri::ContainerStatus> {
    let names = pods::containers(pod).map(|(spec, _, _)| spec.name.clone());
    let names: Vec<String> = names.collect();
    names.iter().filter_map(|name| status(pod, name)).collect()
}

/// A container, all of it.
pub fn status(pod: &PodView, name: &str) -> Option<cri::ContainerStatus> {
    let mut all = pods::containers(pod);
    let (spec, note, status) = all.find(|(one, _, _)| one.name == name)?;
    let log = spec.guest.as_ref().and_then(|one| one.log.as_ref());
    let mut shown = cri::ContainerStatus {
        id: container_id(&pod.uid, name),
        metadata: note.config.metadata,
        state: state(status).into(),
        created_at: note.created,
        image: note.config.image,
        image_ref: status.image_id.clone(),
        image_id: status.image_id.clone(),
        labels: note.config.labels,
        annotations: note.config.annotations,
        mounts: note.config.mounts,
        log_path: log.map_or_else(String::new, |path| path.display().to_string()),
        resources: note
            .config
            .linux
            .and_then(|linux| linux.resources)
            .map(|linux| {
                let linux = Some(current(linux, &spec.resources));
                cri::ContainerResources {
                    linux,
                    windows: None,
                }
            }),
        ..cri::ContainerStatus::default()
    };
    match &status.state {
        ContainerState::Waiting { .. } => {}
        ContainerState::Running { started } => shown.started_at = nanos(*started),
        ContainerState::Terminated(end) => {
            shown.started_at = nanos(end.started.unwrap_or_default());
            shown.finished_at = nanos(end.finished);
            shown.exit_code = end.exit_code;
            shown.reason.clone_from(&end.reason);
            shown.message = end.message.clone().unwrap_or_default();
        }
    }
    Some(shown)
}

/// What it was asked for, with the limits that it was given since.
fn current(asked: cri::LinuxContainerResources, now: &Resources) -> cri::LinuxContainerResources {
    if limits(&asked) == *now {
        return asked;
    }
    let signed = |value: Option<u64>| value.and_then(|one| i64::try_from(one).ok());
    let quota = now.cpu_limit_milli.map(|milli| milli.saturating_mul(100));
    cri::LinuxContainerResources {
        cpu_period: if quota.is_some() { 100_000 } else { 0 },
        cpu_quota: signed(quota).unwrap_or_default(),
        cpu_shares: signed(now.cpu_request_milli.map(|milli| milli * 1024 / 1000))
            .unwrap_or_default(),
        memory_limit_in_bytes: signed(now.memory_limit).unwrap_or_default(),
        ..asked
    }
}

/// What only the verbose status says.
pub fn info(found: &Found) -> HashMap<String, String> {
    let shown = serde_json::json!({
        "sandboxID": found.pod.uid.to_string(),
        "pod": found.pod.name,
        "name": found.name,
    });
    HashMap::from([("info".to_owned(), shown.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::{Code, Status};

    fn asked(mount: cri::Mount) -> Result<HostMount, CallError> {
        super::mount(&cri::Mount {
            host_path: "/data".into(),
            container_path: "/mnt".into(),
            ..mount
        })
    }

    #[test]
    fn a_mount_that_is_read_only_below_is_so_above_and_does_not_follow_the_host() {
        let below = cri::Mount {
            readonly: true,
            recursive_read_only: true,
            ..cri::Mount::default()
        };
        assert!(asked(below.clone()).unwrap().recursive);
        let follows = cri::MountPropagation::PropagationHostToContainer.into();
        let only_below = cri::Mount {
            readonly: false,
            ..below.clone()
        };
        let follows = cri::Mount {
            propagation: follows,
            ..below
        };
        for wrong in [only_below, follows] {
            let error = Status::from(asked(wrong).unwrap_err());
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        }
        let both = cri::MountPropagation::PropagationBidirectional.into();
        let both = cri::Mount {
            propagation: both,
            ..cri::Mount::default()
        };
        let error = Status::from(asked(both).unwrap_err());
        assert_eq!(error.code(), Code::Unimplemented, "{error}");
    }

    #[test]
    fn who_says_nothing_of_system_calls_may_make_all_and_a_profile_lies_anywhere() {
        assert_eq!(seccomp(None).unwrap(), SeccompChoice::Unconfined);
        let profile = |localhost_ref: &str| cri::SecurityProfile {
            profile_type: cri::security_profile::ProfileType::Localhost.into(),
            localhost_ref: localhost_ref.into(),
        };
        let found = seccomp(Some(&profile("/tmp/a.json"))).unwrap();
        assert_eq!(found, SeccompChoice::Localhost("/tmp/a.json".into()));
        assert!(seccomp(Some(&profile("a.json"))).is_err());
    }
}
