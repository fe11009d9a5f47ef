"""The container: any program survives the round trip, and no other bytes are taken for one."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbits.errors import UserError
from taskbits.program import Program
from taskbits.task import Frame

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}"), max_size=40)
some_texts = st.lists(texts.filter(bool), max_size=4).map(tuple)
frames = st.builds(Frame, texts.map(lambda text: text + "{question}"), some_texts, st.integers(1, 4096), some_texts)
settings = st.dictionaries(
    st.text("abcdef", min_size=1), st.integers(-99, 99) | st.floats(0.0, 9.0) | texts, max_size=4
)
programs = st.builds(
    Program,
    st.integers(0, 255),
    st.binary(min_size=6, max_size=6),
    frames,
    st.just("low_rank"),
    settings,
    st.binary(max_size=300),
)


@given(programs)
def test_round_trip(program):
    assert Program.from_bytes(program.to_bytes()) == program


@given(programs, st.data())
def test_any_flipped_byte_is_an_error(program, data):
    content = bytearray(program.to_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(UserError):
        Program.from_bytes(bytes(content))


@given(programs, st.data())
def test_truncation_is_an_error(program, data):
    content = program.to_bytes()
    with pytest.raises(UserError):
        Program.from_bytes(content[: data.draw(st.integers(0, len(content) - 1))])


@given(st.binary(max_size=200))
def test_hostile_bytes_with_a_good_checksum_give_a_program_or_a_clear_error(body):
    content = b"tbp\x01" + body
    try:
        Program.from_bytes(content + zlib.crc32(content).to_bytes(4, "little"))
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "head",
    [
        '{"prompt":"{x.__class__}","runner":"plain"}',
        '{"prompt":"{x:>999999999}","runner":"plain"}',
        '{"prompt":"{0}","runner":"plain"}',
        '{"prompt":"x"}',
        '{"prompt":1,"runner":"plain"}',
        "[]",
        "nonsense",
        '{"prompt":"x","runner":"plain","max_new_tokens":999999999}',
        '{"prompt":"x","runner":"plain","stop":[""]}',
        '{"prompt":"x","runner":"plain","settings":{"a":[1]}}',
        '{"prompt":"x","runner":"plain","evil":1}',
        "[" * 5000,
    ],
)
def test_hostile_frames_are_refused(head):
    size = len(head)
    sizes = bytes([size]) if size < 128 else bytes([size % 128 + 128, size // 128])
    content = b"tbp\x01\x00abcdef\x01" + sizes + head.encode()
    with pytest.raises(UserError):
        Program.from_bytes(content + zlib.crc32(content).to_bytes(4, "little"))
