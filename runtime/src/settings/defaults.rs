//! Where things lie where nobody says so: root's in the system's places, an ordinary
//! user's in that user's (XDG Base Directory Specification 0.8).

use super::{DEFAULT_ROOT, DEFAULT_STATE};
use std::path::PathBuf;

/// Both places, and whose they are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Defaults {
    /// Not root's.
    pub(super) is_ordinary: bool,
    /// What stays over a reboot.
    pub(super) root: String,
    /// What does not.
    pub(super) state: String,
}

impl Defaults {
    /// Those of this process's user.
    pub(super) fn here() -> Self {
        let user = rustix::process::geteuid();
        let ordinary = (!user.is_root()).then_some(user.as_raw());
        Self::of(ordinary, |name| std::env::var_os(name).map(PathBuf::from))
    }

    /// Those of an ordinary user by number, or of root.
    fn of(user: Option<u32>, variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        // Relative ones are to be ignored.
        let place = |name| variable(name).filter(|path| path.is_absolute());
        let shown = |path: PathBuf| path.join("beluga").to_string_lossy().into_owned();
        let data = || place("XDG_DATA_HOME").or_else(|| Some(place("HOME")?.join(".local/share")));
        let Some(user) = user else {
            return Self {
                is_ordinary: false,
                root: DEFAULT_ROOT.to_owned(),
                state: DEFAULT_STATE.to_owned(),
            };
        };
        Self {
            is_ordinary: true,
            root: data().map_or_else(|| DEFAULT_ROOT.to_owned(), shown),
            state: place("XDG_RUNTIME_DIR").map_or_else(|| format!("/tmp/beluga-{user}"), shown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_things_lie_where_the_user_may_write() {
        let of = |given: &[(&str, &str)], user| {
            let all: Vec<_> = given.to_vec();
            let found = Defaults::of(user, |name| {
                let found = all.iter().find(|(of, _)| *of == name);
                found.map(|(_, path)| PathBuf::from(path))
            });
            (found.root, found.state)
        };
        let said = [("HOME", "/home/a"), ("XDG_RUNTIME_DIR", "/run/user/7")];
        let expected = (
            "/home/a/.local/share/beluga".into(),
            "/run/user/7/beluga".into(),
        );
        assert_eq!(of(&said, Some(7)), expected);
        let data = [
            ("HOME", "/home/a"),
            ("XDG_DATA_HOME", "/data"),
            ("XDG_RUNTIME_DIR", "x"),
        ];
        assert_eq!(
            of(&data, Some(7)),
            ("/data/beluga".into(), "/tmp/beluga-7".into())
        );
        assert_eq!(of(&said, None), (DEFAULT_ROOT.into(), DEFAULT_STATE.into()));
    }
}
