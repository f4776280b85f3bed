"""LoRA adapters extracted from a fine-tune and its base.

Must not import the other packages of `derived`, nor `evaluation`, `run`, `results`, `api` or `cli`.
"""

from evomerge.derived.lora._extract import extract_lora
from evomerge.derived.lora._records import LoraModule, LoraOptions, LoraReport
from evomerge.derived.lora._svd import Factors, factorize

__all__ = [
    "Factors",
    "LoraModule",
    "LoraOptions",
    "LoraReport",
    "extract_lora",
    "factorize",
]
