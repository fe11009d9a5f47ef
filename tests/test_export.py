"""The standalone file: a payload, and behind it a zip application that Python finds whatever the payload is."""

import zipimport

from hypothesis import given, settings
from hypothesis import strategies as st

from taskbits.export import standalone
from taskbits.program import Program
from taskbits.task import Frame

headers = st.sampled_from([b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6"])
payloads = st.lists(headers | st.binary(max_size=50), max_size=6).map(b"".join)


@settings(max_examples=30, deadline=None)
@given(payload=payloads)
def test_python_finds_the_code_behind_any_payload(tmp_path_factory, payload):
    program = Program(1, b"abcdef", Frame("{x}\n"), "coded", {"start": "", "count": 5, "heat": 1}, payload)
    content = standalone(program, "float64")
    file = tmp_path_factory.mktemp("alone") / "alone.py"
    file.write_bytes(content)
    assert content.startswith(payload) and len(content) < len(payload) + 500
    source = zipimport.zipimporter(str(file)).get_source("__main__")
    assert "decode" in source
    compile(source, "alone", "exec")
