"""What is asked: rows, templates, metrics and their scores, read from files, the hub, the harness or Python objects.

Guarantees that every row can be asked and judged before anything runs. Knows nothing of models and programs.
"""
