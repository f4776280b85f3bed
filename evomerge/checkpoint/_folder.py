"""A model folder on disk: its config, its tensors (mapped, not copied) and its identity."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from evomerge.checkpoint._config import EXTRA_KEY
from evomerge.checkpoint._file_state import FileStamps, unwritten_matrix
from evomerge.checkpoint._json import read_json_object
from evomerge.checkpoint._layout import MAX_BLOCKS
from evomerge.checkpoint._model import DEPTH_KEYS, HIDDEN_SIZE_KEYS, Model, StoredTensor, TensorInfo
from evomerge.errors import InvalidInput, MergeFailed, RefusedForSafety

SAFETENSORS_DTYPES: dict[str, torch.dtype] = {
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
SAFETENSORS_CODES = {dtype: code for code, dtype in SAFETENSORS_DTYPES.items()}
CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_SHARD = re.compile(r"(?P<prefix>.*)-[0-9]+-of-(?P<count>[0-9]+)\.safetensors")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_MAX_SIZE = 2**31 - 1  # of a size that a config states
_MAX_FILE_NAME_BYTES = 255  # what file systems take


class Checkpoint(Model):
    """A local model folder, opened. Tensors are views of the mapped files: reading one twice costs nothing.

    Attributes:
        name: as the user calls it.
        folder: where it is.
        config: content of config.json.
    """

    def __init__(self, folder: Path | str, name: str):
        """Open a folder.

        Args:
            folder: of a Hugging Face model.
            name: as the user calls it, for messages.

        Raises:
            InvalidInput: no config, no weights, a damaged or missing file, an index that does not fit its files.
            RefusedForSafety: the weights are pickles, or the index points outside the folder.
        """
        self.folder, self.name = Path(folder), name
        folder = self.folder
        self.config = _read_config(folder, name)
        index = _read_index(folder, name)
        files = [SINGLE] if index is None else sorted(set(index.values()))
        self.stamps = FileStamps(folder / file for file in files)
        self._files = {file: open_safetensors(folder / file, name) for file in files}
        self._file_of: dict[str, str] = {}
        self._stored: dict[str, tuple[StoredTensor]] = {}
        for file, handle in self._files.items():
            for tensor in handle.keys():  # noqa: SIM118
                if tensor in self._file_of:
                    raise InvalidInput(
                        f"{folder}: {tensor} is both in {self._file_of[tensor]} and in {file}; keep one of them"
                    )
                self._file_of[tensor] = file
        if index is not None:
            self._check_index(index)

    def _check_index(self, index: Mapping[str, str]) -> None:
        """Raise InvalidInput unless index and shards name the same tensors."""
        path = self.folder / INDEX
        for tensor, file in index.items():
            if self._file_of.get(tensor) != file:
                raise InvalidInput(
                    f"{path}: lists {tensor} in {file}, which does not hold it; download {self.name} again"
                )
        unlisted = [(file, tensor) for tensor, file in self._file_of.items() if tensor not in index]
        for file in _unlisted_shards(self.folder, list(self._files)):
            unlisted += [(file, tensor) for tensor in open_safetensors(self.folder / file, self.name).keys()]  # noqa: SIM118
        if unlisted:
            file, tensor = unlisted[0]
            raise InvalidInput(f"{path}: does not list {tensor}, which {file} holds; download {self.name} again")

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Name -> dtype and shape of every tensor, in the order of the files.

        Raises:
            InvalidInput: one has a dtype that cannot be merged.
        """
        return {
            tensor: tensor_info(handle.get_slice(tensor), tensor, self.folder / file)
            for file, handle in self._files.items()
            for tensor in handle.offset_keys()
        }

    def stored(self, name: str) -> tuple[StoredTensor, ...]:
        """Return the one stored tensor.

        Raises:
            MergeFailed: there is no such tensor.
        """
        if name not in self._file_of:
            raise MergeFailed(f"{self.name} has no tensor {name}")
        if name not in self._stored:
            file = self._file_of[name]
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


def open_safetensors(path: Path, name: str) -> Any:
    """Return safetensors' handle of a file.

    Args:
        path: of the file.
        name: of the model, for messages.

    Raises:
        InvalidInput: it is missing, no regular file, damaged, or a part of it was never written.
    """
    if not path.is_file():
        raise InvalidInput(f"{path}: is {'not a file' if path.exists() else 'missing'}; copy {name} again")
    try:
        opened = safe_open(path, framework="pt", device="cpu")
        unwritten = unwritten_matrix(path)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: is damaged or not a safetensors file ({error}); copy {name} again") from None
    if unwritten is not None:
        raise InvalidInput(f"{path}: part of {unwritten} was never written (the file has holes); copy {name} again")
    return opened


def tensor_info(entry: Any, tensor: str, path: Path) -> TensorInfo:
    """Return dtype and shape of a stored tensor.

    Args:
        entry: safetensors' slice of it.
        tensor: its name, for messages.
        path: of the file, for messages.

    Raises:
        InvalidInput: its dtype cannot be merged.
    """
    code = entry.get_dtype()
    if code not in SAFETENSORS_DTYPES:
        raise InvalidInput(f"{path}: {tensor} has dtype {code}, expected one of {', '.join(SAFETENSORS_DTYPES)}")
    return TensorInfo(SAFETENSORS_DTYPES[code], tuple(entry.get_shape()))


def _read_object(path: Path, name: str) -> dict[str, Any]:
    try:
        return read_json_object(path)
    except FileNotFoundError:
        raise InvalidInput(f"{name}: {path.name} is missing in {path.parent}; expected a Hugging Face model") from None


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    config = _read_object(folder / CONFIG, name)
    for where, problem in _config_problems(config):
        raise InvalidInput(f"{folder / CONFIG}: {where}: {problem}; download {name} again")
    quantized = config.get("quantization_config")
    if quantized is not None:  # the stored numbers are codes, not weights: merging them means nothing
        how = quantized.get("quant_method", "an unnamed method") if isinstance(quantized, dict) else quantized
        raise InvalidInput(
            f"{folder / CONFIG}: {name} is quantized ({how}), expected plain weights; merge the original, or "
            "dequantize and save it first"
        )
    return config


def _config_problems(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, problem) of values that the rest of the program relies on."""
    text = config.get("text_config", config)
    if not isinstance(text, dict):
        yield "text_config", f"found {type(text).__name__}, expected a JSON object"
        return
    architectures = config.get("architectures")
    if architectures is not None and not (
        isinstance(architectures, list) and all(isinstance(name, str) for name in architectures)
    ):
        yield "architectures", "expected a list of class names"
    for key, most in (
        *((key, MAX_BLOCKS) for key in (*DEPTH_KEYS, EXTRA_KEY)),
        *((key, _MAX_SIZE) for key in (*HIDDEN_SIZE_KEYS, "vocab_size")),
    ):
        value = text.get(key)
        if value is not None and (type(value) is not int or not 0 <= value <= most):
            yield key, f"found {str(value)[:60]!r}, expected a whole number from 0 to {most}"


def _read_index(folder: Path, name: str) -> dict[str, str] | None:
    """Return tensor -> file, or None where all are in one file.

    Raises:
        InvalidInput: neither an index nor that file is there, the index is damaged, or it names a missing file.
        RefusedForSafety: it names a file outside the folder or of another kind, or there are only pickles.
    """
    path = folder / INDEX
    if not path.exists():
        _check_single(folder, name)
        return None
    index = _read_object(path, name).get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(file, str) for file in index.values()):
        raise InvalidInput(f"{path}: weight_map is no mapping of tensors to files; download {name} again")
    if not index:
        raise InvalidInput(f"{path}: weight_map lists no tensor; download {name} again")
    for tensor, file in index.items():
        if not is_file_name(file):
            raise RefusedForSafety(f"{path}: names the file {file[:80]!r}, expected a .safetensors file beside it")
        if not (folder / file).exists():
            raise InvalidInput(f"{path}: lists {tensor} in {file}, which is missing; download {name} again")
    return index


def is_file_name(file: str) -> bool:
    """Tell whether an index's file can only be a .safetensors file beside it."""
    plain = Path(file).name == file and not set(file) & {"\\", "\0"} and len(file.encode()) <= _MAX_FILE_NAME_BYTES
    return plain and file.endswith(".safetensors")


def _check_single(folder: Path, name: str) -> None:
    if (folder / SINGLE).exists():
        return
    pickles = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
    if pickles:
        raise RefusedForSafety(
            f"{name}: holds {pickles[0]}, a pickle that can run code when opened; convert it to safetensors first"
        )
    raise InvalidInput(f"{name}: no {SINGLE} and no {INDEX} in {folder}; expected a Hugging Face model")


def _unlisted_shards(folder: Path, files: Sequence[str]) -> list[str]:
    """Return the files that by their names are shards of the same set as those that an index lists.

    A shard's name contains their number: other files (of an adapter, of an older set) are none of the index's.
    """
    listed = {match.group("prefix", "count") for match in map(_SHARD.fullmatch, files) if match}
    beside = sorted(path.name for path in folder.glob("*.safetensors") if path.name not in files)
    return [name for name in beside if (match := _SHARD.fullmatch(name)) and match.group("prefix", "count") in listed]
