"""A search over short texts: hill climbing by small edits, under a gain that weighs worth against bytes.

Knows nothing of models or tasks: the gain, the texts to start from and a source of new pieces are given.
"""

import random
import re
from collections.abc import Callable, Sequence

_KEPT = 4  # texts that edits begin from


def climb(
    gain: Callable[[str], float], starts: Sequence[str], tries: int, seed: int, progress: Callable[[int, int], None]
) -> list[str]:
    """The best texts found, best first, four at most: of the starts and of edits of the best ones, `tries` in all.

    An edit deletes a span of words, replaces or inserts a span by one of another start, swaps two spans, or deletes
    some letters. Words keep the white space before them. gain: of a text, the more the better.
    """
    draw = random.Random(seed)
    starts = list(dict.fromkeys(starts))[: max(1, tries // 2)]
    known: dict[str, float] = {}

    def look(text: str) -> None:
        if text not in known:
            progress(min(len(known), tries - 1), tries)
            known[text] = gain(text)

    for text in starts:
        look(text)
    for _ in range(20 * tries):  # most edits were tried before once the search has settled
        if len(known) >= tries:
            break
        best = sorted(known, key=known.__getitem__, reverse=True)[:_KEPT]
        look(_edited(draw.choice(best), draw.choice(starts), draw))
    return sorted(known, key=lambda text: (-known[text], len(text)))[:_KEPT]


def _edited(text: str, other: str, draw: random.Random) -> str:
    words, new = re.findall(r"\s*\S+|\s+", text), re.findall(r"\s*\S+|\s+", other)
    begin, end = _span(len(words), draw)
    kind = draw.choice(("delete", "delete", "replace", "insert", "swap", "letters"))
    if kind == "delete":
        return "".join(words[:begin] + words[end:])
    if kind == "letters" and text:
        at = draw.randrange(len(text))
        return text[:at] + text[at + 1 + draw.randrange(3) :]
    if kind == "swap":
        other_begin, other_end = _span(len(words) - end, draw)
        after = words[end:]
        return "".join(
            words[:begin] + after[other_begin:other_end] + after[:other_begin] + words[begin:end] + after[other_end:]
        )
    first, last = _span(len(new), draw)
    return "".join(words[:begin] + new[first:last] + words[end if kind == "replace" else begin :])


def _span(count: int, draw: random.Random) -> tuple[int, int]:
    """A span of a list: short ones more often than long ones."""
    begin = draw.randint(0, count)
    return begin, min(count, begin + int(draw.expovariate(0.5)) + 1)
