//! What holds the data of claims, beside their own files.
//!
//! ```text
//! NAME.json      the claim, written last and removed first: what follows is there with it
//! NAME.img       its disk
//! NAME.dir       or its directory, which pods are served
//! NAME.img-new   a disk that is being formatted
//! .removed-UUID  the directory of a claim that is gone, locked by whoever removes it
//! ```
//!
//! Whoever is killed in between leaves something of that without a claim: a new claim
//! of the name begins with none of it, and `gc` finds it.

use super::{ObjectError, entries, lock, root};
use crate::host::lock::FileLock;
use crate::host::scratch;
use crate::path_error::PathError;
use crate::settings::Settings;
use crate::spec::{ClaimSpec, ObjectKind};
use crate::store::{self, StoreError};
use beluga_proto::PodUid;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What a directory is renamed to before it is removed.
const REMOVED: &str = ".removed-";

/// Any user of a pod may write to it, as to an emptyDir, and as in the directories that
/// provisioners of Kubernetes make; of the host's users only root comes this far.
const DIRECTORY_MODE: u32 = 0o777;

/// What a deleted object has left behind: all that was in a claim's directory. While
/// this is there it is no leftover.
#[derive(Debug)]
#[must_use = "it stays on the disk"]
pub struct Remains(pub(super) Option<(PathBuf, FileLock)>);

impl Remains {
    /// What was set aside; nothing where somebody else removes it. Whoever calls holds
    /// the lock.
    fn take(aside: PathBuf) -> Result<Self, StoreError> {
        let lock = FileLock::try_read_only(&aside).map_err(PathError::on("lock", &aside))?;
        Ok(Self(lock.map(|lock| (aside, lock))))
    }

    /// Removes it, which may take a while. Nobody sees it any more.
    pub fn remove(self) -> Result<(), StoreError> {
        match self.0 {
            Some((path, _lock)) => store::remove_directory(&path),
            None => Ok(()),
        }
    }
}

/// Makes what a new claim asks for, of which `claim_file` is the file. Whoever calls
/// holds the lock.
pub(super) fn make(claim_file: &Path, claim: &ClaimSpec) -> Result<(), ObjectError> {
    // Of the other kind as well: an earlier claim of the name may have been that.
    set_aside(claim_file)?.remove()?;
    if !claim.is_directory {
        let disk = claim_file.with_extension("img");
        return Ok(scratch::create_volume(&disk, claim.bytes, claim.is_block)?);
    }
    let place = claim_file.with_extension("dir");
    let made = std::fs::create_dir(&place).and_then(|()| {
        // Not in one step: the caller's mask would have its say.
        let mode = std::fs::Permissions::from_mode(DIRECTORY_MODE);
        std::fs::set_permissions(&place, mode)
    });
    Ok(made
        .map_err(PathError::on("make", &place))
        .map_err(StoreError::from)?)
}

/// Takes away what is left of a claim whose file is gone. Whoever calls holds the lock.
pub(super) fn set_aside(claim_file: &Path) -> Result<Remains, StoreError> {
    PathError::remove_file(&claim_file.with_extension("img"))?;
    let place = claim_file.with_extension("dir");
    let random = PodUid::from_random(crate::pod::random_bytes());
    let aside = place.with_file_name(format!("{REMOVED}{random}"));
    match std::fs::rename(&place, &aside) {
        Ok(()) => Remains::take(aside),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Remains(None)),
        Err(error) => Err(PathError::on("remove", &place)(error).into()),
    }
}

/// Disks and directories that are no claim's: half made, or half removed.
pub fn leftovers(settings: &Settings) -> Result<Vec<PathBuf>, StoreError> {
    let root = root(settings);
    if !root.exists() {
        return Ok(Vec::new());
    }
    // Nobody is making one meanwhile.
    let _lock = lock(settings)?;
    let mut found = Vec::new();
    for namespace in entries(&root)? {
        let directory = root.join(namespace).join(ObjectKind::Claim.word());
        let Ok(listed) = std::fs::read_dir(&directory) else {
            continue;
        };
        let paths = listed.flatten().map(|entry| entry.path());
        found.extend(paths.filter(|path| is_left_over(path)));
    }
    found.sort();
    Ok(found)
}

/// Namespace and name of the claim that a disk or directory would be of.
#[must_use]
pub fn claim_of(path: &Path) -> Option<(&str, &str)> {
    let is_data = matches!(path.extension()?.to_str()?, "img" | "dir");
    let namespace = path.parent()?.parent()?.file_name()?.to_str()?;
    is_data.then_some((namespace, path.file_stem()?.to_str()?))
}

/// Removes one of these, if it is one still.
pub fn remove_leftover(settings: &Settings, path: &Path) -> Result<(), StoreError> {
    let lock = lock(settings)?;
    if !is_left_over(path) {
        return Ok(());
    }
    let remains = match path.extension().and_then(|word| word.to_str()) {
        Some("img" | "dir") => set_aside(&path.with_extension("json"))?,
        Some("img-new") => {
            PathError::remove_file(path)?;
            Remains(None)
        }
        _ => Remains::take(path.to_owned())?,
    };
    drop(lock);
    remains.remove()
}

fn is_left_over(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    if name.is_some_and(|name| name.starts_with(REMOVED)) {
        return match FileLock::try_read_only(path) {
            Ok(lock) => lock.is_some(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
    }
    match path.extension().and_then(|word| word.to_str()) {
        // What cannot be looked at may be there.
        Some("img" | "dir") => {
            let claim = path.with_extension("json").try_exists();
            claim.is_ok_and(|is_there| !is_there)
        }
        Some("img-new") => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{object, settings};
    use super::super::{apply, delete, directory, list};
    use super::*;
    use crate::spec::ConfigObject;
    use std::fs;

    fn claim(name: &str, class: &str) -> ConfigObject {
        object(
            &format!(
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec:\n  \
             accessModes: [ReadWriteOnce]\n  storageClassName: {class}\n  volumeMode: VOLUME\n  \
             resources: {{requests: {{storage: 8Mi}}}}\n"
            )
            .replace(
                "VOLUME",
                if class == "beluga-disk" {
                    "Block"
                } else {
                    "Filesystem"
                },
            ),
        )
    }

    fn of_claims(settings: &Settings) -> PathBuf {
        directory(settings, "default", ObjectKind::Claim)
    }

    #[test]
    fn a_directory_comes_and_goes_with_its_claim() {
        let settings = settings();
        let place = of_claims(&settings).join("a.b.dir");
        let one = claim("a.b", "beluga-directory");
        apply(&settings, &one).unwrap();
        assert_eq!(
            fs::metadata(&place).unwrap().permissions().mode() & 0o7777,
            0o777
        );
        fs::create_dir_all(place.join("d")).unwrap();
        fs::write(place.join("d/f"), "kept").unwrap();
        apply(&settings, &one).unwrap();
        assert_eq!(fs::read(place.join("d/f")).unwrap(), b"kept");
        let other = claim("a.b", "beluga-disk");
        let error = apply(&settings, &other).unwrap_err().to_string();
        assert!(
            error.contains("another size, access mode or storage class"),
            "{error}"
        );
        assert_eq!(list(&settings, ObjectKind::Claim).unwrap().len(), 1);
        assert!(leftovers(&settings).unwrap().is_empty());
        let gone = delete(&settings, "default", ObjectKind::Claim, "a.b").unwrap();
        assert!(!place.exists());
        // From here on the name is another claim's, whatever becomes of what was there.
        apply(&settings, &one).unwrap();
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
        // Nobody takes it from whoever removes it.
        assert!(leftovers(&settings).unwrap().is_empty());
        let Some(Remains(Some((aside, lock)))) = gone else {
            panic!("its directory is set aside");
        };
        remove_leftover(&settings, &aside).unwrap();
        assert!(aside.join("d/f").exists());
        // Killed in between.
        drop(lock);
        assert_eq!(leftovers(&settings).unwrap(), std::slice::from_ref(&aside));
        remove_leftover(&settings, &aside).unwrap();
        assert!(!aside.exists() && leftovers(&settings).unwrap().is_empty());
        fs::remove_dir_all(&settings.root).unwrap();
    }

    #[test]
    fn what_is_half_made_or_half_removed_is_found_and_not_taken_over() {
        let settings = settings();
        assert!(leftovers(&settings).unwrap().is_empty());
        let place = of_claims(&settings);
        for left in ["a.dir/secret", "c.dir/x", ".removed-1/x"] {
            let left = place.join(left);
            fs::create_dir_all(left.parent().unwrap()).unwrap();
            fs::write(left, "somebody's").unwrap();
        }
        for left in ["b.img", "c.img-new"] {
            fs::write(place.join(left), "somebody's").unwrap();
        }
        assert_eq!(leftovers(&settings).unwrap().len(), 5);
        apply(&settings, &claim("a", "beluga-directory")).unwrap();
        assert_eq!(fs::read_dir(place.join("a.dir")).unwrap().count(), 0);
        apply(&settings, &claim("c", "beluga-disk")).unwrap();
        assert!(place.join("c.img").exists() && !place.join("c.dir").exists());
        for left in leftovers(&settings).unwrap() {
            remove_leftover(&settings, &left).unwrap();
        }
        // One that has become a claim's meanwhile stays.
        remove_leftover(&settings, &place.join("a.dir")).unwrap();
        let mut names: Vec<_> = fs::read_dir(&place).unwrap().flatten().collect();
        names.sort_by_key(fs::DirEntry::file_name);
        let names = names
            .iter()
            .map(|one| one.file_name().into_string().unwrap());
        let names: Vec<String> = names.collect();
        assert_eq!(names, ["a.dir", "a.json", "c.img", "c.json"]);
        fs::remove_dir_all(&settings.root).unwrap();
    }
}
