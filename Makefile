# make demo: the whole measurement on the laboratory's models.  make test: the tests.
PYTHON ?= python3

.PHONY: demo test

demo: .venv/ready
	bash runs/demo.sh .venv/bin

test: .venv/ready
	.venv/bin/pytest

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
