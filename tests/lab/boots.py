#!/usr/bin/env python3
"""Counts the virtual machines that KVM makes: boots.py FILE

KVM announces each one to user space (virt/kvm/kvm_main.c,
kvm_uevent_notify_change). FILE gets a line with the program's process ID for
each, written at once, so that the count outlives a machine that dies.
"""

import socket
import sys

NETLINK_KOBJECT_UEVENT = 15
FROM_KERNEL = 1


def announcements():
    """The variables of each event of the kernel, as a dictionary."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT) as events:
        events.bind((0, FROM_KERNEL))
        while True:
            parts = events.recv(65536).split(b"\0")[1:]
            yield dict(part.decode(errors="replace").partition("=")[::2] for part in parts if part)


def main():
    """Writes until it is killed."""
    for event in announcements():
        if event.get("DEVNAME") == "kvm" and event.get("EVENT") == "create":
            with open(sys.argv[1], "a", encoding="ascii") as file:
                print(event.get("PID", "?"), file=file)


if __name__ == "__main__":
    main()
