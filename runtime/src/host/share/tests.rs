//! What may be shared, and what is made.

use super::*;
use beluga_proto::PodUid;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

/// A directory of this test's own, gone with the value.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("beluga-share-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("allowed")).unwrap();
        Self(fs::canonicalize(path).unwrap())
    }

    fn plan(&self, path: &str, kind: HostPathKind) -> SharePlan {
        SharePlan {
            volume: "v".into(),
            tag: "share0".into(),
            path: self.0.join(path),
            kind,
            is_file: matches!(kind, HostPathKind::File | HostPathKind::FileOrCreate),
            read_only: false,
            allowed: vec![self.0.join("allowed")],
            pod: PodUid::from_random([0; 16]),
            log: "/dev/null".into(),
        }
    }

    /// What an attempt comes to, with this place's own path left out.
    fn try_open(&self, path: &str, kind: HostPathKind) -> Result<PathBuf, String> {
        let own = format!("{}/", self.0.display());
        match open(&self.plan(path, kind)) {
            Ok(fd) => Ok(place_of(&fd)
                .unwrap()
                .strip_prefix(&self.0)
                .unwrap()
                .to_owned()),
            Err(error) => Err(crate::error_chain(&error).replace(&own, "")),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const FAILED: &str = "MountVolume.SetUp failed for volume \"v\" : ";

#[test]
fn types_are_checked_as_the_kubelet_does() {
    use HostPathKind::*;
    let place = Place::new("types");
    fs::write(place.0.join("allowed/file"), "").unwrap();
    fs::create_dir(place.0.join("allowed/dir")).unwrap();
    for kind in [Directory, DirectoryOrCreate, Any] {
        let found = place.try_open("allowed/dir", kind);
        assert_eq!(found, Ok("allowed/dir".into()), "{kind:?}");
    }
    for kind in [File, FileOrCreate] {
        let found = place.try_open("allowed/file", kind);
        assert_eq!(found, Ok("allowed/file".into()), "{kind:?}");
    }
    let wrong = |path: &str, what: &str| {
        Err(format!(
            "{FAILED}hostPath type check failed: {path} is not {what}"
        ))
    };
    for (path, kind, what) in [
        ("allowed/file", Directory, "a directory"),
        ("allowed/file", DirectoryOrCreate, "a directory"),
        ("allowed/dir", File, "a file"),
        ("allowed/dir", FileOrCreate, "a file"),
        ("allowed/none", Directory, "a directory"),
        ("allowed/none", File, "a file"),
    ] {
        assert_eq!(place.try_open(path, kind), wrong(path, what), "{kind:?}");
    }
    assert!(!place.0.join("allowed/none").exists());
}

#[test]
fn what_is_missing_is_made_with_the_kubelets_modes() {
    use HostPathKind::*;
    let place = Place::new("made");
    let mode = |path: &str| {
        fs::metadata(place.0.join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    // The umask of this process is nobody's concern here: modes are at most these.
    for (path, kind, most) in [
        ("allowed/a/b/c", DirectoryOrCreate, 0o755),
        ("allowed/d", Any, 0o755),
        ("allowed/f", FileOrCreate, 0o644),
    ] {
        assert_eq!(place.try_open(path, kind), Ok(path.into()));
        assert_eq!(mode(path) & !most, 0, "{path}");
        // Again, with what is there now.
        assert_eq!(place.try_open(path, kind), Ok(path.into()));
    }
    let failed = place
        .try_open("allowed/no/parent", FileOrCreate)
        .unwrap_err();
    assert!(failed.contains("No such file"), "{failed}");
    assert!(!place.0.join("allowed/no").exists());
}

#[test]
fn a_link_leads_out_of_what_is_allowed_for_nobody() {
    use HostPathKind::*;
    let place = Place::new("links");
    fs::create_dir(place.0.join("secret")).unwrap();
    fs::create_dir(place.0.join("allowed/real")).unwrap();
    symlink(place.0.join("secret"), place.0.join("allowed/out")).unwrap();
    symlink("real", place.0.join("allowed/in")).unwrap();
    assert_eq!(
        place.try_open("allowed/in", Directory),
        Ok("allowed/real".into())
    );
    let out = place.try_open("allowed/out", Directory).unwrap_err();
    let own = place.0.display().to_string();
    assert_eq!(
        out,
        format!("{FAILED}allowed/out is {own}/secret, which is forbidden by policy")
            .replace(&format!("{own}/"), "")
    );
    // Nothing is made behind it either.
    assert!(
        place
            .try_open("allowed/out/new", DirectoryOrCreate)
            .is_err()
    );
    assert!(place.try_open("allowed/out/new", FileOrCreate).is_err());
    assert_eq!(fs::read_dir(place.0.join("secret")).unwrap().count(), 0);
    assert!(place.try_open("secret", Any).is_err());
}

#[test]
fn a_prefix_has_one_spelling() {
    assert_eq!(
        prefix(Path::new("/srv//data/./x/")),
        Some("/srv/data/x".into())
    );
    assert_eq!(prefix(Path::new("/srv/../etc")), None);
}
