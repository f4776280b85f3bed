"""What tests of chat models and generated answers share: generation settings, a chat template, a digest of answers."""

from typing import Any

SETTINGS: dict[str, Any] = {
    "bos_token_id": 1,
    "pad_token_id": 0,
    "eos_token_id": [2, 17, 33],
    "repetition_penalty": 1.3,
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 5,
}
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m.role[0] }}: {{ m.content }}{{ eos_token if m.role == 'assistant' }}"
    "{% endfor %}{% if add_generation_prompt %}a: {% endif %}"
)
FUNCTIONS = '''
import zlib

def digest(doc, results):
    """A number that tells one answer from another."""
    return {"digest": zlib.crc32(results[0].encode()) / 2**32}
'''
