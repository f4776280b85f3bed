"""Japanese math as in Akiba 2024: right is a last number that is right in an answer that is in Japanese."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

JAPANESE_SHARE = 0.5  # of an answer's letters that are kana or kanji, from which on it counts as Japanese
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_TEMPLATE = (
    "以下に、あるタスクを説明する指示があります。リクエストを適切に完了するための回答を日本語で記述してください。"
    "一歩一歩考えましょう。\n\n### 指示:\n{question}\n\n### 応答:"
)


def splits(**_: Any) -> dict[str, Any]:
    """Return the search items as `validation` and MGSM-JA as `test`, with `question` and `answer_number`."""
    from datasets import load_dataset

    return {
        "validation": load_dataset("SakanaAI/gsm8k-ja-test_250-1319", split="test"),
        "test": load_dataset("jbross-ibm-research/mgsm", "ja", split="test"),
    }


def prompt(doc: Mapping[str, Any]) -> str:
    """Return the instruction around a question."""
    return _TEMPLATE.format(question=doc["question"])


def last_number(text: str) -> float | None:
    """Return the last number of an answer, full-width digits included, or None."""
    found = _NUMBER.findall(unicodedata.normalize("NFKC", text))
    return float(found[-1].replace(",", "")) if found else None


def is_japanese(text: str) -> bool:
    """Whether at least half of the letters are kana or kanji, and some are kana."""
    letters = [character for character in text if character.isalpha()]
    kana = sum("\u3040" <= character <= "\u30ff" for character in letters)
    kanji = sum("\u4e00" <= character <= "\u9fff" for character in letters)
    return kana > 0 and kana + kanji >= JAPANESE_SHARE * len(letters)


def score(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return whether an answer is right (`acc`), and right in Japanese (`acc_ja`)."""
    right = last_number(results[0]) == float(str(doc["answer_number"]).replace(",", ""))
    return {"acc": float(right), "acc_ja": float(right and is_japanese(results[0]))}
