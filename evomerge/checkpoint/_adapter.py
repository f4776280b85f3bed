"""A model with a LoRA adapter (Hu 2021, https://arxiv.org/abs/2106.09685), applied tensor by tensor as it is read.

W' = W + scale * B A, in float32 and rounded once to W's dtype: what PEFT's merge_and_unload gives (which for
embeddings alone rounds twice).
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from evomerge.checkpoint._folder import DTYPES, Checkpoint
from evomerge.checkpoint._model import Model, StoredTensor, TensorInfo
from evomerge.checkpoint._names import is_head
from evomerge.errors import InvalidInput, RefusedForSafety

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PART = re.compile(r"^(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.weight)?$")
_PREFIX = "base_model.model."
_BLOCK = (
    1 << 19
)  # elements of a product worked on at a time on a CPU: fresh memory for all of it takes eight times longer

# Settings under which W + scale * B A is not the fine-tuned weight, and what to call them in a message.
_REFUSED = {
    "use_dora": "DoRA",
    "use_qalora": "QA-LoRA",
    "lora_bias": "a bias inside LoRA",
    "layer_replication": "layer replication",
    "trainable_token_indices": "trainable single tokens",
    "target_parameters": "LoRA on bare parameters",
    "alora_invocation_tokens": "activated LoRA",
    "megatron_config": "Megatron layers",
}
_CHANGES_BASE = re.compile(r"pissa|olora|corda|loftq|lora_ga", re.IGNORECASE)  # the base's weights are changed first


@dataclass
class _Pair:
    """Names of the two factors of one weight. transposed: the weight is stored input by output."""

    scale: float
    transposed: bool
    a: str = ""
    b: str = ""
    embedding: bool = field(default=False)


class Adapter:
    """An opened PEFT folder: which modules it changes and by what."""

    def __init__(self, folder: Path, name: str, commit: str | None = None):
        """Open the folder; `commit` of the hub, if it came from there.

        Raises:
            InvalidInput: not a LoRA, a kind of it that is no sum of weights, or damaged.
            RefusedForSafety: its weights are a pickle.
        """
        self.folder, self.name, self.commit = folder, name, commit
        self.config = _read_config(folder, name)
        self._file = _open_weights(folder, name)
        self.pairs: dict[str, _Pair] = {}
        self.replaced: dict[str, str] = {}
        for key in self._file.keys():  # noqa: SIM118
            self._sort(key)
        broken = [module for module, pair in self.pairs.items() if not (pair.a and pair.b)]
        if broken:
            raise InvalidInput(f"{name}: {broken[0]} has only one of its two LoRA factors; copy the adapter again")

    def _sort(self, key: str) -> None:
        """Note one stored tensor: a factor, or a weight that replaces the model's own."""
        plain = key.removeprefix(_PREFIX).replace(".default.", ".")
        if "lora_magnitude_vector" in key:
            raise InvalidInput(f"{self.name}: DoRA adapters are no sum of weights; merge it into its model with PEFT")
        match = _PART.match(plain)
        if match is None:
            target = plain.replace(".base_layer.", ".").replace(".modules_to_save.", ".")
            if ".lora_" in target or ".token_adapter." in target:
                raise InvalidInput(f"{self.name}: {key} is a kind of LoRA tensor that is not known here")
            self.replaced[target] = key
            return
        module, embedding = match["module"], bool(match["embedding"])
        pair = self.pairs.setdefault(module, _Pair(0.0, embedding or bool(self.config.get("fan_in_fan_out"))))
        pair.embedding = embedding
        if match["side"] == "A":
            pair.a, pair.scale = key, self._scale(module, self._file.get_slice(key).get_shape()[0])
        else:
            pair.b = key

    def _scale(self, module: str, rank: int) -> float:
        """Return alpha / r, or alpha / sqrt(r) for rank-stabilized LoRA (Kalajdzievski 2023)."""
        alpha = float(self.config.get("lora_alpha", 8))
        for pattern, own in (self.config.get("alpha_pattern") or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                alpha = float(own)
                break
        return alpha / (rank**0.5 if self.config.get("use_rslora") else rank)

    def factors(self, module: str) -> tuple[StoredTensor, StoredTensor]:
        """Return the two factors, A (rank, columns) and B (rows, rank), of a module's delta.

        Raises:
            InvalidInput: they are those of a convolution.
        """
        pair = self.pairs[module]
        return self._factor(module, pair.a), self._factor(module, pair.b)

    def _factor(self, module: str, key: str) -> StoredTensor:
        if len(self._file.get_slice(key).get_shape()) != 2:
            raise InvalidInput(f"{self.name}: {module} is a convolution, whose LoRA is not supported")
        return self._stored(key)

    def _stored(self, key: str) -> StoredTensor:
        piece = self._file.get_slice(key)
        info = TensorInfo(DTYPES[piece.get_dtype()], tuple(piece.get_shape()))
        return StoredTensor(self.folder / WEIGHTS, key, info.size_bytes, partial(self._file.get_tensor, key))

    def add(self, module: str, a: torch.Tensor, b: torch.Tensor, own: torch.Tensor, out: torch.Tensor) -> None:
        """Write own + scale * B A, laid out as the weight is stored, into `out`.

        Args:
            a, b: the factors. own: (rows, columns) the weight. out: of its shape and dtype.
        """
        pair = self.pairs[module]
        left, right = (a.float().T, b.float().T) if pair.transposed else (b.float(), a.float())
        rows = max(16, _BLOCK // max(1, right.shape[1])) if own.is_cpu else own.shape[0]
        work = torch.empty(min(rows, own.shape[0]), right.shape[1], device=own.device)
        for start in range(0, own.shape[0], rows):
            end = min(start + rows, own.shape[0])
            product = torch.mm(left[start:end], right, out=work[: end - start])
            out[start:end].copy_(product.mul_(pair.scale).add_(own[start:end]))

    def shape(self, module: str) -> tuple[int, ...]:
        """Return the shape of a module's delta."""
        pair = self.pairs[module]
        rows, columns = self._file.get_slice(pair.b).get_shape()[0], self._file.get_slice(pair.a).get_shape()[-1]
        return (columns, rows) if pair.transposed else (rows, columns)

    def replacement(self, target: str) -> StoredTensor:
        """Return the weight that replaces the model's own."""
        return self._stored(self.replaced[target])

    def replacement_info(self, target: str) -> TensorInfo:
        """Return dtype and shape of a replacement."""
        piece = self._file.get_slice(self.replaced[target])
        return TensorInfo(DTYPES[piece.get_dtype()], tuple(piece.get_shape()))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of config and weights."""
        with (self.folder / WEIGHTS).open("rb") as stream:
            weights = hashlib.file_digest(stream, "sha256").digest()
        return hashlib.sha256((self.folder / CONFIG).read_bytes() + weights).hexdigest()


class AdaptedModel(Model):
    """A model whose tensors are read through a LoRA adapter. Only the tensor that is asked for is ever computed."""

    def __init__(self, inner: Checkpoint, adapter: Adapter, name: str):
        """Match the adapter's modules to the model's tensors.

        Raises:
            InvalidInput: the adapter is for another model: a name or a shape does not fit.
        """
        self.inner, self.adapter, self.name = inner, adapter, name
        self.folder, self.config, self.commit = inner.folder, dict(inner.config), inner.commit
        self._stored_of: dict[str, tuple[StoredTensor, ...]] = {}
        self._deltas = {self._own_name(f"{module}.weight", module): module for module in adapter.pairs}
        self._replaced = {self._replaced_name(target): target for target in adapter.replaced}
        for tensor, module in self._deltas.items():
            found, expected = adapter.shape(module), self.tensors[tensor].shape
            if found != expected:
                raise InvalidInput(
                    f"{name}: {module} of the adapter is {list(found)}, but {tensor} is {list(expected)}; it belongs "
                    "to another model"
                )

    def _own_name(self, name: str, module: str) -> str:
        found = self.inner.local_name(name) or next(
            (h for h in self.inner.tensors if is_head(h) and is_head(name)), None
        )
        if found is None:
            raise InvalidInput(f"{self.name}: the adapter changes {module}, which {self.inner.name} does not have")
        return found

    def _replaced_name(self, target: str) -> str:
        if is_head(target) and self.inner.tied:
            self.config["tie_word_embeddings"] = False  # the adapter brings a head of its own
            return target
        return self._own_name(target, target.rpartition(".")[0])

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The model's, with the shapes of what the adapter replaces."""
        found = dict(self.inner.tensors)
        for name, target in self._replaced.items():
            info = self.adapter.replacement_info(target)
            dtype = found[name].dtype if name in found else self.inner.dtype
            found[name] = TensorInfo(dtype, info.shape)
        return found

    def stored(self, name: str) -> tuple[StoredTensor, ...]:
        """Return the model's own tensor or what replaces it, and the two factors where there is a delta.

        Raises:
            MergeFailed: there is no such tensor.
        """
        if name not in self._stored_of:
            # PEFT saves a whole embedding beside its factors where the vocabulary grew
            replaced = self._replaced.get(name)
            own = self.inner.stored(name) if replaced is None else (self.adapter.replacement(replaced),)
            factors = self.adapter.factors(self._deltas[name]) if name in self._deltas else ()
            self._stored_of[name] = (*own, *factors)
        return self._stored_of[name]

    def assemble(self, name: str, parts: Sequence[torch.Tensor], out: torch.Tensor | None = None) -> torch.Tensor:
        """Return a tensor with the adapter applied, in the model's dtype."""
        own = parts[0]
        if name in self._replaced:
            own = own.to(self.tensors[name].dtype)
        if name not in self._deltas:
            return own
        out = torch.empty_like(own) if out is None else out
        self.adapter.add(self._deltas[name], parts[1], parts[2], own, out)
        return out

    def is_computed(self, name: str) -> bool:
        """Tell whether the adapter changes this tensor."""
        return name in self._deltas or name in self._replaced

    def _digest(self) -> str:
        """Hash the model's digest and the adapter's."""
        return hashlib.sha256((self.inner.digest + self.adapter.digest).encode()).hexdigest()


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(f"{name}: no {CONFIG} in {folder}; expected a PEFT adapter") from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{folder / CONFIG}: is not valid JSON ({error})") from None
    if config.get("peft_type") != "LORA":
        raise InvalidInput(f"{name}: is a {config.get('peft_type')} adapter, expected LORA")
    for key, what in _REFUSED.items():
        if config.get(key):
            raise InvalidInput(f"{name}: uses {what}, which cannot be applied here; merge it into its model with PEFT")
    if _CHANGES_BASE.search(str(config.get("init_lora_weights", ""))):
        raise InvalidInput(
            f"{name}: was initialized by {config['init_lora_weights']}, which changes the base as well; convert it to "
            "a plain LoRA (PEFT: save_pretrained with path_initial_model_for_weight_conversion) first"
        )
    found: dict[str, Any] = config
    return found


def _open_weights(folder: Path, name: str) -> Any:
    path = folder / WEIGHTS
    if not path.exists() and (folder / "adapter_model.bin").exists():
        raise RefusedForSafety(f"{name}: holds adapter_model.bin, a pickle that can run code; save it as safetensors")
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise InvalidInput(f"{path}: is missing or damaged ({error}); copy the adapter again") from None
