"""What a candidate will cost, from a measurement of seconds, before a night is spent on it."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from evomerge.engine import (
    LiveModel,
    Plan,
    estimate,
    make_plan,
)
from evomerge.errors import EvomergeError
from evomerge.run.config._setup import Setup

ROWS = 1024  # of the product that is timed: about the tokens of a batch
REPEATS = 3
PATIENCE = 2.0  # seconds: a candidate that takes no longer is scored, because most of a small one is no arithmetic


class Cost(NamedTuple):
    """tier: where the parents would be. merging, scoring: seconds of one candidate on one worker, about.

    hours: that the budget's candidates take with all workers, references and proof not counted; None without such a
    budget.
    """

    tier: str
    merging: float
    scoring: float
    hours: float | None


def cost_of(setup: Setup) -> Cost | None:
    """Estimate what a candidate of a search costs on this machine; None if it is to run on a GPU that is not here."""
    import torch

    workers = setup.entry.workers
    device = "cuda" if workers.gpus else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        return None
    before = torch.get_num_threads()
    torch.set_num_threads(workers.threads)
    try:
        plan = make_plan(setup.recipe(setup.space.decode(setup.space.start)), setup.parents)
        merge = estimate(setup.parents, plan, device)
        size = setup.entry.subset.size
        items = {name: tuple(pools["search"])[:size] for name, pools in setup.prepared.pools.items()}
        scoring = _operations(setup, items) / _rate(setup, device)
        if scoring < PATIENCE:
            scoring = _scored(setup, plan, items, device) or scoring
    finally:
        torch.set_num_threads(before)
    candidates = setup.entry.budget.candidates
    seconds = merge.seconds + scoring
    hours = None if candidates is None else candidates * seconds / max(1, workers.count) / 3600
    return Cost(merge.tier, merge.seconds, scoring, hours)


def _scored(setup: Setup, plan: Plan, items: Mapping[str, Sequence[int]], device: str) -> float | None:
    """Return the seconds of scoring one candidate for the second time, or None if it cannot be scored."""
    live = LiveModel(setup.parents, device=device)
    try:
        live.apply(plan)
        scorer = setup.prepared.scorer(live.model, live.tokenizer, batch_size=setup.entry.workers.batch_size)
        scorer.score(items)
        started = time.perf_counter()
        scorer.score(items)
    except EvomergeError:  # the space's start need be no good model
        return None
    return time.perf_counter() - started


def _operations(setup: Setup, items: Mapping[str, Sequence[int]]) -> float:
    """Return the multiplications of a candidate's forward passes: each token meets every weight once.

    The embedding is looked up, not multiplied; attention's own products are small beside the rest for short items.
    """
    parent = setup.parents[setup.refs[0]]
    tokens = setup.prepared.tokens(parent.tokenizer.load(), items)
    summary = parent.summary(digest=False)
    weights = parent.size_bytes // parent.dtype.itemsize - summary.vocab_size * summary.hidden_size
    return float(tokens) * max(1, weights)


def _rate(setup: Setup, device: str) -> float:
    """Return multiplications per second of a product as wide as the model, in its dtype."""
    import torch

    parent = setup.parents[setup.refs[0]]
    width = max(64, parent.summary(digest=False).hidden_size)
    inner = int(parent.text_config.get("intermediate_size") or 4 * width)
    a = torch.ones(ROWS, width, dtype=parent.dtype, device=device)
    b = torch.ones(width, inner, dtype=parent.dtype, device=device)
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        product = a @ b
        if product.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return a.numel() * inner / min(taken)
