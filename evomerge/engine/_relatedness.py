"""Whether models belong together, from a cheap sample of their weights: reported before anything is merged."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from evomerge.checkpoint import Model
from evomerge.errors import MergeFailed

SAMPLE_TENSORS = 16  # of each model; 7 B models take a moment
SAMPLE_ELEMENTS = 1 << 16  # of each of them
MIN_COSINE = 0.9  # of related models; fine-tunes are above 0.99, models of another origin near 0
TRIAL_WEIGHT = 0.5  # the share of a task vector that the resolution is judged by
MAX_LOST_SHARE = 0.5  # of that, before there is a warning


@dataclass(frozen=True, slots=True, kw_only=True)
class Relatedness:
    """How a model relates to its base.

    Attributes:
        name: of the model.
        base: name of the base.
        dtype: of the result, such as "bfloat16".
        size: norm of the model's task vector, as a share of the base's norm.
        cosine: between the model's weights and the base's, -1 to 1.
        lost: share of half the task vector that is lost by rounding to the result's dtype, 0 to 1.
    """

    name: str
    base: str
    dtype: str
    size: float
    cosine: float
    lost: float

    @property
    def text(self) -> str:
        """The numbers in one line."""
        return (
            f"{self.name}: task vector {self.size:.2%} of the base's size, cosine of its weights and the base's "
            f"{self.cosine:.4f}, {self.lost:.0%} below the resolution of {self.dtype}"
        )

    @property
    def warning(self) -> str | None:
        """What the user should know before merging these, or None."""
        if self.size == 0:
            return f"{self.name} and {self.base} have the same weights"
        if self.cosine < MIN_COSINE:
            return (
                f"{self.name} does not descend from {self.base}: its task vector is {self.size:.0%} of the base's "
                f"size and the cosine of their weights is {self.cosine:.2f}; merges of unrelated models rarely work"
            )
        if self.lost > MAX_LOST_SHARE:
            return (
                f"{self.name}'s task vector is so small that {self.lost:.0%} of it is below the resolution of "
                f"{self.dtype}; set dtype: float32, or expect rounding to decide"
            )
        return None


def relatedness(base: Model, models: Sequence[Model], dtype: torch.dtype | str | None) -> list[Relatedness]:
    """Return how each model relates to the base; models that share no weight of one shape with it are left out.

    Args:
        base: the common ancestor.
        models: to compare with it.
        dtype: of the result; None = the base's.

    Raises:
        MergeFailed: a sampled weight is not finite.
    """
    final: torch.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype or base.dtype
    found = []
    for model in models:
        names = [
            name
            for name, info in base.tensors.items()
            if len(info.shape) >= 2 and info.dtype.is_floating_point and _shape_in(model, name) == info.shape
        ]
        if names:
            found.append(_measure(base, model, names, final))
    return found


def _shape_in(model: Model, name: str) -> tuple[int, ...] | None:
    stored = model.local_name(name)
    return None if stored is None else model.tensors[stored].shape


def _measure(base: Model, model: Model, names: Sequence[str], dtype: torch.dtype) -> Relatedness:
    squares = {"base": 0.0, "model": 0.0, "delta": 0.0, "product": 0.0, "wanted": 0.0, "missed": 0.0}
    for name in names[:: max(1, len(names) // SAMPLE_TENSORS)][:SAMPLE_TENSORS]:
        stored = model.local_name(name)
        assert stored is not None
        a, b = _middle(base.tensor(name)), _middle(model.tensor(stored))
        if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
            raise MergeFailed(f"{name} holds NaN or infinity in {base.name} or {model.name}")
        wanted = (b - a) * TRIAL_WEIGHT
        moved = (a + wanted).to(dtype).float() - a.to(dtype).float()
        for key, value in (
            ("base", a @ a),
            ("model", b @ b),
            ("delta", (b - a) @ (b - a)),
            ("product", a @ b),
            ("wanted", wanted @ wanted),
            ("missed", (moved - wanted) @ (moved - wanted)),
        ):
            squares[key] += float(value)
    both = (squares["base"] * squares["model"]) ** 0.5
    return Relatedness(
        name=model.name,
        base=base.name,
        dtype=str(dtype).removeprefix("torch."),
        size=(squares["delta"] / squares["base"]) ** 0.5 if squares["base"] else 0.0,
        cosine=squares["product"] / both if both else 0.0,
        lost=min(1.0, (squares["missed"] / squares["wanted"]) ** 0.5) if squares["wanted"] else 0.0,
    )


def _middle(tensor: torch.Tensor) -> torch.Tensor:
    """Return a stretch from the middle of a tensor in float32; of a mapped file only its pages are read."""
    flat = tensor.reshape(-1)
    start = max(0, (flat.numel() - SAMPLE_ELEMENTS) // 2)
    return flat[start : start + SAMPLE_ELEMENTS].float()
