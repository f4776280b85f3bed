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
from typing import Literal, NamedTuple

import psutil
import torch

from evomerge.checkpoint import Parents, StoredTensor
from evomerge.errors import InvalidInput

Tier = Literal["device", "pinned", "mapped", "streamed"]

GIB = 1 << 30
HOST_RESERVE_BYTES = 1 * GIB  # of main memory, for the libraries and other programs
EVALUATION_RESERVE_BYTES = 2 * GIB  # of GPU memory, for activations and logits; or this share of what is free:
EVALUATION_RESERVE_SHARE = 0.1
CONTROL_GROUP = Path("/sys/fs/cgroup")  # where Linux says what a container may take
_POPULATE, _WILLNEED = 22, 3  # madvise of Linux: read and map the pages (from 5.14 on); begin to read them


class MemoryNeed(NamedTuple):
    """What a search over some parents keeps in memory, in bytes.

    Attributes:
        parents: all stored tensors, each once, and their rows on another vocabulary.
        pinned: the same as page-locked memory rounds it up.
        live: the model that is overwritten.
        work: one tensor of every parent, the largest.
    """

    parents: int
    pinned: int
    live: int
    work: int


class FreeMemory(NamedTuple):
    """What this process may still take, in bytes.

    Attributes:
        device: of the GPU; None without one.
        host: of main memory.
    """

    device: int | None
    host: int


class MemoryShare(NamedTuple):
    """How much of a machine is this process's, where several work side by side.

    Attributes:
        device: fraction of a GPU's memory, in (0, 1].
        host: fraction of main memory, in (0, 1].
    """

    device: float = 1.0
    host: float = 1.0


def choose_tier(need: MemoryNeed, free: FreeMemory) -> Tier:
    """Return the fastest tier that fits."""
    if free.device is None:
        return "mapped" if need.parents + need.live + HOST_RESERVE_BYTES <= free.host else "streamed"
    reserve = max(EVALUATION_RESERVE_BYTES, int(EVALUATION_RESERVE_SHARE * free.device))
    if need.parents + need.live + need.work + reserve <= free.device:
        return "device"
    return "pinned" if need.pinned + HOST_RESERVE_BYTES <= free.host else "mapped"


def tier_of(
    parents: Parents, devices: Sequence[torch.device], share: MemoryShare | None = None, row_bytes: int = 0
) -> Tier:
    """Return the tier in which these parents would be merged on these devices together, as memory stands now.

    Args:
        parents: the opened models.
        devices: that hold parents and model.
        share: of the machine's memory that is this process's; None = all.
        row_bytes: see `memory_need`.
    """
    free = [free_memory(device, share or MemoryShare()) for device in devices]
    on_devices = [memory.device for memory in free if memory.device is not None]
    together = FreeMemory(sum(on_devices) if on_devices else None, free[0].host)
    return choose_tier(memory_need(parents, row_bytes), together)


def device_of(name: str) -> torch.device:
    """Return a device by torch's name ("cpu", "cuda", "cuda:1", "mps"), complete with its number.

    Raises:
        InvalidInput: there is no device of this name here.
    """
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InvalidInput(
            f'device "{name}": there is none here ({reason}); give cpu, or a device that this torch can use'
        ) from None


def visible_devices(
    parents: Parents, device: str, share: MemoryShare | None = None, row_bytes: int = 0
) -> list[torch.device]:
    """Return the devices that "cuda" (as many GPUs as it takes), "cuda:1", "cpu", ... stand for.

    Args:
        parents: the opened models.
        device: as torch names it.
        share: of the machine's memory that is this process's; None = all.
        row_bytes: see `memory_need`.

    Raises:
        InvalidInput: there is no such device here.
    """
    if device != "cuda" or not torch.cuda.is_available():
        return [device_of(device)]
    gpus = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    free = [free_memory(gpu, share or MemoryShare()) for gpu in gpus]
    return gpus[: gpu_count(memory_need(parents, row_bytes), [memory.device or 0 for memory in free])]


def gpu_count(need: MemoryNeed, free_bytes: Sequence[int]) -> int:
    """Return how many of the GPUs hold parents and model: all, if they do not fit.

    Args:
        need: of the search.
        free_bytes: of each GPU, in the order in which they would be taken.
    """
    for count in range(1, len(free_bytes)):
        if choose_tier(need, FreeMemory(sum(free_bytes[:count]), 0)) == "device":
            return count
    return len(free_bytes)


def memory_need(parents: Parents, row_bytes: int = 0) -> MemoryNeed:
    """Add up what stays in memory for a search over these parents: of an adapter, its factors.

    Args:
        parents: the opened models.
        row_bytes: of their embeddings and heads on another vocabulary, kept beside them (see `KeptRows`).
    """
    models = [parents[ref] for ref in parents]
    stored = {tensor for model in models for name in model.tensors for tensor in model.stored(name)}
    return MemoryNeed(
        parents=sum(tensor.size_bytes for tensor in stored) + row_bytes,
        pinned=sum(1 << max(0, tensor.size_bytes - 1).bit_length() for tensor in stored) + row_bytes,
        live=max((model.size_bytes for model in models), default=0),
        work=sum(max((info.size_bytes for info in model.tensors.values()), default=0) for model in models),
    )


def free_memory(device: torch.device, share: MemoryShare) -> FreeMemory:
    """Measure what this process may still take."""
    memory = psutil.virtual_memory()
    free = min(memory.available, container_bytes_left())
    host = min(free, int(memory.total * share.host))
    if device.type != "cuda":
        return FreeMemory(None, free)  # mapped files are shared by all
    left, total = torch.cuda.mem_get_info(device)
    return FreeMemory(min(left, int(total * share.device)), host)


def container_bytes_left(group: Path = CONTROL_GROUP) -> int:
    """Return the main memory that a container's limit leaves, without its page cache, which the system gives back.

    Args:
        group: folder of the control group.

    Returns:
        Bytes; without a limit, a very large number.
    """
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        parts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return limit - used + int(parts["file"])
    except (OSError, ValueError, KeyError):  # "max" is no number
        return sys.maxsize


class Residency:
    """Gives stored tensors on the device where they are merged, from where the tier keeps them.

    Attributes:
        tier: where the tier keeps them.
        device: where they are merged.
        keeps: whether a tensor that was given stays where it is, so that a model may use it as it stands.
    """

    def __init__(self, tier: Tier, device: torch.device):
        self.tier, self.device = tier, device
        self.keeps = tier == "device" or device.type == "cpu"
        self._resident: dict[StoredTensor, torch.Tensor] = {}  # where the tier has them: views of files, or copies
        self._arriving: dict[StoredTensor, tuple[torch.Tensor, torch.cuda.Event]] = {}  # on the way to the GPU
        self._copies: dict[StoredTensor, torch.Tensor] = {}  # for the current merge
        self._side_stream = torch.cuda.Stream(device) if tier == "pinned" else None
        self._reader = ThreadPoolExecutor(1) if tier == "streamed" else None

    def tensor(self, stored: StoredTensor) -> torch.Tensor:
        """Return a stored tensor on the device; a copy is valid until `release`."""
        if self.keeps:
            return self._load(stored)
        if stored not in self._copies:
            arriving = stored in self._arriving
            self._copies[stored] = self._arrived(stored) if arriving else self._load(stored).to(self.device)
        return self._copies[stored]

    def release(self) -> None:
        """End a merge: what was copied for it may go."""
        self._copies.clear()

    def prefetch(self, coming: Iterable[StoredTensor]) -> None:
        """Prepare tensors that are needed next."""
        if self._reader is not None:
            for stored in coming:
                self._reader.submit(_read_pages, self._load(stored))
        elif self._side_stream is not None:
            with torch.cuda.stream(self._side_stream):
                for stored in coming:
                    if stored not in self._arriving:
                        copy = self._load(stored).to(self.device, non_blocking=True)
                        self._arriving[stored] = copy, self._side_stream.record_event()

    def _arrived(self, stored: StoredTensor) -> torch.Tensor:
        """Return a prefetched tensor; the merge's stream waits for it."""
        tensor, arrival = self._arriving.pop(stored)
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(arrival)
        tensor.record_stream(stream)  # its memory is used again only after the merge has read it
        return tensor

    def _load(self, stored: StoredTensor) -> torch.Tensor:
        """Return a tensor where the tier keeps it; it is brought there the first time."""
        if stored not in self._resident:
            tensor = stored.read()
            if self.tier == "device":
                tensor = tensor.to(self.device)
            elif self.tier == "pinned":
                tensor = tensor.pin_memory()
            self._resident[stored] = tensor
        return self._resident[stored]


def _read_pages(view: torch.Tensor) -> None:
    """Bring a mapped tensor into the page cache; while that takes, other threads run."""
    if _LIBC is not None and view.numel():
        start = view.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        where = ctypes.c_void_p(start), ctypes.c_size_t(view.data_ptr() + view.nbytes - start)
        if _LIBC.madvise(*where, _POPULATE):
            _LIBC.madvise(*where, _WILLNEED)  # advice: an error changes nothing


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
