"""Sparse matrices in CSR, and constant ones whose products have a sparse backward pass."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

# torch calls its CSR support beta once a process, at the first use: here, so that no filter of the caller's meets it
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    torch.sparse_csr_tensor([0, 0], torch.zeros(0, dtype=torch.long), torch.zeros(0), (1, 1), check_invariants=False)


def csr(offsets: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A CSR matrix (unchecked): row i has ``values`` at ``columns`` from offsets[i] to offsets[i + 1]."""
    return torch.sparse_csr_tensor(offsets, columns, values, shape, check_invariants=False)


class SparseProduct:
    """A constant sparse matrix (M, N) with its transpose, so that the backward pass is one more sparse product."""

    def __init__(self, matrix: Tensor, transpose: Tensor) -> None:
        self.matrix, self.transpose = matrix, transpose

    @classmethod
    def nothing(cls, rows: int, device: torch.device) -> SparseProduct:
        """A matrix (rows, 0)."""
        empty = torch.zeros(0, dtype=torch.long)
        return cls.sorted(empty, empty, torch.zeros(0), rows=rows, columns=0).to(device)

    @classmethod
    def sorted(cls, row: Tensor, column: Tensor, value: Tensor, *, rows: int, columns: int) -> SparseProduct:
        """The matrix with ``value`` (E,) at ``row`` and ``column`` (E,) int64, which are sorted by row, then column."""
        order = torch.argsort(column, stable=True)
        return cls(
            _sorted_csr(row, column, value, rows, columns),
            _sorted_csr(column[order], row[order], value[order], columns, rows),
        )

    @property
    def columns(self) -> int:
        """N."""
        return self.matrix.shape[1]

    def t(self) -> SparseProduct:
        """The transpose (N, M)."""
        return SparseProduct(self.transpose, self.matrix)

    def to(self, kind: torch.device | torch.dtype) -> SparseProduct:
        """The same on another device, or in another precision."""
        return SparseProduct(self.matrix.to(kind), self.transpose.to(kind))

    def __matmul__(self, dense: Tensor) -> Tensor:
        """(M, N) @ (N, D)."""
        return _SparseTimes.apply(self.matrix, self.transpose, dense)  # type: ignore[no-any-return,no-untyped-call]


def _sorted_csr(row: Tensor, column: Tensor, value: Tensor, rows: int, columns: int) -> Tensor:
    offsets = torch.searchsorted(row, torch.arange(rows + 1))
    return csr(offsets, column, value, (rows, columns))


class _SparseTimes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transpose: Tensor, dense: Tensor) -> Tensor:
        ctx.transpose = transpose
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transpose @ gradients[0].contiguous()
