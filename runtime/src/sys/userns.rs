//! The namespace of users in which an ordinary user's pods are kept: there its
//! maker is root, over what is made in it and over nothing of the host's.
//!
//! ```text
//! user 0 there       the user, on the host
//! user 1 and on      users that /etc/subuid gives to the user, by newuidmap: the pods'
//! ```

use rustix::thread::UnshareFlags;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::ops::Range;
use std::process::{Child, Command, ExitCode, Stdio};

/// The hidden verb that maps users: PID, then the words for newgidmap and newuidmap.
pub const MAP: &str = "map-users";

/// Most further users that are asked for; as many as Debian gives.
const MOST: u64 = 1 << 16;

const MAPS: [&str; 2] = ["/proc/self/uid_map", "/proc/self/gid_map"];

/// Enters one, with mounts of its own: this process is user 0 there, and the user
/// that it was everywhere else. Call while it has one thread, as the kernel demands.
/// Errors where the host lets ordinary users have none.
pub fn enter() -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let (user, group) = (user.as_raw(), group.as_raw());
    let mapper = begin_mapper(user, group);
    let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
    // SAFETY: of what can be unshared only a table of descriptors endangers the
    // memory of others.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    if let Some(mut mapper) = mapper {
        drop(mapper.stdin.take());
        let _ = mapper.wait();
    }
    // What could not be mapped with others is mapped alone.
    let [uid_map, gid_map] = MAPS;
    if fs::read_to_string(gid_map)?.is_empty() {
        // Who could leave a group could reach what is shut to it (user_namespaces(7)).
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write(gid_map, format!("0 {group} 1"))?;
    }
    if fs::read_to_string(uid_map)?.is_empty() {
        fs::write(uid_map, format!("0 {user} 1"))?;
    }
    Ok(())
}

/// Starts the process that will map further users, from outside of the namespace: it
/// waits until its standard input ends. `None` where the user has no further ones.
fn begin_mapper(user: u32, group: u32) -> Option<Child> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let name = name_of(&read("/etc/passwd"), user);
    let further = |path: &str| granted(&read(path), user, name.as_deref());
    let (users, groups) = (further("/etc/subuid")?, further("/etc/subgid")?);
    let words = |own: u32, further: Range<u64>| {
        let count = (further.end - further.start).min(MOST);
        [0, own.into(), 1, 1, further.start, count].map(|number: u64| number.to_string())
    };
    Command::new(std::env::current_exe().ok()?)
        .args([MAP, &std::process::id().to_string()])
        .args(words(group, groups))
        .args(words(user, users))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .ok()
}

/// The main function of that process.
#[must_use]
pub fn map_main(args: &[OsString]) -> ExitCode {
    let _ = io::stdin().read_to_end(&mut Vec::new());
    let Some((process, words)) = args.split_first() else {
        return ExitCode::FAILURE;
    };
    let (groups, users) = words.split_at(words.len() / 2);
    for (program, words) in [("newgidmap", groups), ("newuidmap", users)] {
        let status = Command::new(program).arg(process).args(words).status();
        if !status.is_ok_and(|status| status.success()) {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// A user's name by passwd(5).
fn name_of(passwd: &str, user: u32) -> Option<String> {
    let number = user.to_string();
    let is_of = |line: &&str| line.split(':').nth(2) == Some(number.as_str());
    let line = passwd.lines().find(is_of)?;
    line.split(':').next().map(str::to_owned)
}

/// What subuid(5) gives to a user, by number or by name.
fn granted(table: &str, user: u32, name: Option<&str>) -> Option<Range<u64>> {
    let number = user.to_string();
    table.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let first: u64 = fields.next()?.parse().ok()?;
        let count: u64 = fields.next()?.parse().ok()?;
        let is_its = owner == number || Some(owner) == name;
        (is_its && count > 0).then(|| first..first.saturating_add(count))
    })
}

/// Whether a user of that number has others beside, as pods want them: what newuidmap
/// needs is in place.
#[must_use]
pub fn has_others(user: u32) -> bool {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let name = name_of(&read("/etc/passwd"), user);
    let tables = ["/etc/subuid", "/etc/subgid"];
    tables
        .iter()
        .all(|path| granted(&read(path), user, name.as_deref()).is_some())
}

/// Whether this process is in another one than the host's, which knows all users.
#[must_use]
pub fn is_own() -> bool {
    let [uid_map, _] = MAPS;
    let map = fs::read_to_string(uid_map).unwrap_or_default();
    // Where there are no such namespaces there is no map either.
    !map.is_empty() && !ranges(&map).any(|range| range == (0..u64::from(u32::MAX)))
}

/// Numbers that both a user and a group of this process's namespace have, but for
/// root's; empty where there are none.
#[must_use]
pub fn others() -> Range<u32> {
    let maps = MAPS.map(|path| fs::read_to_string(path).unwrap_or_default());
    let [users, groups] = maps.map(|map| ranges(&map).last().unwrap_or(0..0));
    let both = users.start.max(groups.start).max(1)..users.end.min(groups.end);
    let narrow = |number| u32::try_from(number).unwrap_or(u32::MAX);
    narrow(both.start)..narrow(both.end)
}

/// What a map of users or groups names, by the numbers inside.
fn ranges(map: &str) -> impl Iterator<Item = Range<u64>> {
    map.lines().filter_map(|line| {
        let mut words = line.split_whitespace().map(str::parse);
        let first: u64 = words.next()?.ok()?;
        let count: u64 = words.nth(1)?.ok()?;
        Some(first..first.saturating_add(count))
    })
}

/// What keeps ordinary users of this host from having namespaces, by the kernel's
/// own settings; `None` where nothing does.
#[must_use]
pub fn forbidden() -> Option<&'static str> {
    let settings = [
        (
            "kernel/unprivileged_userns_clone",
            "0",
            "kernel.unprivileged_userns_clone is 0",
        ),
        (
            "user/max_user_namespaces",
            "0",
            "user.max_user_namespaces is 0",
        ),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns is 1",
        ),
    ];
    let says = |name: &str, value: &str| {
        let text = fs::read_to_string(format!("/proc/sys/{name}"));
        text.is_ok_and(|text| text.trim() == value)
    };
    settings
        .into_iter()
        .find_map(|(name, value, what)| says(name, value).then_some(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_names_what_is_inside() {
        let own = ranges("         0       1000          1\n").next();
        assert_eq!(own, Some(0..1));
        let all = ranges("0 0 4294967295\n").next();
        assert_eq!(all, Some(0..4_294_967_295));
        assert_eq!(ranges("rubbish\n1 2\n").count(), 0);
    }

    #[test]
    fn a_user_is_given_others_by_name_or_number() {
        let table = "else:1:2\nann:100000:65536\n1001:300000:9\nnone:5:0\n";
        assert_eq!(granted(table, 1000, Some("ann")), Some(100_000..165_536));
        assert_eq!(granted(table, 1001, None), Some(300_000..300_009));
        assert_eq!(granted(table, 1002, Some("none")), None);
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(name_of(passwd, 7), None);
    }
}
