"""Orthogonal matching pursuit: a vector as a combination of a few others, found greedily.

Tropp & Gilbert 2007, https://doi.org/10.1109/TIT.2007.909108; for embeddings of new tokens Goddard & Fernandes Neto
2025, https://arxiv.org/abs/2506.06607.
"""

from typing import NamedTuple

import torch

_MAX_SCORES = 1 << 25  # numbers in a batch's table of (targets, atoms)
_TINY = 1e-6  # a share of an atom's length; what is left of it below that is rounding


class AtomCombination(NamedTuple):
    """Vectors as combinations of atoms.

    Attributes:
        atoms: (N, k) numbers of the atoms, -1 where fewer were needed.
        weights: (N, k) their coefficients, 0 where there is no atom.
        errors: (N,) the length of what is left, as a share of the vector's.
    """

    atoms: torch.Tensor
    weights: torch.Tensor
    errors: torch.Tensor

    def apply(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the same combinations of other vectors.

        Args:
            rows: (atoms, dimensions), one for each atom.

        Returns:
            (N, dimensions) in float32.
        """
        out = torch.empty(len(self.atoms), rows.shape[1])
        for start in range(0, len(out), 1024):
            atoms, weights = self.atoms[start : start + 1024], self.weights[start : start + 1024]
            out[start : start + 1024] = torch.einsum("nk,nkd->nd", weights, rows[atoms.clamp(min=0)].float())
        return out


def orthogonal_pursuit(targets: torch.Tensor, atoms: torch.Tensor, count: int) -> AtomCombination:
    """Find for each target the atoms and the coefficients whose combination is near it.

    In each step the atom joins whose direction is nearest to what is left, and the coefficients of all atoms so far are
    fitted again by least squares (through an orthonormal basis of the atoms).

    Args:
        targets: (N, dimensions).
        atoms: (M, dimensions).
        count: the most atoms of a combination.
    """
    atoms_MD = atoms.float()
    lengths_M = atoms_MD.norm(dim=1)
    directions_MD = atoms_MD / lengths_M.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(1)
    count = min(count, len(atoms_MD), atoms_MD.shape[1])
    step = max(1, _MAX_SCORES // max(1, len(atoms_MD)))
    found = [
        _pursue(targets[start : start + step].float(), atoms_MD, directions_MD, count)
        for start in range(0, len(targets), step)
    ]
    if not found:
        empty = torch.empty(0, count)
        return AtomCombination(empty.long(), empty, torch.empty(0))
    return AtomCombination(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _pursue(targets: torch.Tensor, atoms_MD: torch.Tensor, directions_MD: torch.Tensor, count: int) -> AtomCombination:
    rows, dimensions = targets.shape
    left_BD = targets.clone()
    basis_BKD = targets.new_zeros(rows, count, dimensions)
    triangle_BKK = torch.eye(count).repeat(rows, 1, 1)  # atoms in terms of the basis
    along_BK = targets.new_zeros(rows, count)
    chosen_BK = torch.full((rows, count), -1)
    lengths_B = targets.norm(dim=1)
    for k in range(count):
        scores_BM = (left_BD @ directions_MD.T).abs_()
        if k:
            scores_BM.scatter_(1, chosen_BK[:, :k].clamp(min=0), -1.0)
        best_B = scores_BM.argmax(1)
        atom_BD = atoms_MD[best_B]
        shares_BK = torch.einsum("bkd,bd->bk", basis_BKD[:, :k], atom_BD)
        rest_BD = atom_BD - torch.einsum("bk,bkd->bd", shares_BK, basis_BKD[:, :k])
        length_B = rest_BD.norm(dim=1)
        useful_B = (length_B > _TINY * atom_BD.norm(dim=1)) & (left_BD.norm(dim=1) > _TINY * lengths_B)
        if not bool(useful_B.any()):
            break
        unit_BD = torch.where(useful_B.unsqueeze(1), rest_BD / length_B.clamp(min=1e-30).unsqueeze(1), 0.0)
        basis_BKD[:, k] = unit_BD
        triangle_BKK[:, :k, k] = torch.where(useful_B.unsqueeze(1), shares_BK, 0.0)
        triangle_BKK[:, k, k] = torch.where(useful_B, length_B, 1.0)
        along_BK[:, k] = (unit_BD * left_BD).sum(1)
        left_BD -= along_BK[:, k].unsqueeze(1) * unit_BD
        chosen_BK[:, k] = torch.where(useful_B, best_B, -1)
    weights = torch.linalg.solve_triangular(triangle_BKK, along_BK.unsqueeze(2), upper=True).squeeze(2)
    weights = torch.where(chosen_BK >= 0, weights, 0.0)
    return AtomCombination(chosen_BK, weights, left_BD.norm(dim=1) / lengths_B.clamp(min=1e-30))
