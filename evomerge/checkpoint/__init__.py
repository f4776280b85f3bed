"""Models on disk: reading mapped safetensors, streaming writes, names <-> blocks, configs, tokenizers, adapters, hub.

This package knows files, tensor names and architectures' conventions. It must not import `engine` or anything above
it: what a merge computes is not decided here. Every file is read without trust: what a foreign folder holds is
data, refused in one sentence where it makes no sense, and never run.
"""

from evomerge.checkpoint._adapter import AdaptedModel, Adapter
from evomerge.checkpoint._atomic_folder import atomic_folder, refuse_existing
from evomerge.checkpoint._card import CardParent, CardResult, card_parents, derived_card, model_card
from evomerge.checkpoint._companions import companion_notes, copy_companions, model_files
from evomerge.checkpoint._config import generation_settings, merged_config, set_vocabulary, untie
from evomerge.checkpoint._file_state import FileStamps
from evomerge.checkpoint._folder import Checkpoint
from evomerge.checkpoint._hub import Upload, plan_upload, push
from evomerge.checkpoint._json import write_json
from evomerge.checkpoint._layout import (
    NORMED_OUTPUTS,
    PLAIN_OUTPUT_FAMILIES,
    SHIFTED_NORM_FAMILIES,
    Layout,
    TensorSite,
    is_block_output,
    module_names,
)
from evomerge.checkpoint._model import Model, Outline, StoredTensor, TensorInfo
from evomerge.checkpoint._recorded import RecordedModel, model_outlines, recorded_models
from evomerge.checkpoint._resolve import (
    Parents,
    ResolvedModel,
    open_model,
    resolve_model,
)
from evomerge.checkpoint._tensor_file import TensorFile
from evomerge.checkpoint._writer import (
    SHARD_BYTES,
    STAGE_BYTES,
    STAGE_COUNT,
    SYNC_BYTES,
    AsyncWriter,
    CheckpointWriter,
    SafetensorsWriter,
)
from evomerge.checkpoint.family import (
    ParameterMap,
    ParameterPart,
    config_object,
    generative_class,
    is_head,
    is_optional,
    is_tied_copy,
    is_vocabulary,
    meta_model,
    named_tensors,
    parameter_map,
)
from evomerge.checkpoint.tokenizer import NewToken, Tokenizer, chat_template, write_chat_template

__all__ = [
    "NORMED_OUTPUTS",
    "PLAIN_OUTPUT_FAMILIES",
    "SHARD_BYTES",
    "SHIFTED_NORM_FAMILIES",
    "STAGE_BYTES",
    "STAGE_COUNT",
    "SYNC_BYTES",
    "AdaptedModel",
    "Adapter",
    "AsyncWriter",
    "CardParent",
    "CardResult",
    "Checkpoint",
    "CheckpointWriter",
    "FileStamps",
    "Layout",
    "Model",
    "NewToken",
    "Outline",
    "ParameterMap",
    "ParameterPart",
    "Parents",
    "RecordedModel",
    "ResolvedModel",
    "SafetensorsWriter",
    "StoredTensor",
    "TensorFile",
    "TensorInfo",
    "TensorSite",
    "Tokenizer",
    "Upload",
    "atomic_folder",
    "card_parents",
    "chat_template",
    "companion_notes",
    "config_object",
    "copy_companions",
    "derived_card",
    "generation_settings",
    "generative_class",
    "is_block_output",
    "is_head",
    "is_optional",
    "is_tied_copy",
    "is_vocabulary",
    "merged_config",
    "meta_model",
    "model_card",
    "model_files",
    "model_outlines",
    "module_names",
    "named_tensors",
    "open_model",
    "parameter_map",
    "plan_upload",
    "push",
    "recorded_models",
    "refuse_existing",
    "resolve_model",
    "set_vocabulary",
    "untie",
    "write_chat_template",
    "write_json",
]
