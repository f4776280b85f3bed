"""Greedy answers in a batch that stays full: a row that ends makes way for the next prompt.

A prompt is read but for its last token, several prompts at a time; what all of them begin with is read once. From then
on it is a row of the batch, whose every step gives each row a token. Rows are as independent as in a batch of one: each
has its own positions, its own end, and logits processors see its own tokens without padding.

Prompts are read right-padded: a causal model never looks at what follows, so neither mask nor positions are needed.

Shorter prompts come first. Rows that have been answered for a while then meet prompts that are longer than theirs were,
so that rows have about the same length, and attention reads little that a mask hides. And where short prompts leave
memory, more of them run at once: as many as the batch's number of the longest ones, with their answers, would take.
"""

import inspect
import itertools
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from evomerge.evaluation.generation._cache import KeysAndValues, RowCache, repeated
from evomerge.evaluation.generation._decoding import Decoding
from evomerge.evaluation.generation._protocol import Answer, Prompt
from evomerge.evaluation.generation._stops import StopStrings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MIN_PREFIX_TOKENS = 16  # reading it takes a forward pass of its own
_MAX_READ_TOKENS_CPU = 1024  # in one pass; beyond, a CPU only loses its caches
_TOKENS_PER_ROW = 256  # that a batch has memory for, on the average
_MOST_SHORT_ROWS = 4  # for one of the longest; logits and activations take memory, too


@dataclass(slots=True)
class _AnsweredPrompt:
    """A prompt that is being answered.

    Attributes:
        number: of the prompt.
        prompt: itself.
        tokens: of the prompt and of the answer so far.
    """

    number: int
    prompt: Prompt
    tokens: list[int]

    @property
    def answer(self) -> list[int]:
        """The tokens of the answer so far."""
        return self.tokens[len(self.prompt.tokens) :]


class RefillGenerator:
    """Runs one model object whose weights may change between calls; see the module for which models it is right."""

    def __init__(self, model: "PreTrainedModel", stops: StopStrings, *, device: Any, batch_size: int):
        """Note what to run.

        Args:
            model: a causal language model that takes masks, positions and a cache as they are given.
            stops: finds stop strings.
            device: where it takes token ids.
            batch_size: of the longest rows, those of a step.
        """
        self.model, self.device, self.batch_size = model, device, batch_size
        self.stops = stops
        tokens = batch_size * _TOKENS_PER_ROW
        self.read_tokens = min(tokens, _MAX_READ_TOKENS_CPU) if device.type == "cpu" else tokens
        self.held_tokens = tokens
        keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._extra = {"logits_to_keep": 1, "use_cache": True} if keeps else {"use_cache": True}

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding, deadline: float) -> Iterator[tuple[int, Answer]]:
        """Yield (index of a prompt, answer), as early as it ends.

        Args:
            prompts: in any order; shorter ones are answered first.
            decoding: how tokens are chosen.
            deadline: on the clock of `time.monotonic`.
        """
        batch = _Batch(self, prompts)
        while batch.fill() and time.monotonic() <= deadline:
            yield from batch.step(decoding)

    @torch.inference_mode()
    def run(self, ids: list[list[int]], cache: object, **inputs: Any) -> torch.Tensor:
        """Return the logits (rows, vocabulary) of the last token of each row, and extend the cache."""
        tokens = torch.tensor(ids, dtype=torch.long, device=self.device)
        logits = self.model(input_ids=tokens, past_key_values=cache, **self._extra, **inputs).logits
        return logits[:, -1]


class _Batch:
    """One call's rows: those that wait, those that are read, and those that are being answered."""

    def __init__(self, generator: RefillGenerator, prompts: Sequence[Prompt]):
        self._generator = generator
        self._prompts = prompts
        self._waiting = deque(sorted(range(len(prompts)), key=lambda number: len(prompts[number].tokens)))
        self._read: deque[tuple[int, list[KeysAndValues]]] = deque()
        self._rows: list[_AnsweredPrompt] = []
        self._prefix: Any = None
        start = _prefix_length([prompt.tokens for prompt in prompts])
        if start:
            self._prefix = DynamicCache()
            generator.run([list(prompts[0].tokens[:start])], self._prefix)
        self._start = start
        self._memory = generator.batch_size * max(map(_most_tokens, prompts))
        steps = max(prompt.max_tokens for prompt in prompts)
        self._cache = RowCache(*self._next_shape(), steps)

    @torch.inference_mode()
    def fill(self) -> bool:
        """Give free rows to the next prompts, and tell whether there is any row."""
        shared = [] if self._prefix is None else [(layer.keys, layer.values) for layer in self._prefix.layers]
        while self._read or self._waiting:
            prompt = self._prompts[self._next()]
            if len(self._rows) >= self._most_rows(prompt):
                break
            if len(prompt.tokens) > self._cache.end or len(self._rows) == self._cache.rows:
                self._cache.move(*self._next_shape())
            if not self._read:
                self._read_some()
            number, rest = self._read.popleft()
            self._cache.add(shared, rest)
            self._rows.append(_AnsweredPrompt(number, prompt, list(prompt.tokens)))
        return bool(self._rows)

    def _next(self, skip: int = 0) -> int:
        """Return the number of the prompt after next ones."""
        read = len(self._read)
        return self._read[skip][0] if skip < read else self._waiting[skip - read]

    def _most_rows(self, prompt: Prompt) -> int:
        """Return how many rows there may be once a prompt has one."""
        longest = max([_most_tokens(prompt), *(_most_tokens(row.prompt) for row in self._rows)])
        size = self._generator.batch_size
        return max(size, min(self._memory // longest, size * _MOST_SHORT_ROWS))

    def _next_shape(self) -> tuple[int, int]:
        """Return rows and columns of the memory that the rows and the next prompts need."""
        rows, columns = len(self._rows), 0
        for skip in range(len(self._read) + len(self._waiting)):
            prompt = self._prompts[self._next(skip)]
            if rows >= self._most_rows(prompt):
                break
            rows, columns = rows + 1, len(prompt.tokens)
        return rows, columns

    @torch.inference_mode()
    def step(self, decoding: Decoding) -> list[tuple[int, Answer]]:
        """Give each row a token, and return the answers that it ends."""
        choices = self._choices(decoding)
        ended = []
        for place in reversed(range(len(self._rows))):
            row, token = self._rows[place], choices[place]
            row.tokens.append(token)
            answer = row.answer
            stopped = token in decoding.ends or self._generator.stops.found(answer, row.prompt.stops)
            if stopped or len(answer) >= row.prompt.max_tokens:
                ended.append((row.number, Answer(tokens=tuple(answer), ended=stopped)))
                self._rows[place] = self._rows[-1]
                self._rows.pop()
                self._cache.remove(place)
        return ended

    def _choices(self, decoding: Decoding) -> list[int]:
        """Run the last token of each row and return what follows it."""
        cache = self._cache
        if cache.is_full:
            cache.move(*self._next_shape())
        lengths = torch.tensor(cache.lengths, device=self._generator.device)
        width = cache.end - cache.start + 1
        inputs = {"position_ids": lengths[:, None]}
        if min(cache.lengths) < width - 1:  # some are padded on the left
            columns = torch.arange(width, device=self._generator.device)
            inputs["attention_mask"] = (columns >= width - 1 - lengths[:, None]).long()
        logits = self._generator.run([row.tokens[-1:] for row in self._rows], cache.states, **inputs)
        cache.advance()
        return decoding.first_choices(logits, [row.tokens for row in self._rows])

    def _read_some(self) -> None:
        """Read the next prompts, as many as fit into one pass, up to their last token."""
        start, generator = self._start, self._generator
        numbers: list[int] = []
        for number in itertools.islice(self._waiting, generator.batch_size):
            width, count = len(self._prompts[number].tokens) - 1 - start, len(numbers) + 1
            if numbers and (count * width > generator.read_tokens or count * (start + width) > generator.held_tokens):
                break
            numbers.append(number)
        for _ in numbers:
            self._waiting.popleft()
        width = len(self._prompts[numbers[-1]].tokens) - 1 - start
        if not width:  # nothing but the prefix and a token, in all of them
            self._read += [(number, []) for number in numbers]
            return
        ids = [list(self._prompts[number].tokens[start:-1]) for number in numbers]
        cache = DynamicCache() if self._prefix is None else repeated(self._prefix, len(numbers))
        generator.run([row + [0] * (width - len(row)) for row in ids], cache)
        for row, (number, own) in enumerate(zip(numbers, ids, strict=True)):
            part = slice(row, row + 1), slice(None), slice(start, start + len(own))
            self._read.append((number, [(layer.keys[part], layer.values[part]) for layer in cache.layers]))


def _most_tokens(prompt: Prompt) -> int:
    """Return how many tokens a prompt has with its longest answer."""
    return len(prompt.tokens) + prompt.max_tokens


def _prefix_length(prompts: Sequence[tuple[int, ...]]) -> int:
    """Return how many tokens all prompts begin with, if they are worth reading once; one of each prompt is left."""
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)  # what these share, all share
    most = min(map(len, prompts)) - 1
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), most)
    length = min(length, most)
    return length if length >= _MIN_PREFIX_TOKENS else 0
