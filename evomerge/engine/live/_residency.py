"""Where the parents' weights are while candidates are merged from them: a tier, chosen from sizes and free memory.

device    a copy of every parent in GPU memory; a merge reads nothing else
pinned    a copy in page-locked main memory; the next tensors travel to the GPU while the current one is merged
mapped    the files themselves, in the system's page cache: views on a CPU, plain copies to a GPU
streamed  as mapped, but more than memory holds; the next tensors' pages are read while the current one is merged
"""

import ctypes
import mmap
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil
import torch

from evomerge.checkpoint import Parents, StoredTensor
from evomerge.engine.live._devices import device_of

Tier = Literal["device", "pinned", "mapped", "streamed"]

GIB = 1 << 30
HOST_RESERVE = 1 * GIB  # of main memory, for the libraries and everybody else
EVALUATION_RESERVE = 2 * GIB  # of GPU memory, for activations and logits; or this share of what is free:
EVALUATION_SHARE = 0.1
CONTROL_GROUP = Path("/sys/fs/cgroup")  # where Linux says what a container may take
_POPULATE, _WILLNEED = 22, 3  # madvise of Linux: read and map the pages (from 5.14 on); begin to read them


class Need(NamedTuple):
    """Bytes. parents: all stored tensors, each once. pinned: the same as page-locked memory rounds it up. live: the
    model that is rewritten. work: one tensor of every parent, the largest."""

    parents: int
    pinned: int
    live: int
    work: int


class Free(NamedTuple):
    """Bytes that this process may take: of the GPU (None without one) and of main memory."""

    device: int | None
    host: int


class MemoryShare(NamedTuple):
    """The fraction of a GPU's and of main memory that is this process's, where several work side by side."""

    device: float = 1.0
    host: float = 1.0


def choose(need: Need, free: Free) -> Tier:
    """Return the fastest tier that fits."""
    if free.device is None:
        return "mapped" if need.parents + need.live + HOST_RESERVE <= free.host else "streamed"
    reserve = max(EVALUATION_RESERVE, int(EVALUATION_SHARE * free.device))
    if need.parents + need.live + need.work + reserve <= free.device:
        return "device"
    return "pinned" if need.pinned + HOST_RESERVE <= free.host else "mapped"


def tier_of(parents: Parents, devices: Sequence[torch.device], share: MemoryShare | None = None) -> Tier:
    """Return the tier in which these parents would be merged on these devices together, as memory stands now."""
    free = [free_memory(device, share or MemoryShare()) for device in devices]
    on_devices = [each.device for each in free if each.device is not None]
    return choose(needed(parents), Free(sum(on_devices) if on_devices else None, free[0].host))


def visible(parents: Parents, device: str, share: MemoryShare | None = None) -> list[torch.device]:
    """Return the devices that "cuda" (as many GPUs as it takes), "cuda:1", "cpu", ... stand for."""
    if device != "cuda" or not torch.cuda.is_available():
        return [device_of(device)]  # complete with its number, as tensors name it
    every = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    need, free = needed(parents), [free_memory(each, share or MemoryShare()) for each in every]
    return every[: enough(need, [each.device or 0 for each in free])]


def enough(need: Need, free: Sequence[int]) -> int:
    """Return how many of the GPUs, with so many free bytes each, hold parents and model: all, if they do not fit."""
    for count in range(1, len(free)):
        if choose(need, Free(sum(free[:count]), 0)) == "device":
            return count
    return len(free)


def needed(parents: Parents) -> Need:
    """Add up what stays in memory for a search over these parents: of an adapter, its factors."""
    models = [parents[ref] for ref in parents]
    stored = {each for model in models for name in model.tensors for each in model.stored(name)}
    return Need(
        parents=sum(each.size_bytes for each in stored),
        pinned=sum(1 << max(0, each.size_bytes - 1).bit_length() for each in stored),
        live=max((model.size_bytes for model in models), default=0),
        work=sum(max((info.size_bytes for info in model.tensors.values()), default=0) for model in models),
    )


def free_memory(device: torch.device, share: MemoryShare) -> Free:
    """Measure what this process may still take."""
    memory = psutil.virtual_memory()
    free = min(memory.available, _left_of_container())
    host = min(free, int(memory.total * share.host))
    if device.type != "cuda":
        return Free(None, free)  # mapped files are shared by all
    left, total = torch.cuda.mem_get_info(device)
    return Free(min(left, int(total * share.device)), host)


def _left_of_container(group: Path = CONTROL_GROUP) -> int:
    """Return what a container's limit leaves, its page cache aside, which gives way; no limit is a very large one."""
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        parts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return limit - used + int(parts["file"])
    except (OSError, ValueError, KeyError):  # "max" is no number
        return sys.maxsize


class Residency:
    """Gives stored tensors on the device where they are merged, from where the tier keeps them.

    keeps: whether a tensor that was given stays where it is, so that a model may use it as it stands.
    """

    def __init__(self, tier: Tier, device: torch.device):
        self.tier, self.device = tier, device
        self._kept: dict[StoredTensor, torch.Tensor] = {}  # where the tier has them: views of files, or copies
        self._coming: dict[
            StoredTensor, tuple[torch.Tensor, Any]
        ] = {}  # under way to the GPU, with the event of arrival
        self._here: dict[StoredTensor, torch.Tensor] = {}  # copies for the merge that is under way
        self.keeps = tier == "device" or device.type == "cpu"
        self._side = torch.cuda.Stream(device) if tier == "pinned" else None
        self._reader = ThreadPoolExecutor(1) if tier == "streamed" else None

    def tensor(self, stored: StoredTensor) -> torch.Tensor:
        """Return a stored tensor on the device; a copy holds until `release`."""
        if self.keeps:
            return self._home(stored)
        if stored not in self._here:
            self._here[stored] = self._arrived(stored) if stored in self._coming else self._home(stored).to(self.device)
        return self._here[stored]

    def release(self) -> None:
        """End a merge: what was copied for it may go."""
        self._here.clear()

    def _arrived(self, stored: StoredTensor) -> torch.Tensor:
        tensor, arrival = self._coming.pop(stored)
        here = torch.cuda.current_stream(self.device)
        here.wait_event(arrival)
        tensor.record_stream(here)  # its memory is used again only after the merge has read it
        return tensor

    def ahead(self, coming: Iterable[StoredTensor]) -> None:
        """Prepare tensors that will be asked for next."""
        if self._reader is not None:
            for stored in coming:
                self._reader.submit(_read_pages, self._home(stored))
        elif self._side is not None:
            with torch.cuda.stream(self._side):
                for stored in coming:
                    if stored not in self._coming:
                        copy = self._home(stored).to(self.device, non_blocking=True)
                        self._coming[stored] = copy, self._side.record_event()

    def _home(self, stored: StoredTensor) -> torch.Tensor:
        """Return a tensor where the tier keeps it."""
        if stored not in self._kept:
            tensor = stored.read()
            if self.tier == "device":
                tensor = tensor.to(self.device)
            elif self.tier == "pinned":
                tensor = tensor.pin_memory()
            self._kept[stored] = tensor
        return self._kept[stored]


def _read_pages(view: torch.Tensor) -> None:
    """Bring a mapped tensor into the page cache; while that takes, other threads run."""
    if _LIBC is not None and view.numel():
        start = view.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        where = ctypes.c_void_p(start), ctypes.c_size_t(view.data_ptr() + view.nbytes - start)
        if _LIBC.madvise(*where, _POPULATE):
            _LIBC.madvise(*where, _WILLNEED)  # advice: an error changes nothing


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
