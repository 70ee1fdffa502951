"""What the processor multiplies by itself, and how many of its cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

# x86: AVX512-BF16 or AMX; ARM: the BF16 extension (Linux's names for them)
_FLAGS_OF_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}


def has_native_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether bfloat16 is multiplied natively; False where the system does not say.

    PyTorch's own test is also true of every AVX512, where bfloat16 is emulated and slower than float32.
    """
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return bool(_FLAGS_OF_BFLOAT16 & flags)


def usable_cores(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Cores this process may use: its CPU affinity, and no more than its control groups' CPU quota, rounded up.

    A container with a quota of two cores on a machine of 64 sees all 64, and a thread on each of them is stopped most
    of the time.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _control_groups(cgroups, own) if (quota := _quota(folder)) is not None]
    return max(1, min([affinity, *map(math.ceil, quotas)]))


def _control_groups(cgroups: Path, own: Path) -> list[Path]:
    """Folders of this process's control groups and of those above them, of version 2 and of version 1."""
    folders = [cgroups, cgroups / "cpu"]
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / "cpu" if controllers else cgroups
        below = root / path.lstrip("/")
        folders += [folder for folder in (below, *below.parents) if folder.is_relative_to(root)]
    return folders


def _quota(folder: Path) -> float | None:
    """CPU seconds a second that a control group allows; None where it sets no limit."""
    try:
        if (limit := folder / "cpu.max").exists():
            quota, period = limit.read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return float(quota) / float(period) if float(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # also "max"
        return None
