"""Rows of tokens through a causal LM, fast: what they share is computed and kept once, what has ended leaves.

Deals in token ids and knows nothing of texts, tasks or programs. In float64 none of what it does changes which token
is the likeliest; most of it is computed in float32, and again in float64 where that could make a difference.

What is fast is compared with single rows, once for each model (`way`). A kind of model for which it differs or fails
runs one row at a time, by the library's own `generate`.
"""

import copy
import functools
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import transformers
from transformers.cache_utils import Cache, DynamicLayer

from taskbits.errors import UserError
from taskbits.models import heads, memory

_BATCH_TOKENS = 16_384
_BATCH_ROWS = 128
_READ_TOKENS = 2048  # of a batch that is read alone, on a CPU: more don't fit in its caches and take thrice as long
_FEW_TOKENS = 512  # of a batch, from where on a shorter row had better begin another
_LIKE = 0.8  # of a batch's longest row
_SHARED = 16  # a shorter shared start is not worth a cache
_SCORES = 2**24  # attention scores that are held at a time
_ROOM = 64  # tokens by which a cache grows
PROBE = 4  # rows that are computed in both precisions
_OURS = "taskbits"  # name of `_attend` among the implementations of attention
OWN, LIBRARYS, SINGLY = "own attention", "the library's cache", "single rows"  # ways to read rows
_LENGTHS = (13, 10, 10, 15)  # of rows on which the ways are compared; they share six tokens
_FORCED = 3  # the last of their tokens, which come one by one
# Most by which logits may differ from those of a single row, over the largest. Much of some models is computed in
# float32 whatever the weights are.
_SAME = {torch.float64: 1e-5, torch.float32: 3e-4}
# What of a config speaks of attention that doesn't see all tokens; it may show in long rows only.
_PARTIAL = re.compile(r"window|attention_chunk|(?<!num_)local|sparse_att|index_topk|compress|block_size")

Advance = Callable[[int], None]


class Start:
    """The tokens that all of some rows share: their number, and the keys and values that the model has for them.

    At least one token of each row is left over. A start shorter than `least` is not kept: `length` is 0 then.
    """

    def __init__(self, lm: transformers.PreTrainedModel, rows: list[list[int]], least: int = _SHARED):
        self.length = min(common_length(rows), min(map(len, rows)) - 1)
        if len(rows) < 2 or self.length < least or way(lm) == SINGLY:
            self.length = 0
            return
        tokens = torch.tensor([rows[0][: self.length]]).to(input_device(lm))
        self.cache = lm(tokens, use_cache=True, logits_to_keep=1).past_key_values


class Reading:
    """What the model has read of `count` rows behind their shared start.

    A model that runs one row at a time reads one row, once.
    """

    def __init__(self, lm: transformers.PreTrainedModel, start: Start, count: int):
        self._lm, self._start, self._way = lm, start, way(lm)
        self._mask = torch.zeros(count, 0, dtype=torch.bool, device=input_device(lm))
        if self._way == OWN:
            self._cache = Cache(layer_class_to_replicate=_Growing)
        elif start.length:
            self._cache = copy.deepcopy(start.cache)
            self._cache.batch_repeat_interleave(count)
        elif self._way == LIBRARYS:
            self._cache = transformers.DynamicCache(config=lm.config)

    def read(self, tokens: torch.Tensor, real: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """Read on: tokens, and which of them are no padding, both (count, n).

        Returns logits (k, vocabulary) of those for which `at`, of the same shape, is true: row after row.
        """
        if self._way == SINGLY:
            return self._lm(tokens).logits[at]
        return heads.of_states(self._lm, self.read_states(tokens, real, at))

    def read_states(self, tokens: torch.Tensor, real: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """As `read`, but what `heads.of_states` makes the logits of; not for single rows."""
        new = tokens.shape[1]
        self._mask = torch.cat([self._mask, real], 1)
        positions = self._start.length + (self._mask.cumsum(1) - 1).clamp(min=0)[:, -new:]
        inputs = {"past_key_values": self._cache, "use_cache": True, "position_ids": positions}
        if self._way == LIBRARYS:
            before = torch.ones(len(tokens), self._start.length, dtype=torch.bool, device=tokens.device)
            mask = torch.cat([before, self._mask], 1).long()
            return heads.states(self._lm, tokens, at, attention_mask=mask, **inputs)
        places = torch.arange(self._mask.shape[1], device=tokens.device)
        itself = places[-new:, None] == places
        # Padding reads itself, so that no row of the softmax is empty.
        mask = self._mask[:, None, None] & (places <= places[-new:, None]) | itself
        inner = self._lm.config.get_text_config()._attn_implementation
        self._lm.set_attn_implementation(_OURS)
        try:
            # The start goes as one object: where layers lie on several devices, tensors in a list would be moved.
            return heads.states(self._lm, tokens, at, attention_mask=mask, start=self._start, **inputs)
        finally:
            self._lm.set_attn_implementation(inner)

    def keep(self, rows: list[int]) -> None:
        """Forget all rows but these."""
        indices = torch.tensor(rows)  # on the CPU: the cache's layers may lie on several devices
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

    The model's generation config is followed as `lm.generate` follows it for a row alone. A model in float64 writes
    greedily in float32 as long as its choice is clear (`drift`); where it is not, a row goes on in float64.
    Raises UserError if the library can't generate so, if the logits are not numbers, or if a row alone does not fit in
    the memory.
    """
    how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {"do_sample": False}
    how["max_new_tokens"] = limit
    rules = None if way(lm) == SINGLY else _rules(lm, rows, how)
    if rules is None:
        return [_write_singly(lm, row, ended, advance, how) for row in rows]
    with halving([], lambda: [0]):
        start, written = Start(lm, rows), [[] for _ in rows]
    write = functools.partial(_write, lm, rows, written, limit, ended, sample, advance, rules)
    left = batches(lm, start, rows, limit)
    doubtful: list[int] = []
    if not sample and pays(lm, len(rows)):
        probe = rows[:: len(rows) // PROBE][:PROBE]
        exact = _last_logits(lm, start, probe)
        with computing_in(lm, torch.float32):
            quick = Start(lm, rows)
            band = drift(exact, _last_logits(lm, quick, probe))
            # A model that is hardly ever sure (one at random) had better begin in float64.
            while left and math.isfinite(band) and len(doubtful) <= sum(map(bool, written)) / 2:
                doubtful += write(quick, left, band)
    again = batches(lm, start, [rows[i] + written[i] for i in doubtful], limit)
    left += [[doubtful[at] for at in some] for some in again]
    while left:
        write(start, left, 0.0)
    return written


def _write(
    lm: transformers.PreTrainedModel,
    rows: list[list[int]],
    written: list[list[int]],
    limit: int,
    ended: Callable[[list[int]], bool],
    sample: bool,
    advance: Advance,
    rules: tuple[set[int], list],
    start: Start,
    left: list[list[int]],
    band: float,
) -> list[int]:
    """Write on in the rows of the first of the batches that are left; what does not fit in the memory is left in two.

    Returns the rows that were given up where two tokens were nearer than `band`.
    """
    alive = left.pop(0)
    whole = [rows[i] + written[i] for i in alive]
    (ends, processors), width = rules, max(map(len, whole))
    gaps = [width - len(row) for row in whole]
    device = input_device(lm)
    new = torch.tensor([[0] * gap + row[start.length :] for row, gap in zip(whole, gaps, strict=True)]).to(device)
    real = torch.tensor([[False] * gap + [True] * (new.shape[1] - gap) for gap in gaps]).to(device)
    doubtful: list[int] = []
    with halving(left, lambda: alive):
        reading = Reading(lm, start, len(alive))
        while alive:
            # As the library does it, so that ties break in the same way.
            scores = reading.read(new, real, last(new)).to(device, torch.float32)
            require_numbers(scores)
            if processors:
                # Each row's own, on its own tokens: they count, penalise and forbid by what they find there.
                texts = [torch.tensor([rows[i] + written[i]]).to(device) for i in alive]
                scores = torch.cat(
                    [
                        processors[i](text, scores[at : at + 1])
                        for at, (i, text) in enumerate(zip(alive, texts, strict=True))
                    ]
                )
            new = torch.multinomial(scores.softmax(-1), 1)[:, 0] if sample else scores.argmax(-1)
            best = scores.topk(2).values if band else torch.zeros(len(alive), 2)
            unclear = (best[:, 0] - best[:, 1] < band).tolist()
            stays, going = [], alive
            for at, (i, token) in enumerate(zip(alive, new.tolist(), strict=True)):
                if unclear[at]:
                    doubtful.append(i)
                    continue
                written[i].append(token)
                if token in ends or len(written[i]) == limit or ended(written[i]):
                    advance(1)
                else:
                    stays.append(at)
            alive = [going[at] for at in stays]
            if 0 < len(stays) < len(going):
                reading.keep(stays)
                new = new[stays]
            new = new[:, None]
            real = torch.ones_like(new, dtype=torch.bool)
    return doubtful


def _rules(lm: transformers.PreTrainedModel, rows: list[list[int]], how: dict) -> tuple[set[int], list] | None:
    """The end tokens, and for each row what the model's generation config does to its scores (nothing: an empty list).

    None if it asks for more than that, such as beams. Raises UserError if the library can't follow it.
    """
    found = []

    def prepared(lm, tokens, logits_processor, generation_config, **_):
        found.append((logits_processor, generation_config))
        return tokens

    for row in rows:
        _library(lm, row, custom_generate=prepared, use_cache=False, **how)
        if not found[-1][0]:
            break
    processors, config = found[0]
    if config.get_generation_mode() not in ("greedy_search", "sample") or any(map(_remembers, processors)):
        return None
    return {end for end in _listed(config.eos_token_id) if end is not None}, [each for each, _ in found if each]


def _remembers(processor) -> bool:
    """Whether a logits processor computes with the model or keeps a state, so that no step of it can be repeated."""
    return isinstance(
        processor,
        transformers.UnbatchedClassifierFreeGuidanceLogitsProcessor | transformers.SynthIDTextWatermarkLogitsProcessor,
    )


def _write_singly(
    lm: transformers.PreTrainedModel, row: list[int], ended: Callable[[list[int]], bool], advance: Advance, how: dict
) -> list[int]:
    """What the library's `generate` writes after one row."""

    def stop(tokens, scores, **_):
        return torch.tensor([ended(tokens[0, len(row) :].tolist())]).to(tokens.device)

    def check(tokens, scores):
        require_numbers(scores)
        return scores

    # Of several beams, one that has ended may still lose.
    stops = [] if (lm.generation_config.num_beams or 1) > 1 else [stop]
    tokens = _library(lm, row, stopping_criteria=stops, logits_processor=[check], **how)
    advance(1)
    return tokens[0, len(row) :].tolist()


def _library(lm: transformers.PreTrainedModel, row: list[int], **how) -> torch.Tensor:
    """`lm.generate` for one row. Raises UserError with its reason if it can't."""
    tokens = torch.tensor([row]).to(input_device(lm))
    try:
        return lm.generate(tokens, attention_mask=torch.ones_like(tokens), return_dict_in_generate=False, **how)
    except UserError:
        raise
    except Exception as error:
        if _is_memory(error):
            raise UserError(f"an input of {len(row)} tokens does not fit in the memory: shorten it") from error
        raise UserError(
            f"the library can't generate with this model and its generation config: {_line(error)}"
        ) from error


def require_numbers(scores: torch.Tensor) -> None:
    """Raise UserError if there is NaN among the scores (..., vocabulary)."""
    if scores.amax(-1).isnan().any():
        raise UserError(
            "the model gives NaN instead of scores: its weights are damaged or have diverged, "
            "or its arithmetic does not hold their range"
        )


@contextmanager
def halving(left: list[list[int]], rows: Callable[[], list[int]]) -> Iterator[None]:
    """If the memory gives out inside, the rows that are not done go back to the batches that are left, as two.

    Raises UserError if it was one row only.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_memory(error):
            raise
        undone = rows()
        if len(undone) == 1:
            raise UserError(
                "one input alone does not fit in the memory: shorten it, or take a smaller model"
            ) from error
        half = len(undone) // 2
        left[:0] = [undone[:half], undone[half:]]


def _is_memory(error: Exception) -> bool:
    """Whether the memory gave out. On the CPU torch says so in words only."""
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error).lower() for word in words)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _last_logits(lm: transformers.PreTrainedModel, start: Start, rows: list[list[int]]) -> torch.Tensor:
    found = []
    for row in rows:
        tokens = torch.tensor([row[start.length :]]).to(input_device(lm))
        found.append(Reading(lm, start, 1).read(tokens, torch.ones_like(tokens, dtype=torch.bool), last(tokens))[0])
    return torch.stack(found)


def padded(
    lm: transformers.PreTrainedModel, rows: list[list[int]], width: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows padded on the right to (rows, longest), where the model takes its tokens; and which are no padding.

    width: at least so many columns.
    """
    width, device = max(width, *map(len, rows)), input_device(lm)
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows]).to(device)
    ends = torch.tensor([[len(row)] for row in rows]).to(device)
    return tokens, torch.arange(width, device=device) < ends


def last(tokens: torch.Tensor) -> torch.Tensor:
    """True in the last column only, of the shape of `tokens`."""
    return (torch.arange(tokens.shape[1], device=tokens.device) == tokens.shape[1] - 1).expand_as(tokens)


def pays(lm: transformers.PreTrainedModel, rows: int) -> bool:
    """Whether so many rows are worth beginning in float32."""
    if lm.dtype != torch.float64 or rows < 4 * PROBE or way(lm) == SINGLY:
        return False
    if torch.float32 not in _ways(lm):
        # What reads rows rightly in float64 does so in float32, if there it has numbers; `drift` tells if not.
        found = way(lm)
        with computing_in(lm, torch.float32):
            _ways(lm)[torch.float32] = found if computes(lm) else SINGLY
    return _ways(lm)[torch.float32] != SINGLY


def drift(exact: torch.Tensor, quick: torch.Tensor) -> float:
    """How near two figures that are computed in float32 may be until one can't tell which is larger in float64.

    A hundred times the largest difference between the two ways to compute some of them.
    """
    return 100 * float((exact - quick).abs().max())


@contextmanager
def computing_in(lm: transformers.PreTrainedModel, dtype: torch.dtype) -> Iterator[None]:
    """Compute in a smaller type inside; afterwards the weights are what they were, to the last bit.

    Constants stay in float32 at least: rounded further, they would move positions.
    """
    weights = {id(weight): (weight, dtype) for weight in lm.parameters()}
    constants = {id(buffer): (buffer, torch.float32) for buffer in lm.buffers()}
    kept = [
        (slot, slot.data, smaller)
        for slot, smaller in {**constants, **weights}.values()
        if slot.is_floating_point() and slot.element_size() > smaller.itemsize
    ]
    for slot, data, smaller in kept:
        slot.data = data.to(smaller)
    try:
        yield
    finally:
        for slot, data, _ in kept:
            slot.data = data


def batches(lm: transformers.PreTrainedModel, start: Start, rows: list[list[int]], more: int = 0) -> list[list[int]]:
    """Indices of rows of like length, longest first; a batch fits in the free memory.

    more: tokens that will be added to each row, one by one: then a batch is as large as may be.
    """
    lengths = [len(row) - start.length + more for row in rows]
    most = _READ_TOKENS if not more and input_device(lm).type == "cpu" else _BATCH_TOKENS
    limit = min(most, _affordable(lm))
    if lm.dtype != torch.float64:  # what a row gets may depend on its batch, which a little less memory must not change
        limit = most >> max(0, math.ceil(math.log2(most / max(1, limit))))
    order = sorted(range(len(rows)), key=lambda i: -lengths[i])
    found: list[list[int]] = []
    while order:
        longest = max(1, lengths[order[0]])
        count = min(_BATCH_ROWS, max(1, limit // longest))
        if not more:
            enough = math.ceil(_FEW_TOKENS / longest)
            count = min(count, len(order))
            count = next((n for n in range(enough, count) if lengths[order[n]] < _LIKE * longest), count)
        if way(lm) == SINGLY:
            count = 1
        elif start.length and way(lm) == LIBRARYS:
            # A window counts the padding between the start and a row, so there must be none.
            count = min(count, sum(lengths[i] == longest for i in order))
        found.append(order[:count])
        order = order[count:]
    return found


def common_length(rows: list[list[int]]) -> int:
    """How many tokens all rows share at their start."""
    first, last = min(rows), max(rows)
    return next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _affordable(lm: transformers.PreTrainedModel) -> int:
    """About how many tokens' keys, values and activations fit in half of the free memory, where there is least."""
    devices = {weight.device for weight in lm.parameters() if weight.device.type != "meta"}
    free = min(map(memory.available, devices))
    config = lm.config.get_text_config()
    layers = getattr(config, "num_hidden_layers", None) or len(list(lm.parameters())) // 8
    hidden = getattr(config, "hidden_size", None) or lm.get_input_embeddings().weight.shape[-1]
    return free // 2 // ((2 * layers + 16) * hidden * lm.dtype.itemsize)


def input_device(lm: transformers.PreTrainedModel) -> torch.device:
    """Where a model, which may lie on several devices, takes its tokens."""
    device = lm.get_input_embeddings().weight.device
    return lm.device if device.type == "meta" else device


def vocabulary(lm: transformers.PreTrainedModel) -> int:
    """Number of tokens that the model knows."""
    return getattr(lm.config.get_text_config(), "vocab_size", None) or len(lm.get_input_embeddings().weight)


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


def _attend(module, query, key, value, attention_mask, scaling=None, start=None, sliding_window=None, **kwargs):
    """Attention of shape (rows, n, heads, d) to each row's own keys and to those of the shared start, kept once.

    query (rows, heads, n, d), key and value (rows, groups, length, d), attention_mask (rows, 1, n, length) of bools.
    """
    if sliding_window:
        raise NotImplementedError("a window")
    rows, heads, new, width = query.shape
    groups = key.shape[1]
    scaling = width**-0.5 if scaling is None else scaling
    query = (query * scaling).reshape(rows, groups, heads // groups, new, width)
    shares = start is not None and start.length > 0
    layer = start.cache.layers[module.layer_idx] if shares else None
    before, before_values = (layer.keys, layer.values) if shares else (key[:1, :, :0], value[:1, :, :0])
    out = query.new_empty(*query.shape[:4], value.shape[-1])
    at_once = max(1, _SCORES // (heads * new * (before.shape[-2] + key.shape[-2])))
    for part in torch.arange(rows).split(at_once):
        part = slice(int(part[0]), int(part[-1]) + 1)
        own = query[part] @ key[part, :, None].mT
        own = own.masked_fill(~attention_mask[part, :, None], -math.inf)
        if not shares:
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


def way(lm: transformers.PreTrainedModel) -> str:
    """How the model reads rows in its present arithmetic: the fastest way that gives what single rows give.

    Seen once, from what the ways give for a few short rows. Raises UserError if the model can't read a single row.
    """
    ways, dtype = _ways(lm), lm.dtype
    if dtype not in ways:
        rows = _trial(lm)
        with torch.no_grad():
            truth = [_states(lm, row) for row in rows]
        trials = (OWN, LIBRARYS) if _grows(lm, rows[0], truth[0]) else ()
        ways[dtype] = next((each for each in trials if _agrees(lm, each, rows, truth)), SINGLY)
    return ways[dtype]


def is_causal(lm: transformers.PreTrainedModel) -> bool:
    """Whether what stands behind a token was seen to change nothing for it."""
    if not _ways(lm):
        way(lm)
    return any(each != SINGLY for each in _ways(lm).values())


def _ways(lm: transformers.PreTrainedModel) -> dict[torch.dtype, str]:
    return lm.__dict__.setdefault("_taskbits_ways", {})


@torch.no_grad()
def computes(lm: transformers.PreTrainedModel) -> bool:
    """Whether the model gives numbers in its present arithmetic: not all operations have a kernel for float64."""
    try:
        _states(lm, _trial(lm)[0])
        return True
    except UserError:
        return False


def _trial(lm: transformers.PreTrainedModel) -> list[list[int]]:
    """Some rows of tokens to compare the ways on."""
    size = vocabulary(lm)
    return [
        [(size // 2 + 7 * n + 3 * row * (n > 5)) % size for n in range(length)] for row, length in enumerate(_LENGTHS)
    ]


def _states(lm: transformers.PreTrainedModel, row: list[int]) -> torch.Tensor:
    """What the logits (tokens, vocabulary) of a row alone are made of: less work where there are many tokens."""

    def read(tokens: torch.Tensor) -> torch.Tensor:
        return heads.states(lm, tokens, torch.ones_like(tokens, dtype=torch.bool), use_cache=False)

    return _alone(lm, row, read)


def _whole(lm: transformers.PreTrainedModel, row: list[int]) -> torch.Tensor:
    """The logits (tokens, vocabulary) of a row alone."""
    return _alone(lm, row, lambda tokens: lm(tokens).logits[0])


def _alone(lm: transformers.PreTrainedModel, row: list[int], read: Callable) -> torch.Tensor:
    """What a model gives for a row alone. Raises UserError if it can't, or if it is no numbers."""
    try:
        found = read(torch.tensor([row]).to(input_device(lm)))
    except Exception as error:
        raise UserError(f"the model can't be run on text alone in {_name(lm.dtype)}: {_line(error)}") from error
    require_numbers(found)
    return found


@torch.no_grad()
def loss_is_surprisal(lm: transformers.PreTrainedModel) -> bool:
    """Whether the model's loss is the mean surprisal of each next token, as a standalone file that chooses takes it."""
    if "_taskbits_loss" not in lm.__dict__:
        row = _trial(lm)[0]
        tokens = torch.tensor([row]).to(input_device(lm))
        logits = _whole(lm, row)
        surprisal = float(torch.nn.functional.cross_entropy(logits[:-1].float(), tokens[0, 1:].to(logits.device)))
        try:
            loss = float(lm(tokens, labels=tokens).loss)
        except Exception:  # some take no labels
            loss = math.nan
        lm._taskbits_loss = abs(loss - surprisal) < max(1e-4, torch.finfo(lm.dtype).eps) * abs(surprisal)
    return lm._taskbits_loss


@torch.no_grad()
def _grows(lm: transformers.PreTrainedModel, row: list[int], truth: torch.Tensor) -> bool:
    """Whether generation, token by token, sees the logits of the whole row; then the model is causal."""
    tokens = torch.tensor([row]).to(input_device(lm))
    seen: list[torch.Tensor] = []

    def force(before, scores):
        seen.append(scores[0])
        return torch.full_like(scores, -math.inf).scatter(1, tokens[:, before.shape[1], None], 0.0)

    asked, lm.generation_config = lm.generation_config, transformers.GenerationConfig()
    try:
        lm.generate(tokens[:, :-_FORCED], max_new_tokens=_FORCED, do_sample=False, logits_processor=[force])
    except Exception:  # what it is, is said where generation is asked for
        return False
    finally:
        lm.generation_config = asked
    return _is_same(lm, torch.stack(seen), heads.of_states(lm, truth[-_FORCED - 1 : -1]))


@torch.no_grad()
def _agrees(lm: transformers.PreTrainedModel, each: str, rows: list[list[int]], truth: list[torch.Tensor]) -> bool:
    """Whether a way gives the true logits for padded rows with a shared start and without, on the way to their ends."""
    if each == OWN and (_has_windows(lm) or not lm._supports_attention_backend):
        return False
    _ways(lm)[lm.dtype] = each
    try:
        for least in (1, len(rows[0])):
            start = Start(lm, rows, least)
            for batch in batches(lm, start, rows):
                if not _batch_agrees(lm, start, [rows[i] for i in batch], [truth[i] for i in batch]):
                    return False
        return True
    except Exception as error:  # whatever goes wrong in a way, another may work
        if _is_memory(error):
            raise
        return False
    finally:
        del _ways(lm)[lm.dtype]


def _batch_agrees(
    lm: transformers.PreTrainedModel, start: Start, rows: list[list[int]], truth: list[torch.Tensor]
) -> bool:
    device = input_device(lm)
    own = [row[start.length :] for row in rows]
    # Padded on the right, as choices are read.
    reading = Reading(lm, start, len(own))
    tokens, real = padded(lm, own)
    states = reading.read_states(tokens, real, real).split(list(map(len, own)))
    if not all(_is_same(lm, got, true[start.length :]) for got, true in zip(states, truth, strict=True)):
        return False
    # Padded on the left, as rows are written on; the first leaves.
    reading = Reading(lm, start, len(own))
    for step in range(_FORCED):
        ends = [len(row) - _FORCED + step + 1 for row in own]
        parts = [row[:end] if step == 0 else row[end - 1 : end] for row, end in zip(own, ends, strict=True)]
        tokens = torch.tensor([[0] * (max(map(len, parts)) - len(part)) + part for part in parts]).to(device)
        real = torch.tensor([[n >= tokens.shape[1] - len(part) for n in range(tokens.shape[1])] for part in parts])
        states = reading.read_states(tokens, real.to(device), last(tokens))
        if not all(
            _is_same(lm, got, true[start.length + end - 1]) for got, true, end in zip(states, truth, ends, strict=True)
        ):
            return False
        if step == 0 and len(own) > 1:
            reading.keep(list(range(1, len(own))))
            own, truth = own[1:], truth[1:]
    return True


def _is_same(lm: transformers.PreTrainedModel, logits: torch.Tensor, truth: torch.Tensor) -> bool:
    difference = (logits.to(truth.device) - truth).abs().max()
    return bool(difference <= _SAME.get(lm.dtype, 3e-2) * truth.abs().max())


def _has_windows(lm: transformers.PreTrainedModel) -> bool:
    """Whether the config speaks of attention that sees a part of the tokens, which short rows might not show."""
    config = lm.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    named = {name for name, value in config.to_dict().items() if value and _PARTIAL.search(name)}
    if not getattr(config, "use_sliding_window", True) or getattr(config, "sliding_window", 0) is None:
        named = {name for name in named if "window" not in name}
    return bool(named) or kinds != {"full_attention"}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _listed(value) -> list:
    return value if isinstance(value, list) else [value]
