"""A model's tokenizer as files: its vocabulary, additions to it, and writing it beside a merged model."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from evomerge.errors import MergeFailed

_SELF_CONTAINED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
TOKENIZER_FILES = (*_SELF_CONTAINED, "tokenizer.model", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt")


class NewToken(NamedTuple):
    """A token that another model's tokenizer has.

    flags: how an added token is matched (special, lstrip, ...) as tokenizer.json says it; None = an ordinary token.
    score: of a Unigram token.
    """

    content: str
    flags: tuple[tuple[str, Any], ...] | None = None
    score: float | None = None


@dataclass(frozen=True)
class Tokenizer:
    """The tokenizer files of a folder, and tokens to append to them. Equal tokenizers write equal files.

    name: of the model, for messages. added: new tokens, which get the ids after the last one in use.
    """

    folder: Path
    name: str
    added: tuple[NewToken, ...] = ()

    @cached_property
    def vocabulary(self) -> Mapping[str, int]:
        """Token -> id, additions included.

        Raises:
            MergeFailed: there are no tokenizer files, or they make no sense.
        """
        own = _vocabulary(self._content)
        start = max(own.values(), default=-1) + 1
        return {**own, **{token.content: start + i for i, token in enumerate(self.added)}}

    @cached_property
    def _content(self) -> dict[str, Any]:
        """What tokenizer.json holds; made by transformers where only older files exist."""
        path = self.folder / "tokenizer.json"
        try:
            if path.exists():
                content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            else:
                from transformers import AutoTokenizer

                content = json.loads(AutoTokenizer.from_pretrained(self.folder).backend_tokenizer.to_str())
            _vocabulary(content)
        except Exception as error:  # transformers raises whatever its many tokenizer classes raise
            raise MergeFailed(f"{self.name}: its tokenizer cannot be read ({_first_line(error)})") from None
        return content

    def tokens_beyond(self, known: Mapping[str, int]) -> list[NewToken]:
        """Return this tokenizer's tokens that are not in `known`, in the order of their ids."""
        flagged = {token["content"]: token for token in self._content.get("added_tokens", [])}
        model = self._content["model"]
        scores = dict(model["vocab"]) if isinstance(model["vocab"], list) else {}
        found = []
        for content, _ in sorted(self.vocabulary.items(), key=lambda item: item[1]):
            if content not in known:
                flags = {k: v for k, v in flagged.get(content, {}).items() if k not in ("id", "content")}
                score = scores.get(content)
                found.append(NewToken(content, tuple(sorted(flags.items())) if content in flagged else None, score))
        return found

    def with_tokens(self, added: Sequence[NewToken]) -> "Tokenizer":
        """Return this tokenizer with tokens appended."""
        return Tokenizer(self.folder, self.name, (*self.added, *added))

    def write(self, out: Path) -> None:
        """Write the tokenizer into a folder, with the generation settings beside it."""
        for file in (*TOKENIZER_FILES, "generation_config.json"):
            if (self.folder / file).exists():
                shutil.copyfile(self.folder / file, out / file)
        if not self.added:
            return
        for file in set(TOKENIZER_FILES) - set(_SELF_CONTAINED):
            (out / file).unlink(missing_ok=True)  # they know nothing of the new tokens
        content = _extended(self._content, self.vocabulary, self.added)
        (out / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        _extend_config(out / "tokenizer_config.json", self.vocabulary, self.added)

    def load(self) -> Any:
        """Return the transformers tokenizer."""
        from transformers import AutoTokenizer

        if not self.added:
            return AutoTokenizer.from_pretrained(self.folder)
        with TemporaryDirectory(prefix="evomerge-tokenizer-") as folder:
            self.write(Path(folder))
            shutil.copyfile(self.folder / "config.json", Path(folder) / "config.json")
            return AutoTokenizer.from_pretrained(folder)


def _vocabulary(content: Mapping[str, Any]) -> dict[str, int]:
    vocab = content["model"]["vocab"]
    known = {token: i for i, (token, _) in enumerate(vocab)} if isinstance(vocab, list) else dict(vocab)
    return {**known, **{token["content"]: token["id"] for token in content.get("added_tokens", [])}}


def _extended(content: Mapping[str, Any], vocabulary: Mapping[str, int], added: Sequence[NewToken]) -> dict[str, Any]:
    """Return tokenizer.json with new tokens.

    Every token, the added ones too, goes into the model's own vocabulary: the library numbers added tokens that it
    does not find there by itself.
    """
    model = dict(content["model"])
    by_id = sorted(vocabulary.items(), key=lambda item: item[1])
    if isinstance(model["vocab"], list):
        model["vocab"] = _unigram(model["vocab"], by_id, {token.content: token.score for token in added})
    else:
        model["vocab"] = dict(by_id)
    entries = list(content.get("added_tokens", []))
    entries += [{"id": vocabulary[t.content], "content": t.content, **dict(t.flags)} for t in added if t.flags]
    return {**content, "model": model, "added_tokens": sorted(entries, key=lambda entry: entry["id"])}


def _unigram(
    vocab: Sequence[Sequence[Any]], by_id: Sequence[tuple[str, int]], scores: Mapping[str, float | None]
) -> list[list[Any]]:
    """Return a Unigram vocabulary, in which a token's place is its id; unused ids get a name that no text has."""
    lowest = min((float(score) for _, score in vocab), default=0.0)
    entries = [[f"<unused-id-{i}>", lowest] for i in range(by_id[-1][1] + 1)]
    for token, number in by_id:
        own = float(vocab[number][1]) if number < len(vocab) else scores.get(token)
        entries[number] = [token, lowest if own is None else own]
    return entries


def _extend_config(path: Path, vocabulary: Mapping[str, int], added: Sequence[NewToken]) -> None:
    """Add the new tokens that have flags to tokenizer_config.json's list, where it keeps one."""
    if not path.exists():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    listed = config.get("added_tokens_decoder")
    if isinstance(listed, dict):
        for token in added:
            if token.flags:
                listed[str(vocabulary[token.content])] = {"content": token.content, **dict(token.flags)}
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
