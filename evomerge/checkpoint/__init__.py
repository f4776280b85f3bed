"""Models on disk: reading by mapped safetensors, streaming writes, names <-> blocks, configs, tokenizers, the hub.

This room knows files, tensor names and architectures' conventions; it refuses to know what a merge computes.
"""

from evomerge.checkpoint._atomic_folder import TensorStream, new_folder
from evomerge.checkpoint._card import Parent, model_card, parents_of
from evomerge.checkpoint._chat import chat_template, write_chat_template
from evomerge.checkpoint._config import (
    config_object,
    copy_tokenizer,
    merged_config,
    set_vocabulary,
    untie,
)
from evomerge.checkpoint._derived_card import derived_card
from evomerge.checkpoint._folder import CODES, DTYPES, Checkpoint
from evomerge.checkpoint._hub import Upload, plan_upload, push
from evomerge.checkpoint._layout import (
    SHIFTED_NORM_FAMILIES,
    Layout,
    TensorSite,
    is_block_output,
)
from evomerge.checkpoint._model import Model, Stored, TensorInfo
from evomerge.checkpoint._names import is_optional, is_tied_copy, is_vocabulary
from evomerge.checkpoint._resolve import (
    MODEL_FILES,
    Parents,
    locate,
    open_model,
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
    "Checkpoint",
    "CheckpointWriter",
    "Layout",
    "Model",
    "NewToken",
    "Parent",
    "Parents",
    "Stored",
    "TensorInfo",
    "TensorSite",
    "TensorStream",
    "Tokenizer",
    "Upload",
    "chat_template",
    "config_object",
    "copy_tokenizer",
    "derived_card",
    "is_block_output",
    "is_optional",
    "is_tied_copy",
    "is_vocabulary",
    "locate",
    "merged_config",
    "model_card",
    "new_folder",
    "open_model",
    "parents_of",
    "plan_upload",
    "push",
    "refuse_existing",
    "set_vocabulary",
    "untie",
    "write_chat_template",
    "write_json",
]
