"""The vLLM engines of a worker: one for each config, which stacks of another depth have; the last ones are kept."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from evomerge.engine._checkpoint_sink import write_companions
from evomerge.engine._plan_records import Plan
from evomerge.engine._residency import free_memory
from evomerge.engine.live import LiveModel
from evomerge.engine.vllm._installed import missing_sentence
from evomerge.engine.vllm._settings import TokenRequest
from evomerge.engine.vllm._source import MergeSource
from evomerge.errors import InvalidInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from evomerge.engine.vllm._engine import Engine

MAX_ENGINES = 8  # of more depths than searches visit often; starting one takes seconds
CACHE_SHARE = 0.25  # of the memory that is free, for keys and values
DEFAULT_MAX_LENGTH = 2048  # tokens, where a config does not say; lm-eval's own assumption
_BLOCK_TOKENS = 128  # of the cache; an engine keeps a few blocks for itself
_SPARE_BLOCKS = 8
# Of a config: where it comes from, and special tokens, which come with the requests.
_NOT_SHAPE = ("_name_or_path", "transformers_version", "bos_token_id", "eos_token_id", "pad_token_id")
_LENGTH_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx")


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmOptions:
    """What a search file can say of vLLM.

    Attributes:
        tensor_parallel: devices that each tensor is spread over; on a CPU, processes.
        max_length: tokens of a prompt and its answer, at most; None = what the model reads and memory allows.
        eager: run without compiled graphs; None = on a CPU.
    """

    tensor_parallel: int = 1
    max_length: int | None = None
    eager: bool | None = None


class VllmEngines:
    """Engines that become one candidate after another; the one that was loaded last gives answers.

    Attributes:
        started: how many engines were started so far.
    """

    def __init__(self, source: MergeSource, options: VllmOptions, *, batch_size: int):
        """Start nothing yet.

        Args:
            source: of the merges.
            options: of vLLM.
            batch_size: most prompts that run at once.

        Raises:
            InvalidInput: vLLM is not installed.
        """
        missing = missing_sentence()
        if missing is not None:
            raise InvalidInput(missing)
        self.started = 0
        self._current: Engine | None = None
        self._source, self._options, self._batch_size = source, options, batch_size
        self._kept: dict[str, Engine] = {}  # by what it is made of; the last one used is at the end
        # The same by what is at hand. Tokenizers stay as long as their numbers are in use.
        self._names: dict[str, tuple[str, PreTrainedTokenizerBase]] = {}

    def load(self, plan: Plan, live: LiveModel, *, applied: bool) -> None:
        """Give the plan's engine the plan's weights, and make it the current one.

        Args:
            plan: of the merge.
            live: over the same parents; it has the plan's tokenizer.
            applied: whether the live model holds the plan's weights, which are then not built a second time.

        Raises:
            DegenerateModel: a tensor is not finite.
            MergeFailed: a method has no result for its settings.
            InvalidInput: vLLM refuses the model, or memory does not suffice.
        """
        engine = self._engine(plan, live)
        self._current = None
        if self._options.tensor_parallel > 1:
            engine.load_merge(self._source, plan.recipe.document)
        else:
            engine.load(_live_tensors(plan, live) if applied else live.tensors(plan))
        self._current = engine

    def answers(
        self, requests: Sequence[TokenRequest], deadline: float = math.inf
    ) -> Iterator[tuple[int, tuple[int, ...], bool]]:
        """Yield (index of a request, tokens of its answer, whether it ended by itself), as answers are finished.

        Args:
            requests: in any order.
            deadline: on the clock of `time.monotonic`; answers that are not finished then are left out.

        Raises:
            InvalidInput: a request is too long, or wants what vLLM cannot do.
        """
        assert self._current is not None
        return self._current.answers(requests, deadline)

    def check_logits(self, tokens: Sequence[int]) -> None:
        """Run one prompt and look at what the model makes of it.

        Args:
            tokens: of the prompt, at least one.

        Raises:
            DegenerateModel: a log-likelihood is not finite, or every token is equally likely.
        """
        assert self._current is not None
        self._current.check_logits(tokens)

    def close(self) -> None:
        """End all engines."""
        self._current = None
        while self._kept:
            self._end_oldest()

    def _engine(self, plan: Plan, live: LiveModel) -> "Engine":
        """Return the engine of a plan's config and tokenizer, started if need be."""
        quick = json.dumps([plan.config, str(plan.dtype), id(live.tokenizer)], sort_keys=True)
        if quick not in self._names:
            with TemporaryDirectory(prefix="evomerge-vllm-") as scratch:
                write_companions(plan, live.parents, Path(scratch))
                name = _content_name(plan, Path(scratch))
                if name not in self._kept:
                    self._kept[name] = self._start(plan, live, Path(scratch))
            self._names[quick] = name, live.tokenizer
        name = self._names[quick][0]
        if name not in self._kept:  # it had to end for others
            self._names.pop(quick)
            return self._engine(plan, live)
        self._kept[name] = self._kept.pop(name)
        return self._kept[name]

    def _start(self, plan: Plan, live: LiveModel, folder: Path) -> "Engine":
        """Start an engine on a folder of config and tokenizer; older ones end where memory does not suffice."""
        from evomerge.engine.vllm._engine import Engine, EngineShape

        weights = plan.size_bytes // self._options.tensor_parallel
        while self._kept and (len(self._kept) >= MAX_ENGINES or self._free_bytes(live) < weights):
            self._end_oldest()
        free = self._free_bytes(live)
        if free < weights:
            raise InvalidInput(
                f"vLLM needs {weights >> 20:,} MiB for the weights of one more model, and {max(0, free) >> 20:,} MiB "
                "are free for it; lower workers.count, raise workers.gpus, or take engine: transformers"
            )
        length, cache = self._lengths(plan, free - weights)
        shape = EngineShape(
            dtype=plan.dtype,
            max_length=length,
            batch_size=self._batch_size,
            cache_bytes=cache,
            memory_share=_share_of(live.device, weights + cache),
            tensor_parallel=self._options.tensor_parallel,
            eager=live.device.type == "cpu" if self._options.eager is None else self._options.eager,
        )
        self.started += 1
        return Engine(folder, shape)

    def _free_bytes(self, live: LiveModel) -> int:
        """Return the bytes that one more engine may take."""
        free = free_memory(live.device, self._source.share)
        return free.host if free.device is None else free.device

    def _lengths(self, plan: Plan, free_bytes: int) -> tuple[int, int]:
        """Return the longest prompt with its answer, in tokens, and the bytes of the cache of keys and values."""
        own = plan.config.get("text_config", plan.config)
        known = next((int(own[key]) for key in _LENGTH_KEYS if own.get(key)), DEFAULT_MAX_LENGTH)
        length = min(known, self._options.max_length or known)
        token_bytes = _cache_bytes_per_token(own, plan) / self._options.tensor_parallel
        spare = _SPARE_BLOCKS * _BLOCK_TOKENS
        rounded = -(-length // _BLOCK_TOKENS) * _BLOCK_TOKENS
        tokens = min(self._batch_size * rounded + spare, int(CACHE_SHARE * free_bytes / token_bytes))
        return min(length, max(1, tokens - spare)), int(tokens * token_bytes)

    def _end_oldest(self) -> None:
        self._kept.pop(next(iter(self._kept))).close()


def _content_name(plan: Plan, folder: Path) -> str:
    """Return what an engine depends on: config, dtype and tokenizer, wherever they come from.

    Args:
        plan: says config and dtype.
        folder: with the tokenizer's files.
    """
    config = {name: value for name, value in plan.config.items() if name not in _NOT_SHAPE}
    whole = folder / "tokenizer.json"
    files = [whole] if whole.exists() else sorted(file for file in folder.iterdir() if file.suffix != ".json")
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(file.read_bytes())
    return json.dumps([config, str(plan.dtype), digest.hexdigest()], sort_keys=True)


def _live_tensors(plan: Plan, live: LiveModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors that a live model holds, by their names in a checkpoint."""
    for tensor in plan.tensors:
        if live.part(tensor.name) is not None:
            yield tensor.name, live.tensor(tensor.name)


def _cache_bytes_per_token(config: Any, plan: Plan) -> int:
    """Return the bytes of a token's keys and values in all layers; more where a family keeps fewer."""
    heads = int(config.get("num_attention_heads") or config.get("n_head") or 1)
    width = int(config.get("hidden_size") or config.get("n_embd") or config.get("d_model") or heads)
    head_width = int(config.get("head_dim") or -(-width // heads))
    key_heads = int(config.get("num_key_value_heads") or heads)
    return 2 * max(1, len(plan.layers)) * key_heads * head_width * plan.dtype.itemsize


def _share_of(device: torch.device, wanted_bytes: int) -> float:
    """Return a part of the device's memory in (0, 1), which vLLM asks for although it is given the bytes."""
    if device.type != "cuda":
        return 0.5
    total = torch.cuda.get_device_properties(device).total_memory
    return min(0.95, max(0.01, wanted_bytes / total))
