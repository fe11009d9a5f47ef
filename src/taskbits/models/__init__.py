"""The given M: loading it, asking it, and leaving it as it was.

Guarantees that fast outputs are those of one row at a time. Knows nothing of programs and of what was measured.
"""
