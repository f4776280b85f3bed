"""Is what is scored what would be exported? One tensor of the live model against the way to disk."""

import hashlib

import torch

from evomerge.engine._build import Builder
from evomerge.engine._plan_records import Plan
from evomerge.engine.live._model import LiveModel
from evomerge.engine.plan._planner import make_plan
from evomerge.errors import SelfCheckFailed

MAX_MISMATCH_SHARE = 1e-4  # of a tensor's elements; where a sign depends on a last bit, a GPU may decide otherwise


def self_check(live: LiveModel, plan: Plan, address: str) -> bool:
    """Compare one tensor of the live model with what the folder sink makes of it.

    The parents are opened anew, and the merge runs on the CPU without known statistics: nothing that the live model
    uses is used again. On a CPU both must have the same bits; a GPU's elements must be within one unit in the last
    place (of themselves, or of the tensor's mean size where they are smaller), but for a share of MAX_MISMATCH_SHARE.

    Args:
        live: after `apply`.
        plan: what was applied.
        address: chooses the tensor, together with the recipe; a worker's name, so that workers check different ones.

    Returns:
        Whether there was anything to compare: a plan that only takes over tensors has nothing.

    Raises:
        SelfCheckFailed: the tensors differ.
    """
    merged = [tensor.name for tensor in plan.tensors if not tensor.copied and live.part(tensor.name)]
    if not merged:
        return False
    digest = hashlib.blake2b(f"{plan.recipe.fingerprint}\n{address}".encode(), digest_size=8).digest()
    name = merged[int.from_bytes(digest, "little") % len(merged)]
    parents = live.parents.reopened()
    anew = next(tensor for tensor in make_plan(plan.recipe, parents).tensors if tensor.name == name)
    expected = torch.empty(anew.shape, dtype=anew.dtype)
    with torch.no_grad():
        Builder(parents, keep_statistics=False).build(anew, expected)
    found = live.tensor(name).detach()
    wrong = count_mismatches(found.cpu(), expected, exactly=found.is_cpu)
    if wrong:
        cached = live.statistics_folder
        advice = "" if cached is None else f"; delete {cached} and start again"
        raise SelfCheckFailed(
            f"self-check: {wrong} of {expected.numel()} elements of {name} in memory on {found.device} are not what a "
            "merge to disk gives, so no score can be trusted; memory, the installation or a stored statistic is "
            f"damaged{advice}"
        )
    return True


def count_mismatches(found: torch.Tensor, expected: torch.Tensor, *, exactly: bool) -> int:
    """Return how many elements differ; all of them where shape or dtype do.

    Args:
        found: any shape.
        expected: what it should be.
        exactly: whether every bit counts; else elements may be off by what `self_check` grants a GPU.
    """
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return expected.numel()
    if exactly:
        width = expected.element_size()
        bits = [tensor.contiguous().view(-1).view(torch.uint8).view(-1, width) for tensor in (found, expected)]
        return int((bits[0] != bits[1]).any(1).sum())
    unit = torch.finfo(expected.dtype).eps
    size = expected.double().abs()
    apart = (found.double() - expected.double()).abs()
    wrong = int((~(apart <= unit * torch.maximum(size, size.mean()))).sum())
    return wrong if wrong > MAX_MISMATCH_SHARE * expected.numel() else 0
