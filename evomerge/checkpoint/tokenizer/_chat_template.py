"""Chat templates that a recipe can name: the published formats, as short Jinja texts of our own."""

import shutil
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
    """Return the default chat template of a folder, wherever it is kept: in newer folders in a file of its own."""
    file = tokenizer.folder / "chat_template.jinja"
    if file.exists():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{file}: cannot be read as text ({error})") from None
    for name in ("tokenizer_config.json", "chat_template.json"):
        path = tokenizer.folder / name
        template = read_json_object(path).get("chat_template") if path.exists() else None
        if isinstance(template, list):  # of named templates
            named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
            template = named.get("default")
        if isinstance(template, str):
            return template
    return None


def write_chat_template(text: str, out: Path) -> None:
    """Give the tokenizer in a folder a chat template, the only one.

    Args:
        text: the Jinja text.
        out: the folder.

    Raises:
        InvalidInput: its tokenizer_config.json cannot be read.
    """
    (out / "chat_template.jinja").write_text(text, encoding="utf-8")
    (out / "chat_template.json").unlink(missing_ok=True)
    shutil.rmtree(out / "additional_chat_templates", ignore_errors=True)
    for name in ("tokenizer_config.json", "processor_config.json"):
        if (out / name).exists():
            settings = read_json_object(out / name)
            if settings.pop("chat_template", None) is not None:  # two templates would compete
                write_json(out / name, settings)
