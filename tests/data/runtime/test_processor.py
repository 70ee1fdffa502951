"""Laws of `auto` precision: bf16 where the processor multiplies it natively, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from cinefuse.data.runtime.processor import has_native_bfloat16


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
