"""Each method on numbers small enough to check by hand."""

import math
from collections.abc import Mapping

import pytest
import torch
from merge_cases import merge

ZERO = torch.zeros(4)
SQRT_HALF = math.sqrt(0.5)

# method, models, base, parameters of each model, shared parameters, result
Numbers = dict[str, float]
EXAMPLES: list[tuple[str, list[list[float]], list[float] | None, list[Numbers], Numbers, list[float]]] = [
    ("linear", [[1, 2], [3, 6]], None, [{"weight": 1}, {"weight": 3}], {}, [2.5, 5]),
    ("linear", [[1, 2], [3, 6]], None, [{"weight": 1}, {"weight": 3}], {"normalize": False}, [10, 20]),
    ("passthrough", [[1, -2]], None, [{"scale": 0.5}], {}, [0.5, -1]),
    ("slerp", [[0, 2]], [1, 0], [], {"t": 0.5}, [SQRT_HALF, 2 * SQRT_HALF]),  # a right angle
    ("slerp", [[3, 0]], [1, 0], [], {"t": 0.5}, [2, 0]),  # parallel: a line
    ("nuslerp", [[1, 0], [0, 2]], None, [{"weight": 1}, {"weight": 1}], {}, [SQRT_HALF, 2 * SQRT_HALF]),
    ("nuslerp", [[2, 1], [1, 3]], [1, 1], [{"weight": 1}, {"weight": 1}], {}, [1 + SQRT_HALF, 1 + 2 * SQRT_HALF]),
    ("multislerp", [[1, 0], [0, 3]], None, [{"weight": 1}, {"weight": 1}], {}, [2 * SQRT_HALF, 2 * SQRT_HALF]),
    ("karcher", [[1, 0], [0, 3]], None, [], {}, [2 * SQRT_HALF, 2 * SQRT_HALF]),
    ("task_arithmetic", [[2, 1], [1, 3]], [1, 1], [{"weight": 0.5}, {"weight": 1}], {"lambda": 2}, [2, 5]),
    # deltas 4 3 -2 1 and -1 3 -4 0; half of each is kept: 4 3 . . and . 3 -4 .; the mean of those that agree
    (
        "ties",
        [[4, 3, -2, 1], [-1, 3, -4, 0]],
        [0, 0, 0, 0],
        [{"weight": 1, "density": 0.5}, {"weight": 1, "density": 0.5}],
        {},
        [4, 3, -4, 0],
    ),
    # signs: 4 - 1 > 0 keeps 4; -2 - 4 keeps both
    (
        "ties",
        [[4, 3, -2, 1], [-1, 3, -4, 0]],
        [0, 0, 0, 0],
        [{"weight": 1}, {"weight": 1}],
        {"normalize": False},
        [4, 6, -6, 1],
    ),
    # of sizes 4 3 2 1 the largest is dropped and the next two are kept
    ("breadcrumbs", [[4, 3, -2, 1]], [0, 0, 0, 0], [{"weight": 1, "density": 0.5, "gamma": 0.25}], {}, [0, 3, -2, 0]),
    (
        "breadcrumbs_ties",
        [[4, 3, -2, 1], [4, -2, -3, 1]],
        [0, 0, 0, 0],
        [{"weight": 1, "density": 0.5, "gamma": 0.25}] * 2,
        {},
        [0, 3, -5, 0],
    ),
    # energies 4 and 16 of 20; second element: the signs differ, the sum is negative
    ("sce", [[2, 2], [4, -4]], [0, 0], [], {}, [2 * 0.2 + 4 * 0.8, -4]),
    # the first element varies more: (2-4)^2 against (3-3)^2
    ("sce", [[2, 3], [4, 3]], [0, 0], [], {"select_topk": 1.0}, [(2 * 13 + 4 * 25) / 38, 3]),
    ("ram", [[2, 0, 4], [4, 3, 0]], [0, 0, 0], [], {}, [3, 3, 4]),
    # each model: one shared and one own element, a ratio of 1, clipped to 0.5
    ("ramplus_tl", [[2, 0, 4], [4, 3, 0]], [0, 0, 0], [], {"r": 0.1, "alpha": 0.5}, [3, 3 * 1.05, 4 * 1.05]),
    # cos 60 degrees = 1/2: t = 2 * 0.5 / 1.5 = 2/3
    ("model_stock", [[2, 0], [1, math.sqrt(3)]], [0, 0], [], {}, [1, math.sqrt(3) / 3]),
    ("nearswap", [[1.5, 5]], [1, 1], [], {"t": 1}, [1.5, 2]),
    # one row, so importance is |difference| times one number: sizes 0 0 1 10, median 0, Q3 1: threshold 1.5
    ("arcee_fusion", [[1, 1, 2, 11]], [1, 1, 1, 1], [], {}, [1, 1, 1, 11]),
]


@pytest.mark.parametrize(("name", "models", "base", "parents", "shared", "expected"), EXAMPLES)
def test_example(
    name: str,
    models: list[list[float]],
    base: list[float] | None,
    parents: list[Mapping[str, float]],
    shared: Mapping[str, float],
    expected: list[float],
) -> None:
    origin = None if base is None else torch.tensor(base, dtype=torch.float32)
    tensors = [torch.tensor(model, dtype=torch.float32) for model in models]
    result = merge(name, tensors, origin, parents or None, **shared)
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float32), atol=1e-6, rtol=1e-6)


def test_nuslerp_rows_and_columns() -> None:
    a, b = torch.tensor([[1.0, 0], [2, 0]]), torch.tensor([[0.0, 1], [2, 0]])
    rows = merge("nuslerp", [a, b], None, [{"weight": 1}] * 2, nuslerp_flatten=False)
    # first row: a right angle; second row: equal
    torch.testing.assert_close(rows, torch.tensor([[SQRT_HALF, SQRT_HALF], [2, 0]]))
    columns = merge("nuslerp", [a, b], None, [{"weight": 1}] * 2, nuslerp_flatten=False, nuslerp_row_wise=True)
    cosine = 4 / (math.sqrt(5) * 2)
    share = math.sin(math.acos(cosine) / 2) / math.sin(math.acos(cosine))
    # the second column has a zero vector, at a right angle to everything
    torch.testing.assert_close(columns, torch.tensor([[share, SQRT_HALF], [4 * share, 0]]))


def test_model_stock_by_rows() -> None:
    a = torch.tensor([[1.0, 0], [1, 0]])
    b = torch.tensor([[1.0, 0], [0, 1]])
    result = merge("model_stock", [a, b], torch.zeros(2, 2), filter_wise=True)
    torch.testing.assert_close(result, torch.tensor([[1.0, 0], [0, 0]]))  # cosines 1 and 0


def test_dare_keeps_rescales_and_drops() -> None:
    delta = torch.ones(10_000)
    result = merge("dare_linear", [delta], torch.zeros(10_000), [{"weight": 1, "density": 0.25}])
    kept = result[result != 0]
    assert 2300 < len(kept) < 2700
    # L1 matching: every kept element is scaled by all / kept
    torch.testing.assert_close(kept, torch.full_like(kept, 10_000 / len(kept)))


def test_della_keeps_large_elements_more_often() -> None:
    delta = torch.linspace(1, 2, 10_000)[torch.randperm(10_000, generator=torch.Generator().manual_seed(0))]
    parents = [{"weight": 1, "density": 0.5, "epsilon": 0.4}]
    kept = merge("della_linear", [delta], torch.zeros(10_000), parents) != 0
    share = [float(kept[(delta >= low) & (delta < low + 0.1)].double().mean()) for low in (1.0, 1.45, 1.9)]
    assert [round(each, 1) for each in share] == [0.1, 0.5, 0.9]
