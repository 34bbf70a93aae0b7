//! Directories and files of the host in a pod: seen from both sides at once,
//! guarded, and only where the operator says so.

mod process;

use beluga_tests::{Beluga, Pod, shared};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: share}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 4242}
  volumes:
  - {name: data, hostPath: {path: PLACE/data, type: Directory}}
  - {name: guarded, hostPath: {path: PLACE/data}}
  - {name: made, hostPath: {path: PLACE/made/new, type: DirectoryOrCreate}}
  - {name: file, hostPath: {path: PLACE/data/note, type: File}}
  - {name: fresh, hostPath: {path: PLACE/fresh, type: FileOrCreate}}
  containers:
  - name: a
    image: debian
    command: [sleep, infinity]
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: guarded, mountPath: /guarded, readOnly: true}
    - {name: made, mountPath: /made}
    - {name: file, mountPath: /etc/note}
    - {name: fresh, mountPath: /fresh}
  - name: b
    image: debian
    command: [sleep, infinity]
    volumeMounts:
    - {name: data, mountPath: /elsewhere}
    - {name: data, mountPath: /readonly, readOnly: true}
    - {name: data, mountPath: /sub, subPath: below/deep}
";

/// A directory of the host with `data` in it, and in that a file.
pub fn place(name: &str) -> PathBuf {
    let place = shared().root().with_file_name(name);
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(place.join("data")).expect("a directory");
    fs::write(place.join("data/note"), "from the host\n").expect("a file");
    fs::write(place.join("secret"), "not shared\n").expect("a file");
    place
}

/// The pod of a manifest that may use what lies below `place`.
fn pod<'b>(beluga: &'b Beluga, manifest: &str, place: &Path) -> Pod<'b> {
    let place = place.to_str().expect("a path of ours");
    let manifest = manifest.replace("PLACE", place);
    beluga.pod_with(&["--allow-host-path", place], &manifest)
}

static SHARE: LazyLock<(PathBuf, Pod<'static>)> = LazyLock::new(|| {
    let place = place("share");
    let pod = pod(shared(), MANIFEST, &place);
    (place, pod)
});

fn host(path: &str) -> PathBuf {
    SHARE.0.join(path)
}

/// What a file of the host has.
fn read(path: &str) -> String {
    fs::read_to_string(host(path)).expect("made")
}

fn sh(container: &str, line: &str) -> String {
    SHARE.1.sh(container, line)
}

#[test]
fn a_file_of_the_host_is_seen_in_the_container_and_back() {
    assert_eq!(sh("a", "cat /data/note"), "from the host");
    sh("a", "echo from the pod > /data/answer");
    assert_eq!(read("data/answer"), "from the pod\n");
    // What was read before is not what is read now.
    let again = "from the host again, and longer";
    fs::write(host("data/answer"), format!("{again}\n")).expect("written");
    assert_eq!(sh("a", "cat /data/answer"), again);
    fs::rename(host("data/answer"), host("data/moved")).expect("moved");
    let there = sh("a", "ls -d /data/answer /data/moved 2>/dev/null || true");
    assert_eq!(there, "/data/moved");
}

#[test]
fn containers_see_each_others_writes() {
    sh("a", "mkdir -p /data/ab && echo one > /data/ab/f");
    sh(
        "b",
        "grep one /elsewhere/ab/f && echo two >> /elsewhere/ab/f",
    );
    assert_eq!(sh("a", "cat /data/ab/f"), "one\ntwo");
    sh("b", "echo sub > /sub/f");
    assert_eq!(read("data/below/deep/f"), "sub\n");
}

#[test]
fn read_only_is_erofs_in_one_mount_and_in_all() {
    for (container, path) in [("b", "/readonly"), ("a", "/guarded")] {
        let (note, made) = (format!("{path}/note"), format!("{path}/x"));
        assert_eq!(sh(container, &format!("cat {note}")), "from the host");
        for command in [["touch", &note], ["rm", &note], ["mkdir", &made]] {
            let ran = SHARE.1.try_exec(container, &command);
            ran.exits(1).complains("Read-only file system");
        }
    }
}

#[test]
fn a_link_in_the_directory_leads_nowhere_on_the_host() {
    symlink(host("secret"), host("data/absolute")).expect("a link");
    symlink("../secret", host("data/relative")).expect("a link");
    symlink("/etc/shadow", host("data/shadow")).expect("a link");
    for name in ["absolute", "relative"] {
        let ran = SHARE.1.try_exec("a", &["cat", &format!("/data/{name}")]);
        ran.exits(1).complains("No such file or directory");
    }
    // It is the container's own, which has nothing of the host's.
    let own = sh("a", "cat /etc/shadow 2>/dev/null || echo none");
    assert_eq!(sh("a", "cat /data/shadow 2>/dev/null || echo none"), own);
    assert_eq!(sh("a", "readlink /data/relative"), "../secret");
}

#[test]
fn a_sub_path_through_a_link_does_not_leave_the_volume() {
    let place = place("share-sub");
    symlink("/", place.join("data/out")).expect("a link");
    let manifest = one(
        "share-sub",
        "ls -A /v",
        "{path: PLACE/data}",
        "subPath: out/etc, readOnly: false",
    );
    let beluga = Beluga::with_busybox();
    let pod = pod(&beluga, &manifest, &place);
    pod.eventually("ended", |status| status["phase"] != "Running");
    let why = pod.container("main")["state"]["terminated"]["message"].to_string();
    assert!(why.contains("leads out of its volume"), "{why}");
    assert_eq!(pod.logs("main"), "");
    assert!(!place.join("data/etc/passwd").exists());
}

#[test]
fn a_file_is_shared_alone() {
    assert_eq!(sh("a", "cat /etc/note"), "from the host");
    assert_eq!(sh("a", "stat -c %F /etc/note"), "regular file");
    let parts = "grep ' /etc/note ' /proc/self/mountinfo | cut -d' ' -f4";
    assert_eq!(sh("a", parts), "/file");
    sh("a", "echo written > /fresh");
    assert_eq!(read("fresh"), "written\n");
}

#[test]
fn what_is_missing_is_made_where_the_type_says_so() {
    sh("a", "echo x > /made/f");
    assert_eq!(read("made/new/f"), "x\n");
    let made = fs::metadata(host("made/new")).expect("a directory");
    // The group of the pod is no group of the host's files.
    assert_eq!(
        (made.mode() & 0o7777, made.uid(), made.gid()),
        (0o755, 0, 0)
    );
}

#[test]
fn sizes_owners_and_modes_are_the_same_on_both_sides() {
    let make = "printf 12345 > m && chown 1234:4321 m && chmod 4750 m && touch -d @1000 m";
    sh("a", &format!("cd /data && {make}"));
    let seen = fs::metadata(host("data/m")).expect("made");
    let owners = (seen.uid(), seen.gid(), seen.mode());
    assert_eq!(owners, (1234, 4321, 0o104_750));
    assert_eq!((seen.size(), seen.mtime()), (5, 1000));
    fs::set_permissions(host("data/m"), fs::Permissions::from_mode(0o640)).expect("changed");
    let there = sh("b", "stat -c '%u %g %a %s %Y' /elsewhere/m");
    assert_eq!(there, "1234 4321 640 5 1000");
}

#[test]
fn what_a_user_makes_in_the_pod_is_that_users() {
    let make =
        "cd /data && mkdir -m 777 u && setpriv --reuid 77 --regid 78 --clear-groups touch u/f";
    sh("a", make);
    let made = fs::metadata(host("data/u/f")).expect("made");
    assert_eq!((made.uid(), made.gid()), (77, 78));
}

#[test]
fn a_thousand_files_are_made_and_listed() {
    let make = "mkdir /data/many && cd /data/many && for i in $(seq 1000); do echo $i > f$i; done";
    sh("a", make);
    assert_eq!(sh("b", "ls /elsewhere/many | wc -l"), "1000");
    assert_eq!(sh("b", "cat /elsewhere/many/f777"), "777");
    assert_eq!(fs::read_dir(host("data/many")).expect("made").count(), 1000);
    fs::remove_dir_all(host("data/many")).expect("removed");
    assert_eq!(sh("a", "ls -d /data/many 2>/dev/null || echo gone"), "gone");
}

#[test]
fn sixty_four_mebibytes_are_copied_unchanged() {
    let source = host("data/big");
    let mut number = 1u32;
    let mut next = || {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (number >> 24) as u8
    };
    let bytes: Vec<u8> = (0..64 << 20).map(|_| next()).collect();
    fs::write(&source, &bytes).expect("written");
    sh("a", "cp /data/big /data/copy");
    assert!(fs::read(host("data/copy")).expect("made") == bytes);
    sh("a", "rm /data/big /data/copy");
}

/// What programs do to files beside reading and writing them.
const USES: &str = r#"
import fcntl, mmap, os, socket, threading
os.mkdir('/data/uses'); os.chdir('/data/uses')
f = open('f', 'w+b'); f.write(b'x' * 8192); f.flush()
m = mmap.mmap(f.fileno(), 8192); m[4096:4100] = b'mmap'; m.flush()
assert open('f', 'rb').read()[4096:4100] == b'mmap'
fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
try: fcntl.flock(open('f'), fcntl.LOCK_EX | fcntl.LOCK_NB); raise SystemExit('locked twice')
except BlockingIOError: pass
os.link('f', 'second'); assert os.stat('f').st_nlink == 2
os.unlink('f'); f.seek(0); assert f.read(1) == b'x' and os.fstat(f.fileno()).st_nlink == 1
os.rename('second', 'third'); os.symlink('third', 'link'); assert os.path.getsize('link') == 8192
os.truncate('third', 1 << 20); s = os.open('third', os.O_RDWR); os.posix_fallocate(s, 0, 2 << 20)
assert os.fstat(s).st_size == 2 << 20; os.fsync(s)
os.setxattr('third', 'user.note', b'kept'); assert os.getxattr('third', 'user.note') == b'kept'
os.mkfifo('fifo'); t = threading.Thread(target=lambda: open('fifo', 'w').write('through')); t.start()
assert open('fifo').read() == 'through'
l = socket.socket(socket.AF_UNIX); l.bind('sock'); l.listen()
c = socket.socket(socket.AF_UNIX); c.connect('sock'); l.accept()[0].send(b'over'); assert c.recv(9) == b'over'
a = os.open('log', os.O_WRONLY | os.O_CREAT | os.O_APPEND); b = os.open('log', os.O_WRONLY | os.O_APPEND)
os.write(a, b'1'); os.write(b, b'2'); os.write(a, b'3'); assert open('log').read() == '123'
try: os.mknod('null', 0o20666, os.makedev(1, 3)); raise SystemExit('made a device')
except PermissionError: pass
print('all', sorted(os.listdir('.')))
"#;

#[test]
fn files_can_be_used_as_files_are() {
    let ran = SHARE.1.try_exec("a", &["python3", "-c", USES]).ok();
    ran.says("all ['fifo', 'link', 'log', 'sock', 'third']");
    let third = fs::metadata(host("data/uses/third")).expect("made");
    assert_eq!((third.size(), third.nlink()), (2 << 20, 1));
}

/// A pod of one container that runs a shell line, with one volume of the host.
fn one(name: &str, line: &str, source: &str, mount: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  \
         terminationGracePeriodSeconds: 1\n  volumes: [{{name: v, hostPath: {source}}}]\n  \
         containers:\n  - {{name: main, image: busybox, command: [sh, -c, '{line}'], \
         volumeMounts: [{{name: v, mountPath: /v, {mount}}}]}}\n"
    )
}

#[test]
fn without_the_operators_word_it_is_refused() {
    let beluga = Beluga::with_busybox();
    let manifest = one("refused", "true", "{path: /etc}", "readOnly: true");
    let ran = beluga.feed(["apply", "-f", "-"], manifest.as_bytes());
    let message = "standard input:7:13: spec.volumes[0].hostPath: forbidden by policy: /etc is below no path that pods \
                   may use (allow it with --allow-host-path /etc, or in BELUGA_ALLOW_HOST_PATH)";
    ran.exits(1).complains(message);
    let args = ["apply", "-f", "-", "--allow-host-path", "/srv"];
    let ran = beluga.feed(args, manifest.as_bytes());
    ran.exits(1).complains(message);
    assert_eq!(beluga.run(["get", "pods", "-o", "name"]).ok().out, "");
    beluga.is_clean();
}

/// What the status says of a pod of this volume, which may not be.
fn refused(beluga: &Beluga, source: &str, place: &Path) -> String {
    let pod = pod(
        beluga,
        &one("wrong", "true", source, "readOnly: true"),
        place,
    );
    let status = pod.field("/status");
    pod.delete();
    beluga.is_clean();
    status
}

#[test]
fn what_is_not_of_the_type_fails_the_pod_in_the_kubelets_words() {
    let place = place("share-type");
    let (at, beluga) = (place.display(), Beluga::with_busybox());
    let status = refused(&beluga, "{path: PLACE/data/note, type: Directory}", &place);
    let said = format!("hostPath type check failed: {at}/data/note is not a directory");
    assert!(status.contains(&said), "{status}");
    let status = refused(&beluga, "{path: PLACE/none, type: File}", &place);
    let said = format!("hostPath type check failed: {at}/none is not a file");
    assert!(status.contains(&said), "{status}");
}

#[test]
fn a_link_out_of_what_pods_may_use_fails_the_pod() {
    let place = place("share-out");
    symlink(place.join("secret"), place.join("data/out")).expect("a link");
    let beluga = Beluga::with_busybox();
    let status = refused(&beluga, "{path: PLACE/out}", &place.join("data"));
    let said = "which is forbidden by policy";
    assert!(status.contains(said), "{status}");
}
