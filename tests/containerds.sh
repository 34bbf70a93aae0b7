#!/bin/bash
# Fetches containerd as later Debians have it, once per machine, and prints the
# directory that holds them: tests/containerds.sh
#
#   trixie/usr/bin/{containerd,ctr}    1.7
#   forky/usr/bin/{containerd,ctr}     2.x
#   SUITE/package                      which version that is
#
# The packages are unpacked and never installed: this machine has a containerd of its
# own. apt fetches them, with lists and a cache beside the machine's own, so that what is
# unpacked has the sum that Debian has signed. What is there stays: no network is needed.
set -euo pipefail

cache=${BELUGA_CACHE:-/var/cache/beluga}/containerd
suites="trixie forky"
programs="containerd ctr"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

say() { echo "containerd: $*" >&2; }
die() { say "error: $*"; exit 1; }

missing() {
    local suite
    for suite in $suites; do [ -s "$cache/$suite/package" ] || echo "$suite"; done
}

# Where this machine gets its own packages of Debian.
mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' 'Origin: Debian' \
        'Codename: bookworm' | head -1
}

known_mirror() {
    local uri
    uri=$(mirror)
    if [ -z "$uri" ] && [ "$(id -u)" = 0 ]; then
        say "fetching this machine's package lists"
        apt-get update -qq </dev/null >&2 || true
        uri=$(mirror)
    fi
    [ -n "$uri" ] || die "apt knows no mirror of Debian 12 (its package lists are needed)"
    echo "$uri"
}

# One of apt's programs, with the wanted suites and none of the machine's.
asks() {
    local program=$1
    shift
    "$program" -q -o Dir::Etc::SourceList="$work/debian.sources" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::PreferencesParts=/dev/null -o Dir::State::Lists="$work/lists" -o Dir::State::status=/dev/null \
        -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root "$@" </dev/null
}

lists() {
    local uri
    uri=$(known_mirror)
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    printf '%s\n' "Types: deb" "URIs: $uri" "Suites: $*" "Components: main" "Architectures: amd64" \
        "Signed-By: $keyring" "Targets: Packages" >"$work/debian.sources"
    say "fetching the package lists of $* (20 MB)"
    asks apt-get update >"$work/log" 2>&1 || { cat "$work/log" >&2; die "cannot fetch the package lists of $*"; }
}

unpack() {
    local suite=$1 tree=$work/$1 program paths=()
    mkdir -p "$tree/deb"
    say "downloading containerd of $suite (30 MB)"
    (cd "$tree/deb" && asks apt-get download "containerd/$suite") >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; die "cannot download containerd of $suite"; }
    for program in $programs; do paths+=("./usr/bin/$program"); done
    dpkg-deb --fsys-tarfile "$tree"/deb/*.deb | tar -x -C "$tree" "${paths[@]}"
    for program in $programs; do
        "$tree/usr/bin/$program" --version >"$work/log" 2>&1 ||
            { cat "$work/log" >&2; die "$program of $suite does not start on this machine"; }
    done
    dpkg-deb -W --showformat '${Package}=${Version}\n' "$tree"/deb/*.deb >"$tree/package"
    rm -rf "$tree/deb" "${cache:?}/$suite"
    mv "$tree" "$cache/$suite"
}

main() {
    local suite wanted
    mkdir -p "$cache"
    if [ -n "$(missing)" ]; then
        exec 8>"$cache/lock"
        flock 8
        wanted=$(missing)
        work=$(mktemp -d "$cache/part.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        # Words on purpose.
        # shellcheck disable=SC2086
        [ -z "$wanted" ] || lists $wanted
        for suite in $wanted; do unpack "$suite"; done
        exec 8>&-
    fi
    echo "$cache"
}

main "$@"
