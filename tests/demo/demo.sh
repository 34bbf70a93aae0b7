#!/usr/bin/env bash
# What a pod is, shown on one: every line after a `$` is a command that you can
# type yourself. Fails when anything does not do what it says.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d /tmp/beluga-demo.XXXXXX)
export BELUGA_ROOT=$work/root BELUGA_STATE=$work/state

tidy() {
    local status=$?
    beluga delete pod demo --grace-period 0 --ignore-not-found >/dev/null 2>&1 || true
    rm -rf "$work"
    [ $status = 0 ] || echo "demo: failed with status $status" >&2
}
trap tidy EXIT

bold= plain=
if [ -n "${DEMO_BOLD:-}" ]; then
    bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
fi
title() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
# A word that the shell would take apart is shown in quotes.
typed() {
    local word line=
    for word in "$@"; do
        case $word in *[!A-Za-z0-9_./:=@%+,-]* | "") word="'$word'" ;; esac
        line+=" $word"
    done
    printf '$%s\n' "$line"
}
show() { typed "$@"; "$@"; }

title "the machine"
show beluga doctor || true

title "images are loaded once; each layer becomes a read-only disk"
show beluga load -i target/images/busybox.tar
show beluga load -i target/images/nginx.tar
show beluga images

title "a pod of three containers (and one that runs first), from tests/demo/demo.yaml"
show beluga run -d -f tests/demo/demo.yaml
show beluga wait --for=condition=Ready --timeout=2m pod/demo
show beluga get pods -o wide
ip=$(beluga get pod demo -o json | python3 -c 'import json, sys; print(json.load(sys.stdin)["status"]["podIP"])')

title "its page, fetched from the host by the pod's IP"
show curl -sS --retry 5 --retry-connrefused --max-time 20 "http://$ip/"

title "one logical host: the same kernel boot, hostname and port space in every container"
for container in web writer reader; do
    show beluga exec -c $container demo -- sh -c 'echo "$(hostname) $(cat /proc/sys/kernel/random/boot_id)"'
done
echo "(this host's boot: $(cat /proc/sys/kernel/random/boot_id))"

title "one IPC namespace and one /dev/shm: written by one container, read by another"
show beluga exec -c web demo -- sh -c 'echo from-web > /dev/shm/note'
show beluga exec -c reader demo -- cat /dev/shm/note

title "one volume: written by the writer, read-only for the web server"
show beluga exec -c web demo -- cat /var/www/html/index.html
typed beluga exec -c web demo -- touch /var/www/html/x
if beluga exec -c web demo -- touch /var/www/html/x; then echo "the read-only mount was writable" >&2; exit 1; fi

title "root file systems, users and rights are each container's own"
show beluga exec -c reader demo -- id
show beluga exec -c reader demo -- grep -E 'CapEff|NoNewPrivs' /proc/self/status

title "what they print"
show beluga logs demo -c reader --tail 3

title "where the time went"
show beluga describe pod demo

title "deleted, and nothing is left over"
show beluga delete pod demo
show beluga get pods
show beluga gc --check
printf '\n%sdone%s\n' "$bold" "$plain"
