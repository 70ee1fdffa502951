"""Laws of the check for GPUs: it runs without one, says what does not apply, and fails where a check does not hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cinefuse.tools import gpu_check

ROOT = Path(__file__).parents[2]


def test_steps_that_need_cuda_are_skipped_on_a_cpu_and_the_others_are_measured(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--quick", "--only", "environment", "copies wait", "--json", str(tmp_path / "all.json")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "gpu_check.py"), *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = json.loads((tmp_path / "all.json").read_text())
    assert first["verdict"] == "PASS"
    assert first["product_fp32_tflops"] > 0
    assert second["verdict"] == "SKIP"
    assert "CUDA" in second["why"]


def test_a_step_that_hangs_fails_at_its_deadline() -> None:
    result = gpu_check.check("encoders agree", "cpu", quick=True, seconds=0.2)
    assert result["verdict"] == "FAIL"
    assert "not done after" in result["why"]


@pytest.mark.parametrize("found", [0.2, float("nan")])
def test_a_difference_above_its_bound_or_no_number_fails(found: float) -> None:
    with pytest.raises(gpu_check.Failed, match="expected at most"):
        gpu_check.hold(found, 0.1, "difference")
