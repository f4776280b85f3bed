"""What a searched model's card says of the search and of the proof."""

from evomerge.records import POOLS, Candidate, Pool
from evomerge.run import Run, metric

_MEANING: dict[Pool, str] = {
    "search": "search (what was optimized; too good by construction)",
    "select": "select (where the pick was chosen)",
    "report": "report (held out, scored once, last)",
}


def search_sections(run: Run, candidate: Candidate) -> list[str]:
    """Return the card's sections about a candidate of a run."""
    tried = sum(1 for each in run.candidates() if each.kind == "candidate")
    lines = [
        "## How it was found",
        "",
        f"An evolutionary search (`{run.fact('optimizer')}`) tried {tried} candidates; this is {candidate.name} "
        f"(id {candidate.id}). Search, selection and report use disjoint items of each task.",
    ]
    return ["\n".join(lines), _scores(run, candidate), _verdict(run, candidate)]


def _scores(run: Run, candidate: Candidate) -> str:
    comparators = [run.candidate(each["id"]) for each in run.fact("comparators", [])]
    rows = []
    for pool in POOLS:
        for each in [candidate, *[c for c in comparators if c.id != candidate.id]]:
            if pool not in each.scores:
                continue
            name = "this model" if each.id == candidate.id else f"{each.name} (best {each.kind})"
            cells = [
                f"{metric(o, each.scores[pool][o.name].value):.4f} ± {each.scores[pool][o.name].stderr:.4f}"
                for o in run.objectives
            ]
            count = sum(score.n for score in each.scores[pool].values())
            rows.append(f"| {_MEANING[pool]} | {name} | {count} | {' | '.join(cells)} |")
    names = " | ".join(o.name for o in run.objectives)
    head = [f"| pool | model | items | {names} |", "|---" * (3 + len(run.objectives)) + "|"]
    return "\n".join(["## Scores", "", *head, *rows])


def _verdict(run: Run, candidate: Candidate) -> str:
    verdict, pick = run.verdict, run.pick
    if verdict is None or pick is None or pick.id != candidate.id:
        return "## Verdict\n\nThere is no held-out comparison for this candidate: it is not the run's proven pick."
    return f"## Verdict\n\n{verdict['text']}"
