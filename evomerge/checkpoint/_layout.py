"""Which tensor belongs to which block, by a general rule on names and two small tables of exceptions."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

MAX_BLOCKS = 99_999  # a tensor whose name has a larger number belongs to no block

_NUMBER = re.compile(r"0|[1-9][0-9]{0,4}")
_BLOCK = re.compile(rf"^(.*?\.)?({_NUMBER.pattern})\.")

# Tensors outside the blocks that come after them; all others come before them.
_AFTER = re.compile(
    r"(^|\.)(lm_head|embed_out|score|norm|norm_f|ln_f|ln_out|final_norm|final_layernorm|final_layer_norm|embedding_norm"
    r"|project_out|cls|pooler|classifier)(\.|$)|^(head|decoder|vocab_\w+|generator_\w+)\."
)
_EMBEDDINGS = re.compile(r"(^|\.)embeddings\.")  # what belongs to them comes before the blocks, whatever its name

# What a block adds to the residual stream leaves it through these tensors (scaling them scales the block's output).
_OUTPUTS = re.compile(
    r"(^|\.)(o_proj|out_proj|dense|c_proj|down_proj|fc2|fc_out|w2|dense_4h_to_h|output_linear)(\.weight|\.bias|_bias)?$"
)

# Families whose blocks normalize their output before adding it: there the norms' weights scale it.
NORMED_OUTPUTS = {
    "olmo2": ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight"),
    "olmo3": ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight"),
    "exaone4": ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight"),
    "glm4": ("post_self_attn_layernorm.weight", "post_mlp_layernorm.weight"),
}
# Gemma multiplies by (1 + weight), so its norms cannot be scaled by a factor on the stored tensor.
SHIFTED_NORM_FAMILIES = {"gemma2", "gemma3", "gemma3_text"}
# Families whose blocks add to the residual stream through these tensors alone; a test tries each.
PLAIN_OUTPUT_FAMILIES = {
    *("apertus", "arcee", "bitnet", "bloom", "codegen", "cohere", "cohere2", "deepseek_v2", "deepseek_v3"),
    *("diffllama", "dots1", "ernie4_5", "falcon", "gemma", "glm", "glm4_moe", "gpt2", "gpt_bigcode"),
    *("gpt_neo", "gpt_neox", "gpt_oss", "gptj", "granite", "granitemoe", "helium", "hunyuan_v1_dense"),
    *("jamba", "lfm2", "llama", "llama4_text", "mamba", "mamba2", "mistral", "mixtral", "mpt", "nemotron"),
    *("olmo", "olmoe", "opt", "persimmon", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3"),
    *("qwen3_moe", "qwen3_next", "seed_oss", "smollm3", "stablelm", "starcoder2"),
}


class TensorSite(NamedTuple):
    """Where a tensor sits in a model.

    Attributes:
        part: before the blocks, in one of them, or after them.
        layer: number of its block, -1 outside the blocks.
        suffix: its name inside the block; outside the blocks its whole name.
    """

    part: Literal["before", "block", "after"]
    layer: int
    suffix: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The block structure of a set of tensor names.

    Attributes:
        block_prefix: what comes before a block's number, such as "model.layers."; "" if there are no blocks.
        num_layers: the number of blocks.
        others: prefix -> number of blocks of further stacks, such as an encoder's; they are never cut or re-ordered.
        beside: tensors of parts beside the language model, such as a vision tower; they all come before the blocks.
    """

    block_prefix: str
    num_layers: int
    others: Mapping[str, int] = field(default_factory=dict)
    beside: frozenset[str] = frozenset()

    @classmethod
    def of(cls, names: Iterable[str], prefix: str | None = None, beside: Iterable[str] = ()) -> "Layout":
        """Infer the layout: the prefix that the most tensors share before their first number is the stack of blocks.

        Args:
            names: of all tensors of a model.
            prefix: the stack of blocks, where it is known; "" = there is none.
            beside: the tensors of other parts than the language model.
        """
        found: Counter[str] = Counter()
        layers: dict[str, int] = {}
        for name in names:
            match = _BLOCK.match(name)
            if match:
                start = match.group(1) or ""
                found[start] += 1
                layers[start] = max(layers.get(start, 0), int(match.group(2)) + 1)
        if not found:
            return cls("", 0)
        prefix = found.most_common(1)[0][0] if prefix is None else prefix
        return cls(prefix, layers.pop(prefix, 0), layers, frozenset(beside))

    def site(self, name: str) -> TensorSite:
        """Return where a tensor sits."""
        if self.num_layers and name.startswith(self.block_prefix):
            number, dot, suffix = name[len(self.block_prefix) :].partition(".")
            if dot and _NUMBER.fullmatch(number) and int(number) < self.num_layers:
                return TensorSite("block", int(number), suffix)
        after = _AFTER.search(name) and not _EMBEDDINGS.search(name) and name not in self.beside
        return TensorSite("after" if after else "before", -1, name)

    def depth(self, name: str) -> float:
        """Return how deep a tensor outside the blocks is in a stack of its own, such as an encoder's.

        Returns:
            0 (first block, or no stack) to 1 (last block).
        """
        match = _BLOCK.match(name)
        blocks = self.others.get(match.group(1) or "", 0) if match else 0
        if match is None or not blocks:
            return 0.0
        return 1.0 if blocks == 1 else int(match.group(2)) / (blocks - 1)

    @property
    def trunk(self) -> str:
        """What the names of the blocks' model begin with, such as "model." or "language_model.model."."""
        return re.sub(r"[^.]*\.$", "", self.block_prefix)

    def name(self, layer: int, suffix: str) -> str:
        """Return the full name of a block's tensor."""
        return f"{self.block_prefix}{layer}.{suffix}"


def module_names(suffixes: Iterable[str]) -> tuple[str, str]:
    """Return how the names of attention and mlp tensors begin inside a block, such as ("self_attn.", "mlp.").

    A family that keeps its mlp's layers directly in the block (OPT: fc1, fc2) gets their common beginning.

    Args:
        suffixes: names of tensors inside their blocks.
    """
    heads = list(dict.fromkeys(suffix.partition(".")[0] for suffix in suffixes))
    modules = [head for head in heads if "norm" not in head]
    attention = next((f"{head}." for head in modules if re.search(r"attn|attention|mixer", head)), "self_attn.")
    for head in modules:
        if re.fullmatch(r"mlp|ffn|feed_forward|block_sparse_moe|ffn_block", head):
            return attention, f"{head}."
    return attention, "fc" if any(head.startswith("fc") for head in modules) else "mlp."


def is_block_output(suffix: str, model_type: str) -> bool:
    """Tell whether a block's contribution to the residual stream is proportional to this tensor of the block.

    False for families that are in no table: a contribution that was overlooked would be scaled by half.

    Args:
        suffix: name of the tensor inside its block.
        model_type: the family, as config.json names it.
    """
    if model_type in NORMED_OUTPUTS:
        return suffix in NORMED_OUTPUTS[model_type]
    return model_type in PLAIN_OUTPUT_FAMILIES and _OUTPUTS.search(suffix) is not None
