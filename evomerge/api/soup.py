"""`evomerge.soup`: a greedy soup over checkpoints."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from evomerge.api._scoring import ENGINE, prepared_tasks, torch_threads_restored, worker_setup
from evomerge.api.merge import plan_merge, write_merge
from evomerge.checkpoint import SHARD_BYTES, refuse_existing
from evomerge.derived.soup import Soup, check_models, run_greedy_soup, soup_document, soup_sections
from evomerge.evaluation import PoolSizes
from evomerge.recipe import ModelRef, parse_recipe
from evomerge.run import CandidateScorer, read_engine


def soup(
    models: Sequence[Path | str],
    out: Path | str,
    tasks: Sequence[str],
    *,
    task_path: Path | str | None = None,
    limit: int = 256,
    report_limit: int | None = None,
    lm_eval: Mapping[str, Any] | None = None,
    allow_code: Collection[str] = (),
    batch_size: int = 64,
    threads: int = 1,
    device: str = "cpu",
    engine: str | Mapping[str, Any] = "transformers",
    seed: int = 0,
    shard_bytes: int = SHARD_BYTES,
    say: Callable[[str], None] = lambda line: None,
) -> Soup:
    """Average fine-tunes greedily, best first, keeping each that does not lower the held-out score, and write it.

    Args:
        models: two or more folders or hub ids of one architecture.
        out: the folder to make; it must not exist.
        tasks: lm-eval tasks, "task" or "task/metric".
        task_path: a folder of further task YAMLs.
        limit: items per task that choose.
        report_limit: other items per task, for the comparison with the best single checkpoint; None = all left.
        lm_eval: options that lm-eval knows: num_fewshot, apply_chat_template, ...
        allow_code: tasks that may run code that the model writes, or that may be Python classes.
        batch_size: most rows of a forward pass.
        threads: CPU threads of torch (see `evomerge.evaluate`).
        device: "cpu", "cuda" or "cuda:N".
        engine: what writes the answers of tasks that generate (see `evomerge.evaluate`).
        seed: of both samples and of the interval.
        shard_bytes: largest size of a weight file.
        say: called with one line for every score.

    Returns:
        The steps (algorithm 1 of https://arxiv.org/abs/2203.05482), the members, and the comparison with the best one.

    Raises:
        InvalidInput: models that cannot be averaged, an unknown task or engine, or `out` exists.
        NothingScored: no checkpoint could be scored.
    """
    refuse_existing(Path(out))
    chosen = read_engine(engine, ENGINE)
    refs = [ModelRef.parse(str(model)) for model in models]
    check_models(refs)
    recipe = parse_recipe(soup_document(refs))
    plan_merge(recipe)  # says what does not fit before hours of scoring
    pools = PoolSizes(search=0, select=limit, report=report_limit)
    prepared = prepared_tasks(tasks, recipe, pools, task_path, lm_eval, seed, allow_code)
    setup = worker_setup(recipe, prepared, engine=chosen, batch_size=batch_size, threads=threads, device=device)
    with torch_threads_restored(), closing(CandidateScorer(setup, "soup")) as scorer:
        task = (prepared.objectives, prepared.pools, scorer.score)
        made = run_greedy_soup(refs, *task, seed=seed, clusters=prepared.clusters, say=say)
    plan, parents = plan_merge(made.document)
    record = {"soup": {key: value for key, value in made.plain().items() if key != "recipe"}}
    write_merge(plan, parents, Path(out), shard_bytes=shard_bytes, sections=soup_sections(made), record=record)
    return made
