"""On the worker, for each candidate: batches, log-likelihoods, generation.

Imports torch. It must not import `evomerge.evaluation.prepare`: everything about tasks and pools is decided before.
"""

from evomerge.evaluation.score._batching import BatchLimits, BatchPlan, ContextSharing, TokenPair, make_batch_plan
from evomerge.evaluation.score._forward import Forward, LogLikelihood
from evomerge.evaluation.score._health import check_logits
from evomerge.evaluation.score._inputs import counted_tokens, has_weights, input_device, is_spread, readable_tokens
from evomerge.evaluation.score._lm_eval_scorer import LmEvalScorer
from evomerge.evaluation.score._model_family import SHARING_FAMILIES, sharing_of

__all__ = [
    "SHARING_FAMILIES",
    "BatchLimits",
    "BatchPlan",
    "ContextSharing",
    "Forward",
    "LmEvalScorer",
    "LogLikelihood",
    "TokenPair",
    "check_logits",
    "counted_tokens",
    "has_weights",
    "input_device",
    "is_spread",
    "make_batch_plan",
    "readable_tokens",
    "sharing_of",
]
