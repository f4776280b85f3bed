"""The one file that imports lm-eval, and imports it for good: load this module only inside functions.

lm-eval 0.5 rewrites tasks and metrics; what we rely on is small and listed here: how a `!function` is imported,
`ConfigurableTask` (documents, prompts, requests, `process_results`), the aggregation registry, and `HFLM` (how a
prompt becomes tokens, and generation). Everything here is a thin door; policy lives in the other files.
"""

import functools
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import lm_eval
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.registry import AGGREGATION_REGISTRY
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import _import_func_in_yml

from evomerge.errors import DegenerateModel, EvomergeError
from evomerge.evaluation._items import AnswerLimits
from evomerge.evaluation.score._inputs import input_device

_FEWEST_JUDGED = 8  # answers; of fewer, any share may be cut
_SHORT = 32  # tokens; shorter answers may well fill their length

VERSION: str = lm_eval.__version__

# lm-eval compiles the Jinja template anew for every document (0.2 to 0.5 ms, 50 times the rendering); templates are
# immutable, so one compilation serves all.
utils.env.from_string = functools.lru_cache(maxsize=1024)(utils.env.from_string)

if "LMEVAL_LOG_LEVEL" not in os.environ:  # its warnings are about its own command line; ours are in `notes`
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


def import_function(folder: Path, reference: str) -> Callable[..., Any]:
    """Return what `!function reference` in a YAML of `folder` means."""
    return _import_func_in_yml(reference, folder)


def new_task(config: dict[str, Any]) -> Any:
    """Build a task from its configuration, which lm-eval may change; loads the data set."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        return ConfigurableTask(config=config)
    finally:
        if shown:
            datasets.enable_progress_bars()


def aggregation_name(function: Any) -> str:
    """Return the registered name of an aggregation, or "a function of its own"."""
    for name in AGGREGATION_REGISTRY:
        if AGGREGATION_REGISTRY[name] is function:
            return name
    return "a function of its own"


def new_instance(kind: str, doc: Any, arguments: tuple[Any, ...], index: int, repeats: int) -> Any:
    """Return an lm-eval request."""
    return Instance(kind, doc, arguments, index, metadata=(None, None, repeats))


def chat_renderer(tokenizer: Any, template_arguments: Mapping[str, Any]) -> Callable[..., str]:
    """Return the function that lm-eval would use to render a chat: (messages, add_generation_prompt) -> text."""
    from lm_eval.models.huggingface import HFLM

    holder = SimpleNamespace(tokenizer=tokenizer, chat_template_args=dict(template_arguments))
    return functools.partial(HFLM.apply_chat_template, holder)


def new_language_model(model: Any, tokenizer: Any, *, batch_size: int, options: Mapping[str, Any]) -> "Any":
    """Wrap a live model for tokenization and generation (see `_token_model`)."""
    wrapped = _token_model()(
        pretrained=model, tokenizer=tokenizer, batch_size=batch_size, softmax_dtype="float32", **options
    )
    wrapped._device = input_device(model)  # HFLM takes the first parameter's, wherever that lies
    return wrapped


@functools.cache
def _token_model() -> type:
    """Return a subclass of lm-eval's HFLM that yields token ids instead of scoring, and counts cut answers."""
    from lm_eval.models.huggingface import HFLM

    class TokenModel(HFLM):
        captured: list[tuple[tuple[int, ...], tuple[int, ...]]]
        limits = AnswerLimits()
        cut_answers = _asked = _left = 0
        _most_cut, _deadline, _task_name = math.inf, math.inf, ""

        def _loglikelihood_tokens(self, requests: Iterable[Any], *_: Any, **__: Any) -> list[tuple[float, bool]]:
            """Keep the token ids of lm-eval's own encoding; the scoring itself is `_forward.py`'s."""
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

            Raises: DegenerateModel as soon as too many did; EvomergeError when the time is over: answers that the clock
                cut must not become a score.
            """
            self.cut_answers, self._task_name = 0, name
            self._left = self._asked = len(requests)
            judged = len(requests) >= _FEWEST_JUDGED
            self._most_cut = self.limits.cut * len(requests) if judged else math.inf
            self._deadline = time.monotonic() + (self.limits.seconds or math.inf)
            return self.generate_until(requests, disable_tqdm=True)

        def _model_generate(self, context: Any, max_length: int, stop: Sequence[str], **kwargs: Any) -> Any:
            timed = self._deadline < math.inf
            if timed:
                kwargs["max_time"] = max(0.0, self._deadline - time.monotonic())
            output = super()._model_generate(context, max_length, stop, **kwargs)
            new, limit = output[:, context.shape[1] :], max_length - context.shape[1]
            full = new.shape[1] >= limit
            if full or timed:
                unfinished = sum(_is_unfinished(self, row, stop) for row in new.tolist())
                self.cut_answers += unfinished if full else 0
                self._left -= len(new) - (0 if full else unfinished)
                # Below its length, a batch with an unfinished answer was stopped by the clock.
                if timed and ((unfinished and not full) or (self._left and time.monotonic() > self._deadline)):
                    raise EvomergeError(
                        f"{self._task_name}: its answers took longer than {self.limits.seconds:g} seconds "
                        f"(lm_eval: max_gen_seconds); {self._left} of {self._asked} were cut off"
                    )
            if limit >= _SHORT and self.cut_answers > self._most_cut:
                raise DegenerateModel(
                    f"{self._task_name}: it does not stop: more than {self.limits.cut:.0%} of its answers "
                    f"(lm_eval: max_cut_answers) reach {limit} tokens"
                )
            return output

    return TokenModel


def _is_unfinished(language_model: Any, row: list[int], stop: Sequence[str]) -> bool:
    """Return whether an answer ended without an end token or a stop word."""
    configured = getattr(language_model.model.generation_config, "eos_token_id", None)
    ends = {language_model.eot_token_id, *(configured if isinstance(configured, list) else [configured])}
    text = language_model.tok_decode(row, skip_special_tokens=False)
    return ends.isdisjoint(row) and not any(word in text for word in stop if word)
