"""Mixtures of experts made of dense models.

Must not import the other packages of `derived`, nor `evaluation`, `run`, `results`, `api` or `cli`.
"""

from evomerge.derived.moe._build import MoePlan, plan_moe, write_moe
from evomerge.derived.moe._card import moe_card
from evomerge.derived.moe._gates import make_gates

__all__ = [
    "MoePlan",
    "make_gates",
    "moe_card",
    "plan_moe",
    "write_moe",
]
