"""Rendering a candidate: a recipe file, a mergekit file, a Hugging Face model folder with its card.

What is written is built by the same engine as what was scored. This room refuses to score or choose.
"""

from evomerge.export._export import FORMATS, export, provenance

__all__ = ["FORMATS", "export", "provenance"]
