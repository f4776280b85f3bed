"""Rows and configurations of local tasks."""

from typing import Any

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPLIT_KEYS = {"training_split": "train", "validation_split": "validation", "test_split": "test"}

ACC = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
CHOICE: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "label",
    "metric_list": [*ACC, {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True}],
}


def choice_rows(count: int, start: int = 0, label: int | None = None) -> list[dict[str, Any]]:
    """Return distinct questions with three choices of different lengths."""
    rows = []
    for i in range(start, start + count):
        choices = [f"{LETTERS[i % 26]}", f"{LETTERS[(3 * i) % 26]}x{i}", f"{LETTERS[(7 * i + 1) % 26]}yz"]
        rows.append({"question": f"q{i}: {LETTERS[(5 * i) % 26]}", "choices": choices, "label": (i * 7 + i // 3) % 3})
        if label is not None:
            rows[-1]["label"] = label
    return rows


def text_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Return distinct texts of different lengths."""
    return [
        {"text": " ".join(f"w{i}{LETTERS[(i * j) % 26]}" for j in range(3 + i % 5))}
        for i in range(start, start + count)
    ]


def greedy(model: Any, tokenizer: Any, prompt: str, count: int) -> str:
    """Return the model's own continuation of a prompt."""
    import torch

    ids = torch.tensor([tokenizer.encode(prompt)])
    for _ in range(count):
        with torch.no_grad():
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
    return tokenizer.decode(ids[0, -count:])
