"""Which document belongs to which pool. Numbers and names only: no documents, no lm-eval.

Items of one objective are numbered through all splits it uses. Pools are cut from a seeded shuffle of each split, so
that a larger search or report pool extends a smaller one.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.evaluation._request import InvalidTask, PoolSizes
from evomerge.records import POOLS, Pool

ITEMS = "items"  # what the one split of a list is called in facts


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPlan:
    """The split that each pool draws from.

    Attributes:
        own: split of search and select.
        final: split of report.
        note: a sentence when the plan is not the ordinary one (train or validation for search, test for report), or "".
    """

    own: str
    final: str
    note: str = ""

    @property
    def splits(self) -> tuple[str, ...]:
        """Every split in use, in the order in which items are numbered."""
        return (self.own,) if self.own == self.final else (self.own, self.final)

    def split_of(self, pool: Pool) -> str:
        """Return the split a pool draws from."""
        return self.final if pool == "report" else self.own


def plan_splits(training: str | None, validation: str | None, test: str | None, allow_test_split: bool) -> SplitPlan:
    """Choose the splits of a task from the three names it gives (None = it has no such split).

    The final split is the one that lm-eval reports on: test, or validation where there is no test. Search and select
    use another one, validation before training, unless there is none or the test split was allowed.
    """
    final = test or validation
    if final is None:
        raise InvalidTask("it has neither a test nor a validation split")
    others = [split for split in (validation, training) if split and split != final]
    if not others:
        return SplitPlan(own=final, final=final, note=f"has a single split ({final}), divided among the pools")
    if allow_test_split:
        note = f"draws every pool from its {final} split, as allow_test_split asks"
        return SplitPlan(own=final, final=final, note=note)
    return SplitPlan(own=others[0], final=final)


def shuffled(count: int, seed: int, name: str) -> list[int]:
    """Return 0..count-1 in an order that depends on the seed and the name only."""
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")]).permutation(count).tolist()


def without_repeats(keys: Mapping[str, Sequence[str]], taken: Collection[str] = ()) -> dict[str, list[int]]:
    """Return, per split, the positions of the first occurrence of each document key, and no key of `taken`.

    Args:
        keys: split -> document key by position. Splits are read in the order given: where a document is in two splits,
            the first one keeps it.
        taken: keys that are in no split's result.
    """
    seen = set(taken)
    kept: dict[str, list[int]] = {}
    for split, split_keys in keys.items():
        kept[split] = []
        for position, key in enumerate(split_keys):
            if key not in seen:
                seen.add(key)
                kept[split].append(position)
    return kept


def why_left_out(keys: Mapping[str, Sequence[str]], taken: Collection[str] = ()) -> dict[str, str]:
    """Return, per split, how many documents `without_repeats` leaves out and why, in words; "" for none.

    Args: as of `without_repeats`.
    """
    found, earlier = {}, dict[str, str]()
    for split, split_keys in keys.items():
        own: set[str] = set()
        reasons: dict[str, int] = {}
        for key in split_keys:
            reason = "few-shot examples" if key in taken else "repeated" if key in own else ""
            reason = f"in the {earlier[key]} split, too" if not reason and key in earlier else reason
            if reason:
                reasons[reason] = reasons.get(reason, 0) + 1
            own.add(key)
        earlier |= {key: split for key in own if key not in earlier}
        listed = " and ".join(f"{count} are {reason}" for reason, count in reasons.items())
        found[split] = f"{len(split_keys)}, of which {listed}" if listed else ""
    return found


def cut_pools(
    plan: SplitPlan,
    sizes: PoolSizes,
    available: Mapping[str, Sequence[int]],
    left_out: Mapping[str, str] | None = None,
) -> dict[Pool, list[int]]:
    """Deal documents to the pools: search from the front of the shuffle, select and report from its back.

    Args:
        plan: the split of each pool.
        sizes: of the pools.
        available: split -> positions that may be used, shuffled.
        left_out: split -> how many others there are and why they may not, in words (see `why_left_out`).

    Returns:
        pool -> positions in its split.

    Raises:
        InvalidTask: a split has too few documents; with the numbers.
    """
    for split in plan.splits:
        pools = [pool for pool in POOLS if plan.split_of(pool) == split]
        needed, found = sum(sizes.of(pool) for pool in pools), len(available[split])
        if needed > found:
            terms = " + ".join(f"{pool} {sizes.of(pool)}" for pool in pools)
            others = (left_out or {}).get(split, "")
            kept = f"its {split} split, which has {found} distinct documents"
            kept = f"its items, of which {found} are distinct" if split == ITEMS else kept
            more = f" ({others})" if others else ""
            fitting = {pool: sizes.of(pool) * found // needed for pool in pools}
            said = f", such as {{{', '.join(f'{pool}: {size}' for pool, size in fitting.items())}}}"
            advice = f"ask for smaller pools{said if all(fitting.values()) else ''}"
            raise InvalidTask(f"the pools need {needed} items ({terms}) of {kept}{more}; {advice}")
    own, final = list(available[plan.own]), list(available[plan.final])
    report = sizes.report
    if report is None:
        report = len(final) - (sizes.search + sizes.select if plan.own == plan.final else 0)
    if plan.own == plan.final:
        split_at = len(own) - report
        own, final = own[:split_at], own[split_at:][::-1]
    select = own[len(own) - sizes.select :][::-1]
    return {"search": own[: sizes.search], "select": select, "report": final[:report]}


def proportional(count: int, shares: Sequence[float], most: Sequence[int]) -> list[int]:
    """Divide `count` among parties in proportion to their shares, to none more than it can give.

    Remainders go to the largest fractions. What a party cannot give is divided among the others.
    Requires count <= sum(most).
    """
    given = [0] * len(shares)
    open_ = [i for i in range(len(shares)) if most[i] > 0 and shares[i] > 0]
    open_ = open_ or [i for i in range(len(shares)) if most[i] > 0]
    rest = count
    while rest and open_:
        total = sum(shares[i] for i in open_)
        ideal = {i: rest * shares[i] / total if total else rest / len(open_) for i in open_}
        full = [i for i in open_ if ideal[i] >= most[i]]
        if not full:
            whole = {i: int(ideal[i]) for i in open_}
            by_fraction = sorted(open_, key=lambda i: (whole[i] - ideal[i], i))
            extra = set(by_fraction[: rest - sum(whole.values())])
            for i in open_:
                given[i] = whole[i] + (i in extra)
            break
        for i in full:
            given[i] = most[i]
            rest -= most[i]
        open_ = [i for i in open_ if i not in full]
    return given


def spread(lists: Sequence[Sequence[int]]) -> list[int]:
    """Merge lists so that each is spread evenly over the whole: any first k hold a fair number of each."""
    positions = []
    for number, values in enumerate(lists):
        positions += [((i + 0.5) / len(values), number, value) for i, value in enumerate(values)]
    return [value for _, _, value in sorted(positions)]
