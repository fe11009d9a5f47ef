"""The versions that CI tries are the ends of the ranges that the package declares."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent


def pins(file):
    lines = [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


@pytest.mark.parametrize("name", ["optuna", "torch", "transformers"])
def test_the_versions_that_are_tried_are_the_ends_of_the_declared_ranges(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [declared] = [r.specifier for r in map(Requirement, project["dependencies"]) if r.name == name]
    lowest, newest, ours = (Version(pins(f)[name]) for f in (".ci/lowest.txt", ".ci/newest.txt", "constraints.txt"))
    bounds = {each.operator: Version(each.version) for each in declared}
    assert bounds == {">=": lowest, "<": Version(f"{newest.major}.{newest.minor + 1}")}
    assert lowest <= ours <= newest
