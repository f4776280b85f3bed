"""What came of a run, in a few words; the verdict's own sentences follow them where they fit."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from evomerge.results._tables import printable
from evomerge.run import REFERENCE_KINDS, RunFacts

EndState = Literal["gain", "keep", "loss", "none", "open"]

_SYMBOLS: dict[EndState, str] = {"gain": "▲", "keep": "■", "loss": "▼", "none": "●", "open": "…"}

_MORE = "more candidates (budget) or more items (pools) may show more"


class Headline(NamedTuple):
    """What came of a run.

    Attributes:
        outcome: a proven gain, a reference that nothing beats, a loss, no evidence, or nothing yet.
        text: a few words.
    """

    outcome: EndState
    text: str

    @property
    def symbol(self) -> str:
        """One character for it, different for each outcome."""
        return _SYMBOLS[self.outcome]


def headline(facts: RunFacts) -> Headline:
    """Return what came of a run."""
    verdict, pick = facts.verdict, facts.pick
    if verdict is None or pick is None:
        doing = {"searching": "the search is not finished", "proving": "the proof is not finished"}
        return Headline("open", f"No verdict yet: {doing.get(facts.run.state, 'the run is not finished')}")
    if verdict["claimed"]:
        return Headline("gain", f"A gain is proven: {verdict['gain']:+.4f} over the hardest reference")
    if pick.kind in REFERENCE_KINDS:
        return Headline("keep", f"Keep {printable(pick.name)}: nothing that the search found is better")
    interval = verdict.get("interval")
    if interval is not None and interval[1] < 0:
        return Headline("loss", f"A loss: {verdict['gain']:+.4f} against the hardest reference")
    return Headline("none", "No gain is claimed")


def next_step(facts: RunFacts) -> str:
    """Return what to do after a finished run: exporting is suggested only for what is not known to be worse.

    Args:
        facts: of a run with a pick.
    """
    run, verdict, pick = facts.run, facts.verdict, facts.pick
    export = f"evomerge export {run.path} MODEL_FOLDER"
    if pick is None or verdict is None:
        return f"evomerge search, repeated, goes on with {run.path}"
    if pick.kind == "parent":
        return f"use {printable(pick.name)} as it is: nothing that the search found is better"
    if verdict["claimed"] or pick.kind in REFERENCE_KINDS:
        return export
    names = {candidate.id: printable(candidate.name) for candidate in run.candidates()}
    rivals = [comparison for comparison in verdict["comparisons"] if comparison["interval"] is not None]
    keep = _kept(verdict, rivals)
    if keep is not None:
        return f"keep {names[keep]}, which scores more than the pick on unseen items; {_MORE}"
    same = [names[rival["id"]] for rival in rivals if rival["gain"] == 0 and not any(rival["interval"])]
    if same:
        return f"keep {same[0]}: the pick answers every unseen item as it does; {_MORE}"
    return f"the gain is not proven; {_MORE}. {export} writes the pick as it is"


def _kept(verdict: Mapping[str, Any], rivals: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the reference that a verdict without a claim says to use; verdicts of older versions do not say it."""
    if "keep" in verdict:
        kept: int | None = verdict["keep"]
        return kept
    worst = min(rivals, key=lambda comparison: comparison["gain"], default=None)
    return worst["id"] if worst is not None and worst["gain"] < 0 else None
