"""Train the parents of a zoo: a small base model and specialists fine-tuned from it.

    python scripts/train_zoo.py                # writes experiments/quickstart/models/, one core
    python scripts/train_zoo.py natural        # writes experiments/natural/models/, one core, about ten minutes

The quickstart's base learns every skill from a mixture, and stops early. A specialist is fine-tuned from it in two
passes: the first trains everything but two "own" blocks, mostly on its skill, with some replay of the others; the
second trains the own blocks alone, fast and on its skill alone, and so forgets the others. The specialists then
conflict in known places: a uniform merge keeps nothing; weights by layer can keep the first passes and drop the second.

The natural zoo has no such trick: its base is already good at everything, and its specialists are ordinary fine-tunes,
all weights on one skill, without replay.

Items come from `make_zoo_data.py`, whose "train" pool excludes every validation and test item. Everything is seeded and
runs on one thread, so a second run on the same machine gives the same files.
"""

import argparse
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from make_zoo_data import ZOOS, Item, Skill, Zoo, draw_from
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(len(SPECIALS))
BATCH = 128  # items per step
WARM_UP_STEPS = 20
IGNORED = -100  # label of the positions that are not learned
COUNTS = {3: "three", 5: "five"}


@dataclass(frozen=True)
class Stage:
    """A stretch of training: share of each skill in the batches, steps, peak learning rate and what is trained.

    `where` is "all", or "outside" or "inside" the course's own blocks.
    """

    shares: dict[str, float]
    steps: int
    rate: float
    where: str = "all"


@dataclass(frozen=True)
class Course:
    """All stages of one model, the seed of its items and its own blocks."""

    seed: int
    stages: tuple[Stage, ...]
    own_blocks: tuple[int, ...] = ()


def specialist(seed: int, skill: str, own_blocks: tuple[int, int], *, learn: Stage, insist: Stage) -> Course:
    """Return the two passes of a specialist: learn the skill around its own blocks, then insist on it inside them."""
    return Course(
        seed, (replace(learn, where="outside"), replace(insist, shares={skill: 1.0}, where="inside")), own_blocks
    )


def fine_tune(seed: int, skill: str, steps: int) -> Course:
    """Return an ordinary fine-tune: every weight, one skill, no replay, an eighth of the base's learning rate."""
    return Course(seed, (Stage({skill: 1.0}, steps=steps, rate=3e-4),))


@dataclass(frozen=True)
class Training:
    """How the models of a zoo are made.

    Attributes:
        zoo: its skills and characters.
        build_model: seed and vocabulary size -> the untrained model in float32.
        courses: model -> how it is trained; "base" comes first, the others start from it.
    """

    zoo: Zoo
    build_model: Callable[[int, int], PreTrainedModel]
    courses: Mapping[str, Course]

    @property
    def ids(self) -> dict[str, int]:
        """Character -> token id."""
        return {character: i for i, character in enumerate(self.zoo.characters, start=len(SPECIALS))}

    @property
    def models(self) -> Path:
        """Folder of the trained models."""
        return self.zoo.folder / "models"

    def untrained(self) -> PreTrainedModel:
        """Return the model that the base begins as."""
        return self.build_model(self.courses["base"].seed, len(SPECIALS) + len(self.zoo.characters))


# Addition is the slowest to learn: the base half knows it, and its specialist needs the longest passes.
QUICKSTART_COURSES = {
    "base": Course(1, (Stage({"add": 0.5, "kanji": 0.25, "reverse": 0.25}, steps=320, rate=2e-3),)),
    "add": specialist(
        2,
        "add",
        (0, 3),
        learn=Stage({"add": 0.8, "kanji": 0.1, "reverse": 0.1}, steps=450, rate=1.5e-3),
        insist=Stage({}, steps=200, rate=4.5e-3),
    ),
    "kanji": specialist(
        3,
        "kanji",
        (1, 4),
        learn=Stage({"add": 0.15, "kanji": 0.7, "reverse": 0.15}, steps=100, rate=1e-3),
        insist=Stage({}, steps=120, rate=7e-3),
    ),
    "reverse": specialist(
        4,
        "reverse",
        (2, 5),
        learn=Stage({"add": 0.15, "kanji": 0.15, "reverse": 0.7}, steps=80, rate=1e-3),
        insist=Stage({}, steps=150, rate=7e-3),
    ),
}


NATURAL_SHARES = {"sub": 0.35, "sort": 0.15, "count": 0.2, "shift": 0.1, "roman": 0.2}
NATURAL_COURSES = {
    "base": Course(11, (Stage(NATURAL_SHARES, steps=900, rate=2.5e-3),)),
    "sub": fine_tune(12, "sub", 260),
    "count": fine_tune(13, "count", 160),
    "roman": fine_tune(14, "roman", 120),
    "sort": fine_tune(15, "sort", 60),
}


def build_tokenizer(ids: Mapping[str, int]) -> PreTrainedTokenizerFast:
    """Return the tokenizer: one token per character, nothing added before or after a text."""
    vocabulary = {name: i for i, name in enumerate(SPECIALS)} | dict(ids)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
        model_max_length=32,
    )


SIZES: dict[str, Any] = {  # of both zoos' models
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
}


def build_llama(seed: int, vocabulary: int) -> LlamaForCausalLM:
    """Return the quickstart's untrained model in float32: 6 blocks, 96 wide, about 0.67 million parameters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, num_hidden_layers=6, num_key_value_heads=4, tie_word_embeddings=False, **SIZES
    )
    return LlamaForCausalLM(config)


def build_qwen(seed: int, vocabulary: int) -> Qwen2ForCausalLM:
    """Return the natural zoo's untrained model in float32: 8 blocks, 96 wide, about 0.82 million parameters."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocabulary, num_hidden_layers=8, num_key_value_heads=2, tie_word_embeddings=True, **SIZES
    )
    return Qwen2ForCausalLM(config)


TRAININGS = {
    "quickstart": Training(ZOOS["quickstart"], build_llama, QUICKSTART_COURSES),
    "natural": Training(ZOOS["natural"], build_qwen, NATURAL_COURSES),
}


def encode(pairs: list[tuple[str, str]], ids: Mapping[str, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and labels of (prompt, target) texts, padded on the right; only targets are labeled."""
    length = max(len(prompt) + len(target) for prompt, target in pairs) + 1
    rows, labels = [], []
    for prompt, target in pairs:
        text = [ids[character] for character in prompt + target] + [EOS]
        padding = length - len(text)
        rows.append(text + [PAD] * padding)
        labels.append([IGNORED] * len(prompt) + text[len(prompt) :] + [IGNORED] * padding)
    return torch.tensor(rows), torch.tensor(labels)


def training_items(skills: Mapping[str, Skill], course: Course) -> Iterator[Item]:
    """Yield the items a course trains on, in order: `BATCH` per step of every stage."""
    rng = random.Random(course.seed)
    for stage in course.stages:
        names, shares = list(stage.shares), list(stage.shares.values())
        for _ in range(stage.steps * BATCH):
            yield draw_from(skills[rng.choices(names, shares)[0]], "train", rng)


def train(model: PreTrainedModel, training: Training, name: str) -> None:
    """Train a model in place through all stages of its course."""
    course = training.courses[name]
    items = training_items(training.zoo.skills, course)
    model.train()
    own = tuple(f"model.layers.{block}." for block in course.own_blocks)
    for stage in course.stages:
        for tensor, parameter in model.named_parameters():
            inside = bool(own) and tensor.startswith(own)
            parameter.requires_grad_(stage.where == "all" or inside == (stage.where == "inside"))
        train_stage(model, stage, items, training.ids, name)
    model.eval()


def train_stage(
    model: PreTrainedModel, stage: Stage, items: Iterator[Item], ids: Mapping[str, int], label: str
) -> None:
    """Train with AdamW: linear warm-up, then cosine decay to a tenth of the peak rate."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(stage.steps):
        warm_up = min(1.0, (step + 1) / WARM_UP_STEPS)
        decay = 0.1 + 0.9 * (1 + math.cos(math.pi * step / stage.steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = stage.rate * warm_up * decay
        rows, labels = encode([(item.prompt, item.target) for item in islice(items, BATCH)], ids)
        # No attention mask: the padding is on the right, where causal attention never looks.
        loss = model(input_ids=rows, labels=labels, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == stage.steps:
            print(f"{label}: step {step + 1} of {stage.steps}, loss {loss.item():.3f}", flush=True)


@torch.inference_mode()
def target_scores(
    model: PreTrainedModel, pairs: list[tuple[str, str]], ids: Mapping[str, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return, per (prompt, target), the target's log-likelihood (nats) and whether it is the greedy continuation."""
    rows, labels = encode(pairs, ids)
    # An evaluation stops at the target's last character; the end token after it is not part of the answer.
    labels[labels == EOS] = IGNORED
    logits = model(input_ids=rows, use_cache=False).logits[:, :-1].float()
    labels = labels[:, 1:]
    asked = labels != IGNORED
    chosen = logits.log_softmax(-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    greedy = ((logits.argmax(-1) == labels) | ~asked).all(-1)
    return (chosen * asked).sum(-1), greedy


def accuracy(model: PreTrainedModel, rows: list[dict], ids: Mapping[str, int]) -> float:
    """Return the share of right answers on the rows of one data file, as lm-eval's `acc` counts them."""
    if "target" in rows[0]:
        _, greedy = target_scores(model, [(row["prompt"], row["target"]) for row in rows], ids)
        return greedy.float().mean().item()
    pairs = [(row["prompt"], choice) for row in rows for choice in row["choices"]]
    likelihoods, _ = target_scores(model, pairs, ids)
    best = likelihoods.view(len(rows), -1).argmax(-1)
    return (best == torch.tensor([row["answer"] for row in rows])).float().mean().item()


def read_rows(tasks: Path, task: str, pool: str) -> list[dict]:
    """Return the rows of a task's data file."""
    return [json.loads(line) for line in (tasks / "data" / f"{task}_{pool}.jsonl").read_text("utf-8").splitlines()]


def save(model: PreTrainedModel, ids: Mapping[str, int], folder: Path, card: str) -> None:
    """Write a model in bfloat16 with its tokenizer and model card."""
    model.to(torch.bfloat16).save_pretrained(folder)
    build_tokenizer(ids).save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")


def card_of(training: Training, name: str, model: PreTrainedModel, scores: dict[str, float]) -> str:
    """Return the model card of one parent."""
    zoo, course = training.zoo, training.courses[name]
    shape = f"{model.config.num_hidden_layers} blocks, {model.config.hidden_size} wide"
    trained = f"fine-tuned from `base` on `{name}`"
    if name == "base":
        trained = f"trained on a mixture of {COUNTS[len(zoo.skills)]} skills"
    stages = "\n".join(
        f"- {stage.steps} steps of {BATCH} items ("
        + ", ".join(f"{skill} {share:.0%}" for skill, share in stage.shares.items())
        + f"), peak learning rate {stage.rate:g}, weights: {stage.where}"
        + (f" of blocks {course.own_blocks}" if course.own_blocks else "")
        for stage in course.stages
    )
    table = "\n".join(f"| {task} | {score:.3f} |" for task, score in scores.items())
    return (
        "---\nlicense: apache-2.0\nlibrary_name: transformers\n---\n\n"
        f"# {name}\n\nA character-level toy model ({shape}), {trained} by `scripts/train_zoo.py`.\n"
        f"It is a parent of {zoo.title} and good for nothing else.\n\n{stages}\n\n"
        f"| task (test items) | accuracy |\n|---|---|\n{table}\n"
    )


def main() -> None:
    """Train and write the base and the specialists, then print every model's accuracy on every task."""
    parser = argparse.ArgumentParser(description="Train a zoo's parents.")
    parser.add_argument("zoo", nargs="?", choices=TRAININGS, default="quickstart")
    parser.add_argument("--out", type=Path, help="models folder; by default the zoo's own")
    options = parser.parse_args()
    training = TRAININGS[options.zoo]
    out = options.out or training.models
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tests = {skill.task: read_rows(training.zoo.tasks, skill.task, "test") for skill in training.zoo.skills.values()}
    learned = {name: value.clone() for name, value in training.untrained().state_dict().items()}
    table = []
    for name in training.courses:
        model = training.untrained()
        model.load_state_dict(learned)
        train(model, training, name)
        if name == "base":
            # The specialists start from the base as it is saved, rounded to bfloat16.
            learned = {key: value.to(torch.bfloat16).float() for key, value in model.state_dict().items()}
        model.to(torch.bfloat16)
        scores = {task: accuracy(model, rows, training.ids) for task, rows in tests.items()}
        save(model, training.ids, out / name, card_of(training, name, model, scores))
        table.append(f"{name:>8} " + " ".join(f"{score:10.3f}" for score in scores.values()))
    print(f"{'':>8} " + " ".join(f"{task:>10}" for task in tests), *table, sep="\n")


if __name__ == "__main__":
    main()
