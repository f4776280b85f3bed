"""What came of a run, in a few words; the verdict's own sentences follow them where they fit."""

from typing import Literal, NamedTuple

from evomerge.results._tables import printable
from evomerge.run import REFERENCE_KINDS, RunFacts

EndState = Literal["gain", "keep", "loss", "none", "open"]

_SYMBOLS: dict[EndState, str] = {"gain": "▲", "keep": "■", "loss": "▼", "none": "●", "open": "…"}


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
