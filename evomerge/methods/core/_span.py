"""Geometry in the span of a few tensors: a vector is its coefficients, and the Gram matrix gives inner products.

With it, methods on the sphere need no pass over the tensors of their own: they end in one linear combination.
"""

import math

import torch


class Span:
    """Vectors sum(c_i x_i), written as their coefficients c (float64, (n,)); `gram` is (n, n) float64."""

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
