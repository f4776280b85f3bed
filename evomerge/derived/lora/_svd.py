"""Low-rank factors of one matrix: exact where that is cheap, randomized for big matrices. Tensors in, tensors out."""

from typing import NamedTuple

import torch

MAX_EXACT_SIZE = 1024  # rows or columns, whichever are fewer: a full decomposition takes about a second on one core
OVERSAMPLING = 32  # directions computed beyond those that are wanted
POWER_ITERATIONS = 4


class Factors(NamedTuple):
    """delta ~ b @ a.

    Attributes:
        b: (rows, rank).
        a: (rank, columns).
        exact: whether a full decomposition was made.
    """

    b: torch.Tensor
    a: torch.Tensor
    exact: bool

    @property
    def rank(self) -> int:
        """The number of directions kept."""
        return int(self.a.shape[0])


def factorize(delta: torch.Tensor, rank: int, energy: float | None = None) -> Factors:
    """Return the best factors of at most `rank` (Eckart & Young 1936), the singular values shared between them evenly.

    A matrix with more than MAX_EXACT_SIZE rows and columns gets the randomized decomposition of Halko, Martinsson &
    Tropp 2011 (https://arxiv.org/abs/0909.4061, algorithm 4.4) where `rank` is less than a quarter of its size.

    Args:
        delta: (rows, columns), float32.
        rank: at least 1; more than the matrix has is cut to that.
        energy: share in (0, 1] of the squared Frobenius norm: the smallest rank that holds it is kept; None = `rank`.
    """
    smaller = min(delta.shape)
    rank = min(rank, smaller)
    exact = smaller <= MAX_EXACT_SIZE or 4 * (rank + OVERSAMPLING) > smaller
    if exact:
        u, s, vh = _exact(delta, rank)
    else:
        u, s, vh = _randomized(delta, rank + OVERSAMPLING)
    kept = rank if energy is None else _rank_for(s[:rank], energy * squared_norm(delta))
    root = s[:kept].sqrt()
    return Factors((u[:, :kept] * root).contiguous(), (root[:, None] * vh[:kept]).contiguous(), exact)


def _rank_for(s: torch.Tensor, wanted: float) -> int:
    """Return how many of the descending values are needed for their squares to sum to `wanted`; all if they do not."""
    held = s.double().square().cumsum(0)
    # Rounding may leave the sum of all a little below what is wanted.
    enough = (held >= wanted * (1 - 1e-6)).nonzero()
    return int(enough[0]) + 1 if len(enough) else len(s)


def _exact(delta: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return leading singular triplets of a full decomposition.

    A long matrix is reduced to a square one by a QR step first, which is several times quicker and as exact.
    """
    tall = delta.shape[0] >= delta.shape[1]
    q, r = torch.linalg.qr(delta if tall else delta.T)
    u, s, vh = torch.linalg.svd(r)
    long, short = q @ u[:, :rank], vh[:rank]
    return (long, s[:rank], short) if tall else (short.T, s[:rank], long.T)


def _randomized(delta: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return approximate leading singular triplets; the random start is the same every time, and no global one."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(delta.shape[1], size, generator=generator).to(delta.device)
    q = torch.linalg.qr(delta @ start).Q
    for _ in range(POWER_ITERATIONS):
        q = torch.linalg.qr(delta.T @ q).Q
        q = torch.linalg.qr(delta @ q).Q
    u, s, vh = torch.linalg.svd(q.T @ delta, full_matrices=False)
    return q @ u, s, vh


def squared_norm(tensor: torch.Tensor) -> float:
    """Return the squared Frobenius norm, summed in float64 by rows so that no float64 copy is made."""
    rows = tensor.reshape(-1, tensor.shape[-1] if tensor.ndim else 1)
    return float(torch.linalg.vector_norm(rows, dim=-1).double().square().sum())
