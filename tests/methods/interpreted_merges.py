"""Run by `test_method_device.py` in a process of its own: Triton's kernels in its interpreter, against torch.

The interpreter cuts bf16 off instead of rounding it, so bf16 parents are merged into float32 here.
"""

import itertools
from importlib import import_module

import torch
from merge_cases import METHODS, case

from evomerge.methods import Combination, Inputs, Statistics
from evomerge.methods.core import merge_blocks
from evomerge.methods.kernels import gpu
from evomerge.testing.methods import MergeCase

NAMES = [
    *("linear", "slerp", "nuslerp", "multislerp", "karcher", "task_arithmetic", "model_stock", "passthrough"),
    *("ties", "dare_ties", "dare_linear", "breadcrumbs", "breadcrumbs_ties"),
]
WEIGHTS = ((0.5, 0.5, 0.5), (-0.3, 0.7, 0.45), (1.5, 1.4, 1.3), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0))
DENSITIES = ((0.5, 0.123, 1.0), (0.9, 1.0, 0.0))
DTYPES = {torch.bfloat16: torch.float32, torch.float16: torch.float16, torch.float32: torch.float32}
SIZE = 2 * gpu.PROGRAM_ELEMENTS + 77


def example(name: str, dtype: torch.dtype, number: int, weights: tuple[float, ...]) -> MergeCase:
    """Return a merge; odd numbers take other options than mergekit's."""
    generator, method, odd = torch.Generator().manual_seed(number), METHODS[name], number % 2
    count = method.inputs[1] or 3
    base = torch.randn(SIZE, generator=generator).to(dtype)
    models = [(base.float() + 0.05 * torch.randn(SIZE, generator=generator)).to(dtype) for _ in range(count)]
    models[0][::7] = base[::7]  # deltas of exactly 0
    known = {p.name for p in method.parameters}
    own = [{"weight": weights[i], "density": DENSITIES[odd][i], "gamma": 0.01 * i} for i in range(count)]
    shared = {"t": 0.3, "lambda": (1.0, 0.7)[odd], "normalize": bool(odd), "rescale": bool(odd)}
    if name == "linear":
        shared["normalize"] = bool(sum(weights))
    return case(
        name,
        models,
        base if method.base == "required" else None,
        [{key: value for key, value in each.items() if key in known} for each in own],
        {variant.name: variant.options[-odd] for variant in method.variants},
        **{key: value for key, value in shared.items() if key in known},
    )


def compare(merge: MergeCase, out_dtype: torch.dtype, gain: float) -> None:
    """Merge with the kernels and in torch; both must give the same bits and see the same infinities."""
    inputs, method = merge.inputs(), merge.method
    coefficients = method.coefficients(inputs, merge.settings(), Statistics(inputs.models, inputs.base))
    found, expected = (torch.empty(SIZE, dtype=out_dtype) for _ in range(2))
    finite = _merge_on_gpu(found, inputs, coefficients, gain)
    assert finite is not None, "there was no kernel"
    whole = merge_blocks(expected, method, inputs, coefficients, gain=gain)
    assert bool(finite) == whole
    assert torch.equal(found.nan_to_num(nan=7.0), expected.nan_to_num(nan=7.0))


def _merge_on_gpu(out: torch.Tensor, inputs: Inputs, coefficients: object, gain: float) -> torch.Tensor | None:
    """Merge with the kernels as if `out` lay on a GPU."""
    merge_on_gpu = gpu.combine if isinstance(coefficients, Combination) else gpu.sparse
    return merge_on_gpu(out, inputs, coefficients, gain)


def main() -> None:
    """Compare every method over dtypes, weights, options and gains."""
    torch.set_num_threads(1)
    dispatch = import_module("evomerge.methods.kernels.gpu._dispatch")
    dispatch.DEVICES = ("cpu",)
    dispatch._trials[torch.device("cpu")] = import_module("evomerge.methods.kernels.gpu._triton")
    merges = itertools.product(NAMES, DTYPES.items(), enumerate(WEIGHTS))
    for number, (name, (dtype, out_dtype), (choice, weights)) in enumerate(merges):
        if name != "multislerp" or any(weights):  # which has no mean without weights
            compare(example(name, dtype, choice, weights), out_dtype, (1.0, 0.7)[number % 2])
    for name, bad in itertools.product(("linear", "task_arithmetic", "ties", "dare_ties"), ("nan", "inf")):
        merge = example(name, torch.bfloat16, 0, (1.0, 1.0, 1.0))
        merge.models[1][SIZE - 1] = float(bad)
        compare(merge, torch.float32, 1.0)
    models = example("linear", torch.float16, 0, WEIGHTS[0]).models
    compare(case("linear", models, None, [{"weight": 6e4}] * 3, normalize=False), torch.float16, 1.0)


if __name__ == "__main__":
    main()
