"""The README's examples run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_readme_examples(tmp_path):
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 2
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-euc", "\n".join(blocks)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )
    assert result.returncode == 0, result.stderr
    outputs = result.stdout.splitlines()
    assert outputs[-1].startswith('"') and outputs.count(outputs[-1]) == 2  # run and the standalone file agree
    assert (tmp_path / "study/report.html").exists()


def test_readme_example_in_python(tmp_path):
    [block] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    result = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Measurement(" in result.stdout and "Score(" in result.stdout
