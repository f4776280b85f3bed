"""A model's tokenizer as files: its vocabulary, additions to it, and writing it beside a merged model."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from evomerge.checkpoint._json import read_json_object, write_json
from evomerge.checkpoint.tokenizer._union import (
    Merge,
    NewToken,
    extended,
    merges_of,
    unreachable,
    usable_merges,
    vocabulary_of,
)
from evomerge.errors import MergeFailed, first_line

_CHAT_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja")
_SELF_CONTAINED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", *_CHAT_TEMPLATES)
# Vocabularies of SentencePiece (tokenizer.model, spiece.model, tokenizer.model.v3), tiktoken and tekken, and of classes
# that are written in Python.
_VOCABULARIES = (
    *(
        "*.model",
        "*.model.v[0-9]*",
        "*.spm",
        "*.tiktoken",
        "tekken.json",
        "added_tokens.json",
        "vocab.json",
        "vocab.txt",
    ),
    *("merges.txt", "vocab.bpe", "encoder.json", "bpe.codes", "dict.txt", "normalizer.json", "emoji.json"),
)
TOKENIZER_PATTERNS = (*_SELF_CONTAINED, *_VOCABULARIES)
MAX_TOKEN_ID = 2**31 - 1


@dataclass(frozen=True)
class Tokenizer:
    """The tokenizer files of a folder, and tokens to append to them. Equal tokenizers write equal files.

    Attributes:
        folder: where the files are.
        name: of the model, for messages.
        added: new tokens, which get the ids after the last one in use.
        merges: of other tokenizers, for those new tokens that are BPE tokens.
    """

    folder: Path
    name: str
    added: tuple[NewToken, ...] = ()
    merges: tuple[Merge, ...] = ()

    @cached_property
    def vocabulary(self) -> Mapping[str, int]:
        """Token -> id, additions included.

        Raises:
            MergeFailed: there are no tokenizer files, or they make no sense.
        """
        own = vocabulary_of(self._content)
        start = max(own.values(), default=-1) + 1
        return {**own, **{token.content: start + i for i, token in enumerate(self.added)}}

    @cached_property
    def _content(self) -> dict[str, Any]:
        """What tokenizer.json holds; made by transformers where only older files exist."""
        path = self.folder / "tokenizer.json"
        try:
            if path.exists():
                content = read_json_object(path)
            else:
                from transformers import AutoTokenizer

                content = json.loads(AutoTokenizer.from_pretrained(self.folder).backend_tokenizer.to_str())
            _check_ids(vocabulary_of(content))
            merges_of(content)
        except Exception as error:  # transformers raises whatever its many tokenizer classes raise
            raise MergeFailed(f"{self.name}: its tokenizer cannot be read ({first_line(error)})") from None
        return content

    def token(self, content: str) -> NewToken:
        """Return one of this tokenizer's tokens with its flags and score, as far as it has them."""
        return self._tokens.get(content, NewToken(content))

    def spelled(self, token: str) -> bytes:
        """Return the bytes of text that a token stands for, whatever this tokenizer's way of writing it.

        Args:
            token: as the vocabulary has it: with letters for bytes (GPT-2), with blanks as underscores
                (SentencePiece), or plain.
        """
        if self.token(token).flags:
            return token.encode("utf-8", errors="surrogatepass")
        if self._spelling == "bytes":
            letters = _letters_of_bytes()
            if all(letter in letters for letter in token):
                return bytes(letters[letter] for letter in token)
        if self._spelling == "pieces":
            if re.fullmatch("<0x[0-9A-F]{2}>", token):
                return bytes([int(token[3:5], 16)])
            token = token.replace("\u2581", " ")
        return token.encode("utf-8", errors="surrogatepass")

    @cached_property
    def _spelling(self) -> Literal["bytes", "pieces", "plain"]:
        """How tokens are written, by what turns them back into text."""
        stages = json.dumps([self._content.get(key) for key in ("normalizer", "pre_tokenizer", "decoder")])
        if '"ByteLevel"' in stages:
            return "bytes"
        return "pieces" if "\\u2581" in stages or '"Metaspace"' in stages else "plain"

    @cached_property
    def _tokens(self) -> Mapping[str, NewToken]:
        """Token -> the same with flags or score, for those that have them."""
        model = self._content["model"]
        scores = model["vocab"] if isinstance(model["vocab"], list) else ()
        found = {token: NewToken(token, score=score) for token, score in scores}
        for entry in self._content.get("added_tokens", []):
            flags = tuple(sorted((key, value) for key, value in entry.items() if key not in ("id", "content")))
            found[entry["content"]] = NewToken(entry["content"], flags)
        return found | {token.content: token for token in self.added}

    def joined_with(self, other: "Tokenizer", rows: int) -> "Tokenizer":
        """Return this tokenizer with the tokens appended that another has beyond it, in the order of their ids.

        Args:
            other: the other tokenizer.
            rows: of the other model's embedding; tokens with larger ids mean nothing.
        """
        ids = sorted(other.vocabulary.items(), key=lambda item: item[1])
        beyond = [other.token(token) for token, number in ids if token not in self.vocabulary and number < rows]
        if all(token.flags is not None for token in beyond):
            return self.with_tokens(beyond)
        merges = [*merges_of(other._content), *usable_merges(other._content, other.added, other.merges)]
        known = vocabulary_of(self._content)
        new = (pair for pair in merges if not (pair[0] in known and pair[1] in known))
        return replace(self.with_tokens(beyond), merges=(*self.merges, *new))

    def with_tokens(self, added: Sequence[NewToken]) -> "Tokenizer":
        """Return this tokenizer with tokens appended.

        Args:
            added: tokens that it does not have.
        """
        return replace(self, added=(*self.added, *added))

    @property
    def unreachable(self) -> list[str]:
        """The added tokens that no text is encoded to (see `_union`)."""
        return unreachable(self._content, self.added, self.merges)

    def write(self, out: Path) -> None:
        """Write the tokenizer into a folder, with the generation settings beside it.

        Args:
            out: an existing folder.

        Raises:
            MergeFailed: there are no tokenizer files, or they make no sense.
            InvalidInput: its tokenizer_config.json cannot be read.
        """
        patterns = _SELF_CONTAINED if self.added else TOKENIZER_PATTERNS  # other vocabularies lack the new tokens
        for pattern in (*patterns, "generation_config.json"):
            for file in sorted(self.folder.glob(pattern)):
                target = out / file.relative_to(self.folder)
                if file.is_file():
                    target.parent.mkdir(exist_ok=True)
                    shutil.copyfile(file, target)
        if not self.added:
            return
        content = extended(self._content, self.vocabulary, self.added, self.merges)
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


def _extend_config(path: Path, vocabulary: Mapping[str, int], added: Sequence[NewToken]) -> None:
    """Add the new tokens that have flags to tokenizer_config.json's list, where it keeps one."""
    if not path.exists():
        return
    config = read_json_object(path)
    listed = config.get("added_tokens_decoder")
    if isinstance(listed, dict):
        for token in added:
            if token.flags:
                listed[str(vocabulary[token.content])] = {"content": token.content, **dict(token.flags)}
        write_json(path, config)


@cache
def _letters_of_bytes() -> Mapping[str, int]:
    """Return GPT-2's letter for each byte: itself where it can be printed, else the next free letter from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _check_ids(vocabulary: Mapping[str, Any]) -> None:
    """Raise ValueError for ids that are no numbers of rows."""
    for token, number in vocabulary.items():
        if type(number) is not int or not 0 <= number <= MAX_TOKEN_ID:
            raise ValueError(f"token {token[:40]!r} has the id {str(number)[:40]}, expected 0 to {MAX_TOKEN_ID}")
