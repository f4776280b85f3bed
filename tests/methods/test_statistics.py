"""Statistics: the table of densities says what single selections say, and nothing grows with what a search tries."""

from typing import Any

import pytest
import torch

from evomerge.methods import Statistics, StatisticsLocked
from evomerge.methods.core import mask_keys, ranks_of
from evomerge.methods.statistics import GRID, MAX_CACHED_PER_KIND, select_all, tie_end

COUNTS_OF = {"norm": 768, "odd": 5003, "matrix": (1 << 20) + 77}


def tensors(size: int, dtype: torch.dtype, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a base and a fine-tune of it; some of its elements did not change."""
    generator = torch.Generator().manual_seed(seed)
    base = (torch.randn(size, generator=generator) * 0.02).to(dtype)
    model = (base.float() + torch.randn(size, generator=generator) * 0.002).to(dtype)
    model[: size // 10] = base[: size // 10]
    return base, model


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", COUNTS_OF.values(), ids=COUNTS_OF)
def test_the_compiled_table_is_that_of_torch(size: int, dtype: torch.dtype) -> None:
    base, model = tensors(size, dtype)
    counts = [max(1, size * step // GRID) for step in range(1, GRID + 1)]

    def values(start: int, end: int) -> torch.Tensor:
        return (model[start:end].float() - base[start:end].float()).abs_()

    expected = select_all(values, size, counts)
    statistics = Statistics([model], base, store=Recorder())
    statistics.magnitude(0, 0.5)
    found = statistics.known["table 0"]
    assert found[0].tolist() == expected.thresholds
    assert found[1].tolist() == expected.ties
    assert found[2].tolist() == expected.l1
    for step in range(0, GRID, 37):
        ends = tie_end(values, size, expected.thresholds[step], expected.ties[step])
        assert int(found[3, step]) == ends


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16])
def test_a_table_gives_the_cuts_of_single_selections(dtype: torch.dtype) -> None:
    base, model = tensors(4099, dtype)
    tabled, single = Statistics([model], base, store=Recorder()), Statistics([model], base)
    for step in (1, 2, 300, 511, 512, 1023):
        count = tabled.magnitude(0, step / GRID)
        assert tabled.cut(0, count) == single.cut(0, count)
        assert tabled.kept_l1(0, count) == single.kept_l1(0, count)
    assert tabled.kept_l1(0, tabled.size) == single.kept_l1(0, single.size)
    assert "table 0" in tabled.known and not single.known


@pytest.mark.parametrize("above", [1, 40, 2000])
def test_a_window_has_a_table_of_its_own(above: int) -> None:
    base, model = tensors(4099, torch.bfloat16)
    tabled, single = Statistics([model], base, store=Recorder()), Statistics([model], base)
    for step in (1, 2, 300, 511, 512):
        count = tabled.magnitude(0, step / GRID, above)
        assert count == above + 4099 * step // GRID
        assert tabled.cut(0, count) == single.cut(0, count)
        assert tabled.kept_l1(0, count) == single.kept_l1(0, count)
    assert list(tabled.known) == [f"above 0 {above}"]


class Recorder:
    """A store that notes what it is given; `busy`: another process holds the claim."""

    def __init__(self, busy: bool = False):
        self.busy, self.begun, self.kept = busy, 0, {}

    def begin(self, known: dict[str, Any]) -> None:
        self.begun += 1
        if self.busy:
            raise StatisticsLocked

    def end(self, known: dict[str, Any], changed: bool) -> None:
        if changed:
            self.kept = dict(known)


def test_a_store_is_claimed_before_and_given_what_is_new_after() -> None:
    base, model = tensors(500, torch.float32)
    store = Recorder(busy=True)
    statistics = Statistics([model], base, store=store)
    with pytest.raises(StatisticsLocked):
        statistics.gram()
    assert not statistics.known
    store.busy = False
    gram = statistics.gram()
    assert store.begun == 2 and statistics.gram() is gram and store.begun == 2
    statistics.end_merge()
    assert list(store.kept) == ["gram"]
    again = Statistics([model], base, known=store.kept, store=Recorder(busy=True))
    assert torch.equal(again.gram(), gram)


def test_cached_numbers_are_float64_in_main_memory() -> None:
    base, model = tensors(600, torch.bfloat16)
    statistics = Statistics([model.view(20, 30)], base.view(20, 30))
    statistics.gram(), statistics.fiber_gram("last"), statistics.fiber_gram("first")
    statistics.random(0, 0.5, (1, 2)), statistics.ranked(0, 0.5, ranks_of((20, 30), 0.1), (1, 2))
    assert len(statistics.known) == 5
    assert all(each.dtype == torch.float64 and each.is_cpu for each in statistics.known.values())


def test_nothing_grows_with_what_a_search_tries() -> None:
    """Thousands of densities, seeds and epsilons, on the grid and off it, leave a bounded number of entries."""
    base, model = tensors(300, torch.float32)
    statistics = Statistics([model, base], base, store=Recorder())
    generator = torch.Generator().manual_seed(0)
    for number in range(1500):
        density = float(torch.rand((), generator=generator)) * 0.9 + 0.05
        for each in (density, round(density * GRID) / GRID):
            for above in (0, number % 15):
                count = statistics.magnitude(0, each, above)
                statistics.cut(0, count), statistics.kept_l1(0, count)
            statistics.random(0, each, mask_keys(number, "parent", "tensor"))
            statistics.ranked(0, each, ranks_of((300,), number / 1500), (1, 2))
    assert len(statistics.known) == 1 + 3 * MAX_CACHED_PER_KIND  # one table, and of windows and each kind of mask
    assert len(statistics._memo) <= 16 + 8 * 2
    assert len(statistics._last_table) <= 2


def test_forgotten_numbers_come_out_the_same() -> None:
    base, model = tensors(1000, torch.float32)
    statistics = Statistics([model], base)
    first = [statistics.random(0, step / 2000, (3, 4)) for step in range(1, 200)]
    assert [statistics.random(0, step / 2000, (3, 4)) for step in range(1, 200)] == first
