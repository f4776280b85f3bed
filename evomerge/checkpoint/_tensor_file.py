"""A file of named tensors that is no model folder: any state dict, as safetensors or, if allowed, as a pickle."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from evomerge.checkpoint._folder import SAFETENSORS_CODES, open_safetensors, tensor_info
from evomerge.checkpoint._layout import Layout
from evomerge.checkpoint._model import Model, Outline, StoredTensor, TensorInfo
from evomerge.errors import InvalidInput, MergeFailed, RefusedForSafety, first_line

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which training code saves a state dict


class TensorFile(Model):
    """Named tensors without a config: no layers, no vocabulary, every name as it stands.

    Attributes:
        file: where they are.
    """

    def __init__(self, file: Path, name: str, *, unpickle: bool = False, only: Collection[str] | None = None):
        """Open the file.

        Args:
            file: .safetensors, or a pickle of torch's.
            name: as the user calls it, for messages.
            unpickle: whether a pickle may be read: by torch's reader of weights, which runs no code.
            only: the names that are there for whoever asks; None = all.

        Raises:
            InvalidInput: missing, damaged, of another kind, or without tensors.
            RefusedForSafety: it is a pickle, which is not allowed.
        """
        self.file, self.folder, self.name, self.config = file, file.parent, name, {}
        if file.suffix == ".safetensors":
            handle = open_safetensors(file, name)
            names = list(handle.offset_keys())
            self._infos = {key: tensor_info(handle.get_slice(key), key, file) for key in names}
            self._read = {key: partial(handle.get_tensor, key) for key in names}
        elif file.suffix in PICKLE_SUFFIXES:
            loaded = _unpickled(file, name, unpickle)
            self._infos = {key: _info(tensor, key, file) for key, tensor in loaded.items()}
            self._read = {key: partial(loaded.__getitem__, key) for key in loaded}
        else:
            expected = ", ".join((".safetensors", *PICKLE_SUFFIXES))
            raise InvalidInput(f"{file}: found a {file.suffix or 'nameless'} file, expected one of {expected}")
        if not self._infos:
            raise InvalidInput(f"{file}: holds no tensor; give a file of weights")
        self._only = None if only is None else frozenset(only)

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Name -> dtype and shape, in the order of the file."""
        return {key: info for key, info in self._infos.items() if self._only is None or key in self._only}

    def stored(self, name: str) -> tuple[StoredTensor, ...]:
        """Return the one stored tensor.

        Raises:
            MergeFailed: there is no such tensor.
        """
        if name not in self._infos:
            raise MergeFailed(f"{self.name} has no tensor {name}")
        return (StoredTensor(self.file, name, self._infos[name].size_bytes, self._read[name]),)

    def assemble(self, name: str, parts: Sequence[torch.Tensor], out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the one part."""
        return parts[0]

    def _digest(self) -> str:
        with self.file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    @property
    def layout(self) -> Layout:
        """No blocks: what the numbers in the names of any state dict mean is not known."""
        return Layout("", 0)

    @property
    def outline(self) -> Outline:
        """Every tensor, in the order of the file."""
        return Outline(tuple(self.tensors), {}, ())

    @property
    def tied(self) -> bool:
        """Whether a tensor stands for another: never."""
        return False

    def local_name(self, name: str) -> str | None:
        """Return the name itself if it is here."""
        return name if name in self.tensors else None

    def counterpart(self, name: str, of: Model) -> str | None:
        """Return the name itself if it is here."""
        return self.local_name(name)


def _unpickled(file: Path, name: str, allowed: bool) -> dict[str, torch.Tensor]:
    """Return the tensors of a pickle, mapped where it can be."""
    if not file.is_file():
        raise InvalidInput(f"{file}: is {'not a file' if file.exists() else 'missing'}; copy {name} again")
    if not allowed:
        raise RefusedForSafety(
            f"{file}: is a pickle, which can run code when it is opened carelessly; --unpickle reads it by torch's "
            "reader of weights, which runs none"
        )
    found: Any = None
    for mapped in (True, False):  # files of old torch versions cannot be mapped
        try:
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
            break
        except Exception as error:  # whatever a damaged or hostile pickle raises
            if not mapped:
                raise InvalidInput(f"{file}: holds more than weights, or is damaged ({first_line(error)})") from None
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise InvalidInput(f"{file}: is no mapping of names to tensors; save the model's state_dict() alone")
    return {str(key): tensor.detach() for key, tensor in found.items()}


def _info(tensor: torch.Tensor, name: str, file: Path) -> TensorInfo:
    if tensor.dtype not in SAFETENSORS_CODES or tensor.layout != torch.strided:
        kinds = ", ".join(str(dtype).removeprefix("torch.") for dtype in SAFETENSORS_CODES)
        raise InvalidInput(
            f"{file}: {name} is a {tensor.layout} tensor of {tensor.dtype}, expected a plain one of {kinds}"
        )
    return TensorInfo(tensor.dtype, tuple(tensor.shape))
