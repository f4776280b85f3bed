"""Parents' embeddings and heads on the result's vocabulary, kept between the candidates of a search.

Which row goes where is the same for every candidate (see `_alignment`), so the rows are gathered once, and each further
candidate merges the gathered tensors as if the parents had been stored with them.
"""

from collections import OrderedDict

import torch

from evomerge.checkpoint import Parents
from evomerge.engine._plan_records import Origin, Plan, Rows
from evomerge.engine._residency import Residency


class KeptRows:
    """Gathered tensors; those that were used last stay, up to a number of bytes.

    Attributes:
        limit_bytes: that they may take; 0 = none is kept.
    """

    def __init__(self, limit_bytes: int, residency: Residency):
        """Keep nothing yet.

        Args:
            limit_bytes: that kept tensors may take.
            residency: where merges take their inputs from; where it keeps nothing on a GPU, neither does this.
        """
        self.limit_bytes, self._residency = limit_bytes, residency
        self._kept: OrderedDict[tuple[Origin, Rows], torch.Tensor] = OrderedDict()

    def find(self, origin: Origin, rows: Rows) -> torch.Tensor | None:
        """Return a parent's tensor on the result's vocabulary, on the working device, or None if it is not kept."""
        found = self._kept.get((origin, rows))
        if found is None:
            return None
        self._kept.move_to_end((origin, rows))
        return found.to(self._residency.device)

    def keep(self, origin: Origin, rows: Rows, gathered: torch.Tensor) -> None:
        """Keep a tensor, if it fits; those that were not used for longest make way.

        Args:
            origin: the parent's tensor.
            rows: how it was brought to the result's vocabulary.
            gathered: what came of it, in memory that nobody else writes to.
        """
        if gathered.nbytes > self.limit_bytes:
            return
        self._kept[origin, rows] = gathered if self._residency.keeps else gathered.cpu()
        while sum(tensor.nbytes for tensor in self._kept.values()) > self.limit_bytes:
            self._kept.popitem(last=False)


def gathered_bytes(plan: Plan, parents: Parents) -> int:
    """Return the bytes of a plan's inputs that have to be gathered: what `KeptRows` keeps of them.

    Args:
        plan: of a merge of all parents of a search.
        parents: its opened models.
    """
    total = 0
    for tensor in plan.tensors:
        if tensor.rows is None:
            continue
        for origin in tensor.origins:
            info, alignment = parents[origin.model].tensors[origin.tensor], tensor.rows.alignment
            if not alignment.is_view(origin.model, info.shape[0]):
                total += info._replace(shape=(alignment.size, *info.shape[1:])).size_bytes
    return total
