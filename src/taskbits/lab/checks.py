"""The metric of lab:instruction."""

from taskbits.lab.skills import operate


def follows(output: str, row: dict) -> float:
    """1.0 if the output is what the row's operation makes of the row's words, else 0.0."""
    return float(output.strip() == operate(row["kind"], row["words"], row["n"]))
