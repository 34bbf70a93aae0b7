#!/usr/bin/env python3
"""Makes real OCI images from Debian's packages, without root rights and without a registry.

    build.py OUT_DIR [NAME ...]

Each image becomes OUT_DIR/NAME.tar, an OCI image layout in a tar; one that has
`tags` becomes several images in one tar. Without names all but those of the
product are made (`conformance`, which ships with `beluga`). Package
files go from `dpkg-deb --fsys-tarfile` straight into the layer: owners, modes
and links are the package's own. The results are cached under
${BELUGA_CACHE:-/var/cache/beluga}/images by the hash of this file and of the
package versions, so a second run only links them.
"""

import fcntl
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("BELUGA_CACHE", "/var/cache/beluga"))
# Everything is dated alike, so that the same packages give the same bytes.
EPOCH = 1_700_000_000
# What only an installed system needs: maintainer scripts do not run here.
NOT_NEEDED = {
    "adduser", "debconf", "debconf-2.0", "cdebconf", "dpkg", "init-system-helpers", "lsb-base", "perl-base", "perl",
    "sysvinit-utils", "media-types", "iproute2-doc", "debianutils", "passwd", "login", "libpam-modules",
    "libpam-modules-bin", "libpam-runtime", "install-info", "ucf", "sensible-utils",
}
# Directories that merged-/usr systems keep as links.
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")

PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
redis:x:101:101:redis:/var/lib/redis:/bin/false
app:x:1000:1000:An ordinary user:/home/app:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
GROUP = """root:x:0:
daemon:x:1:
adm:x:4:app
tty:x:5:
www-data:x:33:
video:x:44:app
redis:x:101:
app:x:1000:
nogroup:x:65534:
"""
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What postgres starts with: a database is made where there is none yet.
POSTGRES = """#!/bin/sh
set -e
[ -s "$PGDATA/PG_VERSION" ] || initdb -U postgres -A trust -E UTF8 --locale=C --no-sync >/dev/null
exec postgres -c jit=off -c unix_socket_directories=/tmp "$@"
"""
BASE = ["libc6", "libgcc-s1", "libcrypt1", "zlib1g", "libssl3", "libpcre2-8-0", "libstdc++6"]
IMAGES = {
    "busybox": {"layers": [{"busybox": True}], "cmd": ["sh"]},
    "nginx": {
        "layers": [
            {"busybox": True, "packages": BASE},
            {"packages": ["nginx"], "links": {
                "etc/nginx/sites-enabled/default": "/etc/nginx/sites-available/default",
                "var/log/nginx/access.log": "/dev/stdout", "var/log/nginx/error.log": "/dev/stderr"}},
        ],
        "cmd": ["nginx", "-g", "daemon off;"], "ports": ["80/tcp"], "stop_signal": "SIGQUIT",
    },
    "redis": {
        "layers": [{"busybox": True, "packages": BASE}, {"packages": ["redis-server"], "dirs": {"data": (101, 0o755)}}],
        "cmd": ["redis-server", "--protected-mode", "no"], "ports": ["6379/tcp"], "workdir": "/data",
        "user": "redis", "volumes": ["/data"],
    },
    "postgres": {
        "layers": [{"busybox": True, "packages": BASE}, {
            "packages": ["postgresql-15"], "dirs": {"var/lib/postgresql/data": (102, 0o700)},
            "files": {"usr/local/bin/serve": POSTGRES, "etc/group": GROUP + "postgres:x:102:\n",
                      "etc/passwd": PASSWD + "postgres:x:102:102:postgres:/var/lib/postgresql:/bin/sh\n"},
            # Without compilation at run time, scripts for clusters on one machine, and time zones.
            "without": {"libllvm14", "postgresql-common", "postgresql-client-common", "ssl-cert", "tzdata", "locales",
                        "locales-all"},
            "leave_out": ("usr/lib/postgresql/15/lib/bitcode/", "usr/lib/x86_64-linux-gnu/gconv/")}],
        "cmd": ["serve"], "ports": ["5432/tcp"], "user": "postgres", "volumes": ["/var/lib/postgresql/data"],
        "env": ["PATH=/usr/lib/postgresql/15/bin:" + PATH.removeprefix("PATH="), "PGDATA=/var/lib/postgresql/data"],
        "stop_signal": "SIGINT",
    },
    # What `beluga conformance` runs: two images that differ in one layer.
    "conformance": {
        "name": "beluga-conformance", "product": True,
        "layers": [{"busybox": True}, {"files": {"version": "1\n"}, "programs": {
            "usr/bin/tool": ("../../runtime/conformance/tool.c", ["-static"])}}],
        "tags": {"1": [], "2": [{"files": {"version": "2\n"}}]},
        "cmd": ["sh"],
    },
    "debian": {
        "layers": [{"packages": [
            "base-files", "bash", "dash", "coreutils", "grep", "sed", "findutils", "util-linux", "mount", "procps",
            "iproute2", "iputils-ping", "iptables", "nftables", "mawk", "tar", "gzip", "hostname", "libc-bin",
            "netcat-openbsd", "libcap2-bin", "attr", "acl", "python3-minimal", "libpython3.11-stdlib", "strace",
            "ipset", "e2fsprogs",
        ]}, {"programs": {
            "usr/local/bin/probe": ("probe.c", ["-static"]),
            "usr/local/bin/probe32": ("probe32.c", ["-m32", "-static", "-nostdlib", "-ffreestanding", "-fno-pie",
                                                    "-no-pie", "-fno-stack-protector"]),
        }}],
        "cmd": ["bash"],
    },
}


def closure(wanted, without=frozenset()):
    """The packages and all that they depend on, remembered until apt's lists change."""
    lists = sorted((entry.name, entry.stat().st_mtime_ns) for entry in os.scandir("/var/lib/apt/lists"))
    key = hashlib.sha256(json.dumps([sorted(wanted), lists, sorted(NOT_NEEDED | without)]).encode()).hexdigest()[:16]
    memo = CACHE / "images" / f"closure-{key}.json"
    if not memo.exists():
        temporary = memo.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(resolve(wanted, NOT_NEEDED | without)))
        temporary.rename(memo)
    return json.loads(memo.read_text())


def resolve(wanted, without):
    """Asks apt for the packages and what they need, the first of each alternative."""
    done, todo = {}, list(wanted)
    while todo:
        batch = sorted({p for p in todo if p not in done and p not in without})
        todo = []
        if not batch:
            break
        shown = subprocess.run(
            ["apt-cache", "show", "--no-all-versions", *batch], check=True, capture_output=True, text=True).stdout
        for stanza in shown.strip().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
            name = fields["Package"]
            done[name] = fields["Version"]
            for key in ("Depends", "Pre-Depends"):
                for term in filter(None, fields.get(key, "").split(",")):
                    first = term.split("|")[0].split("(")[0].strip().split(":")[0]
                    todo.append({"awk": "mawk"}.get(first, first))
        missing = [p for p in batch if p not in done]
        for name in missing:
            done[name] = None  # a virtual package: the real one is named beside it
    return {name: version for name, version in sorted(done.items()) if version}


def fetch(packages, where):
    """Downloads the packages that are not there yet."""
    where.mkdir(parents=True, exist_ok=True)
    def path(name, version):
        return next(where.glob(f"{name}_{version.replace(':', '%3a')}_*.deb"), None)
    absent = [f"{n}={v}" for n, v in packages.items() if path(n, v) is None]
    if absent:
        print(f"images: downloading {len(absent)} packages", flush=True)
        subprocess.run(["apt-get", "download", "-q", *absent], cwd=where, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    return [path(n, v) for n, v in packages.items()]


def merged(name):
    """A package's path as a merged-/usr system has it."""
    first, _, rest = name.partition("/")
    return f"usr/{name}" if first in MERGED and rest else name


class Layer:
    """A tar under construction; later entries of a path replace earlier ones."""

    def __init__(self):
        self.entries = {}

    def add(self, name, kind=tarfile.REGTYPE, data=b"", mode=0o644, uid=0, gid=None, link=""):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.linkname, info.mtime = kind, mode, link, EPOCH
        info.uid, info.gid, info.size = uid, uid if gid is None else gid, len(data)
        self.entries[name] = (info, data)

    def directory(self, name, uid=0, mode=0o755):
        self.add(name, tarfile.DIRTYPE, mode=mode, uid=uid)

    def package(self, deb, leave_out=()):
        stream = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
            for info in tar:
                name = info.name.removeprefix("./").rstrip("/")
                if name in ("", ".") or name in MERGED or name.startswith((
                        "usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/lintian/", *leave_out)):
                    continue
                info.name, info.mtime = merged(name), EPOCH
                if info.islnk():
                    info.linkname = merged(info.linkname.removeprefix("./"))
                info.uname = info.gname = ""
                info.pax_headers = {}
                self.entries[info.name] = (info, tar.extractfile(info).read() if info.isreg() else b"")

    def busybox(self, deb):
        one = Layer()
        one.package(deb)
        binary = one.entries["usr/bin/busybox"][1]
        self.add("usr/bin/busybox", data=binary, mode=0o755)
        probe = pathlib.Path(CACHE / "images" / f"busybox.{os.getpid()}")
        probe.write_bytes(binary)
        probe.chmod(0o755)
        applets = subprocess.run([probe, "--list"], check=True, capture_output=True, text=True).stdout.split()
        probe.unlink()
        # Hard links, so that a path masked by a mount hides only itself.
        for applet in sorted(set(applets) - {"busybox"}):
            self.add(f"usr/bin/{applet}", tarfile.LNKTYPE, link="usr/bin/busybox", mode=0o755)

    def skeleton(self):
        for name in ("dev", "etc", "home", "proc", "run", "sys", "usr", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64",
                     "var", "mnt", "srv"):
            self.directory(name)
        self.directory("root", mode=0o700)
        self.directory("home/app", uid=1000)
        self.directory("tmp", mode=0o1777)
        self.directory("var/tmp", mode=0o1777)
        for name in ("bin", "sbin", "lib", "lib64"):
            self.add(name, tarfile.SYMTYPE, link=f"usr/{name}", mode=0o777)
        self.add("etc/passwd", data=PASSWD.encode())
        self.add("etc/group", data=GROUP.encode())

    def tar(self):
        """The bytes, parents before children and hard links after their targets."""
        order = sorted(self.entries, key=lambda n: (self.entries[n][0].islnk(), n))
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name in order:
                info, data = self.entries[name]
                tar.addfile(info, io.BytesIO(data))
        return out.getvalue()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def compiled(source, flags):
    """The bytes of a program made from one of the C files beside this one."""
    with tempfile.TemporaryDirectory() as work:
        out = pathlib.Path(work, "program")
        subprocess.run(["gcc", "-O1", "-s", "-Wall", *flags, "-o", out, HERE / source], check=True)
        return out.read_bytes()


def sources(recipe):
    """What the image's own programs are made from."""
    names = {source for layer in recipe["layers"] for source, _ in layer.get("programs", {}).values()}
    return b"".join((HERE / name).read_bytes() for name in sorted(names))


def layer_tar(recipe, bottom, below, debs_dir):
    layer = Layer()
    if bottom:
        layer.skeleton()
    if recipe.get("busybox"):
        layer.busybox(fetch(closure(["busybox-static"]), debs_dir)[0])
    packages = closure(recipe.get("packages", []), recipe.get("without", frozenset()))
    for deb in fetch({n: v for n, v in packages.items() if n not in below}, debs_dir):
        layer.package(deb, recipe.get("leave_out", ()))
    if bottom and "dash" in packages:
        layer.add("usr/bin/sh", tarfile.SYMTYPE, link="dash", mode=0o777)
        layer.add("usr/bin/awk", tarfile.SYMTYPE, link="mawk", mode=0o777)
        for tool in ("iptables", "iptables-save", "iptables-restore", "ip6tables"):
            layer.add(f"usr/sbin/{tool}", tarfile.SYMTYPE, link="xtables-nft-multi", mode=0o777)
        layer.add("usr/bin/nc", tarfile.SYMTYPE, link="nc.openbsd", mode=0o777)
        layer.add("usr/bin/python3", tarfile.SYMTYPE, link="python3.11", mode=0o777)
    for name, (source, flags) in recipe.get("programs", {}).items():
        layer.add(name, data=compiled(source, flags), mode=0o755)
    for name, text in recipe.get("files", {}).items():
        layer.add(name, data=text.encode(), mode=0o755 if text.startswith("#!") else 0o644)
    for name, target in recipe.get("links", {}).items():
        layer.add(name, tarfile.SYMTYPE, link=target, mode=0o777)
    for name, (uid, mode) in recipe.get("dirs", {}).items():
        layer.directory(name, uid, mode)
    if bottom:
        # The packages' own would win over the skeleton's.
        layer.add("etc/passwd", data=PASSWD.encode())
        layer.add("etc/group", data=GROUP.encode())
    return layer.tar(), set(packages)


class Blobs(dict):
    """The blobs of a layout, by digest."""

    def put(self, data):
        """Adds one; gives its digest and size, as a descriptor has them."""
        self[digest(data)] = data
        return {"digest": digest(data), "size": len(data)}


def container_config(recipe):
    """What the image says of its containers."""
    config = {"Env": recipe.get("env", [PATH]), "Cmd": recipe["cmd"]}
    for key, name in (("workdir", "WorkingDir"), ("user", "User"), ("stop_signal", "StopSignal")):
        if key in recipe:
            config[name] = recipe[key]
    for key, name in (("ports", "ExposedPorts"), ("volumes", "Volumes")):
        if key in recipe:
            config[name] = {one: {} for one in recipe[key]}
    return config


def descriptor(name, tag, recipe, layers, blobs):
    """Adds one image's configuration and manifest; gives what the index says of it."""
    described = json.dumps({
        "architecture": "amd64", "os": "linux", "created": "2023-11-14T22:13:20Z", "config": container_config(recipe),
        "rootfs": {"type": "layers", "diff_ids": [diff_id for diff_id, _ in layers]},
    }, sort_keys=True).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **blobs.put(described)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **packed} for _, packed in layers],
    }, sort_keys=True).encode()
    return {
        "mediaType": "application/vnd.oci.image.manifest.v1+json", **blobs.put(manifest),
        "annotations": {"org.opencontainers.image.ref.name": tag,
                        "io.containerd.image.name": f"docker.io/library/{name}:{tag}"},
        "platform": {"architecture": "amd64", "os": "linux"},
    }


def image(name, recipe, out, debs_dir):
    blobs, made, below = Blobs(), [], set()

    def layer(one, number):
        data, packages = layer_tar(one, number == 0, below, debs_dir)
        below.update(packages)
        return digest(data), blobs.put(gzip.compress(data, 1, mtime=0))

    common = [layer(one, number) for number, one in enumerate(recipe["layers"])]
    for tag, more in recipe.get("tags", {"latest": []}).items():
        layers = common + [layer(one, len(common)) for one in more]
        made.append(descriptor(recipe.get("name", name), tag, recipe, layers, blobs))
    index = json.dumps({"schemaVersion": 2, "manifests": made}, sort_keys=True).encode()
    layout = Layer()
    layout.directory("blobs")
    layout.directory("blobs/sha256")
    layout.add("oci-layout", data=b'{"imageLayoutVersion":"1.0.0"}')
    layout.add("index.json", data=index)
    for key, data in blobs.items():
        layout.add(f"blobs/sha256/{key.removeprefix('sha256:')}", data=data)
    temporary = out.with_suffix(".tmp")
    temporary.write_bytes(layout.tar())
    temporary.rename(out)


def main():
    out_dir = pathlib.Path(sys.argv[1])
    names = sys.argv[2:] or [name for name, recipe in IMAGES.items() if not recipe.get("product")]
    cache = CACHE / "images"
    (cache / "debs").mkdir(parents=True, exist_ok=True)
    out_dir.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            recipe = IMAGES[name]
            wanted = sorted({p for layer in recipe["layers"] for p in
                             layer.get("packages", []) + (["busybox-static"] if layer.get("busybox") else [])})
            without = frozenset().union(*(layer.get("without", ()) for layer in recipe["layers"]))
            key = hashlib.sha256(pathlib.Path(__file__).read_bytes() + sources(recipe) +
                                 json.dumps(closure(wanted, without)).encode()).hexdigest()[:16]
            made = cache / f"{name}-{key}.tar"
            if not made.exists():
                print(f"images: building {name}", flush=True)
                image(name, recipe, made, cache / "debs")
            target = out_dir / f"{name}.tar"
            if not (target.exists() and target.stat().st_ino == made.stat().st_ino):
                target.unlink(missing_ok=True)
                try:
                    os.link(made, target)
                except OSError:
                    shutil.copyfile(made, target)


if __name__ == "__main__":
    main()
