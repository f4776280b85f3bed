"""Recipe + parents -> tensors: one plan, one way to build a tensor, two sinks (a checkpoint folder, a live model).

What is scored in the live model is what the checkpoint sink writes, bit for bit on the same kind of device, because
both run the same plan through the same builder. `plan/` says what to build, `live/` overwrites a resident model.
Must not import `space`, `evaluation`, `run` or `derived`.
"""

from evomerge.engine._alignment import embedding_rows
from evomerge.engine._build import Builder
from evomerge.engine._checkpoint_sink import (
    FolderTexts,
    ProgressCallback,
    write_companions,
    write_folder,
    write_tensors,
)
from evomerge.engine._estimate import Estimate, estimate
from evomerge.engine._kept_rows import gathered_bytes
from evomerge.engine._plan_records import Origin, Plan, Rows, TensorPlan
from evomerge.engine._relatedness import Relatedness, relatedness
from evomerge.engine._residency import (
    FreeMemory,
    MemoryNeed,
    MemoryShare,
    Residency,
    Tier,
    choose_tier,
    container_bytes_left,
    free_memory,
    gpu_count,
    memory_need,
    tier_of,
)
from evomerge.engine._statistics_cache import CacheEntry, StatisticsCache, cache_folder, write_statistics
from evomerge.engine._threads import threads_by_bandwidth
from evomerge.engine._tokenizer import Vocabulary, output_tokenizer, vocabulary, vocabulary_notes
from evomerge.engine.live import GradientTable, LiveModel, collected_gradients, self_check
from evomerge.engine.plan import make_plan

__all__ = [
    "Builder",
    "CacheEntry",
    "Estimate",
    "FolderTexts",
    "FreeMemory",
    "GradientTable",
    "LiveModel",
    "MemoryNeed",
    "MemoryShare",
    "Origin",
    "Plan",
    "ProgressCallback",
    "Relatedness",
    "Residency",
    "Rows",
    "StatisticsCache",
    "TensorPlan",
    "Tier",
    "Vocabulary",
    "cache_folder",
    "choose_tier",
    "collected_gradients",
    "container_bytes_left",
    "embedding_rows",
    "estimate",
    "free_memory",
    "gathered_bytes",
    "gpu_count",
    "make_plan",
    "memory_need",
    "output_tokenizer",
    "relatedness",
    "self_check",
    "threads_by_bandwidth",
    "tier_of",
    "vocabulary",
    "vocabulary_notes",
    "write_companions",
    "write_folder",
    "write_statistics",
    "write_tensors",
]
