//! Volumes that the agent fills: ConfigMaps, Secrets and what the pod is told
//! of itself.
//!
//! The layout and the order are the kubelet's (pkg/volume/util/atomic_writer.go),
//! so that programs which watch `..data` see each update once and whole:
//!
//! ```text
//! VOLUME/..2026_11_21_07_08_09.123456789/   one generation, never changed once it is seen
//! VOLUME/..data -> ..2026_11_21_…            renamed over its predecessor
//! VOLUME/NAME -> ..data/NAME                 for each name at the top of the tree
//! ```

use beluga_proto::agent::FilePiece;
use rustix::fs::{AtFlags, Gid, Mode, OFlags};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What a group that owns a volume may do with its directories, and that what
/// is made in them is its own: `execMask`, `roMask` and setgid of
/// pkg/volume/volume_linux.go.
const GROUP_DIRECTORY: u32 = 0o2550;

/// Longest path of a file, in bytes: far below what the kernel takes.
const MAX_PATH: usize = 1024;

/// Why files cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A path leads out of its volume, or is the agent's own.
    #[error("{path:?} cannot be the path of a file in a volume")]
    Path {
        /// The path.
        path: String,
    },
    /// A step.
    #[error("cannot {action} {path}", path = .path.display())]
    Step {
        /// Which.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

fn on<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> FilesError {
    move |source| FilesError::Step {
        action,
        path: path.to_owned(),
        source: source.into(),
    }
}

/// A volume of files.
#[derive(Debug)]
pub struct FileVolume {
    root: PathBuf,
    group: Option<u32>,
    /// The generation that is being written.
    staged: Option<PathBuf>,
}

impl FileVolume {
    /// The volume in an existing directory, owned by `group`.
    pub fn new(root: &str, group: Option<u32>) -> Self {
        Self {
            root: root.into(),
            group,
            staged: None,
        }
    }

    /// Takes pieces of the next generation; with the last of them it takes the
    /// place of the present one, in one step. The first of them begin it anew,
    /// whatever another supervisor has left unfinished.
    pub fn write(
        &mut self,
        pieces: &[FilePiece],
        first: bool,
        last: bool,
    ) -> Result<(), FilesError> {
        if first {
            self.discard();
        }
        let result = self.take(pieces, last);
        if result.is_err() {
            // The present generation stays as it is.
            self.discard();
        }
        result
    }

    fn take(&mut self, pieces: &[FilePiece], last: bool) -> Result<(), FilesError> {
        let staged = match &self.staged {
            Some(staged) => staged.clone(),
            None => {
                let staged = self.root.join(generation_name());
                self.make_directory(&staged)?;
                self.staged.insert(staged).clone()
            }
        };
        for piece in pieces {
            self.write_piece(&staged, piece)?;
        }
        if last {
            let former = self.publish(&staged)?;
            self.staged = None;
            self.tidy(&staged, former)?;
        }
        Ok(())
    }

    fn discard(&mut self) {
        if let Some(staged) = self.staged.take() {
            let _ = std::fs::remove_dir_all(staged);
        }
    }

    fn make_directory(&self, path: &Path) -> Result<(), FilesError> {
        match DirBuilder::new().mode(0o755).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made.map_err(on("make", path))?,
        }
        let group = self.group.map_or(0, |_| GROUP_DIRECTORY);
        self.own(path)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755 | group))
            .map_err(on("set the mode of", path))
    }

    fn own(&self, path: &Path) -> Result<(), FilesError> {
        let Some(group) = self.group.map(Gid::from_raw) else {
            return Ok(());
        };
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(rustix::fs::CWD, path, None, Some(group), flags)
            .map_err(on("set the group of", path))
    }

    fn write_piece(&self, staged: &Path, piece: &FilePiece) -> Result<(), FilesError> {
        let bad = || FilesError::Path {
            path: piece.path.chars().take(80).collect(),
        };
        let parts: Vec<&str> = piece.path.split('/').collect();
        let is_plain = |part: &&str| !part.is_empty() && *part != "." && *part != "..";
        if piece.path.len() > MAX_PATH
            || piece.path.contains('\0')
            || piece.path.starts_with("..")
            || !parts.iter().all(is_plain)
        {
            return Err(bad());
        }
        let mut path = staged.to_owned();
        let (name, parents) = parts.split_last().ok_or_else(bad)?;
        for parent in parents {
            path.push(parent);
            self.make_directory(&path)?;
        }
        path.push(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = if piece.append {
            OFlags::APPEND
        } else {
            OFlags::TRUNC
        };
        let mut file = rustix::fs::open(&path, flags | how, Mode::from(0o600))
            .map(File::from)
            .map_err(on("make", &path))?;
        file.write_all(&piece.content.0)
            .map_err(on("write", &path))?;
        self.own(&path)?;
        // After the owner: a change of it takes bits away.
        let mode = PermissionsExt::from_mode(piece.mode & 0o777);
        file.set_permissions(mode)
            .map_err(on("set the mode of", &path))
    }

    /// Makes the generation the present one; gives the former one.
    fn publish(&self, staged: &Path) -> Result<Option<PathBuf>, FilesError> {
        let data = self.root.join("..data");
        let fresh = self.root.join("..data_tmp");
        let former = std::fs::read_link(&data).ok();
        let name = staged.file_name().unwrap_or_default();
        let _ = std::fs::remove_file(&fresh);
        symlink(name, &fresh).map_err(on("make", &fresh))?;
        self.own(&fresh)?;
        std::fs::rename(&fresh, &data).map_err(on("rename", &fresh))?;
        Ok(former)
    }

    /// Brings the links in line with the present generation.
    fn tidy(&self, staged: &Path, former: Option<PathBuf>) -> Result<(), FilesError> {
        let wanted = names(staged)?;
        for name in &wanted {
            let link = self.root.join(name);
            if std::fs::symlink_metadata(&link).is_err() {
                symlink(Path::new("..data").join(name), &link).map_err(on("make", &link))?;
                self.own(&link)?;
            }
        }
        for name in names(&self.root)? {
            if !name.starts_with("..") && !wanted.contains(&name) {
                let link = self.root.join(name);
                std::fs::remove_file(&link).map_err(on("remove", &link))?;
            }
        }
        if let Some(former) = former.map(|former| self.root.join(former)) {
            std::fs::remove_dir_all(&former).map_err(on("remove", &former))?;
        }
        Ok(())
    }
}

fn names(directory: &Path) -> Result<BTreeSet<String>, FilesError> {
    let entries = std::fs::read_dir(directory).map_err(on("list", directory))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.collect())
}

/// `..2026_11_21_07_08_09.123456789`, as the kubelet names generations.
fn generation_name() -> String {
    let now = clock_gettime(ClockId::Realtime);
    let (days, seconds) = (now.tv_sec.div_euclid(86_400), now.tv_sec.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!(
        "..{year}_{month:02}_{day:02}_{hour:02}_{minute:02}_{second:02}.{:09}",
        now.tv_nsec
    )
}

/// Year, month and day of a day since 1970, by counting years from March, so
/// that the leap day is a year's last.
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use beluga_proto::bytes::Bytes;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("beluga-files-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn volume(&self) -> FileVolume {
            FileVolume::new(self.0.to_str().unwrap(), None)
        }

        fn read(&self, path: &str) -> Option<String> {
            std::fs::read_to_string(self.0.join(path)).ok()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn piece(path: &str, content: &str) -> FilePiece {
        FilePiece {
            path: path.into(),
            mode: 0o640,
            content: Bytes(content.into()),
            append: false,
        }
    }

    #[test]
    fn days_have_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(19_782), (2024, 2, 29));
        assert_eq!(date(19_783), (2024, 3, 1));
        assert_eq!(date(20_778), (2026, 11, 21));
        assert!(generation_name().starts_with("..20"));
    }

    #[test]
    fn a_generation_is_seen_when_it_is_whole() {
        let place = Place::new("whole");
        let mut volume = place.volume();
        volume
            .write(&[piece("a", "1"), piece("d/e", "2")], true, true)
            .unwrap();
        let first = std::fs::read_link(place.0.join("..data")).unwrap();
        assert_eq!(
            std::fs::read_link(place.0.join("d")).unwrap(),
            Path::new("..data/d")
        );
        let mode = std::fs::metadata(place.0.join("a"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o640);
        volume.write(&[piece("a", "3")], true, false).unwrap();
        assert_eq!(place.read("a").as_deref(), Some("1"));
        let more = FilePiece {
            append: true,
            ..piece("a", "4")
        };
        volume.write(&[more, piece("n", "5")], false, true).unwrap();
        assert_eq!(place.read("a").as_deref(), Some("34"));
        assert_eq!(place.read("n").as_deref(), Some("5"));
        assert!(place.read("d/e").is_none() && !place.0.join("d").is_symlink());
        assert!(
            !place.0.join(first).exists(),
            "the former generation is gone"
        );
        assert_eq!(
            names(&place.0).unwrap().len(),
            4,
            "a, n, ..data, one generation"
        );
    }

    #[test]
    fn a_bad_path_leaves_what_is_there() {
        let place = Place::new("bad");
        let mut volume = place.volume();
        volume.write(&[piece("a", "1")], true, true).unwrap();
        for bad in [
            "", "/a", "..", "../a", "a/../b", "a//b", "..data", "a/.", "a\0",
        ] {
            assert!(
                volume
                    .write(&[piece("b", "2"), piece(bad, "")], true, true)
                    .is_err(),
                "{bad:?}"
            );
        }
        assert_eq!(place.read("a").as_deref(), Some("1"));
        assert_eq!(names(&place.0).unwrap().len(), 3);
    }
}
