"""Laws of the processor: bf16 where it is native and nowhere else; no more threads than a container may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cinefuse.data.runtime.processor import has_native_bfloat16, usable_cores


@pytest.mark.parametrize(
    ("line", "native"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16", True),
        ("flags\t\t: fpu avx512f amx_bf16", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx512f avx512bw avx512vl avx512dq avx512_vnni", False),  # PyTorch would emulate it
        ("flags\t\t: fpu avx2", False),
    ],
)
def test_bfloat16_is_native_where_the_processor_says_so(line: str, native: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert has_native_bfloat16(tmp_path / "cpuinfo") is native


def test_a_system_that_does_not_tell_has_none(tmp_path: Path) -> None:
    assert not has_native_bfloat16(tmp_path / "absent")


def _all_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.mark.parametrize(
    ("files", "group", "cores"),
    [
        ({"cpu.max": "50000 100000"}, "0::/", 1),
        ({"job/cpu.max": "100000 100000"}, "0::/job", 1),
        ({"cpu.max": "100000 100000", "job/cpu.max": "max 100000"}, "0::/job", 1),  # a group above sets the limit
        ({"cpu/job/cpu.cfs_quota_us": "90000", "cpu/job/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/job", 1),
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "1:cpu:/", None),
        ({"cpu.max": "damaged"}, "0::/", None),
        ({}, "", None),
    ],
)
def test_a_cpu_quota_bounds_the_cores_and_its_absence_does_not(
    files: dict[str, str], group: str, cores: int | None, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    own = tmp_path / "own"
    own.write_text(group + "\n")
    assert usable_cores(tmp_path, own) == (cores or _all_cores())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_a_process_held_to_one_core_uses_one_thread() -> None:
    script = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); import cinefuse.device, torch"
    without = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; print(torch.get_num_threads())"], env=without, capture_output=True, text=True
    )
    assert done.stdout.strip() == "1", done.stderr
