"""Payloads decode to what was encoded."""

from types import SimpleNamespace

import constriction
import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taskbits.programs import coding
from taskbits.programs.runners import full


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.integers(-300, 300), min_size=1, max_size=400))
def test_integers_come_back(values):
    coded = coding.encode_integers(numpy.array(values))
    fitted = coded.settings
    laplace = constriction.stream.model.QuantizedLaplace(-fitted["bound"], fitted["bound"], 0, fitted["spread"])
    decoder = constriction.stream.queue.RangeDecoder(numpy.frombuffer(coded.payload, "u4"))
    assert decoder.decode(laplace, len(values)).tolist() == values


@pytest.mark.parametrize(("scale", "size"), [(1.7, 20_000), (0.05, 20_000), (1.2, 60), (0.2, 900)])
@pytest.mark.parametrize("grouped", [True, False])
def test_numbers_take_about_their_ideal_bits(scale, size, grouped):
    values = numpy.rint(numpy.random.default_rng(0).laplace(0, scale, size))
    coded = coding.encode_integers(values, [size // 4, size - size // 4] if grouped else None)
    assert coded.ideal_bits / 8 - 1 <= len(coded.payload) <= 1.02 * coded.ideal_bits / 8 + 4  # whole words


def test_tensors_come_back_within_half_a_step():
    generator = torch.Generator().manual_seed(0)
    lm = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Linear(5, 3))
    changes = [0.05 * torch.randn(p.shape, generator=generator).numpy() for p in lm.parameters()]
    before = [p.detach().clone() for p in lm.parameters()]
    payload, fitted, _ = coding.encode_tensors(changes, spread=2.0)
    full.adapt(SimpleNamespace(model=lm), numpy.frombuffer(payload, full.WORD), **fitted)
    for old, new, change in zip(before, lm.parameters(), changes, strict=True):
        step = numpy.abs(change).mean() / 2.0
        assert numpy.abs((new - old).detach().numpy() - change).max() <= step


def decode_groups(coded, groups):
    """As the runners do."""
    decoder = constriction.stream.queue.RangeDecoder(numpy.frombuffer(coded.payload, "u4"))
    found = []
    for size in groups:
        scale = coded.settings["spread"] / 2 ** decoder.decode(constriction.stream.model.Uniform(8))
        bound = coded.settings["bound"]
        found += decoder.decode(constriction.stream.model.QuantizedLaplace(-bound, bound, 0, scale), size).tolist()
    return found


@settings(max_examples=50, deadline=None)
@given(groups=st.lists(st.lists(st.integers(-300, 300), min_size=1, max_size=60), min_size=1, max_size=8))
def test_groups_of_integers_come_back(groups):
    values = [value for group in groups for value in group]
    sizes = [len(group) for group in groups]
    assert decode_groups(coding.encode_integers(numpy.array(values), sizes), sizes) == values


def test_groups_of_unlike_spread_take_fewer_bits_together_than_one_distribution():
    random = numpy.random.default_rng(0)
    values = numpy.concatenate([numpy.rint(random.laplace(0, scale, 500)) for scale in (0.1, 0.15, 1.0, 0.2)])
    one, grouped = coding.encode_integers(values), coding.encode_integers(values, [500] * 4)
    assert len(grouped.payload) < 0.85 * len(one.payload)
    assert grouped.ideal_bits < 0.85 * one.ideal_bits
