"""The texts of the items that tell the most about a verdict, kept in the ledger, which knows items by number only."""

from contextlib import closing

from evomerge.run._ledger import Ledger
from evomerge.run._run import Run
from evomerge.run.analysis._facts import RunFacts
from evomerge.run.analysis._outcomes import outcomes
from evomerge.run.config import Setup

EXAMPLES = "examples"  # the ledger's fact: objective -> item -> text
MAX_TEXT = 2000  # characters that are kept of one, the last of them


def note_examples(setup: Setup, ledger: Ledger) -> None:
    """Keep what the items ask on which the pick differs most from the best parent; done once, after the verdict."""
    if ledger.meta("state") != "done" or ledger.meta(EXAMPLES) is not None:
        return
    with closing(Run(ledger.path.parent)) as run:  # an open reader would keep the ledger from becoming one plain file
        found = outcomes(RunFacts(run))
    if found is None:
        return
    texts = {
        row.objective: {
            str(item): setup.prepared.describe(row.objective, item)[-MAX_TEXT:]
            for item, _, _ in (*row.most_won, *row.most_lost)
        }
        for row in found.objectives
    }
    with ledger.transaction():
        ledger.set_meta(EXAMPLES, texts)
