"""Kernels for CPUs, compiled by numba; imported only where they pay."""

from evomerge.methods.kernels.cpu._dispatch import (
    Kernels,
    address,
    addresses,
    inner_products,
    kernels,
    loaded,
    nth_equal,
    use_kernels,
)

__all__ = ["Kernels", "address", "addresses", "inner_products", "kernels", "loaded", "nth_equal", "use_kernels"]
