"""The one file that imports lm-eval, and imports it for good: load this module only inside functions.

lm-eval 0.5 rewrites tasks and metrics; what we rely on is small and listed here: how a `!function` is imported,
`ConfigurableTask` (documents, prompts, requests, `process_results`), the aggregation registry, and `HFLM` (how a
prompt becomes tokens, and generation). Everything here only passes calls on; decisions are made in the other files.
"""

import functools
import logging
import math
import os
import time
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
from lm_eval.api.registry import AGGREGATION_REGISTRY
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import _import_func_in_yml

from evomerge.errors import DegenerateModel, EvomergeError
from evomerge.evaluation._items import LOCAL_BUILDERS, AnswerLimits

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MIN_JUDGED_ANSWERS = 8  # of fewer, any share may be cut
_SHORT_ANSWER_TOKENS = 32  # shorter answers may well fill their length
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


def new_task(config: dict[str, Any]) -> Any:
    """Build a task from its configuration, which lm-eval may change; loads the data set.

    Raises whatever lm-eval, `datasets` and the task's own code raise.
    """
    path = config.get("dataset_path")
    local = path is None or "custom_dataset" in config or path in LOCAL_BUILDERS or Path(path).is_dir()
    with _quiet_progress(), nullcontext() if local else _offline_if_unreachable(str(path)):
        return ConfigurableTask(config=config)


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
    """Return the registered name of an aggregation, or "a function of its own"."""
    for name in AGGREGATION_REGISTRY:
        if AGGREGATION_REGISTRY[name] is function:
            return name
    return "a function of its own"


def new_instance(kind: str, doc: Any, arguments: tuple[Any, ...], index: int, repeats: int) -> Any:
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
    limits: AnswerLimits,
) -> Any:
    """Wrap a live model for tokenization and generation (see `_TokenModel`).

    Args:
        model: a causal language model of transformers.
        tokenizer: its tokenizer.
        device: where it takes token ids; HFLM takes the first parameter's device, wherever that lies.
        batch_size: rows of a batch of generation.
        options: further arguments of HFLM.
        limits: of generated answers.
    """
    wrapped = _token_model()(
        pretrained=model, tokenizer=tokenizer, batch_size=batch_size, softmax_dtype="float32", **options
    )
    wrapped._device, wrapped.limits = device, limits
    return wrapped


@functools.cache
def _token_model() -> type:
    """Return lm-eval's HFLM with the changes of `_TokenModel`."""
    from lm_eval.models.huggingface import HFLM

    return type("TokenModel", (_TokenModel, HFLM), {})


class _TokenModel:
    """Changes to lm-eval's HFLM: it yields token ids instead of scoring, and counts answers that are cut off.

    Attributes:
        captured: (context, continuation) token ids of the last requests.
        limits: of generated answers.
        cut_answers: how many answers of the last call reached their length.
    """

    captured: list[tuple[tuple[int, ...], tuple[int, ...]]]
    limits = AnswerLimits()
    cut_answers = _requested = _left = 0
    _max_cut, _deadline, _task_name = math.inf, math.inf, ""

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

    def answers(self, name: str, requests: Sequence[Any]) -> list[str]:
        """Return the texts of a task's requests, and count in `cut_answers` those that reached their length.

        Raises:
            DegenerateModel: too many reached it; raised as soon as they did.
            EvomergeError: the time is over. Answers that the clock cut must not become a score.
        """
        self.cut_answers, self._task_name = 0, name
        self._left = self._requested = len(requests)
        judged = len(requests) >= _MIN_JUDGED_ANSWERS
        self._max_cut = self.limits.cut * len(requests) if judged else math.inf
        self._deadline = time.monotonic() + (self.limits.seconds or math.inf)
        texts: list[str] = self.generate_until(requests, disable_tqdm=True)  # type: ignore[attr-defined]
        return texts

    def _model_generate(self, context: Any, max_length: int, stop: Sequence[str], **kwargs: Any) -> Any:
        timed = self._deadline < math.inf
        if timed:
            kwargs["max_time"] = max(0.0, self._deadline - time.monotonic())
        output = super()._model_generate(context, max_length, stop, **kwargs)  # type: ignore[misc]
        limit_tokens = max_length - context.shape[1]
        self._count(output[:, context.shape[1] :], limit_tokens, stop, timed=timed)
        return output

    def _count(self, answers: Any, limit_tokens: int, stop: Sequence[str], *, timed: bool) -> None:
        """Count a batch's unfinished answers (rows, tokens). Raises what `answers` does."""
        full = answers.shape[1] >= limit_tokens
        if full or timed:
            unfinished = sum(_is_unfinished(self, row, stop) for row in answers.tolist())
            self.cut_answers += unfinished if full else 0
            self._left -= len(answers) - (0 if full else unfinished)
            # Below its length, a batch with an unfinished answer was stopped by the clock.
            if timed and ((unfinished and not full) or (self._left and time.monotonic() > self._deadline)):
                raise EvomergeError(
                    f"{self._task_name}: its answers took longer than {self.limits.seconds:g} seconds "
                    f"(lm_eval: max_gen_seconds); {self._left} of {self._requested} were cut off"
                )
        if limit_tokens >= _SHORT_ANSWER_TOKENS and self.cut_answers > self._max_cut:
            raise DegenerateModel(
                f"{self._task_name}: it does not stop: more than {self.limits.cut:.0%} of its answers "
                f"(lm_eval: max_cut_answers) reach {limit_tokens} tokens"
            )


def _is_unfinished(language_model: Any, row: list[int], stop: Sequence[str]) -> bool:
    """Return whether an answer ended without an end token or a stop word."""
    configured = getattr(language_model.model.generation_config, "eos_token_id", None)
    ends = {language_model.eot_token_id, *(configured if isinstance(configured, list) else [configured])}
    text = language_model.tok_decode(row, skip_special_tokens=False)
    return ends.isdisjoint(row) and not any(word in text for word in stop if word)
