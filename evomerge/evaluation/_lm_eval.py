"""The one file that imports lm-eval, and imports it for good: load this module only inside functions.

lm-eval 0.5 rewrites tasks and metrics; what we rely on is small and listed here: how a `!function` is imported,
`ConfigurableTask` (documents, prompts, requests, `process_results`), the aggregation registry, and `HFLM` (how a
prompt becomes tokens, and generation). Everything here only passes calls on; decisions are made in the other files.
"""

import functools
import inspect
import logging
import math
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import datasets
import lm_eval
from huggingface_hub import constants as hub_constants
from huggingface_hub.utils import get_session
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.registry import AGGREGATION_REGISTRY, DEFAULT_METRIC_REGISTRY, METRIC_REGISTRY, get_metric_aggregation
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.tasks._yaml_loader import _import_func_in_yml

from evomerge.evaluation._items import LOCAL_BUILDERS
from evomerge.evaluation.metrics import OWN, name_of_own

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evomerge.evaluation.generation import Prompt

_PROBE_SECONDS = 5.0  # for the Hub's answer to the first request
_PROBE_VALID_SECONDS = 60.0
_probes: dict[str, tuple[float, bool]] = {}  # endpoint -> (time of the last probe, whether it answered)

VERSION: str = lm_eval.__version__

# lm-eval compiles the Jinja template anew for every document (0.2 to 0.5 ms, 50 times the rendering); templates are
# immutable, so one compilation serves all.
utils.env.from_string = functools.lru_cache(maxsize=1024)(utils.env.from_string)

if "LMEVAL_LOG_LEVEL" not in os.environ:  # its warnings are about its own command line; what matters here is in `notes`
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


def import_function(folder: Path, reference: str) -> Callable[..., Any]:
    """Return what `!function reference` in a YAML of `folder` means."""
    return _import_func_in_yml(reference, folder)


def new_task(config: dict[str, Any], documents: Sequence[Any] | None = None) -> Any:
    """Build a task from its configuration, which lm-eval may change; loads the data set.

    Args:
        config: with functions imported; its `class`, where it has one, is the task.
        documents: of a class, stand for each split of its data set, which is then not loaded.

    Raises whatever lm-eval, `datasets` and the task's own code raise.
    """
    own: Any = config.pop("class", None)
    path = getattr(own, "DATASET_PATH", None) or config.get("dataset_path")
    if own is not None and documents is not None:
        own, path = type(own.__name__, (own,), {"download": functools.partialmethod(_take, documents)}), None
    local = path is None or "custom_dataset" in config or path in LOCAL_BUILDERS or Path(path).is_dir()
    with _quiet_progress(), nullcontext() if local else _offline_if_unreachable(str(path)):
        if own is None:
            return ConfigurableTask(config=config)
        parameters = inspect.signature(own.__init__).parameters.values()
        takes_config = any(p.name == "config" or p.kind is p.VAR_KEYWORD for p in parameters)
        return own(config=config) if takes_config else own()


class _EverySplit(dict[str, Sequence[Any]]):
    """A data set whose every split has the same documents."""

    def __init__(self, documents: Sequence[Any]):
        super().__init__(only=documents)

    def __missing__(self, split: str) -> Sequence[Any]:
        return self["only"]


def _take(task: Any, documents: Sequence[Any], *_: Any, **__: Any) -> None:
    """What a class does in place of `download`."""
    task.dataset = _EverySplit(documents)


@contextmanager
def _quiet_progress() -> Iterator[None]:
    displayed = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if displayed:
            datasets.enable_progress_bars()


@contextmanager
def _offline_if_unreachable(dataset: str) -> Iterator[None]:
    """Use only what is cached while the Hub cannot be reached; its client would try again for half a minute.

    Args:
        dataset: that is loaded inside the block.

    Raises:
        ConnectionError: it is not cached.
    """
    saved = hub_constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if any(saved) or _hub_answers(hub_constants.ENDPOINT):
        yield
        return
    hub_constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    except (ConnectionError, datasets.exceptions.DatasetNotFoundError) as error:
        raise ConnectionError(
            f"{hub_constants.ENDPOINT} cannot be reached, and its data set {dataset} is not in the cache of this "
            "machine; load it once while there is a network"
        ) from error
    finally:
        hub_constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = saved


def _hub_answers(endpoint: str) -> bool:
    """Return whether the Hub answers anything at all within seconds; an answer holds for a while."""
    checked, answers = _probes.get(endpoint, (-math.inf, False))
    if time.monotonic() - checked > _PROBE_VALID_SECONDS:
        try:
            get_session().head(endpoint, timeout=_PROBE_SECONDS)
            answers = True
        except Exception:  # whichever HTTP library is in use, and whatever it calls a lost connection
            answers = False
        _probes[endpoint] = time.monotonic(), answers
    return answers


def aggregation_name(function: Any) -> str:
    """Return the registered name of an aggregation; of a function of the task's own, `OWN` and what it is known as."""
    for name in AGGREGATION_REGISTRY:
        if AGGREGATION_REGISTRY[name] is function:
            return name
    return OWN + (name_of_own(function) or "function")


def aggregation_of(metric: str) -> str | None:
    """Return the name of the aggregation that a metric of lm-eval's has where a task names none; None = unknown."""
    if metric not in METRIC_REGISTRY:
        return None
    function = get_metric_aggregation(metric)
    return None if function is None else aggregation_name(function)


def default_aggregations(output_type: str) -> dict[str, str]:
    """Return metric -> name of its aggregation, of a task that lists no metrics."""
    return {metric: aggregation_of(metric) or "mean" for metric in DEFAULT_METRIC_REGISTRY.get(output_type, ())}


def new_instance(kind: str, doc: object, arguments: tuple[Any, ...], index: int, repeats: int) -> Any:
    """Return an lm-eval request."""
    return Instance(kind, doc, arguments, index, metadata=(None, None, repeats))


def chat_renderer(tokenizer: "PreTrainedTokenizerBase", template_arguments: Mapping[str, Any]) -> Callable[..., str]:
    """Return the function that lm-eval would use to render a chat: (messages, add_generation_prompt) -> text."""
    from lm_eval.models.huggingface import HFLM

    holder = SimpleNamespace(tokenizer=tokenizer, chat_template_args=dict(template_arguments))
    return functools.partial(HFLM.apply_chat_template, holder)


def new_language_model(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    device: Any,
    batch_size: int,
    options: Mapping[str, Any],
) -> Any:
    """Wrap a live model for tokenization and generation (see `_TokenModel`).

    Args:
        model: a causal language model of transformers.
        tokenizer: its tokenizer.
        device: where it takes token ids; HFLM takes the first parameter's device, wherever that lies.
        batch_size: rows of a batch of generation.
        options: further arguments of HFLM.
    """
    wrapped = _token_model()(
        pretrained=model, tokenizer=tokenizer, batch_size=batch_size, softmax_dtype="float32", **options
    )
    wrapped._device = device
    return wrapped


@functools.cache
def _token_model() -> type:
    """Return lm-eval's HFLM with the changes of `_TokenModel`."""
    from lm_eval.models.huggingface import HFLM

    return type("TokenModel", (_TokenModel, HFLM), {})


class _TokenModel:
    """Changes to lm-eval's HFLM: it yields token ids instead of scoring, and answers as token ids.

    Attributes:
        captured: (context, continuation) token ids of the last requests.
    """

    captured: list[tuple[tuple[int, ...], tuple[int, ...]]]

    def _loglikelihood_tokens(self, requests: Iterable[Any], *_: Any, **__: Any) -> list[tuple[float, bool]]:
        """Keep the token ids of lm-eval's own encoding; the scoring itself is `score/_forward.py`'s."""
        pairs = [(tuple(context), tuple(continuation)) for _, context, continuation in requests]
        self.captured += pairs
        return [(0.0, False)] * len(pairs)

    def encode(self, instance: Any) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Return (context, continuation) token ids of a log-likelihood request; several when it is rolling."""
        self.captured = []
        getattr(self, instance.request_type)([instance], disable_tqdm=True)
        return self.captured

    # -- generation, in the parts that HFLM.generate_until is made of

    def prompt(self: Any, text: str, generation_kwargs: Mapping[str, Any]) -> "Prompt":
        """Return a request for generated text as the model gets it where it is the only one of its batch."""
        settings: dict[str, Any] = dict(normalize_gen_kwargs(dict(generation_kwargs), self.max_gen_toks))
        if settings["do_sample"] is False:
            settings.pop("temperature", None)  # which has no effect then, and a warning of transformers
        end = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        stops, max_tokens = handle_stop_sequences(settings.pop("until"), eos=end), settings.pop("max_gen_toks")
        longest = self.max_length - (max_tokens if self.backend == "causal" else 0)
        ids, _ = self.tok_batch_encode([text], left_truncate_len=longest, truncation=self.truncation)
        if (length := settings.pop("max_length", None)) is not None:  # of prompt and answer
            max_tokens = int(length) - ids.shape[1]
        tokens = tuple(ids[0].tolist())
        from evomerge.evaluation.generation import Prompt  # which loads torch: the process for code needs none

        return Prompt(text=text, tokens=tokens, stops=tuple(stops), max_tokens=max_tokens, settings=settings)

    def text_of(self: Any, prompt: "Prompt", tokens: Sequence[int]) -> str:
        """Return what a task reads of an answer: decoded, without thoughts, up to the first stop string."""
        marker, tokens = self.think_end_token, list(tokens)
        if isinstance(marker, int) and marker in tokens:
            tokens = tokens[len(tokens) - tokens[::-1].index(marker) :]
        text = self.tok_decode(tokens)
        if isinstance(marker, int):
            text = text.lstrip()
        return str(postprocess_generated_text(text, list(prompt.stops), marker if isinstance(marker, str) else None))

    def length_of(self: Any, prompt: "Prompt", tokens: Sequence[int]) -> int:
        """Return how many tokens an answer took, thoughts included, up to the end token or the end of a stop string."""
        ends = self.end_tokens()
        row = list(tokens[: next((i + 1 for i, token in enumerate(tokens) if token in ends), len(tokens))])

        def stopped(count: int) -> bool:
            text = self.tok_decode(row[:count], skip_special_tokens=False)
            return any(stop in text for stop in prompt.stops if stop)

        return bisect_left(range(len(row)), True, key=stopped)

    def continued(self: Any, prompts: "Sequence[Prompt]", seconds: float | None) -> list[list[int]]:
        """Return the tokens that transformers' `generate` adds to each prompt, or has added when the time is over.

        Args:
            prompts: with equal stop strings, limits and settings.
            seconds: that it may take, or None.
        """
        import torch  # not at the top: the process for code needs none of it, and loads this file

        width = max(len(prompt.tokens) for prompt in prompts)
        pad, common = self.tokenizer.pad_token_id or 0, prompts[0]
        padding = [width - len(prompt.tokens) for prompt in prompts]
        ids = [[pad] * left + list(prompt.tokens) for left, prompt in zip(padding, prompts, strict=True)]
        context = torch.tensor(ids, device=self.device)
        seen = (torch.arange(width)[None] >= torch.tensor(padding)[:, None]).long().to(self.device)
        timed = {} if seconds is None else {"max_time": seconds}
        output = self._model_generate(
            context=context,
            attention_mask=seen,
            stop=list(common.stops),
            max_length=width + common.max_tokens,
            **common.settings,
            **timed,
        )
        rows: list[list[int]] = output[:, width if self.backend == "causal" else 0 :].tolist()
        return rows

    def end_tokens(self: Any) -> set[int | None]:
        """Return the tokens that end an answer: lm-eval's, and those of the model's generation settings."""
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        return {self.eot_token_id, *(configured if isinstance(configured, list) else [configured])}

    def has_ended(self: Any, row: Sequence[int], stops: Sequence[str]) -> bool:
        """Return whether there is an end token or a stop string in an answer."""
        text = self.tok_decode(row, skip_special_tokens=False)
        return not self.end_tokens().isdisjoint(row) or any(stop in text for stop in stops if stop)
