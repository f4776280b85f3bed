"""What a search will cost, from a measurement of seconds, before hours are spent on it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evomerge.engine import LiveModel, Plan, estimate, make_plan
from evomerge.run.config._setup import Setup

TIMED_ROWS = 1024  # of the product that is timed: about the tokens of a batch
TIMED_REPEATS = 3
MAX_ESTIMATE_SECONDS = 2.0  # a candidate that takes no longer is scored: most of a small one is no arithmetic


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a search takes, about.

    Attributes:
        tier: where the parents are while candidates are built ("in memory", ...).
        merging: seconds to build one candidate, on one worker.
        scoring: seconds to score one candidate on a subset of the search items, on one worker.
        references: seconds of all workers for the references, on items of the search pool, before the search.
        search: the same for the budget's candidates; None without a budget of candidates.
        control: the same for a random search with as many items, if one is wanted.
        proof: the same for finalists and references on the select and report items, after the search.
        caveat: what these seconds leave out, or "".
    """

    tier: str
    merging: float
    scoring: float
    references: float
    search: float | None
    control: float | None
    proof: float
    caveat: str = ""

    @property
    def total(self) -> float | None:
        """Seconds of the whole run, or None without a budget of candidates."""
        return None if self.search is None else self.references + self.search + (self.control or 0.0) + self.proof


def cost_of(setup: Setup) -> Cost | None:
    """Estimate what a search costs on this machine; None if it is to run on a GPU that is not here."""
    import torch

    workers = setup.entry.workers
    device = "cuda" if workers.gpus else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        return None
    before = torch.get_num_threads()
    torch.set_num_threads(workers.threads)
    try:
        plan = make_plan(setup.recipe(setup.document(setup.space.start)), setup.parents)
        merge = estimate(setup.parents, plan, device, row_bytes=setup.row_bytes)
        scoring = _scoring_seconds(setup, plan, device)
    finally:
        torch.set_num_threads(before)
    return _total(setup, merge.tier, merge.seconds, scoring)


def _caveat(setup: Setup) -> str:
    """Return what a measurement without vLLM does not know of a search with it."""
    if setup.vllm is None:
        return ""
    return (
        "scoring is that of transformers: no vLLM engine was started, so its own speed is not measured, nor the time "
        "that each worker's engine takes to start, once for each depth of model"
    )


def _total(setup: Setup, tier: str, merging: float, scoring: float) -> Cost:
    """Return the cost of a run from that of one candidate; items of every pool take equally long."""
    entry = setup.entry
    subset = min(setup.subset_items, entry.pools.search)

    def all_workers(jobs: int, items: int) -> float:
        rounds = -(-jobs // max(1, entry.workers.count))
        return rounds * (merging + scoring * items / subset)

    selected, reported = setup.proof_jobs
    candidates = entry.budget.candidates
    search = None if candidates is None else all_workers(candidates, subset)
    return Cost(
        tier=tier,
        merging=merging,
        scoring=scoring,
        references=all_workers(len(setup.references), setup.reference_items),
        search=search,
        control=None if entry.control is None else search,
        proof=all_workers(selected, entry.pools.select) + all_workers(reported, entry.pools.report),
        caveat=_caveat(setup),
    )


def _scoring_seconds(setup: Setup, plan: Plan, device: str) -> float:
    """Return the seconds of scoring one candidate: from its arithmetic, or measured where that says too little."""
    size = setup.subset_items
    items = {name: tuple(pools["search"])[:size] for name, pools in setup.prepared.pools.items()}
    estimated = _multiplications(setup, items) / _multiplications_per_second(setup, device)
    if estimated >= MAX_ESTIMATE_SECONDS:
        return estimated
    return _measured(setup, plan, items, device) or estimated


def _measured(setup: Setup, plan: Plan, items: Mapping[str, Sequence[int]], device: str) -> float | None:
    """Return the seconds of scoring one candidate for the second time, or None if it cannot be scored."""
    live = LiveModel(setup.parents, device=device, row_bytes=setup.row_bytes)
    try:
        live.apply(plan)
        scorer = setup.prepared.scorer(live.model, live.tokenizer, batch_size=setup.entry.workers.batch_size)
        scorer.score(items)
        started = time.perf_counter()
        scorer.score(items)
    except Exception:  # the space's start need be no good model, and transformers raises what it likes
        return None
    return time.perf_counter() - started


def _multiplications(setup: Setup, items: Mapping[str, Sequence[int]]) -> float:
    """Return the multiplications of a candidate's forward passes: each token meets every weight once.

    The embedding is looked up, not multiplied; attention's own products are small beside the rest for short items.
    """
    parent = setup.parents[setup.refs[0]]
    tokens = setup.prepared.tokens(parent.tokenizer.load(), items)
    summary = parent.summary(digest=False)
    weights = parent.size_bytes // parent.dtype.itemsize - summary.vocab_size * summary.hidden_size
    return float(tokens) * max(1, weights)


def _multiplications_per_second(setup: Setup, device: str) -> float:
    """Time a product as wide as the model, in its dtype."""
    import torch

    parent = setup.parents[setup.refs[0]]
    width = max(64, parent.summary(digest=False).hidden_size)
    inner = int(parent.text_config.get("intermediate_size") or 4 * width)
    a = torch.ones(TIMED_ROWS, width, dtype=parent.dtype, device=device)
    b = torch.ones(width, inner, dtype=parent.dtype, device=device)
    taken = []
    for _ in range(TIMED_REPEATS):
        started = time.perf_counter()
        product = a @ b
        if product.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return a.numel() * inner / min(taken)
