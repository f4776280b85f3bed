"""Chat templates that a recipe can name: the published formats, as short Jinja texts of our own."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from evomerge.checkpoint._json import read_json_object, write_json
from evomerge.checkpoint.tokenizer._tokenizer import Tokenizer
from evomerge.errors import InvalidInput

_ALPACA = """\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ message.content + '\\n\\n' }}
{%- elif message.role == 'user' -%}{{ '### Instruction:\\n' + message.content + '\\n\\n' }}
{%- elif message.role == 'assistant' -%}{{ '### Response:\\n' + message.content + eos_token + '\\n\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '### Response:\\n' }}{%- endif -%}
"""
_CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
_EXAONE = """\
{%- for message in messages -%}
{%- if loop.first and message.role != 'system' -%}{{ '[|system|][|endofturn|]\\n' }}{%- endif -%}
{{ '[|' + message.role + '|]' + message.content + ('' if message.role == 'user' else '[|endofturn|]') + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '[|assistant|]' }}{%- endif -%}
"""
_LLAMA3 = """\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}
"""
_MISTRAL = """\
{{- bos_token -}}
{%- set said = namespace(system='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}{%- set said.system = message.content + '\\n\\n' -%}
{%- elif message.role == 'user' -%}{{ '[INST] ' + said.system + message.content + ' [/INST]' }}
{%- set said.system = '' -%}
{%- else -%}{{ ' ' + message.content + eos_token }}
{%- endif -%}
{%- endfor -%}
"""
TEMPLATES = {"alpaca": _ALPACA, "chatml": _CHATML, "exaone": _EXAONE, "llama3": _LLAMA3, "mistral": _MISTRAL}


def chat_template(requested: str, tokenizers: Sequence[Tokenizer]) -> str | None:
    """Return the Jinja text of the chat template that a recipe sets.

    Args:
        requested: the name of a template, "auto" or a Jinja text. "auto" is the one that most of the models share,
            the first of them where as many share another.
        tokenizers: of the recipe's models, in its order.

    Returns:
        The text, or None for "auto" where no model has one.

    Raises:
        InvalidInput: a model's own template cannot be read.
    """
    if requested != "auto":
        return TEMPLATES.get(requested, requested)
    found = Counter(text for text in map(_own_template, tokenizers) if text)
    return found.most_common(1)[0][0] if found else None


def _own_template(tokenizer: Tokenizer) -> str | None:
    file, config = tokenizer.folder / "chat_template.jinja", tokenizer.folder / "tokenizer_config.json"
    if file.exists():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{file}: cannot be read as text ({error})") from None
    template = read_json_object(config).get("chat_template") if config.exists() else None
    return template if isinstance(template, str) else None


def write_chat_template(text: str, out: Path) -> None:
    """Give the tokenizer in a folder a chat template.

    Args:
        text: the Jinja text.
        out: the folder.

    Raises:
        InvalidInput: its tokenizer_config.json cannot be read.
    """
    (out / "chat_template.jinja").write_text(text, encoding="utf-8")
    config = out / "tokenizer_config.json"
    if config.exists():
        settings = read_json_object(config)
        if settings.pop("chat_template", None) is not None:  # two templates would compete
            write_json(config, settings)
