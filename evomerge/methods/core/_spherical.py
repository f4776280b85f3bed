"""Geometry in the span of a few tensors: a vector is its coefficients, and the Gram matrix gives inner products.

With it, methods on the sphere need no pass over the tensors of their own: they end in one linear combination.
"""

import math
from collections.abc import Sequence

import torch

from evomerge.methods.core._combination import Combination
from evomerge.methods.core._records import Inputs
from evomerge.methods.statistics import Statistics

COLLINEAR = 1e-8  # sin^2 of the angle below which an arc is taken as straight: opposite vectors have no one arc


class Span:
    """Vectors sum(c_i x_i), written as their coefficients c, (n,) float64.

    Attributes:
        gram: (n, n) float64, the inner products of the tensors x_i.
        norms: their n lengths.
    """

    def __init__(self, gram: torch.Tensor):
        self.gram = gram
        self.norms = [math.sqrt(max(float(square), 0.0)) for square in gram.diagonal()]

    def __len__(self) -> int:
        return len(self.norms)

    def dot(self, left: torch.Tensor, right: torch.Tensor) -> float:
        """Return the inner product of two vectors."""
        return float(left @ self.gram @ right)

    def norm(self, vector: torch.Tensor) -> float:
        """Return the length of a vector."""
        return math.sqrt(max(self.dot(vector, vector), 0.0))

    def along(self, index: int, length: float = 1.0) -> torch.Tensor:
        """Return `length` times the tensor `index`."""
        vector = torch.zeros(len(self), dtype=torch.float64)
        vector[index] = length
        return vector


def gram_of_averaged(statistics: Statistics, inputs: Inputs) -> torch.Tensor:
    """Return the Gram matrix of what is averaged: task vectors if there is a base, else the models."""
    gram = statistics.gram()
    return gram if inputs.base is None else gram[1:, 1:]


def on_base(inputs: Inputs, factors: Sequence[float]) -> Combination:
    """Return sum(c_i x_i), or base + sum(c_i (x_i - base)) if there is a base."""
    return Combination(0.0 if inputs.base is None else 1.0 - math.fsum(factors), tuple(factors))
