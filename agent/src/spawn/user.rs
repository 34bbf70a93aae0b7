//! Who a process runs as: numbers and names of the manifest and the image,
//! resolved by the image's own `/etc/passwd` and `/etc/group`.
//!
//! The meaning is containerd's: `runAsUser` replaces the image's user; a number
//! that passwd does not know is fine and has group 0; a name must be known.

use super::resolve::{Boundary, PathError, existing};
use beluga_proto::FaultCode;
use beluga_proto::container::UserSpec;
use rustix::fs::OFlags;
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

/// Longest passwd or group file that is read; a longer one is an error, so
/// that nobody gets the wrong identity from half a file.
const LONGEST_FILE: u64 = 1 << 20;

/// Most supplementary groups, as the kernel has it.
const MOST_GROUPS: usize = 65536;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// First group.
    pub gid: u32,
    /// All groups, the first one among them.
    pub groups: Vec<u32>,
    /// Home directory, `/` where the image names none.
    pub home: String,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A name that is not in the image's passwd file.
    #[error("user {name:?} is not in /etc/passwd of the image")]
    NoUser {
        /// Which.
        name: String,
    },
    /// A name that is not in the image's group file.
    #[error("group {name:?} is not in /etc/group of the image")]
    NoGroup {
        /// Which.
        name: String,
    },
    /// `runAsNonRoot` and the user is root.
    #[error("runAsNonRoot is set, but {who} is root (uid 0)")]
    RunsAsRoot {
        /// Who.
        who: String,
    },
    /// More than one colon.
    #[error("user {text:?} is neither user nor user:group")]
    Shape {
        /// What was given.
        text: String,
    },
    /// A file of the image cannot be used.
    #[error("{path} of the image is no regular file of at most {LONGEST_FILE} bytes")]
    BadFile {
        /// Which.
        path: &'static str,
    },
    /// A file of the image cannot be found.
    #[error("cannot resolve a file of the image")]
    Path(#[from] PathError),
    /// A file of the image cannot be read.
    #[error("cannot read {path} of the image")]
    Read {
        /// Which.
        path: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl UserError {
    /// The code under which it travels.
    pub fn code(&self) -> FaultCode {
        match self {
            Self::NoUser { .. } | Self::NoGroup { .. } => FaultCode::UserNotFound,
            Self::RunsAsRoot { .. } => FaultCode::RunsAsRoot,
            Self::Shape { .. } | Self::BadFile { .. } | Self::Path(_) => FaultCode::InvalidArgument,
            Self::Read { .. } => FaultCode::Internal,
        }
    }
}

/// Resolves a user by the files of a container's root.
pub fn resolve(root: BorrowedFd<'_>, spec: &UserSpec) -> Result<Identity, UserError> {
    let passwd = read(root, "/etc/passwd")?;
    let group = read(root, "/etc/group")?;
    identify(spec, &passwd, &group)
}

/// A line of passwd.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Resolves a user by the text of the two files.
pub fn identify(spec: &UserSpec, passwd: &str, group: &str) -> Result<Identity, UserError> {
    let (user, image_group) = match spec.image_user.split_once(':') {
        Some((_, rest)) if rest.contains(':') => {
            return Err(UserError::Shape {
                text: spec.image_user.clone(),
            });
        }
        Some((user, group)) => (user, group),
        None => (spec.image_user.as_str(), ""),
    };
    // The image's group belongs to the image's user.
    let (user, image_group) = match spec.uid {
        Some(uid) => (Who::Number(uid), ""),
        None => (Who::parse(user), image_group),
    };
    let account = accounts(passwd).find(|account| match user {
        Who::Number(uid) => account.uid == uid,
        Who::Name(name) => account.name == name,
    });
    let (uid, account_gid) = match (user, &account) {
        (_, Some(account)) => (account.uid, account.gid),
        (Who::Number(uid), None) => (uid, 0),
        (Who::Name(name), None) => return Err(UserError::NoUser { name: name.into() }),
    };
    let gid = match (spec.gid, image_group) {
        (Some(gid), _) => gid,
        (None, "") => account_gid,
        (None, name) => match Who::parse(name) {
            Who::Number(gid) => gid,
            Who::Name(name) => group_entries(group)
                .find(|entry| entry.0 == name)
                .map(|entry| entry.1)
                .ok_or_else(|| UserError::NoGroup { name: name.into() })?,
        },
    };
    if spec.refuse_root && uid == 0 {
        return Err(UserError::RunsAsRoot {
            who: describe(spec),
        });
    }
    Ok(Identity {
        uid,
        gid,
        groups: groups(spec, gid, account.as_ref(), group),
        home: match &account {
            Some(account) if !account.home.is_empty() => account.home.to_owned(),
            _ => "/".to_owned(),
        },
    })
}

/// The first group, those that list the account as a member where that counts,
/// and those that the manifest adds; each once. Without the first one among them, a file that
/// refuses a group could be read by dropping it (CVE-2023-25173).
fn groups(spec: &UserSpec, gid: u32, account: Option<&Account<'_>>, group: &str) -> Vec<u32> {
    let mut groups = vec![gid];
    let mut seen = std::collections::BTreeSet::from([gid]);
    let member = |members: &str| {
        account.is_some_and(|account| members.split(',').any(|name| name == account.name))
    };
    let listed = group_entries(group)
        .filter(|entry| !spec.strict_groups && member(entry.2))
        .map(|entry| entry.1);
    for gid in listed.chain(spec.supplementary.iter().copied()) {
        if groups.len() < MOST_GROUPS && seen.insert(gid) {
            groups.push(gid);
        }
    }
    groups
}

fn describe(spec: &UserSpec) -> String {
    match spec.uid {
        Some(_) => "runAsUser".to_owned(),
        None if spec.image_user.is_empty() => "the image's default user".to_owned(),
        None => format!("the image's user {:?}", spec.image_user),
    }
}

/// A user or group as it is written: a number, or else a name.
#[derive(Clone, Copy)]
enum Who<'a> {
    Number(u32),
    Name(&'a str),
}

impl<'a> Who<'a> {
    fn parse(text: &'a str) -> Self {
        if text.is_empty() {
            return Self::Number(0);
        }
        // -1 means "no change" to the kernel: never an identity.
        match text.parse::<u32>() {
            Ok(number) if number <= i32::MAX.unsigned_abs() && !text.starts_with('+') => {
                Self::Number(number)
            }
            _ => Self::Name(text),
        }
    }
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("");
        (!name.is_empty() && !name.starts_with('#')).then_some(Account {
            name,
            uid,
            gid,
            home,
        })
    })
}

/// Name, number and members of each group.
fn group_entries(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or("");
        (!name.is_empty() && !name.starts_with('#')).then_some((name, gid, members))
    })
}

/// The text of a file of the image; empty when there is none. Neither a FIFO
/// nor a device is opened, and no link leaves the root.
fn read(root: BorrowedFd<'_>, path: &'static str) -> Result<String, UserError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let look = existing(root, path, OFlags::PATH, Boundary::Root)?;
    let Some(look) = look else {
        return Ok(String::new());
    };
    let stat = rustix::fs::fstat(&look).map_err(|errno| UserError::Read {
        path,
        source: errno.into(),
    })?;
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    if kind != rustix::fs::FileType::RegularFile {
        return Err(UserError::BadFile { path });
    }
    let Some(file) = existing(root, path, flags, Boundary::Root)? else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    File::from(file)
        .take(LONGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| UserError::Read { path, source })?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(UserError::BadFile { path });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        # a comment:x:5:5::/x:\n\
        app:x:1000:1001:App:/home/app:/bin/sh\n\
        broken\n\
        nohome:x:1002:1002::\n";
    const GROUP: &str = "root:x:0:root\nwheel:x:10:root,app\napp:x:1001:\nlogs:x:20:app\n";

    fn image(user: &str) -> UserSpec {
        UserSpec {
            image_user: user.into(),
            ..UserSpec::default()
        }
    }

    fn who(spec: &UserSpec) -> (u32, u32, Vec<u32>, String) {
        let found = identify(spec, PASSWD, GROUP).unwrap();
        (found.uid, found.gid, found.groups, found.home)
    }

    #[test]
    fn no_user_is_root_with_its_groups() {
        assert_eq!(who(&image("")), (0, 0, vec![0, 10], "/root".into()));
    }

    #[test]
    fn a_name_brings_group_groups_and_home() {
        let app = (1000, 1001, vec![1001, 10, 20], "/home/app".into());
        assert_eq!(who(&image("app")), app);
        assert_eq!(who(&image("1000")), app);
    }

    #[test]
    fn strict_groups_are_those_of_the_manifest_and_the_accounts_own() {
        let mut spec = image("app");
        spec.strict_groups = true;
        spec.supplementary = vec![7];
        assert_eq!(who(&spec).2, [1001, 7]);
    }

    #[test]
    fn an_unknown_number_is_fine_and_an_unknown_name_is_not() {
        assert_eq!(who(&image("4242")), (4242, 0, vec![0], "/".into()));
        assert_eq!(who(&image("4242:77")), (4242, 77, vec![77], "/".into()));
        let error = identify(&image("ghost"), PASSWD, GROUP).unwrap_err();
        assert_eq!(error.code(), FaultCode::UserNotFound);
        let error = identify(&image("app:ghosts"), PASSWD, GROUP).unwrap_err();
        assert_eq!(error.code(), FaultCode::UserNotFound);
        let error = identify(&image("a:b:c"), PASSWD, GROUP).unwrap_err();
        assert_eq!(error.code(), FaultCode::InvalidArgument);
    }

    #[test]
    fn the_manifest_wins_over_the_image() {
        let mut spec = image("app:logs");
        assert_eq!(who(&spec).1, 20);
        spec.uid = Some(1002);
        assert_eq!(who(&spec), (1002, 1002, vec![1002], "/".into()));
        spec.gid = Some(5);
        spec.supplementary = vec![7, 5, 7];
        assert_eq!(who(&spec), (1002, 5, vec![5, 7], "/".into()));
    }

    #[test]
    fn root_is_refused_by_number_and_by_name() {
        for (user, uid) in [("", None), ("root", None), ("0", None), ("app", Some(0))] {
            let spec = UserSpec {
                image_user: user.into(),
                uid,
                refuse_root: true,
                ..UserSpec::default()
            };
            let error = identify(&spec, PASSWD, GROUP).unwrap_err();
            assert_eq!(error.code(), FaultCode::RunsAsRoot, "{user:?} {uid:?}");
        }
        let mut spec = image("app");
        spec.refuse_root = true;
        assert_eq!(who(&spec).0, 1000);
    }

    #[test]
    fn minus_one_is_a_name_and_never_a_number() {
        let error = identify(&image("4294967295"), "", "").unwrap_err();
        assert_eq!(error.code(), FaultCode::UserNotFound);
    }

    #[test]
    fn hostile_lines_are_skipped() {
        let passwd = "evil:x:-1:0::/:\nevil:x:99999999999:0::/:\n::::::\n:x:0:0::/:\n";
        assert!(identify(&image("evil"), passwd, "").is_err());
        assert_eq!(identify(&image(""), "", "").unwrap().home, "/");
    }
}
