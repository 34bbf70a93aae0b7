"""The report as text."""

PROCESSES = {"beluga": "beluga (command line)", "supervisor": "supervisor",
             "resolver": "resolver, for all pods", "beluga-vmm": "beluga-vmm"}
PHASES = {"kernel_entry": "kernel entry", "init": "guest init", "ready": "agent ready",
          "first_container": "first container"}


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 10 else f"{value:,.1f}"


def spread(figure):
    """A median with its range."""
    if not isinstance(figure, dict):
        return number(figure)
    return f"{number(figure['median'])} ({number(figure['min'])}-{number(figure['max'])})"


def rows(lines):
    """Columns of equal width; the first one is text."""
    widths = [max(len(line[at]) if at < len(line) else 0 for line in lines) for at in range(max(map(len, lines)))]
    return ["  " + "  ".join(cell.ljust(width) if at == 0 else cell.rjust(width)
                             for at, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in lines]


def failed(part, title):
    return [f"{title}: FAILED, {part['failed']}"]


def cpu_time(pod):
    if "failed" in pod:
        return failed(pod, "CPU time of a pod's start")
    lines = [["", *PHASES.values()]]
    for process, title in PROCESSES.items():
        threads = list(pod["first_container"].get(process, {}))
        for thread in ["all", *[name for name in threads if name != "all" and len(threads) > 2]]:
            label = title if thread == "all" else "  thread " + thread
            lines.append([label, *[spread(pod[phase].get(process, {}).get(thread, 0)) for phase in PHASES]])
    others = sorted({name for phase in PHASES for name in pod[phase]} - set(PROCESSES) - {"all"})
    for process in others:
        lines.append([process, *[spread(pod[phase].get(process, {}).get("all", 0)) for phase in PHASES]])
    lines.append(["all host processes", *[spread(pod[phase]["all"]) for phase in PHASES]])
    return ["CPU ms of `beluga run -d`, one container: sum at each phase, median of 5 (least-most)", *rows(lines)]


def bare(cpu):
    ours, theirs = cpu["bare_beluga"], cpu["bare_qemu"]
    for part, title in ((ours, "bare boot, Beluga"), (theirs, "bare boot, QEMU microvm")):
        if "failed" in part:
            return failed(part, title)
    pairs = [("CPU ms to init", ours["cpu"]["all"], theirs["cpu"]["all"]),
             ("  of them in the vCPU thread", ours["cpu"]["beluga-vmm"]["vcpu0"], theirs["cpu"]["qemu"]["CPU 0/KVM"]),
             ("exits", ours["exits"]["total"], theirs["exits"]["total"]),
             ("exits other than page faults", ours["exits"]["not page faults"], theirs["exits"]["not page faults"]),
             ("exits to userspace", ours["user_exits"], theirs["user_exits"])]
    lines = [["", "Beluga", "QEMU microvm", "ratio"]]
    for name, own, other in pairs:
        lines.append([name, spread(own), spread(other), f"{own['median'] / other['median']:.2f}"])
    if "failed" not in cpu["pod"]:
        own, other = cpu["pod"]["memory"]["vmm"]["own"], theirs["memory"]["own"]
        lines.append(["private KiB outside the guest (Beluga: of a pod)", spread(own), spread(other),
                      f"{own['median'] / other['median']:.2f}"])
    return [f"Bare boot, same kernel, a trivial init, no device, {cpu['memory_mib']} MiB", *rows(lines)]


def machine_exits(machine):
    if "failed" in machine:
        return failed(machine, "exits to agent ready")
    lines = [["exits to agent ready, every device", ""]]
    lines += [[f"  {kind}", spread(count)] for kind, count in machine["exits"].items()]
    lines.append(["exits to userspace", spread(machine["user_exits"]["at_ready"])])
    lines += [[f"  {kind}", spread(count)] for kind, count in machine["user_exits"].items()
              if kind not in ("at_ready", "all", "interrupted")]
    lines += [[name, spread(machine[name])] for name in ("devices", "queues", "interrupts")]
    return ["Exits by kind, machine stopped at agent ready", *rows(lines)]


def memory(pod):
    if "failed" in pod:
        return []
    lines = [["", "private", "its own", "pages of its program"]]
    for name, figures in pod["memory"].items():
        lines.append([name, spread(figures["own"]), spread(figures["own_anonymous"]), spread(figures["own_file"])])
    lines.append(["guest", spread(pod["memory"]["vmm"]["guest"])])
    return ["Private KiB while one pod runs (a second pod shares the program's pages)", *rows(lines)]


def pods(part):
    if "failed" in part:
        return failed(part, "idle pods")
    names = {"used": "one more pod costs the host", "guest": "  guest memory", "vmm": "  VMM", "supervisor": "  supervisor",
             "kernel": "  host kernel and files in memory (the rest)", "slab": "    of it slab",
             "page_tables": "    of it page tables", "kernel_stacks": "    of it kernel stacks",
             "shared": "    of it tmpfs: scratch disk, logs"}
    lines = [["", "MiB"], *[[title, f"{part['slope'][name] / 1024:.2f}"] for name, title in names.items()]]
    used = ", ".join(f"{point['pods']}: {point['used'] / 1024:.0f}" for point in part["points"])
    return [f"Idle pod of {part['memory_mib']} MiB, {part['settle_seconds']} s after start, caches dropped "
            f"(MiB used at 1, 2, 4, 8 pods: {used})", *rows(lines)]


def reads(part):
    if "failed" in part:
        return failed(part, "first reads")
    kinds = {"cold": "of a cold image", "warm": "of one in the host's page cache", "again": "from the guest's own cache"}
    lines = [["", "ms", "times"], *[[title, spread(part[name]), f"{part[name]['median'] / part['again']['median']:.1f}"]
                                    for name, title in kinds.items()]]
    return [f"A file of {part['bytes'] / 1e6:.1f} MB read in a container, by the guest's clock", *rows(lines)]


def traffic(part):
    if "failed" in part:
        return failed(part, "traffic")
    titles = {"read": "disk read", "write": "disk write", "vsock": "vsock, guest to host",
              "host": "vsock, host to guest"}
    names = ["exits", "exits without page faults", "exits to userspace", "syscalls", "syscalls without ioctl", "bytes copied"]
    lines, problems = [["", "", *names]], []
    for kind, title in titles.items():
        for who in ("beluga", "qemu"):
            figures = part[kind][who]
            if "failed" in figures:
                problems += failed(figures, f"{title}, {who}")
            else:
                lines.append([title, who, *[f"{figures[name]:.2f}" for name in names]])
    return [f"Per MiB of traffic ({part['little_mib']} MiB against {part['lot_mib']} MiB); bytes as MiB copied by system calls",
            *rows(lines), *problems]


def budgets(entries):
    lines = [["budget", "value", "limit", "stretch", ""]]
    for entry in entries:
        verdict = entry["verdict"] + (f": {entry['why']}" if "why" in entry else "")
        value = "-" if entry["value"] is None else f"{entry['value']:,.2f}"
        lines.append([f"{entry['name']}, {entry['unit']}", value, number(entry["limit"]), number(entry["stretch"]), verdict])
        if entry["terms"]:
            lines.append([f"    {entry['terms']} = {entry['limit']}"])
    return ["Budgets", *rows(lines)]


def profile(cpu):
    found = cpu.get("profile", {"failed": "the part did not run"})
    if "failed" in found:
        return failed(found, "profile")
    time, exits = found["time"], found["exits"]
    lines = ["Profile of one start to agent ready, for what is missed",
             f"  CPU time by thread and mode, per cent of {time['samples']} samples"]
    lines += ["  " + line for line in rows([[name, f"{share:.1f}"] for name, share in time["percent_by_thread"].items()])]
    lines.append("  functions")
    lines += ["  " + line for line in rows([[name, f"{share:.1f}"] for name, share in time["percent_by_function"].items()])]
    lines.append("  exits by the processor's reason, with the guest's functions that cause most of them")
    for reason, count in exits["reasons"].items():
        top = ", ".join(f"{name} {n}" for name, n in list(exits["functions"][reason].items())[:4])
        lines.append(f"    {reason} {count}: {top}")
    lines.append("  ports: " + ", ".join(f"{port} {count}" for port, count in exits["ports"].items()))
    phases = found["phases"]
    lines.append(f"  exits of a pod's start by reason, up to {', '.join(name.replace('_', ' ') for name in phases)}")
    last = list(phases.values())[-1]
    for reason in last:
        counts = (f"{phase.get(reason, 0):>7}" for phase in phases.values())
        lines.append(f"    {reason:<16}{''.join(counts)}")
    totals = (f"{sum(phase.values()):>7}" for phase in phases.values())
    lines.append(f"    {'all':<16}{''.join(totals)}")
    return lines


def render(report):
    """The whole table."""
    blocks = [[f"Beluga bench, {report['date']}, commit {report['commit']}"]]
    cpu = report.get("cpu")
    if cpu and "failed" in cpu:
        blocks.append(failed(cpu, "CPU part"))
    elif cpu:
        setting = cpu["settings"]
        blocks[0].append(f"  host kernel {setting['host_kernel']}, transparent huge pages {setting['transparent_hugepage']}; "
                         f"{cpu['qemu_version']}, -M {cpu['qemu_machine']}")
        blocks += [cpu_time(cpu["pod"]), bare(cpu), machine_exits(cpu["machine"]), memory(cpu["pod"])]
    if "pods" in report:
        blocks.append(pods(report["pods"]))
    if "reads" in report:
        blocks.append(reads(report["reads"]))
    if "traffic" in report:
        blocks.append(traffic(report["traffic"]))
    blocks.append(["Sizes in bytes", *rows([[name, f"{size:,}"] for name, size in report["sizes"].items()])])
    blocks.append(budgets(report["budgets"]))
    if cpu and "failed" not in cpu:
        blocks.append(profile(cpu))
    if report["failures"]:
        blocks.append(["FAILED parts", *("  " + failure for failure in report["failures"])])
    return "\n\n".join("\n".join(block) for block in blocks if block)
