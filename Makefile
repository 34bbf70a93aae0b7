# Two commands do everything on a fresh Debian 12 with Rust, gcc and python3:
#   make demo    build all, run a real pod, show what it does
#   make test    every check; the last line reads `N passed, N failed, N skipped`

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
PREFIX ?= /usr/local
# Seconds of each fuzz target under `make fuzz`.
T ?= 60

# Groups of packages (scripts/setup.sh): those of tests come with tests.
PACKAGES := kernel lab product images

TARGET := target
GUEST := $(TARGET)/guest
BINARIES := $(TARGET)/release/beluga $(TARGET)/release/beluga-vmm $(TARGET)/release/beluga-share $(TARGET)/release/beluga-cri $(TARGET)/release/containerd-shim-beluga-v2

.DEFAULT_GOAL := help
.PHONY: help setup build guest images demo test soak bench fuzz lab lab-run install uninstall clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## install the Debian packages that building needs
	@scripts/setup.sh $(PACKAGES)

# They compare with others, and need these as well: all groups.
bench soak: PACKAGES :=

guest: setup ## guest kernel and initramfs (the kernel is cached outside the checkout)
	@rootfs/build.sh

build: guest ## the binaries, the guest, the images of `beluga conformance`
	@CARGO_PROFILE_RELEASE_LTO=thin cargo build --release --locked -p beluga-vmm -p beluga-share
	@cargo build --release --locked -p beluga-runtime -p beluga-cri -p beluga-shim
	@tests/images/build.py $(GUEST) conformance

images: setup ## test images from Debian's packages
	@tests/images/build.py $(TARGET)/images

demo: build images ## run a pod of three containers and show it
	@tests/demo/run.sh

test: ## all checks and all stories
	@tests/run.py

soak: build images ## long runs: 1 GiB through a container and back, a second build of the kernel
	@tests/run.py --soak

bench: build images ## CPU time, exits, memory, traffic beside QEMU's: a table, and target/bench.json
	@tests/bench/run.py
	@tests/bench/pull.py

fuzz: ## fuzz targets for T seconds each
	@tests/fuzz.sh $(T)

# `make lab` opens a shell in the lab host, `make lab CMD='…'` runs one command
# there. GNU make knows one status for every failure; the loaded object lets it
# end with the command's own.
ifeq ($(filter lab,$(MAKECMDGOALS)),lab)
-load $(TARGET)/make/exit_code.so
$(TARGET)/make/exit_code.so: tests/make/exit_code.c
	@mkdir -p $(@D)
	@gcc -shared -fPIC -O1 -o $@ $<
endif

lab-run: build images
	@tests/lab/images.sh
	@set +e; tests/lab/lab.sh $(if $(CMD),-- $(SHELL) -c "$$LAB_CMD",--shell); echo $$? > $(TARGET)/make/status
lab-run: export LAB_CMD := $(value CMD)

lab: lab-run ## shell in the lab host, or CMD='…' there
	$(exit_code $(TARGET)/make/status)@exit $$(cat $(TARGET)/make/status)

# abspath and the words of a recipe would take a path with a blank for two, and install elsewhere.
place = $(if $(word 2,$(DESTDIR)$(PREFIX)),$(error PREFIX and DESTDIR cannot have blanks in them: \
	"$(DESTDIR)$(PREFIX)"))$(if $(DESTDIR),$(if $(filter /%,$(PREFIX)),,$(error with DESTDIR, \
	PREFIX is an absolute path: "$(PREFIX)")))$(abspath $(DESTDIR)$(PREFIX))

install: ## install to PREFIX (/usr/local); needs `make build` first
	@scripts/install.sh $(place) $(abspath $(PREFIX))

uninstall: ## remove what install put there
	@scripts/install.sh --remove $(place)

clean: ## remove what was built here; caches outside the checkout stay
	@cargo clean -q
