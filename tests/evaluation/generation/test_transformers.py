"""A batch that stays full gives each prompt the answer that `generate` gives it alone."""

import functools
import math
import random
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import tiny
from transformers import StoppingCriteria, StoppingCriteriaList

from evomerge.evaluation.generation import Answer, Prompt, TransformersGenerator
from evomerge.evaluation.score import SHARING_FAMILIES, sharing_of

GREEDY = {"do_sample": False}
FIRST = 200  # code of token 0's letter
SETTINGS = {
    "eos_token_id": [2, 17, 33, 50, 51, 52],
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 3,
    "suppress_tokens": [4, 5, 6],
    "bad_words_ids": [[7], [8, 9]],
    "do_sample": True,
    "temperature": 0.7,
}


class Letters:
    """A tokenizer with a letter for each token."""

    pad_token_id = 0

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(letter) - FIRST for letter in text]

    def decode(self, tokens: Iterable[int], skip_special_tokens: bool = False) -> str:
        return "".join(chr(FIRST + token) for token in tokens)


class Wrapped(SimpleNamespace):
    """What a generator needs of lm-eval's wrapper; `generate` runs each prompt alone, and is counted."""

    tokenizer, backend, mixed_precision_dtype, device = Letters(), "causal", None, torch.device("cpu")
    model: Any
    plain = 0

    def continued(self, prompts: Sequence[Prompt], seconds: float | None) -> list[list[int]]:
        self.plain += len(prompts)
        return [list(alone(self.model, prompt)) for prompt in prompts]

    def has_ended(self, row: Sequence[int], stops: Sequence[str]) -> bool:
        return True


class Stop(StoppingCriteria):
    """lm-eval's criterion, for a batch of one."""

    def __init__(self, prompt: Prompt):
        self.prompt, self.start = prompt, len(prompt.tokens)

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> bool:
        answer = input_ids[0, self.start :].tolist()
        return any(stop in Letters().decode(answer[-len(stop) - 2 :]) for stop in self.prompt.stops)


def alone(model: Any, prompt: Prompt) -> tuple[int, ...]:
    """Return the answer of transformers' own `generate` to one prompt."""
    ids = torch.tensor([prompt.tokens])
    stopping = StoppingCriteriaList([Stop(prompt)])
    limits = {"max_length": ids.shape[1] + prompt.max_tokens, "pad_token_id": 0}
    mask = torch.ones_like(ids)
    output = model.generate(ids, attention_mask=mask, stopping_criteria=stopping, **limits, **prompt.settings)
    return tuple(output[0, ids.shape[1] :].tolist())


def prompts(count: int = 6, *, shots: int = 20, limit: int = 8, settings: Any = GREEDY) -> list[Prompt]:
    """Return prompts of different lengths and limits, longest first, all of which may begin with the same tokens."""
    rng = random.Random(1)

    def tokens(length: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, 119) for _ in range(length))

    shared, stops = tokens(shots), ("ú", chr(FIRST + 60) + chr(FIRST + 61))
    made = [
        Prompt(
            text=str(i),
            tokens=shared + tokens(1 + 3 * i),
            stops=stops,
            max_tokens=limit if i % 2 else limit // 2,
            settings=settings,
        )
        for i in range(count)
    ]
    return sorted(made, key=lambda prompt: -len(prompt.tokens))


def answers(model: Any, asked: Sequence[Prompt], batch_size: int = 3) -> tuple[dict[int, Answer], Any, Any]:
    """Return the answers, the wrapper that counts what `generate` did, and the generator."""
    wrapped = Wrapped(model=model)
    generator = TransformersGenerator(wrapped, batch_size=batch_size, takes_rows=sharing_of(model).possible)
    return dict(generator.generate(asked, math.inf)), wrapped, generator


def assert_as_alone(model: Any, asked: Sequence[Prompt], batch_size: int = 3) -> dict[int, Answer]:
    found, wrapped, generator = answers(model, asked, batch_size)
    assert {i: answer.tokens for i, answer in found.items()} == {
        i: alone(model, prompt) for i, prompt in enumerate(asked)
    }
    assert wrapped.plain == 0
    assert not generator.notes
    return found


@pytest.mark.parametrize("family", sorted(SHARING_FAMILIES))
def test_family(family):
    found = assert_as_alone(tiny(family), prompts())
    assert len({answer.tokens for answer in found.values()}) > 3


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "mistral", "cohere2"])
def test_windows_shorter_than_prompts(family):
    assert_as_alone(tiny(family, sliding_window=8), prompts())


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_prompts_without_a_common_beginning(family):
    assert_as_alone(tiny(family), prompts(7, shots=0))
    assert_as_alone(tiny(family), prompts(7, shots=0)[::-1])


def test_prompts_of_one_token():
    model = tiny("llama")
    asked = [Prompt(text=str(i), tokens=(i,), stops=(), max_tokens=5, settings=GREEDY) for i in range(20, 27)]
    assert_as_alone(model, asked)


def test_settings_of_the_model_see_each_row_without_padding():
    model = tiny("llama")
    for name, value in SETTINGS.items():
        setattr(model.generation_config, name, value)
    found = assert_as_alone(model, prompts(9, limit=24))
    plain = tiny("llama")
    assert any(found[i].tokens != alone(plain, prompt) for i, prompt in enumerate(prompts(9, limit=24)))
    assert any(answer.ended and answer.tokens[-1] in SETTINGS["eos_token_id"] for answer in found.values())
    assert any(not answer.ended for answer in found.values())


def test_answers_that_outgrow_the_memory_of_the_cache():
    found = assert_as_alone(tiny("llama", max_position_embeddings=512), prompts(4, limit=150), batch_size=2)
    assert max(len(answer.tokens) for answer in found.values()) == 150


def test_an_answer_ends_with_its_stop_string_and_not_before():
    model = tiny("llama")
    free = [Prompt(text=p.text, tokens=p.tokens, stops=(), max_tokens=12, settings=GREEDY) for p in prompts()]
    unstopped, _, _ = answers(model, free)
    for place in (0, 3, 10):
        stop = Letters().decode(unstopped[0].tokens[place : place + 2])
        found, _, _ = answers(model, [Prompt(text="", tokens=free[0].tokens, stops=(stop,), max_tokens=12)])
        first = Letters().decode(unstopped[0].tokens).index(stop)
        assert found[0] == Answer(tokens=unstopped[0].tokens[: first + 2], ended=True)


def test_rows_leave_and_beginnings_are_read_once(monkeypatch):
    model, sizes = tiny("llama"), []
    forward = type(model).forward

    @functools.wraps(forward)
    def counted(self: Any, input_ids: Any, **kwargs: Any) -> Any:
        sizes.append(tuple(input_ids.shape))
        return forward(self, input_ids=input_ids, **kwargs)

    asked = [*prompts(8), prompts(8)[-1]]  # one is asked twice
    monkeypatch.setattr(type(model), "forward", counted)
    found, _, _ = answers(model, asked)
    assert found[8] == found[7]
    assert sizes[0] == (1, 20)
    steps = [rows for rows, width in sizes[1:] if width == 1]
    assert sum(steps) == sum(len(found[i].tokens) for i in range(8)), "no row is run beyond its answer's end"
    last_read = max(i for i, (_, width) in enumerate(sizes) if width > 1)
    steps_before = [rows for rows, width in sizes[1:last_read] if width == 1]
    assert steps_before == [3] * len(steps_before), "the batch stays full while prompts wait"
    assert len(steps_before) >= 8


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_more_short_prompts_run_at_once_than_long_ones(family, monkeypatch):
    model, sizes = tiny(family), []
    forward = type(model).forward

    @functools.wraps(forward)
    def counted(self: Any, input_ids: Any, **kwargs: Any) -> Any:
        sizes.append(tuple(input_ids.shape))
        return forward(self, input_ids=input_ids, **kwargs)

    rng = random.Random(2)
    lengths = [*range(2, 10), *range(50, 56)]
    asked = [
        Prompt(text=str(i), tokens=tuple(rng.randrange(3, 119) for _ in range(length)), stops=(), max_tokens=1 + i % 7)
        for i, length in enumerate(lengths)
    ]
    monkeypatch.setattr(type(model), "forward", counted)
    found, _, _ = answers(model, asked, batch_size=2)
    monkeypatch.undo()
    assert {i: answer.tokens for i, answer in found.items()} == {i: alone(model, p) for i, p in enumerate(asked)}
    long_read = next(i for i, (_, width) in enumerate(sizes) if width > 20)
    assert max(rows for rows, width in sizes[:long_read] if width == 1) == 8, "four times as many, at most"
    last_steps = [rows for rows, width in sizes[long_read:] if width == 1]
    assert max(last_steps[10:]) == 2, "of the longest, no more than asked for"


def test_a_row_that_is_not_finite_harms_no_other():
    model = tiny("llama")
    asked = prompts(9)
    expected, _, _ = answers(model, asked)
    with torch.no_grad():
        model.get_input_embeddings().weight[119] = float("nan")
    broken = asked[1]
    asked[1] = Prompt(text="", tokens=(*broken.tokens[:-1], 119), stops=(), max_tokens=2, settings=GREEDY)
    found, _, _ = answers(model, asked)
    assert {i: found[i] for i in range(9) if i != 1} == {i: expected[i] for i in range(9) if i != 1}


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"num_beams": 2, "do_sample": False}, "beam search"),
        ({"do_sample": True}, "sample"),
        ({"min_new_tokens": 3, "do_sample": False}, "MinNewTokensLengthLogitsProcessor"),
        ({"cache_implementation": "static", "do_sample": False}, "static"),
    ],
)
def test_other_settings_are_left_to_generate(settings, word):
    model = tiny("llama")
    found, wrapped, generator = answers(model, prompts(4, settings=settings))
    assert wrapped.plain == len(found) == 4
    (note,) = generator.notes
    assert word in note
    if not settings["do_sample"]:
        assert all(found[i].tokens == alone(model, prompt) for i, prompt in enumerate(prompts(4, settings=settings)))


def test_other_models_are_left_to_generate():
    found, wrapped, generator = answers(tiny("mamba"), prompts(4))
    assert wrapped.plain == len(found) == 4
    (note,) = generator.notes
    assert "family mamba" in note


def test_one_row_a_batch_is_what_generate_does():
    found, wrapped, generator = answers(tiny("llama"), prompts(4), batch_size=1)
    assert wrapped.plain == len(found) == 4
    assert not generator.notes


def test_settings_may_differ_between_prompts():
    model = tiny("llama")
    asked = [*prompts(4), *prompts(4, settings={"num_beams": 2, "do_sample": False})]
    asked.sort(key=lambda prompt: -len(prompt.tokens))
    found, wrapped, _ = answers(model, asked)
    assert wrapped.plain == 4
    assert {i: answer.tokens for i, answer in found.items()} == {
        i: alone(model, prompt) for i, prompt in enumerate(asked)
    }


def test_bfloat16_differs_only_behind_a_choice_by_a_hair():
    model = tiny("llama").to(torch.bfloat16)
    asked = prompts(9, limit=16)
    found, _, _ = answers(model, asked)
    for i, prompt in enumerate(asked):
        ids = torch.tensor([prompt.tokens])
        wanted = {"output_scores": True, "return_dict_in_generate": True, "pad_token_id": 0, **GREEDY}
        own = model.generate(ids, max_new_tokens=prompt.max_tokens, attention_mask=torch.ones_like(ids), **wanted)
        gaps = [(top := score[0].topk(2).values)[0] - top[1] for score in own.scores]
        # A bfloat16 number of this size is within a 256th of what it stands for.
        scale = max(float(score.abs().max()) for score in own.scores)
        close = next((k for k, gap in enumerate(gaps) if gap < 4 * scale / 256), len(gaps))
        expected = own.sequences[0, ids.shape[1] :].tolist()
        assert list(found[i].tokens[:close]) == expected[:close][: len(found[i].tokens)]
