"""Models on disk: reading by mapped safetensors, streaming writes, names <-> blocks, configs, tokenizers, the hub.

This room knows files, tensor names and architectures' conventions; it refuses to know what a merge computes.
"""

from evomerge.checkpoint._atomic_folder import SafetensorsWriter, atomic_folder
from evomerge.checkpoint._card import CardParent, card_parents, derived_card, model_card
from evomerge.checkpoint._chat import chat_template, write_chat_template
from evomerge.checkpoint._config import (
    config_object,
    merged_config,
    set_vocabulary,
    untie,
)
from evomerge.checkpoint._folder import CODES, DTYPES, Checkpoint
from evomerge.checkpoint._hub import Upload, plan_upload, push
from evomerge.checkpoint._layout import (
    SHIFTED_NORM_FAMILIES,
    Layout,
    TensorSite,
    is_block_output,
)
from evomerge.checkpoint._model import Model, StoredTensor, TensorInfo
from evomerge.checkpoint._names import is_optional, is_tied_copy, is_vocabulary
from evomerge.checkpoint._resolve import (
    MODEL_FILES,
    Parents,
    ResolvedModel,
    open_model,
    resolve_model,
)
from evomerge.checkpoint._tokenizer import Tokenizer
from evomerge.checkpoint._union import NewToken
from evomerge.checkpoint._writer import (
    SHARD_BYTES,
    CheckpointWriter,
    refuse_existing,
    write_json,
)

__all__ = [
    "CODES",
    "DTYPES",
    "MODEL_FILES",
    "SHARD_BYTES",
    "SHIFTED_NORM_FAMILIES",
    "CardParent",
    "Checkpoint",
    "CheckpointWriter",
    "Layout",
    "Model",
    "NewToken",
    "Parents",
    "ResolvedModel",
    "SafetensorsWriter",
    "StoredTensor",
    "TensorInfo",
    "TensorSite",
    "Tokenizer",
    "Upload",
    "atomic_folder",
    "card_parents",
    "chat_template",
    "config_object",
    "derived_card",
    "is_block_output",
    "is_optional",
    "is_tied_copy",
    "is_vocabulary",
    "merged_config",
    "model_card",
    "open_model",
    "plan_upload",
    "push",
    "refuse_existing",
    "resolve_model",
    "set_vocabulary",
    "untie",
    "write_chat_template",
    "write_json",
]
