"""The laboratory: very small language models and three tasks, made by the project's own script.

`python -m taskbits.lab.train` writes everything that stands in `models/` and `tasks/`.
"""
