//! `beluga doctor`: whether this host can run pods, and what to do if not.

mod firewall;
mod ordinary;

use super::error::StartError;
use super::style::Style;
use super::version::{self, Origin};
use super::{CliError, exit};
use crate::settings::{Parts, Settings};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

/// Free bytes below which a root is worth a warning.
const LITTLE_SPACE: u64 = 2 << 30;

/// Type of a cgroup v2 mount (include/uapi/linux/magic.h).
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Good,
    Doubtful,
    Bad,
}

struct Finding {
    name: &'static str,
    grade: Grade,
    found: String,
    advice: Option<String>,
}

impl Finding {
    fn new(name: &'static str, grade: Grade, found: impl Into<String>) -> Self {
        Self {
            name,
            grade,
            found: found.into(),
            advice: None,
        }
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// Runs the verb. The exit code is 1 when pods cannot run here.
#[expect(
    clippy::unnecessary_wraps,
    reason = "every verb has the same shape for the dispatcher"
)]
pub fn run(settings: &Settings) -> Result<u8, CliError> {
    let mut findings = vec![kvm()];
    if settings.is_ordinary {
        findings.extend(ordinary::findings(settings));
    } else {
        findings.extend([rights(), cgroup(), tun()]);
        findings.extend(firewall::finding());
    }
    findings.extend([mke2fs(), disk(settings)]);
    findings.extend(parts(settings));
    findings.extend(images(settings));
    let style = Style::stdout();
    for finding in &findings {
        let mark = match finding.grade {
            Grade::Good => style.good("ok  "),
            Grade::Doubtful => style.warn("warn"),
            Grade::Bad => style.bad("FAIL"),
        };
        say!("{mark}  {:<10} {}", finding.name, finding.found);
        if let Some(advice) = &finding.advice {
            say!("      {:<10} {} {advice}", "", style.dim("→"));
        }
    }
    let bad = findings.iter().any(|finding| finding.grade == Grade::Bad);
    say!(
        "{}",
        if bad {
            "pods cannot run here"
        } else {
            "pods can run here"
        }
    );
    Ok(if bad { exit::ERROR } else { exit::OK })
}

/// Whether the image store is whole; nothing about one that is, or that is not there.
fn images(settings: &Settings) -> Option<Finding> {
    const NAME: &str = "images";
    match super::image::damaged(settings) {
        Ok(damaged) => {
            let first = damaged.first()?.clone();
            let finding = Finding::new(NAME, Grade::Doubtful, first);
            Some(finding.advise(format!("{} in all: beluga gc --check", damaged.len())))
        }
        Err(error) => Some(Finding::new(NAME, Grade::Doubtful, error.to_string())),
    }
}

/// Errors where no guest can run, before anything is begun: a KVM that only
/// interprets would be found out after half a minute.
pub fn must_run_guests() -> Result<(), CliError> {
    match kvm() {
        Finding {
            grade: Grade::Bad,
            found,
            advice,
            ..
        } => Err(StartError::NoKvm { found, advice }.into()),
        _ => Ok(()),
    }
}

/// What the CPU says about itself.
struct Cpu {
    virtualisation: Option<&'static str>,
    guest: bool,
}

impl Cpu {
    fn read() -> Self {
        let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = text.lines().find(|line| line.starts_with("flags"));
        let flags: Vec<&str> = flags.unwrap_or_default().split_whitespace().collect();
        let has = |flag| flags.contains(&flag);
        Self {
            virtualisation: match (has("vmx"), has("svm")) {
                (true, _) => Some("VMX"),
                (_, true) => Some("SVM"),
                _ => None,
            },
            guest: has("hypervisor"),
        }
    }
}

fn kvm() -> Finding {
    const NAME: &str = "kvm";
    let cpu = Cpu::read();
    let device = Path::new("/dev/kvm");
    if !device.exists() {
        let finding = Finding::new(NAME, Grade::Bad, "absent: there is no /dev/kvm");
        return finding.advise(match cpu.virtualisation {
            Some("VMX") => "modprobe kvm_intel",
            Some(_) => "modprobe kvm_amd",
            None if cpu.guest => {
                "this is a virtual machine: switch on nested virtualisation on its host"
            }
            None => "switch on virtualisation (VT-x or AMD-V) in the firmware's settings",
        });
    }
    if let Err(error) = OpenOptions::new().read(true).write(true).open(device) {
        return Finding::new(
            NAME,
            Grade::Bad,
            format!("not to be had: /dev/kvm cannot be opened: {error}"),
        )
        .advise(match rustix::process::geteuid().is_root() {
            true => "run where root may open it",
            false => "as root: usermod -aG kvm USER (and log in anew), or run as root",
        });
    }
    match (cpu.virtualisation, cpu.guest) {
        (Some(kind), false) => Finding::new(NAME, Grade::Good, format!("hardware ({kind})")),
        (Some(kind), true) => Finding::new(
            NAME,
            Grade::Good,
            format!("nested ({kind} of a virtual machine): everything works, boots are slower"),
        ),
        (None, _) => Finding::new(
            NAME,
            Grade::Bad,
            "emulated: /dev/kvm is there, but the CPU shows neither VMX nor SVM; such a KVM \
             interprets the guest's kernel, too slowly and too incompletely for a Linux guest",
        )
        .advise("use a host with hardware or nested virtualisation, or `make lab` in the sources"),
    }
}

fn rights() -> Finding {
    Finding::new("rights", Grade::Good, "root")
}

fn cgroup() -> Finding {
    const NAME: &str = "cgroup";
    let path = "/sys/fs/cgroup";
    #[expect(
        clippy::allow_attributes,
        reason = "the width of f_type differs between targets, and so does the lint"
    )]
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let unified = rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type as i64 == CGROUP2_MAGIC);
    if !unified {
        return Finding::new(NAME, Grade::Bad, "v2 is not mounted on /sys/fs/cgroup")
            .advise("boot with systemd.unified_cgroup_hierarchy=1");
    }
    let present = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let present: Vec<&str> = present.split_whitespace().collect();
    let absent: Vec<&str> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|name| !present.contains(name))
        .collect();
    if absent.is_empty() {
        Finding::new(NAME, Grade::Good, format!("v2 with {}", present.join(" ")))
    } else {
        let absent = absent.join(", ");
        Finding::new(
            NAME,
            Grade::Bad,
            format!("v2, but without the controllers {absent}"),
        )
        .advise("another hierarchy (cgroup v1) may hold them: unmount it")
    }
}

fn tun() -> Finding {
    const NAME: &str = "tun";
    match OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
    {
        Ok(file) if is_tun(&file) => Finding::new(NAME, Grade::Good, "/dev/net/tun"),
        Ok(_) => Finding::new(NAME, Grade::Bad, "/dev/net/tun is another device")
            .advise("rm /dev/net/tun; mknod /dev/net/tun c 10 200"),
        Err(error) => Finding::new(
            NAME,
            Grade::Bad,
            format!("/dev/net/tun cannot be opened: {error}"),
        )
        .advise(match error.kind() {
            io::ErrorKind::PermissionDenied => "run as root",
            _ => "modprobe tun",
        }),
    }
}

/// Whether it is the device that makes taps (10, 200 in the kernel's
/// Documentation/admin-guide/devices.txt).
fn is_tun(file: &fs::File) -> bool {
    let device = rustix::fs::makedev(10, 200);
    rustix::fs::fstat(file).is_ok_and(|stat| stat.st_rdev == device)
}

fn mke2fs() -> Finding {
    const NAME: &str = "mke2fs";
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(NAME))
        .find(|program| program.is_file());
    match found {
        Some(program) => Finding::new(NAME, Grade::Good, program.display().to_string()),
        None => Finding::new(
            NAME,
            Grade::Bad,
            "not found: scratch disks cannot be formatted",
        )
        .advise("apt-get install e2fsprogs"),
    }
}

fn disk(settings: &Settings) -> Finding {
    const NAME: &str = "disk";
    let root = &settings.root;
    // The root itself is made by the first command that needs it.
    let existing = root.ancestors().find(|path| path.exists());
    for directory in [root, &settings.state] {
        if let Err(why) = may_write(directory) {
            let text = format!("{} cannot be written: {why}", directory.display());
            let advice = match why {
                rustix::io::Errno::ACCESS => "run as root, or move it with --root and --state",
                _ => "move it with --root and --state",
            };
            return Finding::new(NAME, Grade::Bad, text).advise(advice);
        }
    }
    match existing.map(rustix::fs::statvfs) {
        Some(Ok(fs)) => {
            let free = fs.f_bavail.saturating_mul(fs.f_frsize);
            let text = format!("{} MiB free for {}", free >> 20, root.display());
            if free < LITTLE_SPACE {
                Finding::new(NAME, Grade::Doubtful, text)
                    .advise("move it with --root, or make room")
            } else {
                Finding::new(NAME, Grade::Good, text)
            }
        }
        _ => Finding::new(
            NAME,
            Grade::Bad,
            format!("{} cannot be looked at", root.display()),
        ),
    }
}

/// Whether files can be made in a directory, or in the one that it would be made in.
fn may_write(directory: &Path) -> Result<(), rustix::io::Errno> {
    match directory.ancestors().find(|path| path.exists()) {
        Some(existing) if !existing.is_dir() => Err(rustix::io::Errno::NOTDIR),
        Some(existing) => rustix::fs::access(existing, rustix::fs::Access::WRITE_OK),
        None => Ok(()),
    }
}

fn parts(settings: &Settings) -> Vec<Finding> {
    let Parts {
        vmm,
        kernel,
        initramfs,
    } = match settings.parts() {
        Ok(parts) => parts,
        Err(error) => {
            return vec![
                Finding::new("parts", Grade::Bad, error.to_string())
                    .advise("in the sources: make build; for every user: make install"),
            ];
        }
    };
    let share = match settings.share_server() {
        Ok(server) => program("share", &server),
        // Only pods with hostPath volumes need it.
        Err(error) => Finding::new("share", Grade::Doubtful, error.to_string())
            .advise("in the sources: make build; for every user: make install"),
    };
    vec![
        program("vmm", &vmm),
        share,
        guest_kernel(&kernel),
        guest_initramfs(&initramfs),
    ]
}

fn guest_kernel(path: &Path) -> Finding {
    let finding = image("kernel", path, |head| {
        // An ELF file, or the boot sector's signature of a bzImage.
        head.starts_with(b"\x7fELF") || head.get(0x202..0x206) == Some(b"HdrS")
    });
    let found = version::of_kernel(path).unwrap_or("a kernel without a version".into());
    let found = format!("{found}, {}", path.display());
    match version::origin(path) {
        _ if finding.grade == Grade::Bad => finding,
        Origin::Ours => Finding::new("kernel", Grade::Good, found),
        Origin::Other(built) => other_version("kernel", &found, &built),
        Origin::Changed => changed("kernel", &found),
        Origin::Unknown => {
            let text = format!(
                "{found}: nothing beside it says that it was built for pods of this version"
            );
            Finding::new("kernel", Grade::Doubtful, text)
                .advise("install the one of this version (make install), or see that it has what rootfs/kernel.config has")
        }
    }
}

fn other_version(name: &'static str, found: &str, built: &str) -> Finding {
    let own = version::VERSION;
    let text = format!("{found}, was built with version {built}, this is {own}");
    Finding::new(name, Grade::Bad, text).advise("install both from one build")
}

fn changed(name: &'static str, found: &str) -> Finding {
    let text = format!("{found}, is not the file that was built with this version");
    Finding::new(name, Grade::Doubtful, text)
        .advise("install the one of this version (make install)")
}

fn guest_initramfs(path: &Path) -> Finding {
    // The guest kernel of this product unpacks nothing that is compressed.
    let finding = image("initramfs", path, |head| head.starts_with(b"070701"));
    let shown = path.display();
    match version::of_initramfs(path) {
        _ if finding.grade == Grade::Bad => finding,
        Some(found) if found == version::VERSION => {
            let found = format!("agent {found}, {shown}");
            match version::origin(path) {
                Origin::Other(built) => other_version("initramfs", &found, &built),
                Origin::Changed => changed("initramfs", &found),
                Origin::Ours | Origin::Unknown => Finding::new("initramfs", Grade::Good, found),
            }
        }
        Some(found) => {
            let own = version::VERSION;
            let text = format!("the agent in {shown} is of version {found}, this is {own}");
            Finding::new("initramfs", Grade::Bad, text).advise("install both from one build")
        }
        None => {
            let text = format!("{shown}: no agent's version can be told");
            Finding::new("initramfs", Grade::Doubtful, text)
                .advise("install the one of this version (make install)")
        }
    }
}

/// A program of ours beside this one.
fn program(name: &'static str, path: &Path) -> Finding {
    let shown = path.display();
    match version::of_program(path) {
        Some(found) if found == version::VERSION => {
            Finding::new(name, Grade::Good, format!("{found}, {shown}"))
        }
        Some(found) => {
            let own = version::VERSION;
            let text = format!("{shown} is of version {found}, this is {own}");
            Finding::new(name, Grade::Bad, text).advise("install both from one build")
        }
        None => Finding::new(
            name,
            Grade::Bad,
            format!("{shown} does not run, or is no program of this product"),
        )
        .advise("in the sources: make build; for every user: make install"),
    }
}

fn image(name: &'static str, path: &Path, is: impl Fn(&[u8]) -> bool) -> Finding {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(1024).read_to_end(&mut head));
    let shown = path.display();
    match read {
        Err(error) => Finding::new(name, Grade::Bad, format!("{shown} cannot be read: {error}")),
        Ok(_) if !is(&head) => Finding::new(name, Grade::Bad, format!("{shown} is not one"))
            .advise("install the one of this version (make install)"),
        Ok(_) => {
            let bytes = fs::metadata(path).map_or(0, |data| data.len());
            Finding::new(
                name,
                Grade::Good,
                format!("{} KiB, {shown}", bytes.div_ceil(1024)),
            )
        }
    }
}
