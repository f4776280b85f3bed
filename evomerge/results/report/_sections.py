"""The sections of the report, one function each."""

from collections.abc import Mapping

import yaml

from evomerge.records import POOLS, Candidate, Objective, Pool
from evomerge.results._headline import headline
from evomerge.results._shares import Shares
from evomerge.results._tables import floor_lines, format_duration
from evomerge.results.figures import Figure
from evomerge.results.report._html import code, fact_list, figures, folded, paragraph, section, table
from evomerge.run import (
    Outcomes,
    RunFacts,
    course,
    displayed_score,
    displayed_value,
    items_scored,
    outcomes,
    utilization,
    what_of,
)

MAX_ROWS = 60  # of the table of candidates
MAX_REASONS = 12  # of failures
MAX_TEXT = 600  # characters of an item's text

Figures = Mapping[str, Figure]


def verdict(facts: RunFacts, made: Figures) -> str:
    """The verdict first, with what it rests on."""
    said, found = headline(facts), facts.verdict
    text = [] if found is None else [paragraph(found["text"])]
    box = f'<div class="verdict"><b><span class="symbol" aria-hidden="true">{said.symbol}</span>'
    box += f"{_plain(said.text)}</b>{''.join(text)}</div>"
    floors = [paragraph(line) for line in floor_lines(found)]
    if not facts.run.fact("pick_meets_floors", True):
        floors.append(paragraph("Nobody meets every floor on the select items; the pick misses them by the least."))
    notes = [paragraph(f"Note: {note}", soft=True) for note in facts.run.notes]
    drawn = figures([made.get("comparisons")])
    return section("verdict", "Verdict", box, *floors, fact_list(_facts(facts)), drawn, _front_claims(facts), *notes)


def _front_claims(facts: RunFacts) -> str:
    """What is claimed of the other members of the front, where the run wants that."""
    rows = [
        [
            str(claim["name"]),
            "yes" if claim["claimed"] else "no",
            "-" if claim["gain"] is None else f"{claim['gain']:+.4f}",
            "-" if claim["interval"] is None else "{:+.4f} to {:+.4f}".format(*claim["interval"]),
            f"{claim['adjusted_p_value']:.3g}",
        ]
        for claim in (facts.verdict or {}).get("front", [])
    ]
    heads = ["other members of the front", "gain claimed", "gain", "95% interval", "p, Holm's correction"]
    return table(heads, rows, words=(0,))


def _facts(facts: RunFacts) -> list[tuple[str, object]]:
    pick, searched = facts.pick, facts.searched
    items = items_scored(facts.candidates)
    rows: list[tuple[str, object]] = [("state", facts.run.state)]
    if pick is not None:
        rows.append(("pick", f"{facts.names[pick.id]} (id {pick.id})"))
    rows += [
        ("candidates tried", f"{sum(c.state != 'running' for c in searched):,}"),
        ("references", len(facts.references)),
        ("items scored", f"{sum(items.values()):,}"),
        ("time", format_duration(float(facts.run.fact("seconds", 0.0)))),
        ("optimizer", facts.run.fact("optimizer", "")),
        ("objectives", ", ".join(objective.name for objective in facts.objectives)),
    ]
    return rows


def front(facts: RunFacts, made: Figures) -> str:
    """The front as figures and as a table of everything that was re-scored."""
    drawn = [figure for name, figure in made.items() if name.startswith("front")]
    rows = facts.leading[:MAX_ROWS]
    heads = ["id", "what", "scored on", *(f"{o.name} ({o.metric})" for o in facts.objectives)]
    heads += [f"mean, {pool}" for pool in POOLS]
    picked = next((n for n, c in enumerate(rows) if facts.pick is not None and c.id == facts.pick.id), None)
    cells = [_row(facts, candidate) for candidate in rows]
    left = len(facts.leading) - len(rows)
    note = "Behind ±: the standard error. Search scores are too good by construction."
    return section(
        "front",
        "The front, the finalists and the references",
        figures(drawn),
        table(heads, cells, words=(1,), pick=picked),
        paragraph(f"and {left} more; `evomerge front` lists them", soft=True) if left > 0 else "",
        paragraph(note, soft=True) if rows else "",
        _calibration(facts),
    )


def _calibration(facts: RunFacts) -> str:
    """How far search scores, made comparable across items, were from those on the select items."""
    found = facts.run.calibration
    if found is None:
        return ""
    how = {"irt": "an item-response model", "effects": "item effects"}[found["ranking"]]
    rows = [
        [name, str(error["n"]), f"{error['mean_error']:+.4f}", f"{error['mean_absolute_error']:.4f}"]
        for name, error in found["objectives"].items()
    ]
    heads = ["objective", "candidates", "mean error", "mean absolute error"]
    said = f"Search scores, adjusted by {how}, less the scores on the select items; above 0 they promised too much."
    inside = table(heads, rows, words=(0,)) + paragraph(said, soft=True)
    return folded("How far the search scores were from the select scores", inside if rows else "")


def _row(facts: RunFacts, candidate: Candidate) -> list[str]:
    """Return a candidate's scores on the last pool that it was scored on, and its mean on each."""
    pool: Pool = next((pool for pool in reversed(POOLS) if pool in candidate.scores), "search")
    marks = ["pick"] if facts.pick is not None and candidate.id == facts.pick.id else []
    marks += ["front"] if candidate.id in facts.front else []
    kind = "" if candidate.kind in ("candidate", "mean") else what_of(candidate)
    said = ", ".join([*([kind] if kind else []), *marks])
    means = [facts.mean(candidate, other) for other in POOLS]
    return [
        str(candidate.id),
        candidate.name + (f" ({said})" if said else ""),
        pool if candidate.scores else "-",
        *(_cell(candidate, pool, objective) for objective in facts.objectives),
        *("-" if mean is None else f"{mean:.4f}" for mean in means),
    ]


def _cell(candidate: Candidate, pool: Pool, objective: Objective) -> str:
    score = candidate.scores.get(pool, {}).get(objective.name)
    if score is None:
        return candidate.failure.kind if candidate.failure else "-"
    found = displayed_score(objective, score)
    return f"{found['value']:.4f}" + ("" if found["stderr"] is None else f" ± {found['stderr']:.4f}")


def progress(facts: RunFacts, made: Figures) -> str:
    """How the search went, over items and over time."""
    drawn = [figure for name, figure in made.items() if name.startswith(("progress", "hypervolume"))]
    points = [point for point in course(facts) if point.searched]
    note = f"{len(points):,} candidates; dots are candidates, the line is the best so far." if points else ""
    return section("progress", "How the search went", figures(drawn), paragraph(note, soft=True) if drawn else "")


def recipe(facts: RunFacts, made: Figures, shares: Shares) -> str:
    """What the pick is made of."""
    if facts.pick is None:
        return ""
    text = yaml.safe_dump(dict(facts.pick.recipe), sort_keys=False, allow_unicode=True)
    said = "A factor multiplies a parent, or its task vector where the method has a base, which is then not listed."
    return section(
        "recipe",
        "What the pick is made of",
        figures([made.get("shares")]),
        paragraph(said if shares.factors else f"Not drawn: {shares.note}", soft=True),
        folded("The recipe", code(text)),
    )


def genes(made: Figures) -> str:
    """Which genes mattered, and where the proposals went."""
    drawn = figures([made.get("importance"), made.get("movement")])
    note = (
        "Importance by PED-ANOVA: how far a gene's values among the best tenth differ from those of all candidates. "
        "The search proposes where it expects much, so a gene that it settled early can look unimportant."
    )
    return section("genes", "Which genes mattered", drawn, paragraph(note, soft=True)) if drawn else ""


def pools(facts: RunFacts, made: Figures) -> str:
    """Search, select and report scores beside each other."""
    drawn = figures([made.get("pools")])
    if not drawn:
        return ""
    note = (
        "The search saw the first pool, the pick was chosen on the second, and nothing depended on the third. A drop "
        "from left to right is what luck and selection had added."
    )
    pick = facts.pick
    said = ""
    if pick is not None and (search := facts.mean(pick, "search")) is not None:
        report = facts.mean(pick, "report")
        said = "" if report is None else f"The pick scored {search:.4f} in the search and {report:.4f} on unseen items."
    return section(
        "pools", "Search, select and report", drawn, paragraph(said) if said else "", paragraph(note, soft=True)
    )


def item_outcomes(facts: RunFacts, made: Figures, *, examples: bool) -> str:
    """Item by item against the best parent, with examples."""
    found = outcomes(facts)
    if found is None:
        return ""
    intro = f"{found.first.name} against {found.other.name} ({what_of(found.other)}) on the {found.pool} items."
    drawn = _examples(facts, found) if examples else ""
    return section("items", "Item by item", paragraph(intro), figures([made.get("items")]), drawn)


def _examples(facts: RunFacts, found: Outcomes) -> str:
    """Return the items that were won and lost by most, with their texts where the ledger has them."""
    texts: Mapping[str, Mapping[str, str]] = facts.run.fact("examples", {})
    parts = []
    for objective, row in zip(facts.objectives, found.objectives, strict=True):
        known = texts.get(objective.name, {})
        rows = [
            [said, str(item), _shortened(known.get(str(item), "")), _value(objective, own), _value(objective, other)]
            for said, chosen in (("won", row.most_won), ("lost", row.most_lost))
            for item, own, other in chosen
        ]
        heads = ["", "item", "text", facts.names[found.first.id], facts.names[found.other.id]]
        parts.append(
            folded(f"Examples of {objective.name}: {row.won} won, {row.lost} lost", table(heads, rows, words=(0, 2)))
        )
    return "".join(parts)


def _value(objective: Objective, internal: float) -> str:
    return f"{displayed_value(objective, internal):.4g}"


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"…{text[-MAX_TEXT:]}"


def failures(facts: RunFacts) -> str:
    """What failed and why, grouped by the reason."""
    grouped: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in facts.candidates:
        if candidate.failure is not None:
            grouped.setdefault((candidate.failure.kind, candidate.failure.reason), []).append(candidate)
    if not grouped:
        return section("failures", "Failures", paragraph("None: every candidate was built and scored."))
    ordered = sorted(grouped.items(), key=lambda entry: (-len(entry[1]), entry[1][0].id))
    rows = [
        [kind, reason, ", ".join(f"#{c.id}" for c in same[:5]) + (", …" if len(same) > 5 else ""), f"{len(same):,}"]
        for (kind, reason), same in ordered[:MAX_REASONS]
    ]
    details = [
        folded(f"Details of #{same[0].id} ({kind})", code(same[0].failure.detail))
        for (kind, _), same in ordered[:MAX_REASONS]
        if same[0].failure is not None and same[0].failure.detail.strip()
    ]
    more = len(ordered) - len(rows)
    return section(
        "failures",
        "Failures",
        table(["kind", "reason", "candidates", "count"], rows, words=(0, 1, 2)),
        paragraph(f"and {more} more reasons", soft=True) if more > 0 else "",
        *details,
    )


def cost(facts: RunFacts) -> str:
    """What the run has cost."""
    spent = facts.run.cost()
    timed = [c.seconds for c in facts.candidates if c.seconds]
    busy = utilization(facts.run)
    rows: list[tuple[str, object]] = [
        ("time of the run", format_duration(spent["seconds"])),
        *((f"{pool} items", f"{count:,}") for pool, count in spent["items"].items()),
        ("of them with a gradient", f"{facts.run.items_with_gradient:,}"),
        ("tokens", f"{spent['tokens']:,}" if spent["tokens"] else "-"),
        ("time of workers", "-" if spent["worker_seconds"] is None else format_duration(spent["worker_seconds"])),
        ("workers", len({c.worker for c in facts.candidates if c.worker and not c.worker.startswith("same as")})),
        ("seconds a candidate", f"{sum(timed) / len(timed):.3g}" if timed else "-"),
        ("workers busy", "-" if busy is None else f"{100 * busy:.0f}% of the search"),
    ]
    machine = facts.run.fact("machine") or {}
    said = ", ".join(f"{key} {value}" for key, value in machine.items())
    return section("cost", "Cost", fact_list(rows), paragraph(f"Driver: {said}", soft=True) if said else "")


def _plain(value: str) -> str:
    return paragraph(value)[3:-4]
