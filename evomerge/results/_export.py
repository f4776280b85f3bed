"""A candidate of a run, written as a recipe file, for mergekit, or as a model folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evomerge.checkpoint import CardResult, Parents, card_parents, is_block_output, model_card, refuse_existing
from evomerge.engine import FolderTexts, ProgressCallback, make_plan, write_folder
from evomerge.errors import InvalidInput, did_you_mean
from evomerge.recipe import Recipe, has_gains, to_mergekit
from evomerge.records import POOLS, Candidate
from evomerge.results._lm_eval_form import lm_eval_document
from evomerge.results._model_card import search_sections
from evomerge.results._optuna_export import write_study
from evomerge.run import Run, displayed_score

FORMATS = ("recipe", "mergekit", "hf", "optuna", "lm_eval")


def export(
    run: Run,
    out: Path,
    *,
    candidate_id: int | None = None,
    formats: Sequence[str] = ("hf",),
    progress: ProgressCallback | None = None,
) -> list[Path]:
    """Write a candidate of a run into a folder that does not exist yet.

    Args:
        run: the run of the candidate.
        out: the folder to make.
        candidate_id: which one; None = the run's pick.
        formats: any of `FORMATS`: "recipe" writes recipe.yaml, "mergekit" mergekit.yaml, "hf" a model folder with a
            recipe, scores and a card, "optuna" the whole run as a study (optuna.journal), "lm_eval" the candidate's
            scores of the last pool that it was scored on in lm-eval's form (results.json).
        progress: called with bytes written and bytes in all.

    Returns:
        The files and folders made.

    Raises:
        InvalidInput: unknown format, no such candidate, no pick yet, or `out` exists.
    """
    for name in formats:
        if name not in FORMATS:
            raise InvalidInput(f'unknown format "{name}"; known are {", ".join(FORMATS)}.{did_you_mean(name, FORMATS)}')
    if set(formats) == {"optuna"}:  # of the whole run, which may have no pick yet
        refuse_existing(out)
        out.mkdir(parents=True, exist_ok=True)
        return [write_study(run, out)]
    candidate = run.pick if candidate_id is None else run.candidate(candidate_id)
    if candidate is None:
        raise InvalidInput(f"{run.path}: has no pick yet ({run.state}); name a candidate with --id")
    recipe = run.recipe(candidate)
    texts: dict[str, str] = {}
    if "recipe" in formats:
        texts["recipe.yaml"] = recipe.to_yaml(out)
    if "mergekit" in formats:
        texts["mergekit.yaml"] = to_mergekit(recipe, _block_outputs(recipe)).text
    if "lm_eval" in formats:
        texts["results.json"] = _lm_eval_text(run, candidate)
    if "hf" in formats:
        _write_model(run, candidate, recipe, out, texts, progress)
        files = [out]
    else:
        refuse_existing(out)
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8")
        files = [out / name for name in texts]
    return [*files, write_study(run, out)] if "optuna" in formats else files


def _lm_eval_text(run: Run, candidate: Candidate) -> str:
    """Return a candidate's scores on the last pool that it was scored on, in lm-eval's form."""
    pool = next((pool for pool in reversed(POOLS) if pool in candidate.scores), None)
    if pool is None:
        raise InvalidInput(f"{run.path}: candidate {candidate.id} has no scores ({candidate.state})")
    scores = {o.name: displayed_score(o, candidate.scores[pool][o.name]) for o in run.objectives}
    facts = run.fact("facts", {})
    model = f"{run.path.resolve().name}, {candidate.name}, {pool} items"
    document = lm_eval_document(run.objectives, scores, facts, model=model, seed=run.fact("identity", {}).get("seed"))
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)


def _block_outputs(recipe: Recipe) -> list[str]:
    """Return which tensors of a block carry its gain, if the recipe has gains; then the parents' headers are read."""
    if not has_gains(recipe):
        return []
    parents = Parents(recipe.models, recipe.root, recipe.commits)
    model = parents[recipe.config_source]
    suffixes = {suffix for block in model.outline.blocks.values() for suffix in block}
    return sorted(suffix for suffix in suffixes if is_block_output(suffix, model.model_type))


def _write_model(
    run: Run, candidate: Candidate, recipe: Recipe, out: Path, texts: dict[str, str], progress: ProgressCallback | None
) -> None:
    parents = Parents(recipe.models, recipe.root, recipe.commits)
    described = card_parents([parents[ref] for ref in parents], digests=True)
    _refuse_changed(run, {parent.name: parent.digest for parent in described})
    title = run.path.resolve().name
    text = recipe.with_commits(parents.commits).to_yaml(out)
    card = model_card(title, described, text, search_sections(run, candidate), _results(run, candidate))
    record = provenance(run, candidate) | {"parents": [parent._asdict() for parent in described]}
    about = FolderTexts(card=card, extra=texts, record=record)
    write_folder(make_plan(recipe, parents), parents, out, texts=about, progress=progress)


def _results(run: Run, candidate: Candidate) -> list[CardResult]:
    """Return a candidate's scores on the report pool, which no choice depended on."""
    scores = candidate.scores.get("report", {})
    values = [(objective, displayed_score(objective, scores[objective.name])) for objective in run.objectives if scores]
    return [CardResult(objective.name, objective.metric, score["value"], score["n"]) for objective, score in values]


def _refuse_changed(run: Run, digests: dict[str, str]) -> None:
    """Raise InvalidInput if a parent changed since the search: the export would not be the model that was scored."""
    recorded = run.fact("identity")["parents"]
    for name, digest in digests.items():
        if recorded.get(name, digest) != digest:
            raise InvalidInput(f"{name}: its weights are not those the run {run.path} was scored with; restore them")


def provenance(run: Run, candidate: Candidate) -> dict[str, Any]:
    """Return what evomerge.json records of a candidate: its run, scores, verdict, tasks and library versions."""
    pick = run.pick
    scores = {
        pool: {o.name: displayed_score(o, candidate.scores[pool][o.name]) for o in run.objectives}
        for pool in POOLS
        if pool in candidate.scores
    }
    return {
        "run": run.path.resolve().name,
        "candidate": {"id": candidate.id, "name": candidate.name, "kind": candidate.kind, "scores": scores},
        "objectives": {o.name: {"metric": o.metric, "direction": o.direction} for o in run.objectives},
        "verdict": run.verdict if pick is not None and pick.id == candidate.id else None,
        "tried": sum(1 for tried in run.candidates() if tried.kind == "candidate"),
        "optimizer": run.fact("optimizer"),
        "seed": run.fact("identity")["seed"],
        "tasks": run.fact("facts"),
        "versions": run.fact("versions"),
        "version_changes": run.fact("version_changes", []),
    }
