"""The families of mixtures: whose blocks they take, how their tensors are called, what their config says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.checkpoint import Model

MLP = ("gate_proj", "up_proj", "down_proj")  # of a dense parent, in the order in which they are written

# Keys that have the same meaning in the configs of all families here and of their dense parents.
_COMMON_KEYS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "initializer_range"),
    *("rms_norm_eps", "use_cache", "pad_token_id", "bos_token_id", "eos_token_id", "tie_word_embeddings"),
    *("attention_dropout", "rope_theta", "rope_scaling", "rope_parameters", "transformers_version"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeFamily:
    """One family of mixtures.

    Attributes:
        name: its model type.
        architecture: its class in transformers.
        parents: model types of the dense models.
        kept: config keys that are taken from the base, beyond the common ones.
        mlp: name of the mixture in a block.
        weights: a dense mlp's weight -> its name in an expert.
        experts_key: config key of the number of experts.
        widths: config keys that get the dense mlp's width.
        settings: config values of its own.
        shared: whether each block has a shared expert, whose output is added to that of the chosen ones, times a gate.
        biases: attention weights that it can hold a bias of.
        always: whether it has those biases even where the parents have none (zeros then).
    """

    name: str
    architecture: str
    parents: tuple[str, ...]
    kept: tuple[str, ...]
    mlp: str
    weights: Mapping[str, str]
    experts_key: str
    widths: tuple[str, ...]
    settings: Mapping[str, Any]
    shared: bool
    biases: tuple[str, ...] = ()
    always: bool = False

    def config(self, base: Model, experts: int, per_token: int, dtype: str) -> dict[str, Any]:
        """Return config.json of the mixture.

        Args:
            base: whose config it is made of.
            experts: how many there are in a block.
            per_token: how many of them are used for each token.
            dtype: of the weights, such as "bfloat16".
        """
        kept = {key: base.config[key] for key in (*_COMMON_KEYS, *self.kept) if key in base.config}
        return {
            "architectures": [self.architecture],
            "model_type": self.name,
            **kept,
            self.experts_key: experts,
            "num_experts_per_tok": per_token,
            **dict.fromkeys(self.widths, base.config["intermediate_size"]),
            **self.settings,
            "torch_dtype" if "torch_dtype" in base.config else "dtype": dtype,
        }


_PLAIN = {name: name for name in MLP}
_SPARSE = {"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [], "output_router_logits": False}

FAMILIES = {
    family.name: family
    for family in (
        MoeFamily(
            name="mixtral",
            architecture="MixtralForCausalLM",
            parents=("mistral", "llama"),
            kept=("sliding_window",),
            mlp="block_sparse_moe",
            weights={"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"},
            experts_key="num_local_experts",
            widths=(),
            settings={"output_router_logits": False},
            shared=False,
        ),
        MoeFamily(
            name="qwen2_moe",
            architecture="Qwen2MoeForCausalLM",
            parents=("qwen2", "llama", "mistral"),
            kept=("sliding_window", "use_sliding_window", "max_window_layers", "layer_types"),
            mlp="mlp",
            weights=_PLAIN,
            experts_key="num_experts",
            widths=("moe_intermediate_size", "shared_expert_intermediate_size"),
            settings=_SPARSE,
            shared=True,
            biases=("q_proj", "k_proj", "v_proj"),
            always=True,
        ),
        MoeFamily(
            name="qwen3_moe",
            architecture="Qwen3MoeForCausalLM",
            parents=("qwen3",),
            kept=("sliding_window", "use_sliding_window", "max_window_layers", "attention_bias"),
            mlp="mlp",
            weights=_PLAIN,
            experts_key="num_experts",
            widths=("moe_intermediate_size",),
            settings=_SPARSE,
            shared=False,
            biases=("q_proj", "k_proj", "v_proj", "o_proj"),
        ),
    )
}


def families_of(model_type: str) -> list[MoeFamily]:
    """Return the families that take dense parents of a type."""
    return [family for family in FAMILIES.values() if model_type in family.parents]
