"""The sections of a model card about the search and the proof."""

from collections.abc import Mapping
from typing import Any

from evomerge.records import POOLS, Candidate, Pool
from evomerge.results._tables import floor_lines, printable
from evomerge.run import Run, displayed_score, what_of

_MEANING: dict[Pool, str] = {
    "search": "search (what was optimized; too good by construction)",
    "select": "select (where the pick was chosen)",
    "report": "report (held out, scored once, last)",
}


def search_sections(run: Run, candidate: Candidate) -> list[str]:
    """Return a card's sections about a candidate: how it was found, its scores beside the comparators', the verdict."""
    tried = sum(1 for tried in run.candidates() if tried.kind == "candidate")
    found = (
        "" if candidate.kind in ("candidate", "mean") else f", a {what_of(candidate)} that they were measured against"
    )
    lines = [
        "## How it was found",
        "",
        f"An evolutionary search (`{run.fact('optimizer')}`) tried {tried} candidates; this is "
        f"{printable(candidate.name)} (id {candidate.id}){found}. Search, selection and report use disjoint items of "
        "each task.",
    ]
    lines += [f"\n{note[0].upper()}{note[1:]}." for note in run.version_notes]
    return ["\n".join(lines), _scores(run, candidate), _verdict(run, candidate)]


def _scores(run: Run, candidate: Candidate) -> str:
    comparators = [run.candidate(comparator["id"]) for comparator in run.fact("comparators", [])]
    rows = []
    for pool in POOLS:
        for model in [candidate, *[other for other in comparators if other.id != candidate.id]]:
            if pool not in model.scores:
                continue
            name = "this model" if model.id == candidate.id else f"{printable(model.name)} ({what_of(model)})"
            cells = [_cell(displayed_score(o, model.scores[pool][o.name])) for o in run.objectives]
            count = sum(score.n for score in model.scores[pool].values())
            rows.append(f"| {_MEANING[pool]} | {name} | {count} | {' | '.join(cells)} |")
    names = " | ".join(o.name for o in run.objectives)
    head = [f"| pool | model | items | {names} |", "|---" * (3 + len(run.objectives)) + "|"]
    return "\n".join(["## Scores", "", *head, *rows, "", "Behind ±: the standard error."])


def _cell(score: Mapping[str, Any]) -> str:
    return f"{score['value']:.4f}" + ("" if score["stderr"] is None else f" ± {score['stderr']:.4f}")


def _verdict(run: Run, candidate: Candidate) -> str:
    verdict, pick = run.verdict, run.pick
    if verdict is None or pick is None or pick.id != candidate.id:
        return "## Verdict\n\nThere is no held-out comparison for this candidate: it is not the run's proven pick."
    floors = [f"- {line}" for line in floor_lines(verdict)]
    return "\n".join(["## Verdict", "", verdict["text"], *(["", *floors] if floors else [])])
