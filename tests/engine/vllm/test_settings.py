"""Transformers' generation settings in vLLM's words; no vLLM is needed."""

from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from evomerge.engine.vllm import TokenRequest, lacking, mask_processors, sampling_parameters
from evomerge.errors import InvalidInput


def request(**settings: Any) -> TokenRequest:
    own = GenerationConfig(**settings).to_dict()
    return TokenRequest(tokens=(5, 6, 7), max_tokens=20, stops=("?", ""), settings=own)


def test_a_fresh_config_is_greedy_and_ends_nowhere() -> None:
    found = sampling_parameters(request(), 0)
    assert found["temperature"] == 0.0
    assert found["repetition_penalty"] == 1.0
    assert found["stop_token_ids"] == []
    assert found["stop"] == ["?"]
    assert found["max_tokens"] == 20
    assert found["extra_args"] is None
    assert lacking(GenerationConfig().to_dict()) == []


def test_sampling_settings_have_no_effect_on_greedy_answers() -> None:
    greedy = sampling_parameters(request(temperature=0.7, top_k=5, typical_p=0.9), 0)
    assert greedy == sampling_parameters(request(), 0)
    sampled = sampling_parameters(request(do_sample=True, temperature=0.7, top_p=0.9), 3)
    assert (sampled["temperature"], sampled["top_k"], sampled["top_p"], sampled["seed"]) == (0.7, 50, 0.9, 1237)


def test_end_tokens_are_one_or_several() -> None:
    assert sampling_parameters(request(eos_token_id=2), 0)["stop_token_ids"] == [2]
    assert sampling_parameters(request(eos_token_id=[2, 17]), 0)["stop_token_ids"] == [2, 17]


def test_the_least_length_counts_the_prompt_as_transformers_does() -> None:
    assert sampling_parameters(request(min_length=10, eos_token_id=2), 0)["min_tokens"] == 7
    assert sampling_parameters(request(min_new_tokens=9, min_length=10, eos_token_id=2), 0)["min_tokens"] == 9
    assert sampling_parameters(request(min_new_tokens=90, eos_token_id=2), 0)["min_tokens"] == 20


@pytest.mark.parametrize(
    "setting", [{"num_beams": 4}, {"encoder_repetition_penalty": 1.2}, {"sequence_bias": [[[3], 2.0]]}]
)
def test_what_vllm_lacks_is_refused_by_name(setting: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(setting))):
        sampling_parameters(request(**setting), 0)


def test_masks_are_those_of_transformers() -> None:
    wanted = sampling_parameters(
        request(no_repeat_ngram_size=2, bad_words_ids=[[4]], suppress_tokens=[8], begin_suppress_tokens=[9]), 0
    )["extra_args"]["masks"]
    processors = mask_processors(wanted, torch.device("cpu"))
    first = processors(torch.tensor([[5, 6, 7]]), torch.zeros(1, 12))[0]
    assert first.isneginf().nonzero().flatten().tolist() == [4, 8, 9]
    later = processors(torch.tensor([[5, 6, 7, 5]]), torch.zeros(1, 12))[0]
    assert later.isneginf().nonzero().flatten().tolist() == [4, 6, 8]
