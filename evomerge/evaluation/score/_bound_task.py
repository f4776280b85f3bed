"""One lm-eval task bound to a live model: item numbers in, what the task's `process_results` returns for each out."""

from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from evomerge.errors import EvomergeError, InvalidInput
from evomerge.evaluation import sandbox
from evomerge.evaluation._items import AnswerLimits, ModelRequest, TaskItem, TaskItems, answer_limit
from evomerge.evaluation._task_answers import RUNNER, processed, rebuilt_task
from evomerge.evaluation.generation import Generator, Prompt, generated_answers
from evomerge.evaluation.metrics import Measure, choice_margin
from evomerge.evaluation.score._batching import (
    BatchLimits,
    BatchPlan,
    TokenPair,
    make_batch_plan,
)
from evomerge.evaluation.score._forward import Forward, LogLikelihood
from evomerge.evaluation.score._gold import GoldObjective
from evomerge.evaluation.score._health import check_values, check_varied

_MAX_PLANS = 12
_PASSES = 3  # what a differentiated pass costs: forward, and back by inputs and by weights
_BATCH_TOKENS_PER_ROW = 256
_MAX_BATCH_TOKENS_CPU = 1024  # beyond, a CPU only loses its caches
_LENGTH_OF = {"acc_norm": len, "acc_bytes": lambda choice: len(choice.encode())}


@dataclass(frozen=True, slots=True)
class _Question:
    """A TokenPair in a tenth of its memory; an item's questions share a context that they have in common."""

    context: "array[int]"
    continuation: "array[int]"

    def pair(self) -> TokenPair:
        """Return it as what batches are laid out from."""
        return TokenPair(context=tuple(self.context), continuation=tuple(self.continuation))


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """What became of one item.

    Attributes:
        raw: what the task computed for the metric.
        soft: log-likelihood or margin of the right answer, or None.
    """

    raw: Any
    soft: float | None


class BoundTask:
    """Scores items of one task; tokens and batch layouts are kept between calls, answers are not."""

    def __init__(
        self,
        packed: TaskItems,
        language_model: Any,
        forward: Forward,
        generator: Generator,
        *,
        limits: AnswerLimits,
        batch_size: int,
        vocab_size: int,
    ):
        self.items = packed.items
        self._generator, self._limits = generator, limits
        self._packed, self._lm, self._forward = packed, language_model, forward
        self._batch_size, self._vocab_size = batch_size, vocab_size
        self._task = rebuilt_task(packed)
        self._code = sandbox.CodeProcess(RUNNER, replace(packed, items={}), sandbox.Limits()) if packed.code else None
        self._questions: dict[int, list[list[_Question]]] = {}
        self._prompts: dict[int, list[Prompt]] = {}
        self._plans: OrderedDict[tuple[tuple[int, ...], tuple[int, ...] | None, bool], BatchPlan] = OrderedDict()
        self.generates = packed.output_type == "generate_until"
        if self.generates:
            self._check_limit()

    def results(
        self, ids: Sequence[int], measures: Sequence[Measure], gold: Mapping[int, float] | None = None
    ) -> list[dict[int, ItemResult]]:
        """Return, for each measure, item number -> result.

        Args:
            ids: distinct item numbers, sorted: the layout of the batches follows from them.
            measures: what to compute of the answers.
            gold: item number -> weight of its right answer in the sum whose gradient is taken; None = no gradient.

        Raises:
            DegenerateModel: log-likelihoods are not finite, or constant.
            EvomergeError: the task's own code fails.
        """
        lengths: dict[int, float] = {}
        if self.generates:
            responses, lengths = self._generated(ids, counted=any(measure.counts_tokens for measure in measures))
        else:
            responses = self._log_likelihoods(ids, gold)
        filters = {measure.filter for measure in measures if not measure.counts_tokens}
        found = {name: self._processed(name, ids, responses) for name in filters}
        return [
            {i: ItemResult(raw=lengths[i], soft=None) for i in ids}
            if measure.counts_tokens
            else {i: self._result(i, measure, found[measure.filter][i], responses[i]) for i in ids}
            for measure in measures
        ]

    def _result(
        self, number: int, measure: Measure, metrics: Mapping[str, Any] | None, responses: list[Any]
    ) -> ItemResult:
        if metrics is None:
            if measure.direction == "min" or measure.aggregation != "mean":
                what = f"{self._packed.name}, item {number}: the code that scores the answer overran its limits"
                raise EvomergeError(f"{what}, and {measure.metric} has no value for that")
            return ItemResult(raw=0.0, soft=None)  # of a share that passes: it did not
        if measure.metric not in metrics:
            raise EvomergeError(
                f"{self._packed.name}, item {number}: the task gave no {measure.metric} (it gave: {', '.join(metrics)})"
            )
        return ItemResult(raw=metrics[measure.metric], soft=self._soft(self.items[number], measure.metric, responses))

    def aggregation(self, metric: str) -> Callable[..., Any]:
        """Return the function that makes a metric of all items' results."""
        found: Callable[..., Any] = self._task.aggregation()[metric]
        return found

    # -- answers of the model

    def _log_likelihoods(self, ids: Sequence[int], gold: Mapping[int, float] | None) -> dict[int, list[Any]]:
        """Return item number -> response per request, as HFLM would give it."""
        name, rolling = self._packed.name, self._packed.output_type == "loglikelihood_rolling"
        outcomes = iter(self._forward.run(self._plan(tuple(ids))) if gold is None else self._with_gradient(ids, gold))
        responses: dict[int, list[Any]] = {}
        totals: list[float] = []
        tokens: list[tuple[int, float]] = []
        for number in ids:
            responses[number] = []
            for questions in self._questions[number]:
                scored: list[LogLikelihood] = [next(outcomes) for _ in questions]
                check_values(name, number, [outcome.total for outcome in scored])
                total = sum(outcome.total for outcome in scored)
                responses[number].append(total if rolling else (total, scored[0].greedy))
                totals.append(total)
                for question, outcome in zip(questions, scored, strict=True):
                    tokens += zip(question.continuation, outcome.tokens, strict=True)
        check_varied(name, totals if self._packed.output_type == "multiple_choice" else (), tokens)
        return responses

    def _with_gradient(self, ids: Sequence[int], gold: Mapping[int, float]) -> list[LogLikelihood]:
        """Return the log-likelihood of each token pair of the items, taking the gradient of the right answers'.

        Either the passes that score all answers run backward, or the right answers go through the model once more, by
        themselves: whatever takes fewer tokens.
        """
        self._encode(ids)
        weights = self._gold_weights(ids, gold)
        right = tuple(index for index, weight in enumerate(weights) if weight)
        scored, together = self._plan(tuple(ids)), self._plan(tuple(ids), prefix=False)
        if not right:
            return self._forward.run(scored)
        apart = self._plan(tuple(ids), right, prefix=False)
        if _PASSES * together.tokens <= scored.tokens + _PASSES * apart.tokens:
            return self._forward.run(together, GoldObjective(together.order, together.lengths, weights))
        outcomes = self._forward.run(scored)
        self._forward.run(apart, GoldObjective(apart.order, apart.lengths, [weights[index] for index in right]))
        return outcomes

    def _generated(self, ids: Sequence[int], *, counted: bool) -> tuple[dict[int, list[Any]], dict[int, float]]:
        """Return item number -> the list of answers per request; and -> tokens of an answer, where they are counted."""
        for number in ids:
            if number not in self._prompts:
                self._prompts[number] = [self._prompt(number, request) for request in self.items[number].requests]
        repeats = self._packed.repeats
        prompts = [prompt for i in ids for prompt in self._prompts[i] for _ in range(repeats)]

        def read(prompt: Prompt, tokens: Sequence[int]) -> tuple[str, int]:
            return self._lm.text_of(prompt, tokens), self._lm.length_of(prompt, tokens) if counted else 0

        written = iter(generated_answers(self._packed.name, prompts, self._generator, self._limits, read))
        texts: dict[int, list[Any]] = {}
        lengths: dict[int, float] = {}
        for i in ids:
            rows = [[next(written) for _ in range(repeats)] for _ in self.items[i].requests]
            texts[i] = [[text for text, _ in row] for row in rows]
            lengths[i] = fmean(length for row in rows for _, length in row)
        return texts, lengths

    def _prompt(self, number: int, request: ModelRequest) -> Prompt:
        """Return a request for an answer. Raises InvalidInput when it does not fit the model."""
        prompt: Prompt = self._lm.prompt(*request.arguments)
        where = f"{self._packed.name}, item {number}"
        if not prompt.tokens:
            raise InvalidInput(f"{where}: its prompt becomes no token at all")
        if prompt.max_tokens < 1:
            raise InvalidInput(f"{where}: max_length, of prompt and answer together, leaves no token for the answer")
        self._check_tokens(where, prompt.tokens)
        return prompt

    @property
    def has_gold(self) -> bool:
        """Whether the log-likelihoods of right answers are among what is scored."""
        return self._packed.output_type in ("loglikelihood", "multiple_choice", "loglikelihood_rolling")

    def _gold_weights(self, ids: Sequence[int], gold: Mapping[int, float]) -> list[float]:
        """Return the weight of each token pair of the items: an item's for its right answers, 0 for the others."""
        weights: list[float] = []
        for number in ids:
            right = self._right_requests(self.items[number])
            for request, questions in enumerate(self._questions[number]):
                share = gold[number] / (len(right) * len(questions)) if request in right else 0.0
                weights += [share] * len(questions)
        return weights

    def _right_requests(self, item: TaskItem) -> list[int]:
        """Return which of an item's requests ask for a right answer."""
        if self._packed.output_type != "multiple_choice":
            return [0]
        return [index for index in self._right_choices(item) if 0 <= index < len(item.requests)] or [0]

    def _plan(self, ids: tuple[int, ...], only: tuple[int, ...] | None = None, *, prefix: bool = True) -> BatchPlan:
        """Return the batches for a set of items; the last few sets are kept, as candidates share them.

        Args:
            ids: of the items.
            only: positions of the wanted ones among their token pairs; None = all.
            prefix: whether what all begin with may be read once.
        """
        key = (ids, only, prefix)
        if key not in self._plans:
            self._encode(ids)
            requests = (questions for number in ids for questions in self._questions[number])
            pairs = [question.pair() for questions in requests for question in questions]
            self._plans[key] = make_batch_plan(
                pairs if only is None else [pairs[index] for index in only],
                limits=self._batch_limits(),
                sharing=self._forward.sharing,
                device=self._lm.device,
                prefix=prefix,
            )
            if len(self._plans) > _MAX_PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return self._plans[key]

    def _encode(self, ids: Sequence[int]) -> None:
        """Make the token pairs of items that have none yet."""
        for number in ids:
            if number not in self._questions:
                self._questions[number] = _compact(self._encoded(number))

    def _batch_limits(self) -> BatchLimits:
        tokens = self._batch_size * _BATCH_TOKENS_PER_ROW
        return BatchLimits(
            batch_size=self._batch_size,
            max_tokens=min(tokens, _MAX_BATCH_TOKENS_CPU) if self._lm.device.type == "cpu" else tokens,
            max_length=self._lm.max_length,
            vocab_size=self._vocab_size,
        )

    def _encoded(self, number: int) -> list[list[TokenPair]]:
        """Return the token pairs of an item's requests. Raises InvalidInput when they do not fit the model."""
        from evomerge.evaluation import _lm_eval

        where, item = f"{self._packed.name}, item {number}", self.items[number]
        encoded = []
        for request in item.requests:
            instance = _lm_eval.new_instance(request.kind, item.doc, request.arguments, request.index, 1)
            pairs = [TokenPair(context=left, continuation=right) for left, right in self._lm.encode(instance)]
            for pair in pairs:
                if not pair.context or not pair.continuation:
                    raise InvalidInput(f"{where}: its prompt or its answer becomes no token at all")
                if len(pair.continuation) > self._lm.max_length:
                    found = len(pair.continuation)
                    raise InvalidInput(f"{where}: its answer has {found} tokens, the model reads {self._lm.max_length}")
                self._check_tokens(where, pair.context + pair.continuation)
            encoded.append(pairs)
        return encoded

    def _check_tokens(self, where: str, tokens: Sequence[int]) -> None:
        """Raise InvalidInput for a token that the model does not have."""
        if max(tokens) >= self._vocab_size:
            raise InvalidInput(
                f"{where}: the tokenizer makes token {max(tokens)}, but the model has {self._vocab_size}; take the "
                "tokenizer that belongs to the model"
            )

    def _check_limit(self) -> None:
        """Raise InvalidInput when answers may be longer than the model can read."""
        for item in self.items.values():
            for request in item.requests:
                limit = answer_limit(request.arguments[1])
                if limit >= self._lm.max_length:
                    raise InvalidInput(
                        f"{self._packed.name}: answers may have {limit} tokens, but the model reads "
                        f"{self._lm.max_length} in all; set lm_eval: {{max_gen_toks: N}} below that"
                    )

    # -- the task's metrics

    def _processed(self, name: str, ids: Sequence[int], responses: Mapping[int, list[Any]]) -> dict[int, Any]:
        """Return item number -> the task's metrics, after one of its filters; None where code overran its limits."""
        repeats = self._packed.repeats
        found: dict[int, Any] = {}
        for i in ids:
            doc, given = self.items[i].doc, [list(got) if self.generates else [got] * repeats for got in responses[i]]
            text = f"{self._packed.name}, item {i}: the task could not score the answer"
            try:
                if self._code is None:
                    found[i] = processed(self._task, name, doc, given)
                else:
                    found[i] = self._code.ask((name, doc, given))
            except sandbox.CodeStopped:
                found[i] = None
            except EvomergeError as error:
                raise EvomergeError(f"{text}: {error}") from error
            except Exception as error:
                raise EvomergeError(f"{text}: {type(error).__name__}: {error}") from error
        return found

    def _soft(self, item: TaskItem, metric: str, responses: list[Any]) -> float | None:
        """Return how well the right answer did, as a graded number, where there is one."""
        if self._packed.output_type == "loglikelihood":
            return float(responses[0][0])
        if self._packed.output_type != "multiple_choice":
            return None
        choices = self._task.doc_to_choice(item.doc)
        length = _LENGTH_OF.get(metric)
        lengths = [max(1.0, float(length(choice))) for choice in choices] if length else None
        values = [value for value, _ in responses[: len(choices)]]
        return choice_margin(values, self._right_choices(item), lengths)

    def _right_choices(self, item: TaskItem) -> list[int]:
        """Return the positions of an item's right choices."""
        choices = self._task.doc_to_choice(item.doc)
        gold = self._task.doc_to_text(item.doc) if self._task.multiple_input else self._task.doc_to_target(item.doc)
        golds = [
            choices.index(answer) if isinstance(answer, str) and answer in choices else answer
            for answer in (gold if isinstance(gold, list) else [gold])
        ]
        return [index for index in golds if isinstance(index, int)]


def _compact(requests: Sequence[Sequence[TokenPair]]) -> list[list[_Question]]:
    """Return an item's pairs as they are kept: tuples of Python numbers would take 40 bytes a token."""
    contexts: dict[tuple[int, ...], array[int]] = {}
    return [
        [
            _Question(contexts.setdefault(pair.context, array("i", pair.context)), array("i", pair.continuation))
            for pair in pairs
        ]
        for pairs in requests
    ]
