//! A container's root file system: layers, writable layer, and the change of
//! root that leaves nothing of the guest's own tree within reach.

use super::error::{Context, HelperError};
use super::plan::{ImageMount, LayerMount, RootPlan, Writable};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Mounts the layers that nobody has mounted yet. In the agent's mount
/// namespace: they stay for the next container.
pub fn mount_layers(layers: &[LayerMount]) -> Result<(), HelperError> {
    layers.iter().try_for_each(mount_layer)
}

fn mount_layer(layer: &LayerMount) -> Result<(), HelperError> {
    once(&layer.mount_point, || {
        layer_at(&layer.device, MountAttrFlags::MOUNT_ATTR_RDONLY)
    })
}

/// Mounts the images that are volumes, as layers are mounted.
pub fn mount_images(images: &[ImageMount]) -> Result<(), HelperError> {
    // As the kubelet has it: files to read, not programs to run.
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    // One without layers is the empty directory.
    let mut filled = images.iter().filter(|image| !image.layers.is_empty());
    filled.try_for_each(|image| {
        mount_layers(&image.layers)?;
        once(&image.mount_point, || match image.layers.as_slice() {
            // An overlay without a writable layer wants two at least.
            [one] => layer_at(&one.device, attributes),
            layers => {
                let context = new_context(c"overlay")?;
                set(&context, "source", "overlay")?;
                for layer in layers.iter().rev() {
                    set(&context, "lowerdir+", &layer.mount_point)?;
                }
                rustix::mount::fsconfig_create(context.as_fd()).to("stack a volume's layers")?;
                mount_of(&context, attributes)
            }
        })
    })
}

/// Mounts what `make` makes, unless that has been done.
fn once(
    place: &str,
    make: impl FnOnce() -> Result<OwnedFd, HelperError>,
) -> Result<(), HelperError> {
    if is_mount(place)? {
        return Ok(());
    }
    // Two helpers may want it at once: the directory below the mount is the
    // lock, and it goes with the descriptor.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let lock = rustix::fs::open(place, flags, Mode::empty()).to_with("open", place)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).to_with("lock", place)?;
    if is_mount(place)? {
        return Ok(());
    }
    attach(&make()?, CWD, place, MoveMountFlags::empty()).to_with("mount a layer at", place)
}

fn layer_at(device: &str, attributes: MountAttrFlags) -> Result<OwnedFd, HelperError> {
    let context = new_context(c"erofs")?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "source", device)
        .to_with("set the source of layer", device)?;
    rustix::mount::fsconfig_set_flag(context.as_fd(), "ro").to_with("protect layer", device)?;
    rustix::mount::fsconfig_create(context.as_fd()).to_with("read layer", device)?;
    mount_of(&context, attributes)
}

/// Sets an option of an overlay.
fn set(context: &OwnedFd, key: &str, value: &str) -> Result<(), HelperError> {
    rustix::mount::fsconfig_set_string(context.as_fd(), key, value).to_with("set an overlay's", key)
}

fn is_mount(path: &str) -> Result<bool, HelperError> {
    let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
        .to_with("look at", path)?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Stacks the layers and mounts the result at the plan's place; gives back its
/// root directory.
pub fn mount_overlay(plan: &RootPlan) -> Result<OwnedFd, HelperError> {
    let dir = plan.writable.dir.as_str();
    make_writable(&plan.writable)?;
    let upper = format!("{dir}/upper");
    let work = format!("{dir}/work");
    for path in [&upper, &work] {
        make_directory(path)?;
    }
    let mut lower: Vec<String> = plan
        .layers
        .iter()
        .rev()
        .map(|layer| layer.mount_point.clone())
        .chain(plan.lower.clone())
        .collect();
    if lower.is_empty() {
        // An image without layers: overlayfs wants one all the same.
        let empty = format!("{dir}/empty");
        make_directory(&empty)?;
        lower.push(empty);
    }
    copy_root_attributes(&lower[0], &upper)?;
    let context = new_context(c"overlay")?;
    set(&context, "source", "overlay")?;
    for layer in &lower {
        set(&context, "lowerdir+", layer)?;
    }
    set(&context, "upperdir", &upper)?;
    set(&context, "workdir", &work)?;
    // The writable layer lives no longer than its container: nothing to sync.
    rustix::mount::fsconfig_set_flag(context.as_fd(), "volatile").to("set an overlay volatile")?;
    rustix::mount::fsconfig_create(context.as_fd()).to("stack the image's layers")?;
    let mount = mount_of(&context, MountAttrFlags::empty())?;
    attach(&mount, CWD, &plan.root, MoveMountFlags::empty()).to("mount the root")?;
    rustix::fs::open(plan.root.as_str(), DIRECTORY, Mode::empty()).to("open the root")
}

fn make_writable(writable: &Writable) -> Result<(), HelperError> {
    std::fs::create_dir_all(&writable.dir).to_with("make", &writable.dir)?;
    // Only the agent may look inside from outside the overlay.
    rustix::fs::chmod(writable.dir.as_str(), Mode::from(0o700))
        .to_with("protect", &writable.dir)?;
    if let Some(project) = &writable.project {
        crate::quota::assign(Path::new(&writable.dir), project)?;
    }
    Ok(())
}

fn make_directory(path: &str) -> Result<(), HelperError> {
    match rustix::fs::mkdir(path, Mode::from(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).to_with("make", path),
    }
}

/// The overlay shows its root with the upper directory's owner and mode.
fn copy_root_attributes(from: &str, to: &str) -> Result<(), HelperError> {
    let stat = rustix::fs::stat(from).to_with("look at", from)?;
    let owner = rustix::fs::Uid::from_raw(stat.st_uid);
    let group = rustix::fs::Gid::from_raw(stat.st_gid);
    rustix::fs::chown(to, Some(owner), Some(group)).to_with("set the owner of", to)?;
    rustix::fs::chmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777)).to_with("set the mode of", to)
}

/// Makes the tree at `root` the root of this mount namespace and lets go of
/// everything else that was mounted in it.
pub fn change_root(root: &OwnedFd) -> Result<(), HelperError> {
    rustix::process::fchdir(root).to("enter the root")?;
    rustix::process::pivot_root(".", ".").to("change the root")?;
    // The old root now lies on top of the new one, at the same place.
    rustix::mount::unmount(".", UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .to("let go of the old root")?;
    rustix::process::chdir("/").to("enter the new root")
}

/// An empty read-only root for a process that needs none.
pub fn change_to_nothing(place: &str) -> Result<(), HelperError> {
    let context = new_context(c"tmpfs")?;
    rustix::mount::fsconfig_create(context.as_fd()).to("make an empty root")?;
    let mount = mount_of(&context, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    attach(&mount, CWD, place, MoveMountFlags::empty()).to("mount an empty root")?;
    let root = rustix::fs::open(place, DIRECTORY, Mode::empty()).to("open an empty root")?;
    change_root(&root)
}

/// Starts the making of a file system.
pub fn new_context(kind: &std::ffi::CStr) -> Result<OwnedFd, HelperError> {
    rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
        .to_with("make a file system of type", &kind.to_string_lossy())
}

/// The finished file system as a mount that is nowhere yet.
pub fn mount_of(context: &OwnedFd, attributes: MountAttrFlags) -> Result<OwnedFd, HelperError> {
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .to("make a mount")
}

/// Puts a mount at a path below a directory (or at the directory itself, with
/// an empty path and the flag for it).
pub fn attach(
    mount: &OwnedFd,
    directory: impl AsFd,
    path: &str,
    flags: MoveMountFlags,
) -> Result<(), Errno> {
    rustix::mount::move_mount(
        mount.as_fd(),
        "",
        directory.as_fd(),
        path,
        flags | MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
}

/// Puts a mount on top of what a descriptor refers to.
pub fn cover(mount: &OwnedFd, target: impl AsFd) -> Result<(), Errno> {
    attach(mount, target, "", MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH)
}
