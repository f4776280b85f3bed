"""Does the live model answer as its export does? A small candidate goes to disk and back by plain `from_pretrained`.

What is compared: config, generation settings, tokenizer, chat template; and, for models that fit into memory twice, the
dtype of every weight, log-likelihoods of prompts and greedy answers. `engine.self_check` compares weights.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from evomerge.engine import LiveModel, MemoryShare, Plan, free_memory, write_companions, write_folder
from evomerge.engine.vllm import TokenRequest, VllmEngines
from evomerge.errors import SelfCheckFailed, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_RELOADED_BYTES = 2 << 30  # of weights that are written and loaded again; that takes seconds
MAX_PROMPTS = 4
PROMPT_TOKENS = 48
ANSWER_TOKENS = 16
_GREEDY = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1}
_CLOSE_UNITS = 16  # logits that another engine's kernels may swap, in units of their dtype's rounding
TOLERANCE_NATS = 1e-3  # of a prompt's log-likelihood: kernels may sum in another order where memory lies otherwise

# Of a config: what says where and by what it was written, not how a model answers.
_NOT_COMPARED = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "_from_model_config")


class _Answers(NamedTuple):
    """What a model makes of a prompt.

    Attributes:
        log_likelihood: of its tokens after the first, in nats.
        tokens: that greedy generation adds, or why it fails.
        gaps: by how much each of these tokens was ahead of the next one.
    """

    log_likelihood: float
    tokens: list[int] | str
    gaps: list[float]


def answer_check(live: LiveModel, plan: Plan, prompts: Sequence[str], share: MemoryShare | None = None) -> bool:
    """Compare the live model with what plain `from_pretrained` makes of its export.

    Args:
        live: after `apply`.
        plan: what was applied.
        prompts: texts of the tasks.
        share: of the machine's memory that is this process's; None = all.

    Returns:
        Whether answers were compared, too; False where the model does not fit twice, or is spread over devices.

    Raises:
        SelfCheckFailed: something differs, or transformers cannot load the export.
    """
    loads = fits_twice(live, plan, share)
    with tempfile.TemporaryDirectory(prefix="evomerge-check-") as scratch, _quiet():
        folder = Path(scratch) / "model"
        if loads:
            write_folder(plan, live.parents, folder, device=str(live.device))
        else:
            folder.mkdir()
            write_companions(plan, live.parents, folder)
        problem = _settings_problem(live, folder, prompts)
        if problem is None and loads:
            problem = _answers_problem(live, folder, prompts)
    if problem is not None:
        raise SelfCheckFailed(
            f"self-check: {problem}; the export of a candidate would not answer as it was scored, so no score can be "
            "trusted; please report it with the recipe"
        )
    return loads


def vllm_check(live: LiveModel, engines: VllmEngines, prompts: Sequence[str]) -> None:
    """Compare vLLM's greedy answers with those of the live model, which holds the same weights.

    Raises:
        SelfCheckFailed: they differ at a token that was not chosen by a hair.
    """
    settings = {**live.model.generation_config.to_dict(), **_GREEDY}
    dtypes = [parameter.dtype for parameter in live.model.parameters() if parameter.is_floating_point()]
    close = max(TOLERANCE_NATS, *(_CLOSE_UNITS * torch.finfo(dtype).eps for dtype in dtypes))
    for prompt in prompts:
        tokens = _tokens(live, prompt)
        expected = _answers(live.model, tokens)
        if isinstance(expected.tokens, str):
            continue
        request = TokenRequest(tokens=tuple(tokens), max_tokens=ANSWER_TOKENS, settings=settings)
        [(_, found, _)] = engines.answers([request])
        clear = next((place for place, gap in enumerate(expected.gaps) if gap < close), len(expected.gaps))
        if list(found)[:clear] != expected.tokens[:clear]:
            raise SelfCheckFailed(
                f"self-check: for {prompt!r:.60} vLLM answers {list(found)}, and transformers {expected.tokens} with "
                "the same weights, so vLLM's scores would not be those of the export; take engine: "
                "transformers, and please report it with the recipe"
            )


def _tokens(live: LiveModel, prompt: str) -> list[int]:
    """Return a short prompt's tokens, those that the model has."""
    vocabulary = live.model.get_input_embeddings().weight.shape[0]
    return [token for token in live.tokenizer.encode(prompt)[:PROMPT_TOKENS] if token < vocabulary] or [0]


def is_one_parent(plan: Plan) -> bool:
    """Tell whether a plan is a parent as it is, of which nothing is built: there is nothing to get wrong."""
    return all(tensor.copied and tensor.models[0].tensor == tensor.name for tensor in plan.tensors) and (
        len({tensor.models[0].model for tensor in plan.tensors}) == 1
    )


def fits_twice(live: LiveModel, plan: Plan, share: MemoryShare | None) -> bool:
    """Tell whether memory and disk take a second model, on one device, in reasonable time."""
    if plan.size_bytes > MAX_RELOADED_BYTES or len(live.devices) > 1:
        return False
    free = free_memory(live.device, share or MemoryShare())
    room_bytes = min(free.host, free.host if free.device is None else free.device)
    return 2 * plan.size_bytes <= min(room_bytes, disk_usage(tempfile.gettempdir()).free)


def _settings_problem(live: LiveModel, folder: Path, prompts: Sequence[str]) -> str | None:
    """Return how config, generation settings or tokenizer of the export differ from the live model's, or None."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    try:
        config = AutoConfig.from_pretrained(folder)
        if type(config) is not type(live.model.config):  # the language model of a larger one
            config = config.get_text_config()
        pairs = {"config.json": (live.model.config.to_dict(), config.to_dict())}
        if (folder / "generation_config.json").exists() and live.model.can_generate():
            known = live.model.generation_config.to_dict()
            pairs["generation_config.json"] = (known, GenerationConfig.from_pretrained(folder).to_dict())
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # transformers raises what it likes
        return f"transformers cannot read what belongs to the export ({first_line(error)})"
    for file, (found, expected) in pairs.items():
        for key in sorted(found.keys() | expected.keys()):
            if key not in _NOT_COMPARED and found.get(key) != expected.get(key):
                return f"{key} of {file} is {expected.get(key)!r:.80}, in memory {found.get(key)!r:.80}"
    return _tokenizer_problem(live.tokenizer, tokenizer, prompts)


def _tokenizer_problem(
    found: "PreTrainedTokenizerBase", expected: "PreTrainedTokenizerBase", prompts: Sequence[str]
) -> str | None:
    """Return how two tokenizers differ in special tokens, chat template or prompts, or None."""
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "chat_template"):
        if getattr(found, name, None) != getattr(expected, name, None):
            return f"the tokenizer's {name} is {getattr(expected, name, None)!r:.80}, in memory another"
    for prompt in prompts:
        if found.encode(prompt) != expected.encode(prompt):
            return f"the exported tokenizer makes other tokens of {prompt!r:.60}"
    return None


def _answers_problem(live: LiveModel, folder: Path, prompts: Sequence[str]) -> str | None:
    """Return how the loaded export differs from the live model in dtypes or answers, or None."""
    try:
        loaded = type(live.model).from_pretrained(folder).to(live.device).eval()
    except Exception as error:  # transformers raises what it likes
        return f"transformers cannot load the export ({first_line(error)})"
    dtypes = {name: tensor.dtype for name, tensor in loaded.state_dict().items()}
    for name, tensor in live.model.state_dict().items():
        if dtypes.get(name, tensor.dtype) != tensor.dtype:
            return f"{name} is {dtypes[name]} after from_pretrained, in memory {tensor.dtype}"
    for prompt in prompts:
        tokens = _tokens(live, prompt)
        found, expected = _answers(live.model, tokens), _answers(loaded, tokens)
        problem = _difference(found, expected)
        if problem is not None:
            return f"{problem}, for {prompt!r:.60}"
    return None


def _answers(model: "PreTrainedModel", tokens: Sequence[int]) -> _Answers:
    """Return a model's log-likelihood of a prompt, and its greedy answer with its own generation settings."""
    ids = torch.tensor([list(tokens)], device=model.get_input_embeddings().weight.device)
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        value = float(logits.gather(1, ids[0, 1:, None].to(logits.device)).sum())
        if not model.can_generate():
            return _Answers(value, [], [])
        wanted: dict[str, Any] = {"max_new_tokens": ANSWER_TOKENS, **_GREEDY}
        wanted |= {"output_scores": True, "return_dict_in_generate": True}
        try:
            answer = model.generate(ids, attention_mask=torch.ones_like(ids), **wanted)
        except Exception as error:  # settings that generate refuses must be refused by both
            return _Answers(value, f"{type(error).__name__}: {first_line(error)}", [])
    leading = [score[0].float().topk(2).values.tolist() for score in answer.scores]
    return _Answers(value, answer.sequences[0, len(tokens) :].tolist(), [first - next_ for first, next_ in leading])


def _difference(found: _Answers, expected: _Answers) -> str | None:
    """Return how two answers differ, or None; tokens behind one that was chosen by a hair are not compared."""
    if not abs(found.log_likelihood - expected.log_likelihood) <= TOLERANCE_NATS * max(1, abs(found.log_likelihood)):
        values = f"{expected.log_likelihood:.6g} after from_pretrained, in memory {found.log_likelihood:.6g}"
        return f"a prompt's log-likelihood is {values}"
    if isinstance(found.tokens, str) or isinstance(expected.tokens, str):
        both = f"{expected.tokens!r:.100} after from_pretrained, in memory {found.tokens!r:.100}"
        return None if found.tokens == expected.tokens else f"the greedy answer is {both}"
    close = next((place for place, gap in enumerate(found.gaps) if gap < TOLERANCE_NATS), len(found.gaps))
    if found.tokens[:close] == expected.tokens[:close] and (
        close < len(found.gaps) or len(found.tokens) == len(expected.tokens)
    ):
        return None
    return f"the greedy answer is {expected.tokens} after from_pretrained, in memory {found.tokens}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' warnings and progress bars to itself: settings without effect are the parents' own."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
