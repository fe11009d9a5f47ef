"""Finding programs for a time: which trial is next, its score, the fresh process that confirms, other workers.

Guarantees that each score is of a file alone, and that test is scored once. Knows nothing of how a method works.
"""
