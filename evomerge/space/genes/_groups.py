"""The groups of tensors that axes make of a model: filters of a recipe, or curves over depth."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from evomerge.recipe import TEXT_MODULE
from evomerge.records import ParentSummary, TensorPlace
from evomerge.space.genes._axes import REST, GeneAxis

MODULES = ("attention", "mlp", REST)
NON_BLOCK = "embeddings and head"
OUTSIDE = -1  # as a layer's number: outside of the blocks


class TensorGroup(NamedTuple):
    """The tensors that share a value.

    Attributes:
        label: for people ("layer 3 mlp").
        patterns: the recipe's filters that find them; empty: everything that no earlier group's filter found.
        layer: number of their block; OUTSIDE, or None: of several blocks.
        inside: name of their module or group of filters, or None: not divided.
    """

    label: str
    patterns: tuple[str, ...] = ()
    layer: int | None = None
    inside: str | None = None


class Division(NamedTuple):
    """What axes make of a model.

    Attributes:
        groups: the most specific first.
        knots: > 0 makes each group's values anchors of a gradient over depth.
    """

    groups: tuple[TensorGroup, ...]
    knots: int = 0

    @property
    def size(self) -> int:
        """Number of values."""
        return len(self.groups) * max(1, self.knots)

    @property
    def labels(self) -> list[str]:
        """A readable name for each value."""
        if not self.knots:
            return [group.label for group in self.groups]
        names = ["" if group.label == "all" else f"{group.label} " for group in self.groups]
        return [f"{name}knot {number + 1} of {self.knots}" for name in names for number in range(self.knots)]


class _Band(NamedTuple):
    """Blocks that share a value.

    Attributes:
        label: for people.
        layer: number of the block, or None: several.
        blocks: of each block, what names in it begin with in the result, and all filters that find it in any parent.
    """

    label: str
    layer: int | None
    blocks: tuple[tuple[str, tuple[str, ...]], ...]


def places_of(parents: Sequence[ParentSummary]) -> tuple[TensorPlace, ...]:
    """Return where the parents' tensors are, each name once.

    Names are those of the first one, which gives the result its config: others of the same language model that have
    less, or more, around it are left out.

    Args:
        parents: of one shape; where one does not list its tensors, one tensor stands for each module of each block.
    """
    found: dict[str, TensorPlace] = {}
    for parent in (parent for parent in parents if parent.architecture == parents[0].architecture):
        for place in parent.tensors or _stand_ins(parent):
            found.setdefault(place.name, place)
    return tuple(found.values())


def of_part(places: Sequence[TensorPlace], part: str) -> tuple[TensorPlace, ...]:
    """Return those tensors that belong to a part of the model; "" = all."""
    return tuple(place for place in places if not part or place.part == part)


def _stand_ins(parent: ParentSummary) -> Iterator[TensorPlace]:
    last = parent.num_layers - 1
    for name in ("embeddings.weight", "lm_head.weight"):
        yield TensorPlace(name, OUTSIDE, 0.0, TEXT_MODULE)
    for layer in range(parent.num_layers):
        for suffix in (f"{parent.attention}weight", f"{parent.mlp}weight", "input_layernorm.weight"):
            name = f"{parent.block_prefix}{layer}.{suffix}"
            yield TensorPlace(name, layer, layer / last if last else 1.0, TEXT_MODULE)


def divided(axes: Iterable[GeneAxis], parents: Sequence[ParentSummary], places: Sequence[TensorPlace]) -> Division:
    """Return the groups that depth and inner axes make.

    Args:
        axes: of a gene; `model` divides no tensors.
        parents: the first one has the result's tensor names; a recipe's filters look at those of each parent.
        places: see `places_of`.
    """
    parent = parents[0]
    by_kind = {axis.kind: axis for axis in axes}
    inside = by_kind.get("groups")
    if "layer" in by_kind or "bands" in by_kind:
        bands = _bands(by_kind.get("bands"), parents)
        groups = [group for band in bands for group in _inside(band, "module" in by_kind, inside, parent, places)]
        if inside is not None:
            outer = [place.name for place in places if place.layer < 0]
            groups += [
                TensorGroup(f"{NON_BLOCK} {name}", filters, OUTSIDE, name)
                for name, filters in inside.filters
                if any(part in tensor for tensor in outer for part in filters)
            ]
            if all(_owner(tensor, inside) != REST for tensor in outer):
                return Division(tuple(groups))
        groups.append(TensorGroup(NON_BLOCK, (), OUTSIDE, REST if inside or "module" in by_kind else None))
        return Division(tuple(groups))
    if inside is not None:
        groups = [TensorGroup(name, filters, None, name) for name, filters in inside.filters]
        taken = [part for _, filters in inside.filters for part in filters]
        if any(not any(part in place.name for part in taken) for place in places):
            groups.append(TensorGroup(REST, (), None, REST))
    elif "module" in by_kind:
        filters = ((parent.attention,), (parent.mlp,), ())
        groups = [TensorGroup(name, parts, None, name) for name, parts in zip(MODULES, filters, strict=True)]
    else:
        groups = [TensorGroup("all")]
    curve = by_kind.get("curve")
    return Division(tuple(groups), curve.count if curve else 0)


def _bands(axis: GeneAxis | None, parents: Sequence[ParentSummary]) -> list[_Band]:
    """Return each block, or bands of blocks whose numbers differ by one at most."""
    layers, own = parents[0].num_layers, parents[0].block_prefix
    known = dict.fromkeys(parent.block_prefix for parent in parents)
    least = [prefix for prefix in known if not any(other in prefix for other in known if other != prefix)]
    blocks = [(f"{own}{k}.", tuple(f"{prefix}{k}." for prefix in least)) for k in range(layers)]
    if axis is None:
        return [_Band(f"layer {k}", k, (block,)) for k, block in enumerate(blocks)]
    count = min(axis.count, layers)
    found = []
    for number in range(count):
        first, end = number * layers // count, (number + 1) * layers // count
        label = f"layers {first} to {end - 1}" if end - first > 1 else f"layer {first}"
        found.append(_Band(label, None, tuple(blocks[first:end])))
    return found


def _inside(
    band: _Band, modules: bool, inside: GeneAxis | None, parent: ParentSummary, places: Sequence[TensorPlace]
) -> Iterator[TensorGroup]:
    """Yield the groups of a band of blocks."""
    filters = tuple(prefix for _, prefixes in band.blocks for prefix in prefixes)
    if modules:
        for name, start in zip(MODULES, (parent.attention, parent.mlp, ""), strict=True):
            yield TensorGroup(f"{band.label} {name}", tuple(prefix + start for prefix in filters), band.layer, name)
    elif inside is None:
        yield TensorGroup(band.label, filters, band.layer)
    else:
        found: dict[str, list[str]] = {name: [] for name, _ in inside.filters}
        left = False
        for prefix, prefixes in band.blocks:
            suffixes = [place.name[len(prefix) :] for place in places if place.name.startswith(prefix)]
            owner = {suffix: _owner(prefix + suffix, inside) for suffix in suffixes}
            left = left or REST in owner.values()
            for name, patterns in found.items():
                own = [suffix for suffix in suffixes if owner[suffix] == name]
                others = [suffix for suffix in suffixes if owner[suffix] != name]
                patterns += [block + start for start in _beginnings(own, others) for block in prefixes]
        for name, patterns in found.items():
            if patterns:
                yield TensorGroup(f"{band.label} {name}", tuple(patterns), band.layer, name)
        if left:
            yield TensorGroup(f"{band.label} {REST}", filters, band.layer, REST)


def _owner(tensor: str, inside: GeneAxis) -> str:
    return next((name for name, filters in inside.filters if any(part in tensor for part in filters)), REST)


def _beginnings(own: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return as few and short beginnings as find all of one's own names and none of the others."""
    found: dict[str, None] = {}
    for name in own:
        dots = [position + 1 for position, letter in enumerate(name) if letter == "."]
        starts = (name[:end] for end in (0, *dots, len(name)))
        free = (start for start in starts if not any(other.startswith(start) for other in others))
        found[next(free, name)] = None
    return list(found)


def members_of(groups: Sequence[TensorGroup], places: Sequence[TensorPlace]) -> list[list[TensorPlace]]:
    """Return the tensors of each group: those that its filters find and no earlier group's."""
    found: list[list[TensorPlace]] = [[] for _ in groups]
    candidates: dict[int, list[int]] = {}
    for place in places:
        layer = max(place.layer, OUTSIDE)
        if layer not in candidates:
            candidates[layer] = [i for i, group in enumerate(groups) if group.layer in (None, layer)]
        for number in candidates[layer]:
            patterns = groups[number].patterns
            if not patterns or any(pattern in place.name for pattern in patterns):
                found[number].append(place)
                break
    return found
