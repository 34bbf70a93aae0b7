#!/bin/sh
# Runs a program in a network namespace of its own, with a loopback: nothing that
# it serves or asks for is seen by the machine, nor the machine's by it.
exec unshare --net sh -c 'ip link set lo up && exec "$@"' sh "$@"
