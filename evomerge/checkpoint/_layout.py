"""Which tensor belongs to which block, by a general rule on names and two small tables of exceptions."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

_BLOCK = re.compile(r"^(.*?\.)?(\d+)\.")

# Loose tensors that come after the blocks; all other loose tensors come before them.
_AFTER = re.compile(
    r"(^|\.)(lm_head|embed_out|score|norm|norm_f|ln_f|final_norm|final_layernorm|final_layer_norm|project_out"
    r"|cls|pooler|classifier)(\.|$)"
)

# What a block adds to the residual stream leaves it through these tensors (scaling them scales the block's output).
_OUTPUTS = re.compile(
    r"(^|\.)(self_attn\.o_proj|self_attn\.out_proj|self_attn\.dense|attn\.c_proj|attn\.out_proj|attention\.dense"
    r"|self_attention\.dense|mlp\.down_proj|mlp\.c_proj|mlp\.fc2|mlp\.dense_4h_to_h|fc2"
    r"|mlp\.experts\.\d+\.down_proj|mlp\.shared_expert\.down_proj|block_sparse_moe\.experts\.\d+\.w2)\.(weight|bias)$"
)

# Families whose block normalises its output before adding it: there the norm's weight is the way out.
_NORMED_OUTPUTS = re.compile(r"(^|\.)(post_attention_layernorm|post_feedforward_layernorm)\.weight$")
NORMED_FAMILIES = {"olmo2", "olmo3"}
# Gemma multiplies by (1 + weight), so its norms cannot be scaled by a factor on the stored tensor.
SHIFTED_NORM_FAMILIES = {"gemma2", "gemma3", "gemma3_text"}


class Place(NamedTuple):
    """Where a tensor sits: before the blocks, in block `layer`, or after them; `suffix` is its name inside."""

    part: Literal["before", "block", "after"]
    layer: int
    suffix: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The block structure of a set of tensor names.

    block_prefix: what stands before a block's number, such as "model.layers."; "" if there are no blocks.
    """

    block_prefix: str
    num_layers: int

    @classmethod
    def of(cls, names: Iterable[str]) -> "Layout":
        """Infer the layout: the prefix that the most tensors share before their first number is the stack of blocks."""
        found: Counter[str] = Counter()
        layers: dict[str, int] = {}
        for name in names:
            match = _BLOCK.match(name)
            if match:
                prefix = match.group(1) or ""
                found[prefix] += 1
                layers[prefix] = max(layers.get(prefix, 0), int(match.group(2)) + 1)
        if not found:
            return cls("", 0)
        prefix = found.most_common(1)[0][0]
        return cls(prefix, layers[prefix])

    def place(self, name: str) -> Place:
        """Return where a tensor sits."""
        if self.num_layers and name.startswith(self.block_prefix):
            number, dot, suffix = name[len(self.block_prefix) :].partition(".")
            if dot and number.isdigit():
                return Place("block", int(number), suffix)
        return Place("after" if _AFTER.search(name) else "before", -1, name)

    def name(self, layer: int, suffix: str) -> str:
        """Return the full name of a block's tensor."""
        return f"{self.block_prefix}{layer}.{suffix}"


def module_names(suffixes: Iterable[str]) -> tuple[str, str]:
    """Return how the names of attention and mlp tensors begin inside a block, such as ("self_attn.", "mlp.").

    A family that keeps its mlp's layers directly in the block (OPT: fc1, fc2) gets their common beginning.
    """
    heads = list(dict.fromkeys(suffix.partition(".")[0] for suffix in suffixes))
    modules = [head for head in heads if "norm" not in head]
    attention = next((f"{head}." for head in modules if re.search(r"attn|attention|mixer", head)), "self_attn.")
    for head in modules:
        if re.fullmatch(r"mlp|ffn|feed_forward|block_sparse_moe|ffn_block", head):
            return attention, f"{head}."
    return attention, "fc" if any(head.startswith("fc") for head in modules) else "mlp."


def is_block_output(suffix: str, model_type: str) -> bool:
    """Tell whether a block's contribution to the residual stream is proportional to this tensor of the block."""
    pattern = _NORMED_OUTPUTS if model_type in NORMED_FAMILIES else _OUTPUTS
    return pattern.search(suffix) is not None
