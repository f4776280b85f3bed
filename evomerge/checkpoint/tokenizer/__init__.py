"""A model's tokenizer as files: its vocabulary, tokens of other models joined to it, its chat template.

Must not import the rest of `checkpoint` (but for reading JSON), nor the engine: which token's rows are merged from
which model is not decided here.
"""

from evomerge.checkpoint.tokenizer._chat_template import TEMPLATES, chat_template, write_chat_template
from evomerge.checkpoint.tokenizer._tokenizer import TOKENIZER_PATTERNS, Tokenizer
from evomerge.checkpoint.tokenizer._union import NewToken

__all__ = ["TEMPLATES", "TOKENIZER_PATTERNS", "NewToken", "Tokenizer", "chat_template", "write_chat_template"]
