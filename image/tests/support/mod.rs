//! Layers made by hand, and the tools that judge what becomes of them.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

pub mod layout;
pub mod listing;
pub mod random;
pub mod registry;
pub mod store;

use std::fs::{self, File};
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use beluga_image::layer::convert;
use beluga_image::{LayerError, Limits};

/// A tar in the making. Names and links are written as they are, also impossible ones.
#[derive(Default, Clone)]
pub struct Tar(pub Vec<u8>);

/// An entry to be: its header can be changed before it is written.
pub struct Entry {
    pub header: tar::Header,
    pub data: Vec<u8>,
    pub pax: Vec<(String, Vec<u8>)>,
}

pub fn entry(name: &str, flag: u8) -> Entry {
    let mut header = tar::Header::new_ustar();
    header.set_mode(if flag == b'5' { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(0);
    header.set_entry_type(tar::EntryType::new(flag));
    let mut entry = Entry {
        header,
        data: Vec::new(),
        pax: Vec::new(),
    };
    if name.len() <= 100 {
        entry.header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    } else {
        entry = entry.pax("path", name.as_bytes());
    }
    entry
}

pub fn file(name: &str, data: &[u8]) -> Entry {
    let mut entry = entry(name, b'0');
    entry.header.set_size(data.len() as u64);
    entry.data = data.to_vec();
    entry
}

pub fn dir(name: &str) -> Entry {
    entry(name, b'5')
}

pub fn link(name: &str, flag: u8, target: &str) -> Entry {
    let mut entry = entry(name, flag);
    if target.len() <= 100 {
        entry.header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        entry
    } else {
        entry.pax("linkpath", target.as_bytes())
    }
}

pub fn symlink(name: &str, target: &str) -> Entry {
    link(name, b'2', target)
}

pub fn hard_link(name: &str, target: &str) -> Entry {
    link(name, b'1', target)
}

pub fn device(name: &str, flag: u8, major: u32, minor: u32) -> Entry {
    let mut entry = entry(name, flag);
    entry.header.set_device_major(major).unwrap();
    entry.header.set_device_minor(minor).unwrap();
    entry
}

impl Entry {
    pub fn mode(mut self, mode: u32) -> Self {
        self.header.set_mode(mode);
        self
    }

    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.header.set_uid(uid);
        self.header.set_gid(gid);
        self
    }

    pub fn pax(mut self, key: &str, value: &[u8]) -> Self {
        self.pax.push((key.to_owned(), value.to_vec()));
        self
    }
}

impl Tar {
    pub fn of(entries: impl IntoIterator<Item = Entry>) -> Self {
        entries.into_iter().fold(Tar::default(), Tar::with)
    }

    pub fn with(mut self, mut entry: Entry) -> Self {
        if !entry.pax.is_empty() {
            let mut records = Vec::new();
            for (key, value) in &entry.pax {
                records.extend(pax_record(key.as_bytes(), value));
            }
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::XHeader);
            header.set_size(records.len() as u64);
            header.set_cksum();
            self.raw(header.as_bytes(), &records);
        }
        entry.header.set_cksum();
        self.raw(entry.header.as_bytes(), &entry.data);
        self
    }

    pub fn raw(&mut self, header: &[u8], data: &[u8]) {
        self.0.extend(header);
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

pub fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = |length: usize| length.to_string().len();
    let length = rest + digits(rest + digits(rest));
    let mut record = format!("{length} ").into_bytes();
    record.extend(key);
    record.push(b'=');
    record.extend(value);
    record.push(b'\n');
    record
}

/// Converts in memory.
pub fn disk(tar: &[u8]) -> Result<Vec<u8>, LayerError> {
    disk_within(tar, &Limits::default())
}

pub fn disk_within(tar: &[u8], limits: &Limits) -> Result<Vec<u8>, LayerError> {
    let mut disk = Cursor::new(Vec::new());
    let length = convert(tar, &mut disk, Cursor::new(Vec::new()), limits)?;
    let disk = disk.into_inner();
    assert_eq!(disk.len() as u64, length);
    assert_eq!(length % 4096, 0);
    Ok(disk)
}

/// A directory of the test's own, gone with it.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("beluga-image-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Says why a test, or the part of it behind `::`, is not run: past the test runner's capture, in
/// the word that the gate counts, one write so that lines of several tests stay whole.
pub fn skip(test: &str, reason: &str) {
    assert!(!test.contains(' '), "the gate reads one word: {test}");
    let line = format!("SKIPPED {test}: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

pub fn has_tool(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).exists())
}

/// Runs a command; its output, standard error included.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{command:?}: {text}"))
    }
}

/// erofs-utils finds nothing wrong, or is not there (false).
pub fn fsck(disk: &Path) -> bool {
    if !has_tool("fsck.erofs") {
        return false;
    }
    let verdict = run(Command::new("fsck.erofs").arg("--extract").arg(disk)).unwrap();
    assert!(!verdict.contains("<E>"), "{verdict}");
    true
}

/// A disk mounted by the kernel.
pub struct Mount(pub PathBuf);

impl Mount {
    /// Mounts, or says why that cannot be done here.
    pub fn new(disk: &Path, at: &Path) -> Result<Self, String> {
        let systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !systems.contains("\terofs") {
            return Err("this kernel has no EROFS".into());
        }
        fs::create_dir_all(at).unwrap();
        let mut command = Command::new("mount");
        run(command
            .args(["-t", "erofs", "-o", "loop,ro"])
            .arg(disk)
            .arg(at))?;
        Ok(Mount(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
