//! Finds what no record accounts for, and removes it.

use super::{EngineError, damage};
use crate::cni;
use crate::host::lock::FileLock;
use crate::host::rules::{self, Family};
use crate::host::{self, HostError, cgroup, mounts, network, process, resolver};
use crate::objects;
use crate::path_error::PathError;
use crate::plan::HostStep;
use crate::policy;
use crate::settings::Settings;
use crate::store::{self, Life, ProcessRef, Record, StoreError};
use beluga_proto::PodUid;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Something that no record accounts for.
#[derive(Debug)]
pub struct Leftover {
    /// What it is, with its name.
    pub what: String,
    /// Why it is still there, where it was to be removed.
    pub kept: Option<EngineError>,
}

/// What is left over; removed unless `check`.
/// Errors when the host cannot be looked at.
pub async fn gc(settings: &Settings, check: bool) -> Result<Vec<Leftover>, EngineError> {
    // Half-made pods are finished or undone by adopting them.
    if !check {
        for uid in store::uids(settings)? {
            if damage::of(settings, &uid)?.is_none() {
                super::owner::adopt(settings, &uid).await?;
            }
        }
        policy::restore(settings)?;
    }
    // Objects first, records second: a pod that starts meanwhile has a record
    // before it has an object, so its objects are never taken for leftovers.
    let seen = Seen::now(settings)?;
    let mut sweep = Sweep {
        settings,
        known: Known::read(settings)?,
        check,
        found: Vec::new(),
    };
    sweep.pods();
    sweep.processes(&seen);
    sweep.directories(&seen);
    sweep.cni(&seen);
    // What a damaged pod has on the host, nobody knows: as long as it lives, nothing
    // is taken for a leftover that may be its own.
    if sweep.damaged() {
        let steps = sweep.live_steps()?;
        sweep.network(&seen, &steps)?;
        sweep.mounts(&seen, &steps);
    }
    sweep.cgroups(&seen);
    sweep.names(&seen);
    sweep.claims()?;
    Ok(sweep.found)
}

/// Objects of this root that are on the host.
struct Seen {
    machines: Vec<(PodUid, ProcessRef)>,
    cgroups: Vec<String>,
    run_directories: Vec<PathBuf>,
    addresses: Vec<PodUid>,
    /// Pods for which CNI's plugins have done something.
    attached: Vec<PodUid>,
    interfaces: Vec<String>,
    tables: Vec<(Family, String)>,
    names: Vec<PathBuf>,
    /// Directories in which files of the host are mounted.
    mounts: Vec<PathBuf>,
}

impl Seen {
    fn now(settings: &Settings) -> Result<Self, EngineError> {
        Ok(Self {
            machines: process::machines(),
            cgroups: cgroup::children(&settings.cgroup()),
            run_directories: entries(&settings.state.join("pods")),
            addresses: network::holders(settings, &host::boot_id()).map_err(HostError::from)?,
            attached: cni::holders(settings),
            // Without netlink there are no interfaces of ours either.
            interfaces: network::interfaces(settings).unwrap_or_default(),
            tables: network::tables(settings),
            names: entries(&settings.root.join("names"))
                .iter()
                .flat_map(|namespace| entries(namespace))
                .collect(),
            mounts: entries(&settings.state.join("mounts")),
        })
    }
}

/// Pods on record, and those of them whose VM may run.
struct Known {
    all: BTreeSet<PodUid>,
    live: BTreeSet<PodUid>,
    /// Those whose VMM and supervisor are gone, though their record tells of no end.
    dead: BTreeSet<PodUid>,
    /// Directories without a readable record.
    broken: Vec<PodUid>,
    /// Those that live and cannot be understood.
    damaged: Vec<(PodUid, StoreError)>,
}

impl Known {
    fn read(settings: &Settings) -> Result<Self, EngineError> {
        let mut known = Self {
            all: BTreeSet::new(),
            live: BTreeSet::new(),
            dead: BTreeSet::new(),
            broken: Vec::new(),
            damaged: Vec::new(),
        };
        for uid in store::uids(settings)? {
            match damage::of(settings, &uid)? {
                Some(error) if is_held(settings, &uid) || error.is_of_another_version() => {
                    known.live.insert(uid.clone());
                    known.damaged.push((uid, error));
                    continue;
                }
                Some(_) => {
                    known.broken.push(uid);
                    continue;
                }
                None => {}
            }
            match store::read_record(settings, &uid) {
                Ok(Some(record)) => {
                    if record.life != Life::Ended {
                        let is_live = lives(settings, &record)?;
                        let kind = if is_live {
                            &mut known.live
                        } else {
                            &mut known.dead
                        };
                        kind.insert(uid.clone());
                    }
                    known.all.insert(uid);
                }
                // Its maker may hold it and be about to write the record.
                Ok(None) | Err(_) if is_held(settings, &uid) => drop(known.live.insert(uid)),
                Ok(None) | Err(_) => known.broken.push(uid),
            }
        }
        Ok(known)
    }
}

/// Whether a pod that has not ended has a supervisor, or a VM that waits for one.
fn lives(settings: &Settings, record: &Record) -> Result<bool, EngineError> {
    let is_owned = store::try_own(settings, &record.uid)?.is_none();
    let is_of_this_boot = record.boot_id == host::boot_id();
    Ok(is_owned || (is_of_this_boot && record.vmm.and_then(process::open).is_some()))
}

fn is_held(settings: &Settings, uid: &PodUid) -> bool {
    let lock = FileLock::try_take(&settings.pod_dir(uid).join("owner.lock"));
    matches!(lock, Ok(None))
}

struct Sweep<'a> {
    settings: &'a Settings,
    known: Known,
    check: bool,
    found: Vec<Leftover>,
}

impl Sweep<'_> {
    fn found<E: Into<EngineError>>(
        &mut self,
        what: String,
        remove: impl FnOnce() -> Result<(), E>,
    ) {
        let outcome = if self.check { Ok(()) } else { remove() };
        self.found.push(Leftover {
            what,
            kept: outcome.err().map(Into::into),
        });
    }

    /// Pods that adoption would end: under `check` nobody adopts them.
    fn pods(&mut self) {
        for uid in std::mem::take(&mut self.known.dead) {
            self.found(
                format!("pod {uid}, whose VMM and supervisor are gone"),
                || Ok::<(), EngineError>(()),
            );
        }
    }

    /// Tells of pods that cannot be understood; whether there are none.
    fn damaged(&mut self) -> bool {
        let damaged = std::mem::take(&mut self.known.damaged);
        let is_none = damaged.is_empty();
        for (uid, error) in damaged {
            self.found(format!("what is on record of the pod {uid}"), || Err(error));
        }
        is_none
    }

    fn processes(&mut self, seen: &Seen) {
        let mut left = BTreeMap::new();
        // Its sockets are here: it is this root's, though its directory was removed by
        // hand. Another root's pods are another root's business.
        let has_sockets = |uid: &PodUid| {
            let mut names = seen.run_directories.iter().flat_map(|one| one.file_name());
            names.any(|name| name == uid.as_str())
        };
        for (uid, machine) in &seen.machines {
            let is_on_record = self.known.all.contains(uid) || self.known.broken.contains(uid);
            if is_on_record || has_sockets(uid) {
                left.insert(machine.pid, (uid.to_string(), *machine));
            }
        }
        // Supervisors, servers of host files, and all of a pod whose directory
        // was removed by hand: the cgroup is this root's.
        let own = std::process::id();
        let pods = seen.cgroups.iter();
        let pods = pods.filter(|name| !name.starts_with(resolver::CGROUP));
        for name in pods {
            let processes = cgroup::processes(&self.settings.cgroup().join(name));
            for pid in processes.into_iter().filter(|pid| *pid != own) {
                if let Some(process) = process::identify(pid.cast_signed()) {
                    left.insert(process.pid, (name.clone(), process));
                }
            }
        }
        for (pid, (pod, process)) in left {
            if !self.is_live(&pod) {
                self.found(format!("process {pid} of the pod {pod}"), || {
                    end(process).map_err(HostError::from)
                });
            }
        }
    }

    fn directories(&mut self, seen: &Seen) {
        let settings = self.settings;
        for uid in std::mem::take(&mut self.known.broken) {
            let path = settings.pod_dir(&uid);
            self.found(
                format!("directory {} without a record", path.display()),
                || store::remove_pod_directory(settings, &uid),
            );
        }
        for path in &seen.run_directories {
            let is_live = path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| self.is_live(name));
            if !is_live {
                self.found(format!("directory {}", path.display()), || {
                    store::remove_directory(path)
                });
            }
        }
        let ended: Vec<PodUid> = self
            .known
            .all
            .difference(&self.known.live)
            .cloned()
            .collect();
        for uid in ended {
            let of_pod = entries(&settings.pod_dir(&uid));
            let is_disk = |path: &&PathBuf| path.extension().is_some_and(|word| word == "img");
            for disk in of_pod.iter().filter(is_disk) {
                self.found(format!("disk {}", disk.display()), || remove_file(disk));
            }
        }
    }

    fn cni(&mut self, seen: &Seen) {
        let settings = self.settings;
        for uid in &seen.attached {
            if !self.known.live.contains(uid) {
                self.found(format!("CNI networks of the pod {uid}"), || {
                    cni::release(settings, uid).map_err(HostError::from)
                });
            }
        }
        for path in cni::stray_namespaces(settings) {
            self.found(format!("network namespace {}", path.display()), || {
                cni::remove_namespace(&path).map_err(HostError::from)
            });
        }
    }

    /// What has been made on the host for pods whose VM may run.
    fn live_steps(&self) -> Result<Vec<HostStep>, EngineError> {
        let mut steps = Vec::new();
        for uid in &self.known.live {
            let definition = store::read_definition(self.settings, uid)?;
            steps.extend(definition.into_iter().flat_map(|one| one.plan.host));
        }
        Ok(steps)
    }

    fn mounts(&mut self, seen: &Seen, steps: &[HostStep]) {
        for path in &seen.mounts {
            // By its name, which is random: two words for the state directory, one of
            // them through a link, mean the same.
            let is_of = |step: &HostStep| matches!(step, HostStep::Mounts { path: its } if its.file_name() == path.file_name());
            if !steps.iter().any(is_of) {
                self.found(format!("mounts below {}", path.display()), || {
                    mounts::remove(path).map_err(HostError::from)
                });
            }
        }
    }

    fn network(&mut self, seen: &Seen, steps: &[HostStep]) -> Result<(), EngineError> {
        let settings = self.settings;
        let boot_id = host::boot_id();
        for uid in &seen.addresses {
            if !self.known.live.contains(uid) {
                self.found(format!("address of the pod {uid}"), || {
                    network::release(settings, uid, &boot_id).map_err(HostError::from)
                });
            }
        }
        let mut wanted = BTreeSet::new();
        for step in steps {
            match step {
                HostStep::Bridge { name, .. } | HostStep::Publish { table: name, .. } => {
                    wanted.insert(name.clone());
                }
                HostStep::Tap { name, .. } => {
                    wanted.insert(host::policy::table_of(name));
                    wanted.insert(name.clone());
                }
                _ => {}
            }
        }
        for (family, name) in seen
            .tables
            .iter()
            .filter(|table| !wanted.contains(&table.1))
        {
            self.found(format!("table {name} of the packet filter"), || {
                rules::remove(*family, name).map_err(HostError::from)
            });
        }
        for net in network::Net::all(settings).map_err(HostError::from)? {
            if let (false, Some(process)) =
                (wanted.contains(&net.bridge()), resolver::running(&net))
            {
                let what = format!("process {} that resolves pods' names", process.pid);
                self.found(what, || {
                    resolver::end(&net);
                    Ok::<(), EngineError>(())
                });
            }
        }
        for name in seen
            .interfaces
            .iter()
            .filter(|name| !wanted.contains(*name))
        {
            self.found(format!("interface {name}"), || {
                network::remove_interface(name).map_err(HostError::from)
            });
        }
        Ok(())
    }

    fn cgroups(&mut self, seen: &Seen) {
        let parent = self.settings.cgroup();
        let nets = network::Net::all(self.settings).unwrap_or_default();
        for name in &seen.cgroups {
            let is_resolver = nets
                .iter()
                .any(|net| *name == resolver::cgroup_name(net) && resolver::running(net).is_some());
            if !is_resolver && !self.is_live(name) {
                let path = parent.join(name);
                self.found(
                    format!("cgroup {}", cgroup::absolute(&path).display()),
                    || cgroup::remove(&path).map_err(HostError::from),
                );
            }
        }
    }

    fn names(&mut self, seen: &Seen) {
        for path in &seen.names {
            let owner = std::fs::read_to_string(path).unwrap_or_default();
            let is_known = PodUid::parse(owner)
                .is_ok_and(|uid| self.known.all.contains(&uid) || self.known.live.contains(&uid));
            if !is_known {
                self.found(format!("name {}", path.display()), || remove_file(path));
            }
        }
    }

    fn claims(&mut self) -> Result<(), EngineError> {
        let settings = self.settings;
        for path in super::claims::leftovers(settings)? {
            let what = format!("{} without a claim", path.display());
            self.found(what, || objects::remove_leftover(settings, &path));
        }
        Ok(())
    }

    fn is_live(&self, uid: &str) -> bool {
        PodUid::parse(uid).is_ok_and(|uid| self.known.live.contains(&uid))
    }
}

/// Kills a process and waits until it is gone: what it holds can go only then.
fn end(process: ProcessRef) -> Result<(), PathError> {
    let path = PathBuf::from(format!("/proc/{}", process.pid));
    let Some(pidfd) = process::open(process) else {
        return Ok(());
    };
    process::kill(&pidfd).map_err(PathError::on("kill", &path))?;
    if !process::wait_end(&pidfd, 3000) {
        let error = io::Error::from(io::ErrorKind::TimedOut);
        return Err(PathError::on("kill", &path)(error));
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<(), HostError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PathError::on("remove", path)(error).into())
        }
        _ => Ok(()),
    }
}

fn entries(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            !path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        })
        .collect()
}
