"""The one file that imports vLLM: an engine whose weights are replaced in place, and that continues prompts.

Import it inside functions only: it takes seconds, and not every installation has it. What is relied on: `LLM`,
`collective_rpc("reload_weights")` (names as in a checkpoint; fused, sharded and packed layers are vLLM's affair, and
memory stays where compiled graphs expect it), `reset_prefix_cache`, `add_request`, `step`, `abort_request` and
request-level logits processors.
"""

import gc
import itertools
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Without processes of its own the engine is in this one, where the parents are. Whoever starts several workers on one
# machine gives each its threads; vLLM would bind them all to the first cores.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

import torch
from vllm import LLM, SamplingParams
from vllm.model_executor.models import ModelRegistry
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from evomerge.engine.vllm._settings import TokenRequest, mask_processors, sampling_parameters
from evomerge.engine.vllm._source import GuardedTensors, MergeExtension, MergeSource, raised
from evomerge.errors import DegenerateModel, InvalidInput

_EQUAL_NATS = 1e-6  # log-likelihoods closer than this are equal


def supported_architectures() -> frozenset[str]:
    """Return the classes of transformers for which vLLM has a model of its own."""
    return frozenset(ModelRegistry.get_supported_archs())


def device_type() -> str:
    """Return what this installation of vLLM runs on ("cpu", "cuda", ...); "" where it finds nothing that it knows."""
    return str(current_platform.device_type or "")


class TokenMasks(AdapterLogitsProcessor):
    """Applies transformers' masks on the next token to the requests that want some."""

    def is_argmax_invariant(self) -> bool:
        """Say that masks change which token is the likeliest."""
        return False

    def new_req_logits_processor(self, params: SamplingParams) -> Any:
        """Return what masks the logits of a request, or None."""
        masks = (params.extra_args or {}).get("masks")
        if masks is None:
            return None
        processors: list[Any] = []

        def masked(prompt: list[int], answer: list[int], logits: torch.Tensor) -> torch.Tensor:
            if not processors:
                processors.append(mask_processors(masks, logits.device))
            ids = torch.tensor([[*prompt, *answer]], device=logits.device)
            found: torch.Tensor = processors[0](ids, logits[None])[0]
            return found

        return masked


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineShape:
    """What cannot change while an engine runs.

    Attributes:
        dtype: of the weights.
        max_length: tokens of prompt and answer together.
        batch_size: most prompts that run at once.
        cache_bytes: of keys and values.
        memory_share: of a device's memory that weights and cache may take, of which vLLM wants to know.
        tensor_parallel: over how many devices, or processes of a CPU, each tensor is spread.
        eager: no compiled graphs.
    """

    dtype: torch.dtype
    max_length: int
    batch_size: int
    cache_bytes: int
    memory_share: float
    tensor_parallel: int
    eager: bool


class Engine:
    """One vLLM engine: the model of one config."""

    def __init__(self, folder: Path, shape: EngineShape):
        """Start it; its weights are arbitrary until the first `load`.

        Args:
            folder: with config and tokenizer, which are read now and never again.
            shape: of the engine.

        Raises:
            InvalidInput: vLLM refuses the model.
        """
        self._shape = shape
        self._numbers = itertools.count()
        several = shape.tensor_parallel > 1
        try:
            with _settings_kept():
                self._llm = LLM(
                    str(folder),
                    load_format="dummy",
                    model_impl="vllm",
                    dtype=str(shape.dtype).removeprefix("torch."),
                    generation_config="vllm",  # requests bring all settings
                    max_model_len=shape.max_length,
                    max_num_seqs=shape.batch_size,
                    kv_cache_memory_bytes=shape.cache_bytes,
                    gpu_memory_utilization=shape.memory_share,
                    enforce_eager=shape.eager,
                    enable_prefix_caching=True,
                    async_scheduling=False,  # masks look at the tokens so far
                    tensor_parallel_size=shape.tensor_parallel,
                    distributed_executor_backend="mp" if several else None,
                    worker_extension_cls=f"{MergeExtension.__module__}.{MergeExtension.__name__}",
                    logits_processors=[f"{TokenMasks.__module__}:{TokenMasks.__name__}"],
                )
        except (ValueError, RuntimeError, NotImplementedError, AssertionError) as error:
            raise InvalidInput(f"vLLM refuses this model ({_innermost(error)}); {_ADVICE}") from error

    def load(self, tensors: Iterator[tuple[str, torch.Tensor]]) -> None:
        """Replace all weights; the engine must be in this process.

        Args:
            tensors: of the merge by their names in a checkpoint; each must keep its content.

        Raises:
            Exception: whatever reading the tensors raises. The engine stays usable.
        """
        guarded = GuardedTensors(tensors)
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(guarded)})
        self._llm.reset_prefix_cache()
        if guarded.error is not None:
            raise guarded.error

    def load_merge(self, source: MergeSource, document: Mapping[str, Any]) -> None:
        """Replace all weights of an engine that is spread over processes; each builds the merge.

        Args:
            source: of the search.
            document: the recipe as plain data.

        Raises:
            EvomergeError: the merge fails there. The engine stays usable.
        """
        found = self._llm.collective_rpc("load_merge", args=(source, document))
        self._llm.reset_prefix_cache()
        failed = next((problem for problem in found if problem is not None), None)
        if failed is not None:
            raise raised(failed)

    def answers(
        self, requests: Sequence[TokenRequest], deadline: float = math.inf
    ) -> Iterator[tuple[int, tuple[int, ...], bool]]:
        """Yield (index of a request, tokens of its answer, whether it ended by itself), as answers are finished.

        Args:
            requests: all run at once, as far as the engine's batches go.
            deadline: on the clock of `time.monotonic`; answers that are not finished then are left out.

        Raises:
            InvalidInput: a request is too long, or wants what vLLM cannot do.
        """
        given = [self._parameters(request, number) for number, request in enumerate(requests)]
        engine, open_requests = self._llm.llm_engine, {}
        try:
            for number, (request, wanted) in enumerate(zip(requests, given, strict=True)):
                name = str(next(self._numbers))
                open_requests[name] = number
                engine.add_request(name, {"prompt_token_ids": list(request.tokens)}, wanted)
            while open_requests and time.monotonic() <= deadline:
                for output in engine.step():
                    if output.finished:
                        answer = output.outputs[0]
                        number = open_requests.pop(output.request_id)
                        yield number, tuple(answer.token_ids), answer.finish_reason == "stop"
        finally:  # the caller may have enough of it
            if open_requests:
                engine.abort_request(list(open_requests))

    def check_logits(self, tokens: Sequence[int]) -> None:
        """Run one prompt and look at what the model makes of it.

        Args:
            tokens: at least one.

        Raises:
            DegenerateModel: a log-likelihood is not finite, or every token is equally likely.
        """
        wanted = SamplingParams(temperature=0.0, max_tokens=1, logprobs=1, prompt_logprobs=1, detokenize=False)
        output = self._llm.generate({"prompt_token_ids": list(tokens)}, wanted, use_tqdm=False)[0]
        places = [*(output.prompt_logprobs or [])[1:], *(output.outputs[0].logprobs or [])]
        uniform = -math.log(self._llm.llm_engine.model_config.get_vocab_size())
        for tokens_there in places:
            values = [found.logprob for found in tokens_there.values()]
            if any(math.isnan(value) for value in values) or max(values) == -math.inf:
                raise DegenerateModel("its logits are not finite")
            if max(values) <= uniform + _EQUAL_NATS:
                raise DegenerateModel("its logits are constant: every token is equally likely")

    def close(self) -> None:
        """Free the weights and the cache."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _parameters(self, request: TokenRequest, number: int) -> SamplingParams:
        length = len(request.tokens) + request.max_tokens
        if length > self._shape.max_length:
            raise InvalidInput(
                f"a prompt of {len(request.tokens)} tokens and its answer of {request.max_tokens} do not fit into "
                f"{self._shape.max_length} tokens, which max_length or memory allows the engine; raise them, lower the "
                "task's max_gen_toks, or take engine: transformers"
            )
        return SamplingParams(**sampling_parameters(request, number), output_kind=RequestOutputKind.FINAL_ONLY)


_ADVICE = "take engine: transformers, which runs every model that transformers knows"


@contextmanager
def _settings_kept() -> Iterator[None]:
    """Keep what vLLM changes of the process that it starts in: how many threads torch may be given, the dtype."""
    set_threads, dtype = torch.set_num_threads, torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_num_threads = set_threads
        torch.set_default_dtype(dtype)


def _innermost(error: BaseException) -> str:
    """Return the first line that says something of what vLLM raised, pydantic's words around it left out."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("Value error, ")]
    text = own[0].removeprefix("Value error, ") if own else (lines or [type(error).__name__])[0]
    return text.partition(" [type=")[0][:300]
