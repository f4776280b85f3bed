"""Ask the installed mergekit for the merge of a case."""

import torch

from evomerge.testing.methods import MergeCase


def merge(case: MergeCase) -> torch.Tensor:
    """Return mergekit's result for one tensor, in the dtype of the inputs."""
    from mergekit.merge_methods.api import merge_tensors

    parameters: dict[str, object] = dict(case.merge)
    for name in case.parents[0]:
        parameters[name] = [parent[name] for parent in case.parents]
    tensors = list(case.models) if case.base is None else [case.base, *case.models]
    return merge_tensors(tensors, case.method.name, base_index=None if case.base is None else 0, parameters=parameters)


def relative(result: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the largest difference, relative to the reference's largest value."""
    return float((result.double() - reference.double()).abs().max() / reference.abs().max().clamp(min=1e-30))
