//! Containers: what is asked for becomes the engine's, and how they are becomes the
//! interface's.

use crate::error::{CallError, missing};
use crate::pods::{self, ContainerNote, Found, container_id, nanos};
use crate::resources::{self, current};
use crate::sandbox::{groups, is_strict};
use beluga_proto::container::CoveredPaths;
use beluga_runtime::engine::sandbox::{HostMount, NewContainer};
use beluga_runtime::engine::{self, Images, PodView};
use beluga_runtime::plan::{ImageFacts, image_facts};
use beluga_runtime::pod::{now, random_bytes};
use beluga_runtime::settings::Settings;
use beluga_runtime::spec::{Container, ContainerSecurity, EnvValue, Guest, RunAs, SeccompChoice};
use beluga_runtime::store::status::{ContainerState, ContainerStatus};
use k8s_cri::v1 as cri;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// How profiles of the host are named in fields that are given up.
const LOCALHOST: &str = "localhost/";

/// The container that a request asks for, to be put into that pod, and what keeps its
/// image until it is there.
pub fn new(
    settings: &Settings,
    pod: &PodView,
    config: cri::ContainerConfig,
) -> Result<(NewContainer, Images), CallError> {
    let random: [u8; 16] = random_bytes();
    let name = format!("{:032x}", u128::from_le_bytes(random));
    refuse(pod, &config)?;
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
        strict_groups: is_strict(security.supplemental_groups_policy()),
        note: note(&config),
        ..Guest::default()
    };
    let words = |words: &[String]| words.iter().map(|word| literally(word)).collect();
    let target = security.namespace_options.as_ref();
    let target = target.filter(|one| one.pid() == cri::NamespaceMode::Target);
    let mut container = Container {
        command: words(&config.command),
        args: words(&config.args),
        working_dir: Some(config.working_dir).filter(|path| !path.is_empty()),
        env: config
            .envs
            .into_iter()
            .map(|one| (one.key, EnvValue::Text(literally(&one.value))))
            .collect(),
        target: target.map(|one| sibling(pod, &one.target_id)).transpose()?,
        security: rights(&security)?,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        ..Container::of_sandbox(name, image, guest)
    };
    resources::give(&mut container, linux.resources.as_ref(), pod)?;
    let new = NewContainer {
        container,
        image: facts,
        mounts: config.mounts.iter().map(mount).collect::<Result<_, _>>()?,
    };
    Ok((new, held))
}

/// What a pod in a machine of its own does not have.
fn refuse(pod: &PodView, config: &cri::ContainerConfig) -> Result<(), CallError> {
    let security = config.linux.as_ref();
    let security = security.and_then(|linux| linux.security_context.as_ref());
    let sees_all = security
        .and_then(|one| one.namespace_options.as_ref())
        .is_some_and(|one| one.pid() == cri::NamespaceMode::Node);
    let machine = "the devices of the host are not in the pod's machine";
    let refused = [
        (!config.devices.is_empty(), "devices", machine),
        (!config.cdi_devices.is_empty(), "CDI_devices", machine),
        (
            security.is_some_and(has_apparmor),
            "apparmor",
            "the kernel of the pod's machine has no AppArmor",
        ),
        (
            sees_all && !pod.spec.guest_processes,
            "namespace_options.pid NODE",
            "its sandbox was made with another one",
        ),
    ];
    match refused.into_iter().find(|(is_asked, _, _)| *is_asked) {
        Some((_, field, why)) => Err(CallError::Refused {
            field: field.to_owned(),
            why,
        }),
        None => Ok(()),
    }
}

/// Whether a profile of the host is named, in the field or in the one of old, which
/// counts where the other says nothing.
#[expect(deprecated, reason = "kubelets before 1.30 send nothing else")]
fn has_apparmor(security: &cri::LinuxContainerSecurityContext) -> bool {
    let localhost = cri::security_profile::ProfileType::Localhost;
    match &security.apparmor {
        Some(profile) => profile.profile_type() == localhost,
        None => security.apparmor_profile.starts_with(LOCALHOST),
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
            field: "add_ambient_capabilities".to_owned(),
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
        // A kubelet sends the usual lists, unless a pod's procMount says otherwise: what
        // is not in them is not covered.
        unmasked_proc: true,
        covered: CoveredPaths {
            hidden: security.masked_paths.clone(),
            protected: security.readonly_paths.clone(),
        },
        seccomp: Some(match security.privileged {
            true => SeccompChoice::Unconfined,
            false => seccomp(security)?,
        }),
    })
}

/// Which system calls it may make. So the interface has it: who says nothing may make
/// all, the kubelet says what it wants.
#[expect(deprecated, reason = "clients of old send nothing else")]
fn seccomp(security: &cri::LinuxContainerSecurityContext) -> Result<SeccompChoice, CallError> {
    use cri::security_profile::ProfileType;
    let of_old = security.seccomp_profile_path.as_str();
    let Some(profile) = &security.seccomp else {
        return match of_old {
            "" | "unconfined" => Ok(SeccompChoice::Unconfined),
            "runtime/default" | "docker/default" => Ok(SeccompChoice::RuntimeDefault),
            path if path.starts_with(LOCALHOST) => localhost(path, "seccomp_profile_path"),
            _ => Err(CallError::Invalid {
                field: "seccomp_profile_path",
                why: format!("{of_old:?} is no profile"),
            }),
        };
    };
    match profile.profile_type() {
        ProfileType::RuntimeDefault => Ok(SeccompChoice::RuntimeDefault),
        ProfileType::Unconfined => Ok(SeccompChoice::Unconfined),
        ProfileType::Localhost => localhost(&profile.localhost_ref, "seccomp.localhost_ref"),
    }
}

/// A profile that lies on the host; clients of old wrote it as in an annotation.
fn localhost(path: &str, field: &'static str) -> Result<SeccompChoice, CallError> {
    let path = absolute(path.strip_prefix(LOCALHOST).unwrap_or(path), field)?;
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() => Ok(SeccompChoice::Localhost(path)),
        Ok(_) => Err(CallError::Invalid {
            field,
            why: format!("{path:?} is no file"),
        }),
        Err(error) => Err(CallError::Invalid {
            field,
            why: format!("the host has no profile {path:?}: {error}"),
        }),
    }
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
    let all = pods::containers(pod);
    let all = all.map(|(one, _, _)| (container_id(&pod.uid, &one.name), one.name.clone()));
    let found = pods::sole("namespace_options.target_id", id, all)?;
    found.ok_or_else(|| CallError::Absent {
        what: "target container",
        name: id.to_owned(),
    })
}

fn mount(mount: &cri::Mount) -> Result<HostMount, CallError> {
    let refuse = |field: &str, why| {
        let field = field.to_owned();
        Err(CallError::Refused { field, why })
    };
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
        user: note.config.linux.as_ref().and_then(user),
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

/// Who its first process is, where the request says all of it: what it leaves to the
/// image's files is known in the guest alone.
fn user(linux: &cri::LinuxContainerConfig) -> Option<cri::ContainerUser> {
    let security = linux.security_context.as_ref()?;
    if !is_strict(security.supplemental_groups_policy()) {
        return None;
    }
    let (uid, gid) = (security.run_as_user?.value, security.run_as_group?.value);
    let mut supplemental_groups = vec![gid];
    for group in &security.supplemental_groups {
        if !supplemental_groups.contains(group) {
            supplemental_groups.push(*group);
        }
    }
    Some(cri::ContainerUser {
        linux: Some(cri::LinuxContainerUser {
            uid,
            gid,
            supplemental_groups,
        }),
    })
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

    fn filtered(localhost_ref: &str) -> cri::LinuxContainerSecurityContext {
        cri::LinuxContainerSecurityContext {
            seccomp: Some(cri::SecurityProfile {
                profile_type: cri::security_profile::ProfileType::Localhost.into(),
                localhost_ref: localhost_ref.into(),
            }),
            ..cri::LinuxContainerSecurityContext::default()
        }
    }

    #[test]
    fn who_says_nothing_of_system_calls_may_make_all_and_a_profile_lies_anywhere() {
        let nothing = cri::LinuxContainerSecurityContext::default();
        assert_eq!(seccomp(&nothing).unwrap(), SeccompChoice::Unconfined);
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let found = seccomp(&filtered(own)).unwrap();
        assert_eq!(found, SeccompChoice::Localhost(own.into()));
        assert!(seccomp(&filtered("a.json")).is_err());
        let error = seccomp(&filtered("/no/such.json")).unwrap_err().to_string();
        let expected = "seccomp.localhost_ref: the host has no profile \"/no/such.json\"";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    #[expect(deprecated, reason = "they are what it is about")]
    fn profiles_in_fields_of_old_count_as_those_in_the_new_ones() {
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let filtered = |path: &str| {
            seccomp(&cri::LinuxContainerSecurityContext {
                seccomp_profile_path: path.into(),
                ..cri::LinuxContainerSecurityContext::default()
            })
        };
        let found = filtered(&format!("localhost/{own}")).unwrap();
        assert_eq!(found, SeccompChoice::Localhost(own.into()));
        let default = filtered("runtime/default").unwrap();
        assert_eq!(default, SeccompChoice::RuntimeDefault);
        assert!(filtered("some").is_err() && filtered("localhost/a.json").is_err());
        let confined = |name: &str| {
            has_apparmor(&cri::LinuxContainerSecurityContext {
                apparmor_profile: name.into(),
                ..cri::LinuxContainerSecurityContext::default()
            })
        };
        assert!(confined("localhost/foo"));
        assert!(!confined("runtime/default") && !confined(""));
    }

    #[test]
    fn the_groups_of_a_strict_container_are_those_that_it_names() {
        let mut linux = cri::LinuxContainerConfig {
            resources: None,
            security_context: Some(cri::LinuxContainerSecurityContext {
                run_as_user: Some(cri::Int64Value { value: 1000 }),
                run_as_group: Some(cri::Int64Value { value: 2000 }),
                supplemental_groups: vec![3000, 2000],
                supplemental_groups_policy: cri::SupplementalGroupsPolicy::Strict.into(),
                ..cri::LinuxContainerSecurityContext::default()
            }),
        };
        let told = user(&linux).and_then(|one| one.linux).unwrap();
        assert_eq!((told.uid, told.gid), (1000, 2000));
        assert_eq!(told.supplemental_groups, [2000, 3000]);
        let security = linux.security_context.as_mut().unwrap();
        security.supplemental_groups_policy = cri::SupplementalGroupsPolicy::Merge.into();
        assert_eq!(user(&linux), None, "the image's are not known here");
    }

    #[test]
    fn paths_are_covered_as_the_request_says_and_no_others() {
        let found = rights(&cri::LinuxContainerSecurityContext {
            masked_paths: vec!["/proc/keys".into(), "/bin/ls".into()],
            readonly_paths: vec!["/proc/sys".into()],
            ..cri::LinuxContainerSecurityContext::default()
        });
        let found = found.unwrap();
        assert!(found.unmasked_proc, "the agent's own list is not asked for");
        assert_eq!(found.covered.hidden, ["/proc/keys", "/bin/ls"]);
        assert_eq!(found.covered.protected, ["/proc/sys"]);
    }
}
