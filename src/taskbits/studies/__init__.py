"""What was measured, kept: records, programs, who works on them, and what all that proves.

Guarantees that nothing half-written, done twice or damaged counts. Knows nothing of how a program is found or run.
"""
