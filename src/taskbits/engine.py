"""Rows of tokens through a causal LM, fast: what they share is computed and kept once, what has ended leaves.

Deals in token ids and knows nothing of texts, tasks or programs. In float64 none of what it does changes which token
is the likeliest; most of it is computed in float32, and again in float64 where that could make a difference.
"""

import copy
import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import torch
import transformers
from transformers.cache_utils import Cache, DynamicLayer

_BATCH_TOKENS = 16_384
_BATCH_ROWS = 128
_SHARED = 16  # a shorter shared start is not worth a cache
_SCORES = 2**24  # attention scores that are held at a time
_ROOM = 64  # tokens by which a cache grows
PROBE = 4  # rows that are computed in both precisions
_OURS = "taskbits"  # name of `_attend` among the implementations of attention

Advance = Callable[[int], None]


class Start:
    """The tokens that all of some rows share: their number, and the keys and values that the model has for them.

    At least one token of each row is left over. Short starts are not kept: `length` is 0 then.
    """

    def __init__(self, lm: transformers.PreTrainedModel, rows: list[list[int]]):
        self.length = min(common_length(rows), min(map(len, rows)) - 1)
        if len(rows) < 2 or self.length < _SHARED:
            self.length = 0
            return
        tokens = torch.tensor([rows[0][: self.length]]).to(lm.device)
        self.cache = lm(tokens, use_cache=True, logits_to_keep=1).past_key_values


class Reading:
    """What the model has read of `count` rows behind their shared start."""

    def __init__(self, lm: transformers.PreTrainedModel, start: Start, count: int):
        self._lm, self._start = lm, start
        self._fast = _is_plain(lm)
        self._mask = torch.zeros(count, 0, dtype=torch.bool, device=lm.device)
        if self._fast:
            self._cache = Cache(layer_class_to_replicate=_Growing)
        elif start.length:
            self._cache = copy.deepcopy(start.cache)
            self._cache.batch_repeat_interleave(count)
        else:
            self._cache = transformers.DynamicCache(config=lm.config)

    def read(self, tokens: torch.Tensor, real: torch.Tensor, logits: int) -> torch.Tensor:
        """Read on: tokens, and which of them are no padding, both (count, n). Returns logits of the last `logits`."""
        new = tokens.shape[1]
        self._mask = torch.cat([self._mask, real], 1)
        positions = self._start.length + (self._mask.cumsum(1) - 1).clamp(min=0)[:, -new:]
        inputs = {"past_key_values": self._cache, "use_cache": True, "logits_to_keep": logits}
        if not self._fast:
            before = torch.ones(len(tokens), self._start.length, dtype=torch.bool, device=tokens.device)
            mask = torch.cat([before, self._mask], 1).long()
            return self._lm(tokens, attention_mask=mask, position_ids=positions, **inputs).logits
        places = torch.arange(self._mask.shape[1], device=tokens.device)
        itself = places[-new:, None] == places
        # Padding reads itself, so that no row of the softmax is empty.
        mask = self._mask[:, None, None] & (places <= places[-new:, None]) | itself
        start = [(layer.keys, layer.values) for layer in self._start.cache.layers] if self._start.length else None
        inner = self._lm.config.get_text_config()._attn_implementation
        self._lm.set_attn_implementation(_OURS)
        try:
            return self._lm(tokens, attention_mask=mask, position_ids=positions, start=start, **inputs).logits
        finally:
            self._lm.set_attn_implementation(inner)

    def keep(self, rows: list[int]) -> None:
        """Forget all rows but these."""
        indices = torch.tensor(rows, device=self._mask.device)
        self._mask = self._mask[indices]
        self._cache.batch_select_indices(indices)


def generate(
    lm: transformers.PreTrainedModel,
    rows: list[list[int]],
    limit: int,
    ended: Callable[[list[int]], bool],
    sample: bool,
    advance: Advance,
) -> list[list[int]]:
    """What the model writes after each row, greedily or sampled: up to an end token, to `limit` tokens, or to where
    `ended(written)` is true. `advance(n)` is called when n more rows are done.

    A model in float64 writes greedily in float32 as long as its choice is clear (`drift`); a row in which it is not
    goes on in float64 from there.
    """
    start, written = Start(lm, rows), [[] for _ in rows]
    write = functools.partial(_write, lm, rows, written, limit, ended, sample, advance)
    left = batches(lm, start, rows, limit)
    doubtful: list[int] = []
    if pays(lm, len(rows)) and not sample:
        probe = rows[:: len(rows) // PROBE][:PROBE]
        exact = _last_logits(lm, start, probe)
        with single(lm):
            quick = Start(lm, rows)
            band = drift(exact, _last_logits(lm, quick, probe))
            # A model that is hardly ever sure (one at random) had better begin in float64.
            while left and len(doubtful) <= sum(map(bool, written)) / 2:
                doubtful += write(quick, left.pop(0), band)
    again = batches(lm, start, [rows[i] + written[i] for i in doubtful], limit)
    for batch in [*([doubtful[at] for at in some] for some in again), *left]:
        write(start, batch, 0.0)
    return written


def _write(
    lm: transformers.PreTrainedModel,
    rows: list[list[int]],
    written: list[list[int]],
    limit: int,
    ended: Callable[[list[int]], bool],
    sample: bool,
    advance: Advance,
    start: Start,
    batch: list[int],
    band: float,
) -> list[int]:
    """Write on in the rows of a batch. Returns those that were left where two tokens were nearer than `band`."""
    whole = [rows[i] + written[i] for i in batch]
    pad, width = lm.generation_config.pad_token_id or 0, max(map(len, whole))
    gaps = [[pad] * (width - len(row)) for row in whole]
    ids = [row[: start.length] + gap + row[start.length :] for row, gap in zip(whole, gaps, strict=True)]
    real = torch.tensor(
        [[True] * start.length + [False] * len(gap) + [True] * (width - start.length - len(gap)) for gap in gaps]
    )
    doubtful: list[int] = []

    def steps(lm, tokens, logits_processor, generation_config, **_):
        """The loop itself; around it, `generate` prepares what the model's generation config asks for."""
        ends = {end for end in _listed(generation_config.eos_token_id) if end is not None}
        reading, alive = Reading(lm, start, len(batch)), list(batch)
        new, new_real = tokens[:, start.length :], real.to(lm.device)[:, start.length :]
        while alive:
            # As the library does it, so that ties break in the same way.
            scores = logits_processor(tokens, reading.read(new, new_real, 1)[:, -1].to(torch.float32))
            new = torch.multinomial(scores.softmax(-1), 1)[:, 0] if sample else scores.argmax(-1)
            best = scores.topk(2).values if band else torch.zeros(len(alive), 2)
            unclear = (best[:, 0] - best[:, 1] < band).tolist()
            stays = []
            for at, (i, token) in enumerate(zip(alive, new.tolist(), strict=True)):
                if unclear[at]:
                    doubtful.append(i)
                    continue
                written[i].append(token)
                if token in ends or len(written[i]) == limit or ended(written[i]):
                    advance(1)
                else:
                    stays.append(at)
            if 0 < len(stays) < len(alive):
                reading.keep(stays)
                tokens, new = tokens[stays], new[stays]
            alive = [alive[at] for at in stays]
            new = new[:, None]
            tokens, new_real = torch.cat([tokens, new], 1) if alive else tokens, torch.ones_like(new, dtype=torch.bool)

    how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {"do_sample": False}
    tokens = torch.tensor(ids, device=lm.device)
    mask = real.long().to(lm.device)
    lm.generate(tokens, attention_mask=mask, max_new_tokens=limit, custom_generate=steps, **how)
    return doubtful


def _last_logits(lm: transformers.PreTrainedModel, start: Start, rows: list[list[int]]) -> torch.Tensor:
    found = []
    for row in rows:
        tokens = torch.tensor([row[start.length :]], device=lm.device)
        found.append(Reading(lm, start, 1).read(tokens, torch.ones_like(tokens, dtype=torch.bool), 1)[0, -1])
    return torch.stack(found)


def pays(lm: transformers.PreTrainedModel, rows: int) -> bool:
    """Whether so many rows are worth beginning in float32."""
    return lm.dtype == torch.float64 and rows >= 4 * PROBE


def drift(exact: torch.Tensor, quick: torch.Tensor) -> float:
    """How near two figures that are computed in float32 may be until one can't tell which is larger in float64.

    A hundred times the largest difference between the two ways to compute some of them.
    """
    return 100 * float((exact - quick).abs().max())


@contextmanager
def single(lm: transformers.PreTrainedModel) -> Iterator[None]:
    """Compute in float32 inside; afterwards the weights are what they were, to the last bit."""
    slots = [
        slot for module in lm.modules() for part in (module._parameters, module._buffers) for slot in part.values()
    ]
    kept = {id(slot): (slot, slot.data) for slot in slots if slot is not None and slot.dtype == torch.float64}
    for slot, data in kept.values():
        slot.data = data.to(torch.float32)
    try:
        yield
    finally:
        for slot, data in kept.values():
            slot.data = data


def batches(
    lm: transformers.PreTrainedModel, start: Start, rows: list[list[int]], more: int = 0, most: int = _BATCH_TOKENS
) -> list[list[int]]:
    """Indices of rows of like length, longest first; a batch has at most `most` tokens and fits in the free memory.

    more: tokens that will be added to each row.
    """
    lengths = [len(row) - start.length + more for row in rows]
    limit = min(most, _affordable(lm))
    order = sorted(range(len(rows)), key=lambda i: -lengths[i])
    found: list[list[int]] = []
    while order:
        count = min(_BATCH_ROWS, max(1, limit // max(1, lengths[order[0]])))
        if start.length and _has_windows(lm):
            # A window counts the padding between the start and a row, so there must be none.
            count = min(count, sum(lengths[i] == lengths[order[0]] for i in order))
        found.append(order[:count])
        order = order[count:]
    return found


def common_length(rows: list[list[int]]) -> int:
    """How many tokens all rows share at their start."""
    first, last = min(rows), max(rows)
    return next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _affordable(lm: transformers.PreTrainedModel) -> int:
    """About how many tokens' keys, values and activations fit in half of the free memory."""
    free = torch.cuda.mem_get_info()[0] if lm.device.type == "cuda" else psutil.virtual_memory().available
    config = lm.config.get_text_config()
    wide = 2 * config.num_hidden_layers + 16
    return free // 2 // (wide * config.hidden_size * lm.dtype.itemsize)


class _Growing(DynamicLayer):
    """A layer of a cache that has room for tokens to come, so that a new one does not copy the others."""

    def update(self, key_states, value_states, *args, **kwargs):
        used = self.get_seq_length()
        length = used + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._rooms = [key_states[:, :, :0], value_states[:, :, :0]]
        for at, states in enumerate((key_states, value_states)):
            if self._rooms[at].shape[-2] < length:
                room = states.new_empty(*states.shape[:2], length + _ROOM, states.shape[3])
                room[:, :, :used] = self._rooms[at][:, :, :used]
                self._rooms[at] = room
            self._rooms[at][:, :, used:length] = states
        self._show(length)
        return self.keys, self.values

    def batch_select_indices(self, indices):
        self._rooms = [room[indices] for room in self._rooms]
        self._show(self.get_seq_length())

    def _show(self, length: int) -> None:
        self.keys, self.values = (room[:, :, :length] for room in self._rooms)


def _attend(module, query, key, value, attention_mask, scaling=None, start=None, **kwargs):
    """Attention of shape (rows, n, heads, d) to each row's own keys and to those of the shared start, kept once.

    query (rows, heads, n, d), key and value (rows, groups, length, d), attention_mask (rows, 1, n, length) of bools.
    """
    rows, heads, new, width = query.shape
    groups = key.shape[1]
    scaling = width**-0.5 if scaling is None else scaling
    query = (query * scaling).reshape(rows, groups, heads // groups, new, width)
    before, before_values = start[module.layer_idx] if start else (key[:1, :, :0], value[:1, :, :0])
    out = query.new_empty(*query.shape[:4], value.shape[-1])
    at_once = max(1, _SCORES // (heads * new * (before.shape[-2] + key.shape[-2])))
    for part in torch.arange(rows).split(at_once):
        part = slice(int(part[0]), int(part[-1]) + 1)
        own = query[part] @ key[part, :, None].mT
        own = own.masked_fill(~attention_mask[part, :, None], -math.inf)
        if not start:
            out[part] = own.softmax(-1) @ value[part, :, None]
            continue
        # All rows' queries meet the start's keys in one product for each group.
        together = query[part].transpose(0, 1).flatten(1, 3)
        scores = (together @ before[0].mT).unflatten(1, own.shape[:1] + own.shape[2:4]).transpose(0, 1)
        chances = torch.cat([scores, own], -1).softmax(-1)
        of_start, of_own = chances.split([before.shape[-2], key.shape[-2]], -1)
        shared = of_start.transpose(0, 1).flatten(1, 3) @ before_values[0]
        out[part] = shared.unflatten(1, own.shape[:1] + own.shape[2:4]).transpose(0, 1)
        out[part] += of_own @ value[part, :, None]
    return out.reshape(rows, heads, new, -1).transpose(1, 2), None


transformers.AttentionInterface.register(_OURS, _attend)


def _is_plain(lm: transformers.PreTrainedModel) -> bool:
    """Whether `_attend` computes what the model's own attention does: seen once, from what both give."""
    if not hasattr(lm, "_taskbits_plain"):
        lm._taskbits_plain = not _has_windows(lm) and lm._supports_attention_backend and _agrees(lm)
    return lm._taskbits_plain


def _has_windows(lm: transformers.PreTrainedModel) -> bool:
    config = lm.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return bool(window) or kinds != {"full_attention"}


@torch.no_grad()
def _agrees(lm: transformers.PreTrainedModel) -> bool:
    rows = [[(7 * n + 3 * row) % lm.config.get_text_config().vocab_size for n in range(6)] for row in range(2)]
    tokens = torch.tensor(rows, device=lm.device)
    tokens[:, :3] = tokens[0, :3]
    start = Start.__new__(Start)
    start.length, start.cache = 3, lm(tokens[:1, :3], use_cache=True).past_key_values
    lm._taskbits_plain = True
    try:
        ours = Reading(lm, start, 2).read(tokens[:, 3:], torch.ones_like(tokens[:, 3:], dtype=torch.bool), 1)
    except (TypeError, ValueError, RuntimeError, AttributeError):
        return False
    theirs = lm(tokens).logits[:, -1:]
    return bool(torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max())))


def _listed(value) -> list:
    return value if isinstance(value, list) else [value]
