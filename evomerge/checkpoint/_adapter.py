"""A model with a LoRA adapter (Hu 2021, https://arxiv.org/abs/2106.09685), applied tensor by tensor as it is read.

W' = W + scale * B A, in float32 and rounded once to W's dtype: what PEFT's merge_and_unload gives (which for
embeddings alone rounds twice).
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from evomerge.checkpoint._file_state import FileStamps
from evomerge.checkpoint._folder import Checkpoint, open_safetensors, tensor_info
from evomerge.checkpoint._json import read_json_object
from evomerge.checkpoint._model import Model, StoredTensor, TensorInfo
from evomerge.checkpoint.family import is_head, parameter_map
from evomerge.errors import InvalidInput, MergeFailed, RefusedForSafety

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PART = re.compile(r"^(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.weight)?$")
_PREFIX = "base_model.model."
# Elements of a product computed at a time on a CPU: fresh memory for all of it takes eight times longer.
_BLOCK_ELEMENTS = 1 << 19
_DEFAULT_ALPHA = 8.0  # of PEFT's LoraConfig

# Settings under which W + scale * B A is not the fine-tuned weight -> their names in a message.
_REFUSED_SETTINGS = {
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
    """The two factors of one weight.

    Attributes:
        transposed: whether the weight is stored (inputs, outputs).
        scale: factor on the product B A.
        a: stored name of A, (rank, columns).
        b: stored name of B, (rows, rank).
    """

    transposed: bool
    scale: float = 0.0
    a: str = ""
    b: str = ""


class Adapter:
    """An opened PEFT folder: which modules it changes and by what.

    Attributes:
        folder: where it is.
        name: as the user calls it.
        commit: of the Hugging Face Hub, if it came from there.
        config: content of adapter_config.json.
        modules: names of the modules whose weights get a delta.
        replaced: name of a weight -> stored name of what replaces it.
        stamps: of the weight file.
    """

    def __init__(self, folder: Path, name: str, commit: str | None = None):
        """Open the folder.

        Args:
            folder: of a PEFT adapter.
            name: as the user calls it, for messages.
            commit: of the Hugging Face Hub, if it came from there.

        Raises:
            InvalidInput: not a LoRA, a kind of it that is no sum of weights, or damaged.
            RefusedForSafety: its weights are a pickle.
        """
        self.folder, self.name, self.commit = folder, name, commit
        self.config = _read_config(folder, name)
        self.stamps = FileStamps([folder / WEIGHTS])
        self._file = _open_weights(folder, name)
        self._pairs: dict[str, _Pair] = {}
        self.replaced: dict[str, str] = {}
        for key in self._file.keys():  # noqa: SIM118
            self._add_tensor(key)
        for module, pair in self._pairs.items():
            self._check_pair(module, pair)
            pair.scale = self._scale(module, rank=self._shape(pair.a)[0])

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the modules whose weights get a delta."""
        return tuple(self._pairs)

    def _add_tensor(self, key: str) -> None:
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
        transposed = bool(match["embedding"]) or bool(self.config.get("fan_in_fan_out"))
        pair = self._pairs.setdefault(match["module"], _Pair(transposed))
        if match["side"] == "A":
            pair.a = key
        else:
            pair.b = key

    def _check_pair(self, module: str, pair: _Pair) -> None:
        if not (pair.a and pair.b):
            raise InvalidInput(f"{self.name}: {module} has only one of its two LoRA factors; copy the adapter again")
        a, b = self._shape(pair.a), self._shape(pair.b)
        if max(len(a), len(b)) > 2:
            raise InvalidInput(f"{self.name}: {module} is a convolution, whose LoRA is not supported")
        if len(a) != 2 or len(b) != 2 or a[0] != b[1] or not a[0]:
            raise InvalidInput(
                f"{self.name}: the LoRA factors of {module} are {list(a)} and {list(b)}, expected [rank, columns] and "
                "[rows, rank]; copy the adapter again"
            )

    def _scale(self, module: str, rank: int) -> float:
        """Return alpha / r, or alpha / sqrt(r) for rank-stabilized LoRA (Kalajdzievski 2023)."""
        alpha = self.config.get("lora_alpha", _DEFAULT_ALPHA)
        for pattern, own in self._alpha_patterns:
            if pattern.match(module):
                alpha = own
                break
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise InvalidInput(f"{self.folder / CONFIG}: the alpha of {module} is {alpha!r}, expected a finite number")
        return float(alpha) / (rank**0.5 if self.config.get("use_rslora") else rank)

    @cached_property
    def _alpha_patterns(self) -> list[tuple[re.Pattern[str], Any]]:
        """Patterns of modules with an alpha of their own, as PEFT reads them."""
        patterns = self.config.get("alpha_pattern") or {}
        try:
            return [(re.compile(rf"(.*\.)?({pattern})$"), own) for pattern, own in patterns.items()]
        except (re.error, AttributeError, RecursionError, OverflowError) as error:
            raise InvalidInput(
                f"{self.folder / CONFIG}: alpha_pattern is no mapping of patterns to numbers ({error})"
            ) from None

    def _shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(key).get_shape())

    def factors(self, module: str) -> tuple[StoredTensor, StoredTensor]:
        """Return the two factors, A (rank, columns) and B (rows, rank), of a module's delta.

        Args:
            module: one of `modules`.
        """
        pair = self._pairs[module]
        return self._stored(pair.a), self._stored(pair.b)

    def _info(self, key: str) -> TensorInfo:
        return tensor_info(self._file.get_slice(key), key, self.folder / WEIGHTS)

    def _stored(self, key: str) -> StoredTensor:
        read = partial(self._file.get_tensor, key)
        return StoredTensor(self.folder / WEIGHTS, key, self._info(key).size_bytes, read)

    def add(self, module: str, a: torch.Tensor, b: torch.Tensor, own: torch.Tensor, out: torch.Tensor) -> None:
        """Write own + scale * B A, laid out as the weight is stored, into `out`.

        Args:
            module: one of `modules`.
            a: (rank, columns), the first factor.
            b: (rows, rank), the second factor.
            own: (rows, columns), the weight; (columns, rows) where it is stored transposed.
            out: of the weight's shape and dtype; is overwritten.
        """
        pair = self._pairs[module]
        left, right = (a.float().T, b.float().T) if pair.transposed else (b.float(), a.float())
        rows = max(16, _BLOCK_ELEMENTS // max(1, right.shape[1])) if own.is_cpu else own.shape[0]
        work = torch.empty(min(rows, own.shape[0]), right.shape[1], device=own.device)
        for start in range(0, own.shape[0], rows):
            end = min(start + rows, own.shape[0])
            product = torch.mm(left[start:end], right, out=work[: end - start])
            out[start:end].copy_(product.mul_(pair.scale).add_(own[start:end]))

    def shape(self, module: str) -> tuple[int, ...]:
        """Return the shape of a module's delta, laid out as the weight is stored.

        Args:
            module: one of `modules`.
        """
        pair = self._pairs[module]
        rows, columns = self._shape(pair.b)[0], self._shape(pair.a)[1]
        return (columns, rows) if pair.transposed else (rows, columns)

    def replacement(self, target: str) -> StoredTensor:
        """Return the weight that replaces the model's own.

        Args:
            target: one of `replaced`.
        """
        return self._stored(self.replaced[target])

    def replacement_info(self, target: str) -> TensorInfo:
        """Return dtype and shape of a replacement.

        Args:
            target: one of `replaced`.
        """
        return self._info(self.replaced[target])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of config and weights."""
        with (self.folder / WEIGHTS).open("rb") as stream:
            weights = hashlib.file_digest(stream, "sha256").digest()
        return hashlib.sha256((self.folder / CONFIG).read_bytes() + weights).hexdigest()


class AdaptedModel(Model):
    """A model whose tensors are read through a LoRA adapter. Only the tensors that are read are computed.

    Attributes:
        inner: the model without the adapter.
        adapter: what changes it.
    """

    def __init__(self, inner: Checkpoint, adapter: Adapter, name: str):
        """Match the adapter's modules to the model's tensors.

        Args:
            inner: the model.
            adapter: its adapter.
            name: of both together, as the user calls them.

        Raises:
            InvalidInput: the adapter is for another model: a name or a shape does not fit.
        """
        self.inner, self.adapter, self.name = inner, adapter, name
        self.folder, self.config, self.commit = inner.folder, dict(inner.config), inner.commit
        self.stamps = inner.stamps.joined_with(adapter.stamps)
        self._stored_of: dict[str, tuple[StoredTensor, ...]] = {}
        self._deltas = {self._own_name(f"{module}.weight", module): module for module in adapter.modules}
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
        found = found or self._stored_names.get(name)
        if found is None:
            raise InvalidInput(f"{self.name}: the adapter changes {module}, which {self.inner.name} does not have")
        return found

    @cached_property
    def _stored_names(self) -> Mapping[str, str]:
        """Name in memory, as PEFT writes it -> the stored tensor that alone fills it, by transformers' rules."""
        try:
            names = parameter_map(self.inner.config).names(self.inner.tensors)
        except MergeFailed:
            return {}
        counts = Counter(names.values())
        return {parameter: stored for stored, parameter in names.items() if counts[parameter] == 1}

    def _replaced_name(self, target: str) -> str:
        if is_head(target) and self.inner.tied:
            self.config["tie_word_embeddings"] = False  # the adapter brings a head of its own
            return target
        return self._own_name(target, target.rpartition(".")[0])

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The model's tensors, with the shapes of what the adapter replaces."""
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
        """Return a tensor with the adapter applied, in the model's dtype (see `Model.assemble`)."""
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
        config = read_json_object(folder / CONFIG)
    except FileNotFoundError:
        raise InvalidInput(f"{name}: no {CONFIG} in {folder}; expected a PEFT adapter") from None
    if config.get("peft_type") != "LORA":
        raise InvalidInput(f"{name}: is a {config.get('peft_type')} adapter, expected LORA")
    for key, what in _REFUSED_SETTINGS.items():
        if config.get(key):
            raise InvalidInput(f"{name}: uses {what}, which cannot be applied here; merge it into its model with PEFT")
    if _CHANGES_BASE.search(str(config.get("init_lora_weights", ""))):
        raise InvalidInput(
            f"{name}: was initialized by {config['init_lora_weights']}, which changes the base as well; convert it to "
            "a plain LoRA (PEFT: save_pretrained with path_initial_model_for_weight_conversion) first"
        )
    return config


def _open_weights(folder: Path, name: str) -> Any:
    path = folder / WEIGHTS
    if not path.exists() and (folder / "adapter_model.bin").exists():
        raise RefusedForSafety(f"{name}: holds adapter_model.bin, a pickle that can run code; save it as safetensors")
    return open_safetensors(path, name)
