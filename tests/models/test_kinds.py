"""Kinds of models that are told apart by what of the fast ways holds for them; benchmarks/kinds.py walks over all."""

import importlib.util
from pathlib import Path

import pytest

_FILE = Path(__file__).parents[2] / "benchmarks" / "kinds.py"
_SPEC = importlib.util.spec_from_file_location("kinds", _FILE)
kinds = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(kinds)

EXPECTED = {
    "llama": ("fast", "float64"),
    "gpt2": ("fast", "float64"),
    "gemma3_text": ("padded", "float64"),  # windows
    "gemma2": ("singly", "float64"),  # padding gives NaN in float64
    "gpt_neo": ("padded", "float64"),  # windows, named otherwise
    "bloom": ("singly", "float64"),  # so does it here
    "mixtral": ("fast", "float32"),  # no kernel for experts in float64
    "openai-gpt": ("singly", "float64"),  # no cache
    "falcon_mamba": ("singly", "float64"),  # recurrent
    "bert": ("singly", "float64"),  # looks ahead
    "bart": ("singly", "float64, choices are refused"),  # its loss is not that of the next token
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_what_is_scored_is_what_single_rows_give(kind):
    assert kinds.verdict(kind) == EXPECTED[kind]
