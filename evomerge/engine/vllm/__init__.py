"""vLLM as a second engine: it writes answers with weights that are replaced in place, candidate after candidate.

A merge goes from the parents into vLLM's weight loader tensor by tensor, inside the process that holds the weights;
nothing but configs and tokenizers goes through a disk. `_engine.py` is the one file that imports vLLM, and is imported
when the first engine starts. Must not import tasks.
"""

from evomerge.engine.vllm._engines import CACHE_SHARE, VllmEngines, VllmOptions
from evomerge.engine.vllm._installed import missing_sentence, unknown_family, wrong_device
from evomerge.engine.vllm._settings import TokenRequest, lacking, mask_processors, sampling_parameters
from evomerge.engine.vllm._source import MergeSource

__all__ = [
    "CACHE_SHARE",
    "MergeSource",
    "TokenRequest",
    "VllmEngines",
    "VllmOptions",
    "lacking",
    "mask_processors",
    "missing_sentence",
    "sampling_parameters",
    "unknown_family",
    "wrong_device",
]
