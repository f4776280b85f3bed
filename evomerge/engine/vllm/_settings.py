"""How a model generates: transformers' settings in vLLM's words, and those that vLLM has no word for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evomerge.errors import InvalidInput

if TYPE_CHECKING:
    from transformers import LogitsProcessorList

# Masks on the next token, which are applied by transformers' own code inside vLLM.
MASKS = ("no_repeat_ngram_size", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens")
_TRANSLATED = {"do_sample", "repetition_penalty", "eos_token_id", "min_new_tokens", "min_length", *MASKS}
_OF_SAMPLING = {"temperature", "top_k", "top_p", "min_p"}
_OF_SAMPLING_LACKING = {"typical_p", "top_h", "epsilon_cutoff", "eta_cutoff"}

# Lengths are the prompt's own, special tokens the tokenizer's; the rest is about speed, memory or what is returned, or
# about beams and assistants, which are wanted by other settings.
_WITHOUT_EFFECT = {
    *("max_length", "max_new_tokens", "max_time", "pad_token_id", "bos_token_id", "decoder_start_token_id"),
    *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "compile_config", "disable_compile"),
    *("continuous_batching_config", "low_memory", "prefill_chunk_size", "return_dict_in_generate"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "renormalize_logits"),
    *("early_stopping", "length_penalty", "num_beam_groups", "diversity_penalty", "remove_invalid_values"),
    *("is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold"),
    *("assistant_early_exit", "assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight"),
    *("max_matching_ngram_size", "encoder_no_repeat_ngram_size", "speculation_type", "transformers_version"),
}
_NEUTRAL: tuple[Any, ...] = (None, False, 0, 1, [], {}, "")  # no effect: one beam, a penalty of 1, ...
_DEFAULT_TOP_K = 50  # transformers' own, where sampling is wanted and nobody says how
_SEED = 1234  # of sampled answers; each prompt adds its place in the list


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """One prompt to continue.

    Attributes:
        tokens: of the prompt.
        max_tokens: of the answer.
        stops: texts that end it.
        settings: of generation, named as transformers does; absent ones and None have transformers' defaults.
    """

    tokens: tuple[int, ...]
    max_tokens: int
    stops: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def lacking(settings: Mapping[str, Any]) -> list[str]:
    """Return the settings that change what is generated and that vLLM does not know, as "name: value"."""
    sampled = bool(settings.get("do_sample"))
    known = _TRANSLATED | _OF_SAMPLING | _WITHOUT_EFFECT | (set() if sampled else _OF_SAMPLING_LACKING)
    return [
        f"{name}: {value}"
        for name, value in settings.items()
        if name not in known and not name.startswith("_") and value not in _NEUTRAL
    ]


def sampling_parameters(request: TokenRequest, number: int) -> dict[str, Any]:
    """Return the arguments of vLLM's SamplingParams that mean the same.

    Args:
        request: the prompt and its settings.
        number: of the prompt in its list, from which a sampled answer has its random numbers.

    Raises:
        InvalidInput: vLLM does not know a setting.
    """
    settings = request.settings
    unknown = lacking(settings)
    if unknown:
        raise InvalidInput(
            f"vLLM cannot generate with {', '.join(unknown)}; change that in the parent's generation_config.json or in "
            "the task, or take engine: transformers"
        )
    ends = end_tokens(settings)
    least = max(settings.get("min_new_tokens") or 0, (settings.get("min_length") or 0) - len(request.tokens))
    masks = {name: settings[name] for name in MASKS if settings.get(name)}
    return {
        **_sampling(settings, number),
        "max_tokens": request.max_tokens,
        "min_tokens": min(least, request.max_tokens) if ends else 0,
        "repetition_penalty": float(settings.get("repetition_penalty") or 1.0),
        "stop": [stop for stop in request.stops if stop],
        "stop_token_ids": ends,
        "ignore_eos": True,  # those are all of them
        "skip_special_tokens": False,  # a stop string may be one's text
        "extra_args": {"masks": {**masks, "eos_token_id": ends, "begin_index": len(request.tokens)}} if masks else None,
    }


def end_tokens(settings: Mapping[str, Any]) -> list[int]:
    """Return the tokens that end an answer."""
    ends = settings.get("eos_token_id")
    return [] if ends is None else list(ends) if isinstance(ends, Sequence) else [ends]


def _sampling(settings: Mapping[str, Any], number: int) -> dict[str, Any]:
    if not settings.get("do_sample"):
        return {"temperature": 0.0}
    given = {name: settings.get(name) for name in _OF_SAMPLING}
    return {
        "temperature": 1.0 if given["temperature"] is None else float(given["temperature"]),
        "top_k": _DEFAULT_TOP_K if given["top_k"] is None else int(given["top_k"]),
        "top_p": 1.0 if given["top_p"] is None else float(given["top_p"]),
        "min_p": float(given["min_p"] or 0.0),
        "seed": _SEED + number,
    }


def mask_processors(masks: Mapping[str, Any], device: Any) -> "LogitsProcessorList":
    """Return transformers' own processors for a request's masks.

    Args:
        masks: what `sampling_parameters` put into "extra_args".
        device: of the logits.
    """
    from transformers import (
        LogitsProcessorList,
        NoBadWordsLogitsProcessor,
        NoRepeatNGramLogitsProcessor,
        SuppressTokensAtBeginLogitsProcessor,
        SuppressTokensLogitsProcessor,
    )

    found = LogitsProcessorList()
    if masks.get("no_repeat_ngram_size"):
        found.append(NoRepeatNGramLogitsProcessor(masks["no_repeat_ngram_size"]))
    if masks.get("bad_words_ids"):
        found.append(NoBadWordsLogitsProcessor(masks["bad_words_ids"], masks["eos_token_id"]))
    if masks.get("suppress_tokens"):
        found.append(SuppressTokensLogitsProcessor(masks["suppress_tokens"], device=device))
    if masks.get("begin_suppress_tokens"):
        tokens, start = masks["begin_suppress_tokens"], masks["begin_index"]
        found.append(SuppressTokensAtBeginLogitsProcessor(tokens, start, device=device))
    return found
