//! Who holds a claim: the pods that name it and have not ended.

use super::EngineError;
use crate::host::lock::FileLock;
use crate::objects;
use crate::settings::Settings;
use crate::spec::{ObjectKind, PodSpec};
use crate::store::{self, Life, StoreError};
use std::path::PathBuf;

/// Errors when another pod holds a claim of this one that is one pod's at a time. While
/// the lock is held no other pod can be made that does; `None` when the pod has no
/// claims.
pub fn take(settings: &Settings, spec: &PodSpec) -> Result<Option<FileLock>, EngineError> {
    let wanted = spec.objects();
    let mut claims = wanted
        .iter()
        .filter(|(kind, _)| *kind == ObjectKind::Claim)
        .peekable();
    if claims.peek().is_none() {
        return Ok(None);
    }
    let lock = objects::claims_lock(settings)?;
    for (_, claim) in claims {
        let kept = objects::read(settings, &spec.namespace, ObjectKind::Claim, claim)?;
        // One that has just been deleted nobody holds, and the pod will miss it.
        let claim_spec = kept.and_then(|kept| kept.object.claim);
        if let Some(rule) = claim_spec.and_then(|one| one.only_one_pod()) {
            must_be_free(settings, (&spec.namespace, claim), rule)?;
        }
    }
    Ok(Some(lock))
}

/// Deletes a claim with all that is on it; whether there was one. Errors while a pod
/// holds it.
pub fn delete(settings: &Settings, namespace: &str, claim: &str) -> Result<bool, EngineError> {
    // No pod may come to hold it between the look and the end of it.
    let lock = objects::claims_lock(settings)?;
    must_be_free(
        settings,
        (namespace, claim),
        "it can be deleted when no pod has it",
    )?;
    let remains = objects::delete(settings, namespace, ObjectKind::Claim, claim)?;
    drop(lock);
    let was_there = remains.is_some();
    remains.map_or(Ok(()), objects::Remains::remove)?;
    Ok(was_there)
}

fn must_be_free(
    settings: &Settings,
    (namespace, claim): (&str, &str),
    rule: &'static str,
) -> Result<(), EngineError> {
    match holders(settings, namespace, claim)?.into_iter().next() {
        None => Ok(()),
        Some(holder) => Err(EngineError::ClaimHeld {
            claim: claim.to_owned(),
            holder,
            rule,
        }),
    }
}

/// Disks and directories that are no claim's, and that no pod has: whatever became of
/// the claim's own file, nothing is taken from under a pod.
pub fn leftovers(settings: &Settings) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    for path in objects::leftovers(settings)? {
        let is_held = match objects::claim_of(&path) {
            Some((namespace, claim)) => !holders(settings, namespace, claim)?.is_empty(),
            None => false,
        };
        if !is_held {
            found.push(path);
        }
    }
    Ok(found)
}

/// The pods that hold a claim, by name.
pub fn holders(
    settings: &Settings,
    namespace: &str,
    claim: &str,
) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    for uid in store::uids(settings)? {
        let Some(record) = store::read_record(settings, &uid)? else {
            continue;
        };
        if record.life == Life::Ended || record.namespace != namespace {
            continue;
        }
        let definition = store::read_definition(settings, &uid)?;
        let holds = definition.is_some_and(|definition| {
            let objects = definition.spec.objects();
            objects.contains(&(ObjectKind::Claim, claim))
        });
        if holds {
            found.push(record.name);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{HostFacts, Identity, ImageFacts, plan};
    use crate::pod::{self, PodState};
    use crate::spec::{self, Manifest};
    use crate::store::{Definition, Record};
    use beluga_proto::PodUid;
    use std::collections::BTreeMap;

    fn settings() -> Settings {
        let random: [u8; 8] = pod::random_bytes();
        let root =
            std::env::temp_dir().join(format!("beluga-claims-{}", u64::from_le_bytes(random)));
        Settings::new(Some(root.clone()), Some(root.join("state"))).unwrap()
    }

    fn facts() -> HostFacts {
        HostFacts {
            kernel: PathBuf::new(),
            initramfs: PathBuf::new(),
            pod_dir: PathBuf::new(),
            run_dir: PathBuf::new(),
            cgroup: PathBuf::new(),
            network: None,
            claims_dir: "/claims".into(),
            host_paths: Vec::new(),
            unsafe_sysctls: Vec::new(),
            memory_throttling: None,
            pids_max: None,
            tenant: None,
            host_files: std::collections::BTreeSet::new(),
            seccomp: BTreeMap::new(),
            node_name: String::new(),
            resolv_conf: String::new(),
            cpus: 1,
            memory_mib: 4096,
            scratch_bytes: 1 << 20,
        }
    }

    /// A claim, and a pod that mounts it.
    fn read(claim: &str, pod: &str) -> Manifest {
        let text = format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data}}\nspec: {{{claim}, \
             resources: {{requests: {{storage: 8Mi}}}}}}\n---\napiVersion: v1\nkind: Pod\n\
             metadata: {{name: {pod}}}\nspec:\n  containers: [{{name: a, image: b}}]\n  \
             volumes: [{{name: v, persistentVolumeClaim: {{claimName: data}}}}]\n"
        );
        spec::read("pod.yaml", &text).unwrap()
    }

    /// Puts a pod on record, as far as it can get its claim.
    fn start(settings: &Settings, manifest: &Manifest) -> Result<Record, String> {
        let spec = manifest.pods[0].spec.clone();
        let objects = objects::of_pod(settings, &spec).unwrap();
        let image = ImageFacts {
            cmd: vec!["true".into()],
            ..ImageFacts::default()
        };
        let identity = Identity {
            uid: PodUid::from_random(pod::random_bytes()),
            name: spec.name.resolve(pod::random_bytes()),
            namespace: spec.namespace.clone(),
            network: None,
            carried: None,
        };
        let images = BTreeMap::from([("b".to_owned(), image)]);
        let plan = plan(&spec, &images, &objects, &facts(), identity).unwrap();
        let state = PodState::new(&plan, pod::now());
        let definition = Definition {
            generation: 0,
            manifest: serde_json::Value::Null,
            spec,
            plan,
        };
        let record = Record::new(&definition, "boot", state);
        let _lock = take(settings, &definition.spec).map_err(|error| error.to_string())?;
        store::create(settings, &definition, &record).unwrap();
        Ok(record)
    }

    #[test]
    fn a_claim_is_one_pods_or_many_and_stays_while_one_has_it() {
        let one = "accessModes: [ReadWriteOnce]";
        let class = "storageClassName: beluga-directory";
        for (claim, refusal) in [
            (one.to_owned(), Some("a disk belongs to one pod at a time")),
            (
                format!("accessModes: [ReadWriteOncePod], {class}"),
                Some("ReadWriteOncePod lets one pod have it at a time"),
            ),
            (format!("{one}, {class}"), None),
            ("accessModes: [ReadWriteMany]".to_owned(), None),
        ] {
            let settings = settings();
            let (first, second) = (read(&claim, "first"), read(&claim, "second"));
            objects::apply(&settings, &first.objects[0]).unwrap();
            let mut record = start(&settings, &first).unwrap();
            match (start(&settings, &second), refusal) {
                (Err(told), Some(why)) => assert_eq!(
                    told,
                    format!("persistentvolumeclaim \"data\" is in use by the pod \"first\"; {why}")
                ),
                (Ok(second), None) => {
                    let both = holders(&settings, "default", "data").unwrap();
                    assert_eq!(both, ["first", "second"], "{claim}");
                    store::remove(&settings, &second).unwrap();
                }
                (other, _) => panic!("{claim}: {other:?}"),
            }
            let refused = delete(&settings, "default", "data").unwrap_err();
            assert!(refused.to_string().contains("\"first\""), "{refused}");
            let place = objects::directory(&settings, "default", ObjectKind::Claim);
            let file = (place.join("data.json"), place.join("away"));
            std::fs::rename(&file.0, &file.1).unwrap();
            assert!(leftovers(&settings).unwrap().is_empty(), "{claim}");
            record.life = Life::Ended;
            store::write_record(&settings, &record).unwrap();
            assert_eq!(leftovers(&settings).unwrap().len(), 1, "{claim}");
            std::fs::rename(&file.1, &file.0).unwrap();
            assert!(delete(&settings, "default", "data").unwrap());
            assert!(!delete(&settings, "default", "data").unwrap());
            assert_eq!(std::fs::read_dir(place).unwrap().count(), 0, "{claim}");
            std::fs::remove_dir_all(&settings.root).unwrap();
        }
    }
}
