//! The helper's own flow: from the plan to execve, in an order that matters.
//!
//! A PID namespace with processes in it is entered last of all, by a new process:
//! whoever may trace there (CAP_SYS_PTRACE) would otherwise get at the guest's
//! root, descriptors and rights through the helper (CVE-2016-9962 and its kin).
//! What needs the guest's tree comes first, then the root, then what needs the
//! container's tree, and rights are given up last. Nothing of the container's
//! is executed or trusted on the way; every path goes through [`super::resolve`].

use super::error::{Context, HelperError};
use super::kernel::Exposure;
use super::plan::{Place, RootPlan, SpawnPlan};
use super::status::Reporter;
use super::terminal::Terminal;
use super::user::Identity;
use super::{dev, kernel, program, rights, root, seccomp, terminal, user, volumes};
use crate::sys::spawn as sys;
use beluga_proto::ExecSpec;
use beluga_proto::container::Seccomp;
use rustix::fs::{Dev, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::MountPropagationFlags;
use rustix::pipe::PipeFlags;
use rustix::process::{DumpableBehavior, Gid, Uid};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

/// Descriptor numbers by which the helper is executed.
pub const PLAN_FD: RawFd = 3;
/// The status socket.
pub const STATUS_FD: RawFd = 4;
/// A pidfd of the process to join.
pub const JOIN_FD: RawFd = 5;

/// Argument of the helper that only sleeps.
pub const PAUSE_ARG: &str = "pause";

/// Mount point that an empty root is built at.
const EMPTY_ROOT: &str = "/run";

/// The helper's `main`: for `main` to call before anything else when `argv[0]`
/// is [`super::HELPER_ARG0`].
pub fn helper_main() -> ! {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|arg| arg == PAUSE_ARG)
    {
        let _ = pause();
        sys::exit(1);
    }
    let Ok(status) = sys::inherited(STATUS_FD) else {
        sys::exit(127);
    };
    let reporter = Reporter::new(status);
    let Err(error) = run(&reporter);
    reporter.failed(&error);
    sys::exit(127)
}

fn run(reporter: &Reporter) -> Result<std::convert::Infallible, HelperError> {
    // A process of the container that may trace must at least not be helped.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .to("hide from tracers")?;
    rustix::process::umask(Mode::empty());
    let mut json = Vec::new();
    File::from(sys::inherited(PLAN_FD).to("take over the plan")?)
        .read_to_end(&mut json)
        .to("read the plan")?;
    let plan: SpawnPlan = serde_json::from_slice(&json).map_err(|error| HelperError::Invalid {
        what: format!("the plan cannot be read: {error}"),
    })?;
    std::fs::write(
        "/proc/self/oom_score_adj",
        plan.process.oom_score_adj.to_string(),
    )
    .to("set oom_score_adj")?;
    let scene = match &plan.place {
        Place::Create(root) => create(&plan, root)?,
        Place::Join { unseen, .. } => join(&plan, *unseen)?,
    };
    let has_terminal = scene.terminal.is_some();
    let home = &scene.identity.home;
    let program = match &plan.copy {
        None => Some(program::prepare(&plan.process, home)?),
        Some(_) => None,
    };
    program::enter(&scene.directory, &plan.process.cwd)?;
    if let Some(terminal) = &scene.terminal {
        reporter
            .terminal(terminal.master.as_fd())
            .to("hand over the terminal")?;
        terminal::take(&terminal.slave)?;
    } else {
        reopen_null()?;
    }
    own_streams(&scene.identity)?;
    give_up_rights(&plan.process, &scene.identity)?;
    drop(scene);
    close_all_but(reporter.as_fd())?;
    if plan.hands_over() {
        continue_among_them(reporter)?;
    }
    rustix::process::setsid().to("lead a session")?;
    if has_terminal {
        terminal::control()?;
    }
    rustix::process::umask(Mode::from(0o022));
    sys::reset_signals();
    if let Some(program) = program {
        return Err(program.execute(reporter));
    }
    if !rustix::process::geteuid().is_root() {
        // What execve would have done.
        rights::set_capabilities(rustix::thread::CapabilitySet::empty())?;
    }
    reporter.executing().to("report to the agent")?;
    reporter.close();
    sys::exit(plan.copy.as_ref().map_or(1, crate::copy::run))
}

/// Goes on as a new process, which is born in the PID namespace that was joined
/// and so visible there: with the container's root, rights and nothing else.
/// This one, which has seen the guest, ends unseen.
///
/// The new one waits until this one has let go of the status socket, so that
/// the socket's end is its own.
fn continue_among_them(reporter: &Reporter) -> Result<(), HelperError> {
    let (wait, go) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).to("make a pipe")?;
    if sys::fork_sibling().to("make a process")? {
        reporter.close();
        let sent = rustix::io::write(&go, &[1]);
        sys::exit(i32::from(sent.is_err()));
    }
    drop(go);
    match rustix::io::read(&wait, &mut [0u8; 1]) {
        Ok(1) => Ok(()),
        _ => sys::exit(127),
    }
}

/// A root entered, and what was found in it.
struct Scene {
    identity: Identity,
    terminal: Option<Terminal>,
    directory: OwnedFd,
}

fn create(plan: &SpawnPlan, new: &RootPlan) -> Result<Scene, HelperError> {
    root::mount_layers(&new.layers)?;
    root::mount_images(&new.images)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cgroup = rustix::fs::open(&*plan.cgroup, flags, Mode::empty()).to("open its cgroup")?;
    sys::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWCGROUP)
        .to("make a mount and a cgroup namespace")?;
    let passing = volumes::passing(&new.mounts)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).to("make mounts private")?;
    let tree = root::mount_overlay(new)?;
    let identity = user::resolve(tree.as_fd(), &plan.process.user)?;
    let devices = dev::mount(&tree, plan.privileged)?;
    let exposure = Exposure {
        privileged: plan.privileged,
        mask: plan.mask_paths,
    };
    kernel::mount(&tree, &devices.null, exposure)?;
    let terminal = match plan.process.tty {
        Some(size) => {
            let terminal = terminal::make(&devices.terminals, size)?;
            terminal::mount_console(&devices.directory, &terminal.slave)?;
            Some(terminal)
        }
        None => None,
    };
    volumes::mount_volumes(&tree, &new.mounts, passing)?;
    let owned = dev::make_disks(&tree, &new.devices, &identity)?;
    volumes::mount_files(&tree, &new.files, &new.mounts, new.read_only)?;
    if let Some(path) = &new.termination_log {
        volumes::mount_termination_log(&tree, &new.writable.dir, path)?;
    }
    kernel::cover_paths(&tree, &new.covered, &devices.null)?;
    let directory = program::working_directory(&tree, &plan.process.cwd)?;
    if new.read_only {
        sys::make_read_only(tree.as_fd(), false).to("make the root read-only")?;
    }
    if !plan.privileged {
        // Only now: the layers and the scratch disk are devices as well.
        crate::sys::bpf::limit_devices(&cgroup, &owned).to("limit its devices")?;
    }
    root::change_root(&tree)?;
    Ok(Scene {
        identity,
        terminal,
        directory,
    })
}

fn join(plan: &SpawnPlan, unseen: bool) -> Result<Scene, HelperError> {
    let process = sys::inherited(JOIN_FD).to("take over the process to join")?;
    let mut namespaces = ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::CONTROL_GROUP;
    // Only for this process's children: see above.
    namespaces.set(ThreadNameSpaceType::PROCESS_ID, unseen);
    rustix::thread::move_into_thread_name_spaces(process.as_fd(), namespaces)
        .to("join the container's namespaces")?;
    drop(process);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tree = rustix::fs::open("/", flags, Mode::empty()).to("open the container's root")?;
    let identity = user::resolve(tree.as_fd(), &plan.process.user)?;
    let terminal = match plan.process.tty {
        Some(size) => {
            let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
            let terminals = rustix::fs::openat2(&tree, "dev/pts", flags, Mode::empty(), resolve)
                .to("open the container's /dev/pts")?;
            Some(terminal::make(&terminals, size)?)
        }
        None => None,
    };
    let directory = program::working_directory(&tree, &plan.process.cwd)?;
    Ok(Scene {
        identity,
        terminal,
        directory,
    })
}

/// From the widest right to the narrowest: each step needs those below it.
fn give_up_rights(process: &ExecSpec, identity: &Identity) -> Result<(), HelperError> {
    let allowed = rights::capability_set(&process.capabilities)?;
    let filter = match &process.seccomp {
        Seccomp::RuntimeDefault => Some(seccomp::default_profile(allowed)),
        Seccomp::Unconfined => None,
        Seccomp::Filter { program } => Some(seccomp::given(&program.0)),
    };
    rights::set_limits(process)?;
    rights::bound_capabilities(allowed)?;
    // Without no_new_privs only CAP_SYS_ADMIN may install a filter, so it must
    // come before that is gone; with it the filter comes last and sees least.
    if !process.no_new_privileges {
        install(filter.as_deref())?;
    }
    rights::become_user(identity)?;
    rights::set_capabilities(allowed)?;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).to("set no_new_privs")?;
        install(filter.as_deref())?;
    }
    Ok(())
}

fn install(filter: Option<&[sys::Instruction]>) -> Result<(), HelperError> {
    filter
        .map_or(Ok(()), sys::install_filter)
        .to("install the system-call filter")
}

/// /dev/null of the guest among the standard streams becomes the container's
/// own: a descriptor of the guest's tree must not stay.
fn reopen_null() -> Result<(), HelperError> {
    let null: Dev = rustix::fs::makedev(1, 3);
    for stream in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ] {
        let stat = rustix::fs::fstat(stream).to("look at a standard stream")?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
            || stat.st_rdev != null
        {
            continue;
        }
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(own) = rustix::fs::open("/dev/null", flags, Mode::empty()) else {
            continue;
        };
        let found = rustix::fs::fstat(&own).to("look at /dev/null")?;
        if found.st_rdev == null {
            rustix::fs::fcntl_setfl(&own, OFlags::empty()).to("open /dev/null")?;
            replace(stream, &own)?;
        }
    }
    Ok(())
}

fn replace(stream: BorrowedFd<'_>, with: &OwnedFd) -> Result<(), HelperError> {
    use std::os::fd::AsRawFd;
    match stream.as_raw_fd() {
        0 => rustix::stdio::dup2_stdin(with),
        1 => rustix::stdio::dup2_stdout(with),
        _ => rustix::stdio::dup2_stderr(with),
    }
    .to("replace a standard stream")
}

/// The user owns pipes and terminal, so that /dev/stdout can be opened again.
fn own_streams(identity: &Identity) -> Result<(), HelperError> {
    for stream in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ] {
        let stat = rustix::fs::fstat(stream).to("look at a standard stream")?;
        let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        let null = device && stat.st_rdev == rustix::fs::makedev(1, 3);
        if null || stat.st_uid == identity.uid {
            continue;
        }
        let group = Gid::from_raw(stat.st_gid);
        match rustix::fs::fchown(stream, Some(Uid::from_raw(identity.uid)), Some(group)) {
            // A stream that cannot be owned works all the same.
            Ok(())
            | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM | rustix::io::Errno::ROFS) => {
            }
            Err(errno) => return Err(errno).to("own a standard stream"),
        }
    }
    Ok(())
}

/// Nothing but the standard streams and the status socket (which closes on
/// exec) goes on: a leaked directory would be a way out (CVE-2024-21626).
fn close_all_but(status: BorrowedFd<'_>) -> Result<(), HelperError> {
    use std::os::fd::AsRawFd;
    let status = status.as_raw_fd();
    if status > 3 {
        sys::close_range(3, status - 1).to("close what is open")?;
    }
    sys::close_range(status + 1, RawFd::MAX).to("close what is open")
}

/// First process of a shared PID namespace: no root, no rights, no work but to
/// reap, which the kernel does for who ignores its children.
fn pause() -> Result<(), HelperError> {
    sys::close_range(0, RawFd::MAX).to("close what is open")?;
    sys::unshare(UnshareFlags::NEWNS).to("make a mount namespace")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).to("make mounts private")?;
    root::change_to_nothing(EMPTY_ROOT)?;
    let nobody = Identity {
        uid: 65534,
        gid: 65534,
        groups: vec![65534],
        home: String::new(),
    };
    let none = rustix::thread::CapabilitySet::empty();
    rights::bound_capabilities(none)?;
    rights::become_user(&nobody)?;
    rights::set_capabilities(none)?;
    rustix::thread::set_no_new_privs(true).to("set no_new_privs")?;
    rustix::thread::set_name(c"pause").to("take a name")?;
    sys::reset_signals();
    sys::ignore_children();
    sys::sleep_for_ever()
}
