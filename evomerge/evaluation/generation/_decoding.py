"""What a model's generation settings ask of each step, as transformers itself reads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    GenerationConfig,
    InfNanRemoveLogitsProcessor,
    LogitNormalization,
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    StoppingCriteriaList,
    SuppressTokensLogitsProcessor,
)

from evomerge.errors import first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What these make of a row's logits follows from the tokens of that row alone; exact classes, as others may add a state.
_ROW_PROCESSORS = frozenset(
    [
        InfNanRemoveLogitsProcessor,
        LogitNormalization,
        MinLengthLogitsProcessor,
        NoBadWordsLogitsProcessor,
        NoRepeatNGramLogitsProcessor,
        RepetitionPenaltyLogitsProcessor,
        SequenceBiasLogitsProcessor,
        SuppressTokensLogitsProcessor,
    ]
)
_KNOWN_CRITERIA = frozenset(["MaxLengthCriteria", "EosTokenCriteria"])
_FAR = 2**20  # tokens; answers have limits of their own


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the next token follows from a row's logits: the largest one, after these.

    Attributes:
        processors: in their order; each sees one row.
        ends: tokens that end an answer.
    """

    processors: LogitsProcessorList
    ends: frozenset[int]

    def first_choices(self, logits_RV: torch.Tensor, rows: list[list[int]]) -> list[int]:
        """Return each row's next token.

        Args:
            logits_RV: of its last token.
            rows: all tokens of each row.
        """
        logits_RV = logits_RV.to(torch.float32)
        if self.processors:
            ids = (torch.tensor([row], device=logits_RV.device) for row in rows)
            scored = [self.processors(one_row, logits_RV[i : i + 1]) for i, one_row in enumerate(ids)]
            logits_RV = torch.cat(scored)
        if logits_RV.device.type == "cpu":
            # The same tokens as torch's, the first of equal ones, in a tenth of the time.
            return [int(token) for token in logits_RV.numpy().argmax(-1)]
        return [int(token) for token in logits_RV.argmax(-1).tolist()]


def decoding_of(model: "PreTrainedModel", settings: Mapping[str, Any], pad: int | None) -> Decoding | str:
    """Return how a model chooses tokens, or why that is more than a choice of the largest logit in each row.

    Args:
        model: with its own generation settings.
        settings: that come before them.
        pad: padding token.
    """
    own = model.generation_config.cache_implementation
    if (cache := settings.get("cache_implementation", own)) is not None:
        return f"its settings ask for a {cache} cache"
    found: dict[str, Any] = {}

    def keep(model: object, input_ids: torch.Tensor, **prepared: Any) -> torch.Tensor:
        found.update(prepared)
        return input_ids

    ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    try:
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_length=_FAR,
            pad_token_id=pad,
            use_cache=True,
            custom_generate=keep,
            **settings,
        )
    except Exception as error:  # the same call with a prompt will say so
        return f"generate refuses its settings ({first_line(error)})"
    config: GenerationConfig = found["generation_config"]
    mode = str(config.get_generation_mode().value)
    if mode != "greedy_search":
        return f"its settings ask for {mode.replace('_', ' ')}"
    processors: LogitsProcessorList = found["logits_processor"]
    others = {type(processor).__name__ for processor in processors if type(processor) not in _ROW_PROCESSORS}
    criteria: StoppingCriteriaList = found["stopping_criteria"]
    others |= {type(criterion).__name__ for criterion in criteria} - _KNOWN_CRITERIA
    others |= {name for name in ("token_healing", "compile_config") if getattr(config, name, None)}
    if others:
        return f"its settings ask for {', '.join(sorted(others))}"
    tokens = [criterion.eos_token_id.tolist() for criterion in criteria if hasattr(criterion, "eos_token_id")]
    return Decoding(processors, frozenset(token for known in tokens for token in known))
