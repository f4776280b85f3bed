"""Random masks have an address and nest in density; selections keep exact counts; variants and guards."""

import contextlib
import itertools

import pytest
import torch
from merge_cases import METHODS, case, merge

from evomerge import methods
from evomerge.errors import InvalidInput, MergeFailed
from evomerge.methods import Settings, Statistics
from evomerge.methods.core import mask_keys, uniform_bits
from evomerge.methods.statistics import KEEP_NONE, kept_l1, select, select_all, tie_end

N = 5000
BASE = torch.zeros(N)
DELTA = torch.randn(N, generator=torch.Generator().manual_seed(5))


def kept(name: str, density: float, seed: int = 0, delta: torch.Tensor = DELTA) -> torch.Tensor:
    own = [{"weight": 1.0, "density": density}]
    if "della" in name:
        own[0]["epsilon"] = 0.1
    return case(name, [delta], torch.zeros_like(delta), own).run(seed) != 0


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties", "della_linear", "della", "ties"])
def test_masks_nest_in_density(name: str) -> None:
    masks = [kept(name, density) for density in (0.0, 0.15, 0.3, 0.5, 0.503, 0.8, 0.95, 1.0)]
    for smaller, larger in itertools.pairwise(masks):
        assert not bool((smaller & ~larger).any())
    assert not bool(masks[0].any())
    assert bool(masks[-1].all())


@pytest.mark.parametrize("name", ["dare_linear", "della_linear"])
def test_masks_depend_on_seed_parent_and_tensor_only(name: str) -> None:
    first = kept(name, 0.5)
    assert torch.equal(first, kept(name, 0.5))
    assert not torch.equal(first, kept(name, 0.5, seed=1))
    if name == "dare_linear":
        assert torch.equal(first, kept(name, 0.5, delta=DELTA * 2 + 10))


def test_random_numbers_are_pinned() -> None:
    """Recipes are reproducible across releases only as long as these numbers stay."""
    bits = uniform_bits(mask_keys(0, "parent", "tensor"), 0, 4, torch.device("cpu"))
    assert bits.tolist() == [15073488, 12753485, 10705442, 12949308]
    far = uniform_bits((1, 2), (1 << 32) - 1, 2, torch.device("cpu"))
    assert len(set(far.tolist())) == 2


@pytest.mark.parametrize("size", [1, 2, 1000, (1 << 20) + 12345])
@pytest.mark.parametrize("steps", [1, 100, 10_000])
def test_selection_equals_sorting(size: int, steps: int) -> None:
    """`steps` distinct values give many ties; both the short and the long way."""
    generator = torch.Generator().manual_seed(size)
    values = (torch.randint(steps, (size,), generator=generator) / 64).float() * 1.37
    order = values.sort(descending=True, stable=True).indices

    def read(start: int, end: int) -> torch.Tensor:
        return values[start:end].clone()

    counts = sorted({1, max(1, size // 3), max(1, size // 2), size})
    table = select_all(read, size, counts)
    for at, count in enumerate(counts):
        cut = select(read, size, count)
        mask = values > cut.threshold
        mask[: cut.tie_end] |= values[: cut.tie_end] == cut.threshold
        assert torch.equal(mask.nonzero()[:, 0], order[:count].sort().values)
        assert table.thresholds[at] == cut.threshold
        assert tie_end(read, size, cut.threshold, table.ties[at]) == cut.tie_end
        l1 = kept_l1(read, size, cut)
        assert table.l1[at] == l1
        assert l1 == pytest.approx(float(values[order[:count]].double().sum()), rel=1e-12)
    assert select(read, size, 0) == KEEP_NONE


@pytest.mark.parametrize("size", [1000, (1 << 20) + 7])
def test_table_of_ordinary_values(size: int) -> None:
    values = torch.randn(size, generator=torch.Generator().manual_seed(1)).abs()
    values[::1000] *= 1e-40  # subnormal
    down = values.sort(descending=True).values.double()
    counts = [max(1, size * step // 64) for step in range(1, 65)]
    table = select_all(lambda start, end: values[start:end], size, counts)
    ranks = torch.tensor(counts) - 1
    assert table.thresholds == down[ranks].tolist()
    torch.testing.assert_close(torch.tensor(table.l1), down.cumsum(0)[ranks].float())
    one = select(lambda start, end: values[start:end], size, counts[20])
    assert one.threshold == table.thresholds[20]


def test_densities_of_a_search_come_from_one_table() -> None:
    statistics = Statistics([DELTA], BASE)
    own = [{"weight": 1.0, "density": 0.5}]
    for density in (0.5, 0.25, 0.75, 1 / 1024):
        own = [{"weight": 1.0, "density": density}]
        fresh = case("ties", [DELTA], BASE, own, rescale=True)
        assert torch.equal(fresh.run(statistics=statistics), fresh.run())


def test_paper_and_mergekit_elect_signs_differently() -> None:
    models = [torch.tensor([3.0]), torch.tensor([-2.0])]
    weights = [{"weight": 0.5}, {"weight": 1.0}]
    # weighted: 1.5 - 2 < 0; unweighted: 3 - 2 > 0
    assert merge("ties", models, torch.zeros(1), weights).tolist() == [-2.0]
    assert merge("ties", models, torch.zeros(1), weights, {"sign_election": "unweighted"}).tolist() == [3.0]


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties", "della", "della_linear"])
def test_paper_rescales_by_probability(name: str) -> None:
    own = [{"weight": 1.0, "density": 0.5} | ({"epsilon": 0.0} if "della" in name else {})]
    result = merge(name, [DELTA], BASE, own, {"rescale_by": "density"})
    mask = result != 0
    torch.testing.assert_close(result[mask], 2 * DELTA[mask])
    matched = merge(name, [DELTA], BASE, own)
    assert float(matched.abs().double().sum()) == pytest.approx(float(DELTA.abs().double().sum()), rel=1e-6)
    assert torch.equal(matched != 0, mask)


def test_a_density_too_small_to_keep_anything_keeps_nothing() -> None:
    own = [{"weight": 1.0, "density": 1e-200}]
    assert not bool(merge("dare_linear", [DELTA], BASE, own, {"rescale_by": "density"}).any())


def test_dellas_own_rescale_is_unbiased_for_each_element() -> None:
    own = [{"weight": 1.0, "density": 0.5, "epsilon": 0.3}]
    small = torch.linspace(1, 2, 64)
    merges = case("della_linear", [small], torch.zeros(64), own, {"rescale_by": "density"})
    mean = torch.stack([merges.run(seed) for seed in range(2000)]).mean(0)
    assert float((mean / small - 1).abs().max()) < 0.2


def test_model_stock_cosine_of_tiny_task_vectors() -> None:
    base, delta = torch.ones(4), torch.tensor([1e-4, 0, 0, 0])
    floored = merge("model_stock", [base + delta, base + delta], base)
    exact = merge("model_stock", [base + delta, base + delta], base, None, {"cosine": "exact"})
    assert torch.equal(exact, base + delta)
    assert float(floored[0] - 1) < 3e-6  # the cosine counts as 1e-8 / 1e-6


def test_sce_energy_of_small_task_vectors() -> None:
    base = torch.zeros(2)
    models = [torch.full((2,), 1e-4), torch.full((2,), 5e-4)]
    assert merge("sce", models, base).tolist() == pytest.approx([3e-4] * 2)
    assert merge("sce", models, base, None, {"energy": "exact"}).tolist() == pytest.approx([(1 + 125) / 26 * 1e-4] * 2)


def test_unknown_variant_is_named() -> None:
    with pytest.raises(InvalidInput, match=r'sign_election: "unweigthed".*Did you mean "unweighted"'):
        merge("ties", [DELTA], BASE, [{"weight": 1.0, "density": 0.5}], {"sign_election": "unweigthed"})


def test_variants_start_with_mergekits() -> None:
    assert {v.name: v.options[0] for m in METHODS.values() for v in m.variants} == {
        "sign_election": "weighted",
        "rescale_by": "l1",
        "cosine": "floored",
        "energy": "floored",
    }
    assert METHODS["ties"].variant("sign_election") is not None
    assert METHODS["linear"].variant("sign_election") is None
    assert Settings().variants == ()


@pytest.mark.parametrize(("name", "said"), [("linear", "normalize"), ("multislerp", "normalize_weights")])
def test_weights_that_sum_to_zero_are_refused(name: str, said: str) -> None:
    with pytest.raises(MergeFailed, match=said):
        merge(name, [DELTA, DELTA + 1], None, [{"weight": 0.5}, {"weight": -0.5}])


def test_directions_that_cancel_are_refused() -> None:
    with pytest.raises(MergeFailed, match="cancel"):
        merge("multislerp", [DELTA, -DELTA, BASE], None, [{"weight": 1.0}] * 3)


@pytest.mark.parametrize("name", ["nuslerp", "karcher", "multislerp"])
def test_opposite_vectors_stay_finite(name: str) -> None:
    own = [{"weight": 0.3}, {"weight": 0.7}] if name != "karcher" else None
    result = merge(name, [DELTA, -1.1 * DELTA], None, own)
    assert float(result.abs().max()) <= 1.1 * float(DELTA.abs().max()) * 1.0001


@pytest.mark.parametrize("weights", [(1.0, -1.0), (0.5, 0.5), (-2.0, 1.0)])
def test_infinite_parents_give_no_finite_mean_of_directions(weights: tuple[float, float]) -> None:
    """Not even where infinite parts cancel; and no error of arithmetic."""
    endless = torch.full_like(BASE, float("inf"))
    own = [{"weight": weight} for weight in weights]
    assert not case("multislerp", [endless, endless], None, own, normalize_weights=False).attempt()[1]


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"passthrough"}))
def test_nan_of_a_parent_is_noticed(name: str) -> None:
    base = torch.randn(3, 50, generator=torch.Generator().manual_seed(2))
    count = METHODS[name].inputs[1] or 2
    models = [base + 0.1 * torch.randn(base.shape, generator=torch.Generator().manual_seed(i)) for i in range(count)]
    models[0][1, 7] = float("nan")
    shared = {"t": 0.4} if METHODS[name].parameter("t") else {}
    merges = case(name, models, base if METHODS[name].base == "required" else None, [{"weight": 0.5}] * count, **shared)
    out = torch.empty_like(base)
    with contextlib.suppress(MergeFailed):
        assert not methods.merge_into(out, merges.method, merges.inputs(), merges.settings())
