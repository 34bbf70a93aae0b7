"""The budgets, and whether a report keeps them.

A budget's value comes out of the report of the same run; where that part
failed there is no value and the budget is neither met nor missed: it failed.
"""


def at(report, *path):
    """A figure of the report: the median where there is one."""
    for key in path:
        report = report[key]
    return report["median"] if isinstance(report, dict) and "median" in report else report


def user_exit_limit(report):
    """30 + 25 per device + 11 per queue + 2 per interrupt, with its terms."""
    machine = report["cpu"]["machine"]
    terms = [(1, 30, "base"), (round(at(machine, "devices")), 25, "devices"),
             (round(at(machine, "queues")), 11, "queues"), (round(at(machine, "interrupts")), 2, "interrupts")]
    return (sum(count * each for count, each, _ in terms),
            " + ".join(f"{each}" if name == "base" else f"{each} x {count} {name}" for count, each, name in terms))


def ratio(report):
    """Beluga's machine with every device to "agent ready", over QEMU's bare boot."""
    return at(report, "cpu", "pod", "ready", "beluga-vmm", "all") / at(report, "cpu", "bare_qemu", "cpu", "all")


# part, name, unit, value of a report, limit (a number or a function), stretch
BUDGETS = [
    ("cpu", "VMM with its vCPU, to agent ready", "CPU ms",
     lambda r: at(r, "cpu", "pod", "ready", "beluga-vmm", "all"), 160, 110),
    ("cpu", "all host processes, to the first container's process", "CPU ms",
     lambda r: at(r, "cpu", "pod", "first_container", "all"), 250, 158),
    ("cpu", "VMM to agent ready / QEMU microvm's bare boot", "ratio", ratio, 0.60, None),
    ("cpu", "exits other than page faults, to agent ready", "exits",
     lambda r: at(r, "cpu", "machine", "exits", "not page faults"), 1600, None),
    ("cpu", "exits to userspace, to agent ready", "exits",
     lambda r: at(r, "cpu", "machine", "user_exits", "at_ready"), user_exit_limit, None),
    ("cpu", "VMM, private memory outside the guest", "MiB",
     lambda r: at(r, "cpu", "pod", "memory", "vmm", "own") / 1024, 2.4, None),
    ("cpu", "supervisor, private memory", "MiB",
     lambda r: at(r, "cpu", "pod", "memory", "supervisor", "own") / 1024, 4, None),
    ("pods", "idle pod, slope of the host's used memory", "MiB",
     lambda r: at(r, "pods", "slope", "used") / 1024, 34, 24),
    ("sizes", "beluga-vmm, size", "MiB", lambda r: r["sizes"]["beluga-vmm"] / 2**20, 3, None),
    ("sizes", "vmlinux, size", "MiB", lambda r: r["sizes"]["vmlinux"] / 2**20, 16, None),
    ("sizes", "initramfs, size", "MiB", lambda r: r["sizes"]["initramfs.cpio"] / 2**20, 2, None),
]


def judge(report):
    """One entry per budget: value, limit, verdict."""
    verdicts = []
    for part, name, unit, value, limit, stretch in BUDGETS:
        entry = {"part": part, "name": name, "unit": unit, "stretch": stretch, "limit": None, "terms": None}
        try:
            if callable(limit):
                entry["limit"], entry["terms"] = limit(report)
            else:
                entry["limit"] = limit
            entry["value"] = round(value(report), 3)
            entry["verdict"] = "met" if entry["value"] <= entry["limit"] else "MISSED"
            if stretch and entry["value"] <= stretch:
                entry["verdict"] = "met, and the stretch"
        except (KeyError, TypeError) as error:
            entry.update({"value": None, "verdict": "FAILED", "why": f"no figure: {error!r}"})
        verdicts.append(entry)
    return verdicts
