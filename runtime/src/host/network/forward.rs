//! This host passes packets on, as NAT and published ports need it. What it did before
//! is noted beside the claims, for whoever wants to have that back.

use super::{NetworkError, subnets};
use crate::path_error::PathError;
use std::io;
use std::path::Path;

/// Lets it pass IPv4 packets on.
pub fn ipv4() -> Result<(), NetworkError> {
    let path = Path::new("/proc/sys/net/ipv4/ip_forward");
    let before = std::fs::read_to_string(path).map_err(PathError::on("read", path))?;
    if before.trim() == "0" {
        let note = Path::new(subnets::CLAIMS).join("ip_forward.before");
        std::fs::write(&note, before).map_err(PathError::on("write", &note))?;
        std::fs::write(path, "1").map_err(PathError::on("write", path))?;
    }
    Ok(())
}

/// The same of IPv6. Where it may not be said, pods still have the host and each other.
pub fn ipv6() {
    let path = Path::new("/proc/sys/net/ipv6/conf");
    let _ = ipv6_below(path, Path::new(subnets::CLAIMS));
}

/// A host that passes packets on takes no routes from routers, unless it is told to
/// (`accept_ra` of 2): who took them before goes on, or it would lose its way out.
fn ipv6_below(conf: &Path, notes: &Path) -> io::Result<()> {
    let all = conf.join("all/forwarding");
    let before = std::fs::read_to_string(&all)?;
    if before.trim() != "0" {
        return Ok(());
    }
    let mut took = String::new();
    for entry in std::fs::read_dir(conf)?.flatten() {
        let path = entry.path().join("accept_ra");
        let takes = std::fs::read_to_string(&path).is_ok_and(|it| it.trim() == "1");
        // What is said of all counts for none.
        if takes && entry.file_name() != "all" {
            let name = entry.file_name();
            took.push_str(&format!("{} 1\n", name.to_string_lossy()));
        }
    }
    std::fs::write(notes.join("ipv6_forwarding.before"), before)?;
    std::fs::write(notes.join("accept_ra.before"), &took)?;
    for name in took.lines().filter_map(|line| line.split(' ').next()) {
        std::fs::write(conf.join(name).join("accept_ra"), "2")?;
    }
    std::fs::write(&all, "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_took_routes_from_routers_goes_on_taking_them() {
        let place = std::env::temp_dir().join(format!("beluga-forward-{}", std::process::id()));
        let read = |path: &str| std::fs::read_to_string(place.join(path)).unwrap();
        let write = |path: &str, text: &str| {
            let path = place.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("all/forwarding", "0\n");
        for (name, value) in [("all", "1"), ("default", "1"), ("eth0", "1"), ("blg0", "0")] {
            write(&format!("{name}/accept_ra"), value);
        }
        write("notes/x", "");
        ipv6_below(&place, &place.join("notes")).unwrap();
        assert_eq!(read("all/forwarding"), "1");
        for (name, value) in [("all", "1"), ("default", "2"), ("eth0", "2"), ("blg0", "0")] {
            assert_eq!(read(&format!("{name}/accept_ra")), value, "{name}");
        }
        assert_eq!(read("notes/ipv6_forwarding.before"), "0\n");
        let noted = read("notes/accept_ra.before");
        assert!(
            noted.contains("eth0 1\n") && !noted.contains("blg0"),
            "{noted}"
        );
        // Where it is so already, nothing is touched.
        write("eth0/accept_ra", "1");
        ipv6_below(&place, &place.join("notes")).unwrap();
        assert_eq!(read("eth0/accept_ra"), "1");
        std::fs::remove_dir_all(&place).unwrap();
    }
}
