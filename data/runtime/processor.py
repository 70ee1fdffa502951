"""What the processor multiplies by itself."""

from __future__ import annotations

from pathlib import Path

# x86: AVX512-BF16 or AMX; ARM: the BF16 extension (Linux's names for them)
_FLAGS_OF_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}


def has_native_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether bfloat16 is multiplied natively; False where the system doesn't tell.

    PyTorch's own test also says yes to every AVX512, where bfloat16 is emulated and slower than float32.
    """
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return bool(_FLAGS_OF_BFLOAT16 & flags)
