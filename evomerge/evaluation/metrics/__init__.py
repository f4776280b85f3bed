"""From what lm-eval computes for one document to an item's value, or to what it adds to a metric of the whole set.

This package knows no task, model or file.
"""

from evomerge.evaluation.metrics._measure import ANSWER_TOKENS, OWN, Measure, choice_margin, choose_measure
from evomerge.evaluation.metrics._set_rows import check_own, name_of_own, row_of

__all__ = ["ANSWER_TOKENS", "OWN", "Measure", "check_own", "choice_margin", "choose_measure", "name_of_own", "row_of"]
