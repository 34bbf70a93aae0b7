#!/bin/bash
# Two images of the same tree of odd files, and lists of what is in them.
#
#   make.sh OUT BUSYBOX.tar      as root: there are devices and other people's files
#
# OUT/strange.tar has three layers, made by umoci; OUT/built.tar has one, which
# `beluga build` made of what umoci unpacks of the other, dated anew. The lists
# are of what was there, by OUT/listing, which is in both as /listing.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
out=$(readlink -f "$1") busybox=$(readlink -f "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export BELUGA_ROOT=$work/root BELUGA_STATE=$work/state

gcc -O1 -static -o listing "$here/listing.c"
skopeo copy -q "oci-archive:$busybox" oci:layout:busybox
umoci unpack --image layout:busybox first
"$here/files.py" before first/rootfs/srv
# A pod has its own on top of these, and would have to make them first.
touch first/rootfs/etc/{hosts,hostname,resolv.conf}
cp listing first/rootfs/listing
umoci repack --image layout:one first
umoci unpack --image layout:one second
"$here/files.py" after second/rootfs/srv
umoci repack --image layout:two second
umoci unpack --image layout:two tree
skopeo copy -q oci:layout:two oci-archive:strange.tar:strange:1
./listing tree/rootfs >strange.list
"$here/files.py" dated tree/rootfs
./listing tree/rootfs >built.list
beluga build -q -t built:1 tree/rootfs
beluga save -o built.tar built:1
mv strange.tar strange.list built.tar built.list "$out"
