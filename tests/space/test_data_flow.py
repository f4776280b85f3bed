"""Data flow: the row of positions, what a path is made of, length caps, local moves, and named mistakes."""

from typing import Any

import pytest

from evomerge.errors import InvalidFile, InvalidInput
from evomerge.records import ParentSummary, Point
from evomerge.space import DataFlowSpace, Space, build_space
from tests.space.parents import summary

A, B, SHALLOW = summary("a"), summary("b"), summary("shallow", 3)


def built(*models: ParentSummary, **data: Any) -> Space:
    return build_space({"kind": "data_flow", **data}, "space", A, models or (B,))


def flow(*models: ParentSummary, **data: Any) -> DataFlowSpace:
    space = built(*models, **data)
    assert isinstance(space, DataFlowSpace)
    return space


def blocks(document: dict[str, Any]) -> str:
    """Return the blocks of a stack, as in `a0 b1 a3`; with a gain that is not 1, `b1*0.5`."""
    sources = [part["sources"][0] for part in document["slices"]]
    path = [f"{source['model']}{layer}" for source in sources for layer in range(*source["layer_range"])]
    gains = document.get("evomerge", {}).get("gains", [1.0] * len(path))
    return " ".join(block if gain == 1 else f"{block}*{gain:g}" for block, gain in zip(path, gains, strict=True))


def row(space: DataFlowSpace) -> str:
    return " ".join(f"{block.model}{block.layer}" for block in space.row)


def test_positions_by_depth_or_parent_by_parent_with_the_ends_apart() -> None:
    assert row(flow()) == "b0 a1 b1 a2 b2 b3"
    assert row(flow(order="parents")) == "a1 a2 b0 b1 b2 b3"
    assert row(flow(order="parents", repeats=2)) == "a1 a2 a3 b0 b1 b2 b3 a0 a1 a2 b0 b1 b2 b3"
    assert row(flow(B, SHALLOW)) == "b0 shallow0 a1 b1 shallow1 a2 b2 shallow2 b3"


@pytest.mark.parametrize("data", [{}, {"order": "parents", "repeats": 3}, {"indicator": "real"}, {"moves": 3}])
def test_a_search_starts_at_the_first_model(data: dict[str, Any]) -> None:
    space = built(**data)
    assert blocks(space.decode(space.start)) == "a0 a1 a2 a3"


def test_a_path_is_what_its_indicators_say_with_the_gains_of_its_positions() -> None:
    space = flow()
    point = Point(reals=(0.0, 0.5, 1.0, 0.5, 0.25, 0.5), categories=(0, 1, 1, 0, 1, 0))
    assert blocks(space.decode(point)) == "a0 a1 b1*1.5 b2*0.75 a3"
    other = Point(reals=(1.0, *point.reals[1:]), categories=point.categories)  # the gain of a position that is left out
    assert space.decode(other) == space.decode(point)
    real = flow(indicator="real")
    indicators = tuple(0.49 + 0.01 * choice for choice in point.categories)
    assert real.decode(Point(reals=point.reals + indicators)) == space.decode(point)


def test_everything_left_out_is_the_two_outer_blocks() -> None:
    space = flow(gain=None)
    assert blocks(space.decode(Point(categories=(0,) * 6))) == "a0 a3"


def test_a_path_that_is_too_long_is_thinned_evenly() -> None:
    space = flow(gain=None, most_layers=5, repeats=2)
    assert blocks(space.decode(Point(categories=(1,) * 14))) == "a0 b1 a0 a2 a3"
    everything = flow(gain=None, repeats=2, most_layers=20)
    assert len(blocks(everything.decode(Point(categories=(1,) * 14))).split()) == 16


def test_any_stack_of_blocks_in_the_order_of_the_row_is_a_point() -> None:
    space = flow(order="parents", repeats=2)
    document = space.decode(space.start)
    ends = document["slices"][0]
    inner = [("a", 0, 2), ("b", 1, 4), ("a", 1, 2), ("b", 3, 4), ("a", 3, 4)]
    document["slices"] = [ends, *({"sources": [{"model": m, "layer_range": [i, j]}]} for m, i, j in inner), ends]
    document["evomerge"] = {"gains": [1.0, 0.9, 1.0, 1.0, 1.0, 1.2, 1.0, 1.0]}
    assert space.decode(space.encode(document)) == document
    document["slices"] = [ends, *document["slices"][3:0:-1], *document["slices"][4:]]
    with pytest.raises(InvalidInput, match=r"outer blocks|does not fit"):
        space.encode(document)


MOVED = {
    "skip": "a0 a2 a3",
    "swap": "a0 b1*0.5 a2 a3",
    "insert": "a0 a1 b1*0.5 a2 a3",
    "duplicate": "a0 a1 a1*0.5 a2 a3",
    "rescale": "a0 a1*0.5 a2 a3",
}


@pytest.mark.parametrize(("number", "move"), enumerate(MOVED, 1))
def test_a_move_changes_the_path_at_its_place(number: int, move: str) -> None:
    space = built(moves=1)
    assert blocks(space.decode(Point(reals=(0.1, 0.0), integers=(0,), categories=(number, 1)))) == MOVED[move]


def test_moves_follow_each_other_keep_the_ends_and_the_cap() -> None:
    space = built(SHALLOW, moves=2, most_layers=6, gain=None)
    long = Point(reals=(0.0, 0.99), integers=(3, 3), categories=(4, 3, 0, 1))  # duplicate all, then insert at the end
    assert blocks(space.decode(long)) == "a0 a1 a2 a1 a2 a3"  # the second move would make it too long
    swapped = Point(reals=(0.0, 0.0), integers=(3, 0), categories=(2, 0, 1, 0))
    assert blocks(space.decode(swapped)) == "a0 shallow1 shallow1 a3"  # the same depth of three layers
    nothing_left = Point(reals=(0.0, 0.0), integers=(3, 3), categories=(1, 1, 0, 0))
    assert blocks(space.decode(nothing_left)) == "a0 a3"


MISTAKES = {
    "gain": ({"gain": [1.2, 1.5]}, "0 < low <= 1 <= high"),
    "one gain": ({"gain": [1, 1]}, "0 < low <= 1 <= high"),
    "short": ({"most_layers": 3}, "at least the 4 layers of a"),
    "order": ({"order": "models"}, "order"),
    "unknown": ({"repeat": 2}, "repeat"),
    "moves": ({"moves": 3, "repeats": 2}, "remove it"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_place(name: str) -> None:
    data, words = MISTAKES[name]
    with pytest.raises(InvalidFile, match=words):
        built(**data)
