"""Stop strings, found where lm-eval finds them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_EXTRA_TOKENS = 2  # lm-eval's: a text may become other tokens than those that the tokenizer makes of it


class StopStrings:
    """Looks at the end of an answer, after each token, as lm-eval's stopping criterion does."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        self._tokenizer = tokenizer
        self._windows: dict[str, int] = {}

    def found(self, tokens: Sequence[int], stops: Sequence[str]) -> bool:
        """Tell whether one of some texts is among the last tokens.

        Args:
            tokens: of the answer so far, at least one.
            stops: the texts.
        """
        texts: dict[int, str] = {}
        for stop in stops:
            window = self._window(stop)
            if window not in texts:
                texts[window] = self._tokenizer.decode(list(tokens[-window:]))
            if stop in texts[window]:
                return True
        return False

    def _window(self, stop: str) -> int:
        """Return how many tokens are looked at for a text."""
        if stop not in self._windows:
            self._windows[stop] = len(self._tokenizer.encode(stop, add_special_tokens=False)) + _EXTRA_TOKENS
        return self._windows[stop]
