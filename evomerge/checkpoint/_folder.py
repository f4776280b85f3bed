"""A model folder on disk: its config, its tensors (mapped, not copied) and its identity."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from evomerge.checkpoint._incomplete_download import unwritten
from evomerge.checkpoint._model import Model, StoredTensor, TensorInfo
from evomerge.errors import InvalidInput, MergeFailed, RefusedForSafety

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


class Checkpoint(Model):
    """A local model folder, opened. Tensors are views of the mapped files: reading one twice costs nothing."""

    def __init__(self, folder: Path, name: str):
        """Open a folder; `name` is how the user calls it.

        Raises:
            InvalidInput: no config, no weights, a damaged or missing file.
            RefusedForSafety: the weights are pickles, or the index points outside the folder.
        """
        self.folder, self.name = folder, name
        self.config = _read_json(folder / "config.json", name)
        _refuse_quantized(self.config, folder, name)
        self._files = {file: _open(folder / file, name) for file in _weight_files(folder, name)}
        self._where: dict[str, str] = {}
        self._stored: dict[str, tuple[StoredTensor]] = {}
        for file, handle in self._files.items():
            for tensor in handle.keys():  # noqa: SIM118
                if tensor in self._where:
                    raise InvalidInput(f"{folder}: {tensor} stands in {self._where[tensor]} and in {file}; keep one")
                self._where[tensor] = file
        _check_complete(folder, name, self._where)

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Name -> dtype and shape of every tensor, in the order of the files."""
        found = {}
        for file, handle in self._files.items():
            for tensor in handle.offset_keys():
                piece = handle.get_slice(tensor)
                code = piece.get_dtype()
                if code not in DTYPES:
                    raise InvalidInput(f"{self.folder / file}: {tensor} has dtype {code}, expected one of {[*DTYPES]}")
                found[tensor] = TensorInfo(DTYPES[code], tuple(piece.get_shape()))
        return found

    def stored(self, name: str) -> tuple[StoredTensor, ...]:
        """Return the one stored tensor.

        Raises:
            MergeFailed: there is no such tensor.
        """
        if name not in self._where:
            raise MergeFailed(f"{self.name} has no tensor {name}")
        if name not in self._stored:
            file = self._where[name]
            read = partial(self._files[file].get_tensor, name)
            self._stored[name] = (StoredTensor(self.folder / file, name, self.tensors[name].size_bytes, read),)
        return self._stored[name]

    def assemble(self, name: str, parts: Sequence[torch.Tensor], out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the one part: a view of the mapped file stays one."""
        return parts[0]

    def _digest(self) -> str:
        """Hash the content of the weight files."""
        total = hashlib.sha256()
        for file in sorted(self._files):
            with (self.folder / file).open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(f"{name}: {path.name} is missing in {path.parent}; expected a Hugging Face model") from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"{path}: found {type(value).__name__}, expected a JSON object")
    return value


def _refuse_quantized(config: Mapping[str, Any], folder: Path, name: str) -> None:
    """Raise InvalidInput for a model whose stored numbers are codes, not weights: merging them means nothing."""
    quantized = config.get("quantization_config")
    if quantized is not None:
        how = quantized.get("quant_method", "an unnamed method") if isinstance(quantized, dict) else quantized
        raise InvalidInput(
            f"{folder / 'config.json'}: {name} is quantized ({how}), expected plain weights; merge the original, or "
            "dequantize and save it first"
        )


def _weight_files(folder: Path, name: str) -> list[str]:
    if (folder / INDEX).exists():
        shards = _read_json(folder / INDEX, name).get("weight_map", {})
        if not isinstance(shards, dict) or not all(isinstance(file, str) for file in shards.values()):
            raise InvalidInput(f"{folder / INDEX}: weight_map is no mapping of tensors to files; download it again")
        files = sorted(set(shards.values()))
        for file in files:
            if Path(file).name != file or not file.endswith(".safetensors"):
                raise RefusedForSafety(
                    f"{folder / INDEX}: names the file {file!r}, expected a .safetensors file beside it"
                )
            if not (folder / file).exists():
                raise InvalidInput(f"{folder / INDEX}: names {file}, which is missing; download the model again")
        if files:
            return files
    if (folder / SINGLE).exists():
        return [SINGLE]
    pickles = [path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern)]
    if pickles:
        raise RefusedForSafety(
            f"{name}: holds {pickles[0]}, a pickle that can run code when opened; convert it to safetensors first"
        )
    raise InvalidInput(f"{name}: no {SINGLE} in {folder}")


def _check_complete(folder: Path, name: str, where: Mapping[str, str]) -> None:
    """Raise InvalidInput if the index promises a tensor that its file does not hold."""
    if not (folder / INDEX).exists():
        return
    for tensor, file in _read_json(folder / INDEX, name).get("weight_map", {}).items():
        if where.get(tensor) != file:
            raise InvalidInput(f"{folder / INDEX}: says {tensor} is in {file}, which lacks it; download {name} again")


def _open(path: Path, name: str) -> Any:
    try:
        opened = safe_open(path, framework="pt", device="cpu")
        gap = unwritten(path)
    except (SafetensorError, OSError) as error:
        raise InvalidInput(f"{path}: is damaged or not a safetensors file ({error}); copy {name} again") from None
    if gap is not None:
        raise InvalidInput(f"{path}: part of {gap} was never written (the file has holes); copy {name} again")
    return opened
