"""Recipe + parents -> tensors: one plan, one way to build a tensor, two sinks (a folder, a live model).

What is scored in the live sink is what the folder sink writes, bit for bit on the same kind of device, because both
run the same plan through the same builder. This room refuses to know spaces, tasks and scores.
"""

from evomerge.engine._build import Builder
from evomerge.engine._estimate import Estimate, estimate
from evomerge.engine._folder_sink import Progress, write_folder
from evomerge.engine._kinship import Kinship, kinship
from evomerge.engine._live import LiveModel
from evomerge.engine._lora import extract_lora
from evomerge.engine._lora_records import LoraModule, LoraOptions, LoraReport
from evomerge.engine._moe import MoePlan, plan_moe, write_moe
from evomerge.engine._moe_card import moe_card
from evomerge.engine._plan import Origin, Plan, Rows, TensorPlan
from evomerge.engine._planner import make_plan
from evomerge.engine._residence import Share, Tier, tier_of
from evomerge.engine._self_check import self_check
from evomerge.engine._tokenizer import output_tokenizer, vocabulary_notes

__all__ = [
    "Builder",
    "Estimate",
    "Kinship",
    "LiveModel",
    "LoraModule",
    "LoraOptions",
    "LoraReport",
    "MoePlan",
    "Origin",
    "Plan",
    "Progress",
    "Rows",
    "Share",
    "TensorPlan",
    "Tier",
    "estimate",
    "extract_lora",
    "kinship",
    "make_plan",
    "moe_card",
    "output_tokenizer",
    "plan_moe",
    "self_check",
    "tier_of",
    "vocabulary_notes",
    "write_folder",
    "write_moe",
]
