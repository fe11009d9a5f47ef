"""Models: any Hugging Face causal LM, as given or re-initialised at random from its config and a seed.

Models of up to a billion parameters compute in float64 unless it is slow here. Its rounding errors are so small that
batching, padding and caching cannot change what is written, so that a program's fast scoring, `taskbits run` and the
standalone file agree. Larger models compute in the type of their checkpoint, float32 or bfloat16: there the same rows
give the same outputs in any process of the same machine, since they are computed in the same batches; where two tokens
are nearly as likely, a row that runs alone may go the other way.

A chat is the text that the model's chat template makes of a user's turn, up to where the model's own turn begins. Its
tokens are those of that text and no others: a tokenizer adds none to what a template has written.
"""

import copy
import datetime
import hashlib
import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
import transformers

from taskbits.display import quiet
from taskbits.errors import UserError
from taskbits.models import devices, engine, fingerprints, products
from taskbits.models.gguf_once import read_once
from taskbits.shipped import resolve
from taskbits.tasks.frame import Frame

STATES = ("given", "random")
DTYPES = ("auto", "float64", "float32", "bfloat16")
_FLOAT64_LIMIT = 1_000_000_000
_HEADROOM = 1.2  # memory that a model takes over that of its weights
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.ckpt", "*.msgpack", "*.h5", "*.index.json")
_POINTER = b"version https://git-lfs"  # what stands in a repository for a file that is kept elsewhere
# Of configs: where a model is from, how it is stored, and what only other tasks than ours read.
_NOT_COMPUTED = {
    *("_name_or_path", "transformers_version", "_from_model_config", "architectures", "auto_map", "dtype"),
    *("torch_dtype", "quantization_config", "use_cache", "return_dict", "output_attentions", "output_hidden_states"),
    *("id2label", "label2id", "num_labels", "problem_type", "task_specific_params", "_attn_implementation"),
}
_DATE = "2024-07-26"  # that a chat template is told if the task says none: the one that Llama's has for want of a clock
_PROBES = ("a text", "Another: one\nof two lines")
# What configs call the longest sequence.
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "max_target_positions")


@dataclass(eq=False)
class Model:
    """A causal LM in eval mode with its tokenizer. `spec`, `state`, `seed` and `revision` say where it is from.

    given: the user's own, where `lm` is a copy of a model in memory; see `shown`. device_map: how it was to be placed.
    files: the folder or the .gguf file that it was read from.
    """

    lm: transformers.PreTrainedModel
    tokenizer: transformers.PreTrainedTokenizerBase
    spec: str
    state: str
    seed: int
    revision: str | None
    given: transformers.PreTrainedModel | None = None
    device_map: str | None = None
    files: Path | None = None

    def __post_init__(self) -> None:
        # The arithmetic, where programs and studies must say it: it is not what a model of this size has if nothing is
        # said (as versions before 0.4 did not).
        self.lead = ""  # a text that goes before each prompt
        self.donor: str | None = None  # another checkpoint of it, or an adapter, that programs may carry
        self.said_dtype = None if self.dtype == _name(_usual_dtype(self.lm.num_parameters())) else self.dtype

    @property
    def fingerprint(self) -> bytes:
        """Six bytes that stand for all that computes: config, generation config, tokenizer, chat template, weights."""
        return self.fingerprints[0]

    @cached_property
    def fingerprints(self) -> tuple[bytes, bytes]:
        """The fingerprint, and the one that version 0.1.0 gave: it left out all of a config but the kind of model, and
        all of a tokenizer but its vocabulary. Programs and studies of that time carry it."""
        _ = self.names
        stamped = fingerprints.stamp(self.files, self.dtype) if self.files and self.state == "given" else None
        if stamped is None:
            return self._computed_fingerprints()
        if (found := fingerprints.known(self.files, stamped)) is None:
            found = self._computed_fingerprints()
            fingerprints.keep(self.files, stamped, found)
        return found

    def _computed_fingerprints(self) -> tuple[bytes, bytes]:
        weights = weights_digest(self.lm)
        parts = [
            self.lm.config.model_type,
            _own(self.lm.config.to_dict(), _defaults(self.lm.config)),
            _own(self.lm.generation_config.to_dict(), transformers.GenerationConfig().to_dict()),
            *_of_tokenizer(self.tokenizer),
        ]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode() + weights)
        parameters = {name for name, _ in self.lm.named_parameters(remove_duplicate=False)}
        for name, stored in self.lm.state_dict().items():
            if name not in parameters:  # a buffer that comes with the weights
                digest.update(name.encode() + _bytes(stored))
        former = hashlib.sha256()
        for text in (self.lm.config.model_type, *sorted(self.tokenizer.get_vocab())):
            former.update(text.encode() + b"\0")
        former.update(weights)
        return digest.digest()[:6], former.digest()[:6]

    @property
    def context(self) -> int:
        """Longest sequence in tokens, prompt and output together."""
        config = self.lm.config.get_text_config()
        return next((size for name in _CONTEXT if (size := getattr(config, name, None) or 0) > 0), 2**31)

    @property
    def dtype(self) -> str:
        """Name of the arithmetic, such as float64."""
        return _name(self.lm.dtype)

    @cached_property
    def pipe(self) -> transformers.TextGenerationPipeline:
        """The model and its tokenizer as the pipeline that standalone files run."""
        # Over several devices it stays where it is.
        where = {} if getattr(self.lm, "hf_device_map", None) else {"device": self.lm.device}
        return transformers.pipeline("text-generation", self.lm, tokenizer=self.tokenizer, **where)

    def tokens(self, text: str, chat: bool = False) -> list[int]:
        """The tokens of a text that the model is given; of a chat's text, without any that the tokenizer would add."""
        return self.tokenizer(text, add_special_tokens=not chat).input_ids

    def unbegun(self, text: str) -> str:
        """The text without the token that its template begins with where the tokenizer puts that before any text."""
        adds = self.tokenizer("").input_ids[:1] == [self.tokenizer.bos_token_id]
        return text.removeprefix(self.tokenizer.bos_token) if adds else text

    def chat(self, text: str) -> str:
        """The text as a user's turn in the model's chat template, up to where the model's own turn begins.

        Raises UserError if the model has no chat template, or one that refuses.
        """
        return self._rendered([{"role": "user", "content": text}])

    def framed(self, frame: Frame) -> Frame:
        """The frame as a program carries it. Where a chat is more than a user's turn in the model's chat template (it
        has a system prompt or arguments, or the template tells the date), that is what stands around the user's text.

        Raises UserError if the model has no chat template, or none that can be used so.
        """
        if not frame.chat or frame.around:
            return frame
        if getattr(self.tokenizer, "response_template", None):
            raise UserError(
                f"the tokenizer of {self.spec} parses what the model writes in a chat: measure without --chat"
            )
        told, later = (self._turn(frame, _PROBES[0], day) for day in (frame.date or _DATE, "1999-11-22 13:44:55"))
        if told == later and not frame.system and not frame.arguments:
            return replace(frame, date="")
        return replace(frame, system="", arguments=(), date="", around=self.around(frame))

    def placed(self, frame: Frame, text: str, place: str) -> Frame:
        """The frame with a text at a place, as `Frame.placed` has it. Raises UserError as `around` does."""
        if text and frame.chat and place == "answer":
            frame = replace(frame, system="", arguments=(), date="", around=self.around(frame))
        return frame.placed(text, place)

    def around(self, frame: Frame) -> tuple[str, str]:
        """What stands before and behind the user's text in a chat.

        Raises UserError if there is no chat template, or if it depends on the text.
        """
        if frame.around:
            return frame.around
        found = {tuple(self._turn(frame, text, frame.date or _DATE).split(text)) for text in _PROBES}
        if len(found) > 1 or len(halves := found.pop()) != 2:
            raise UserError(
                f"the chat template of {self.spec} changes the user's text: measure the task without --chat"
            )
        return halves

    def _turn(self, frame: Frame, text: str, date: str) -> str:
        """The text in the chat template as the frame has it, on that day."""
        system = [{"role": "system", "content": frame.system}] if frame.system else []
        return self._rendered([*system, {"role": "user", "content": text}], dict(frame.arguments), date)

    def _rendered(self, turns: list[dict], arguments: dict | None = None, date: str | None = None, **how) -> str:
        reserved = {*inspect.signature(self.tokenizer.apply_chat_template).parameters, "messages"}
        if taken := sorted(reserved.intersection(arguments or {})):
            raise UserError(f"a chat template can't be given the argument '{taken[0]}': its name means something else")
        if not self.tokenizer.chat_template:
            raise UserError(f"{self.spec} has no chat template: measure the task without --chat")
        try:
            # A template's clock is a function that it calls; a macro of its name stands before it.
            template = date and _clock(date) + self.tokenizer.get_chat_template()
            how = {"tokenize": False, "chat_template": template, "add_generation_prompt": True, **how}
            return self.tokenizer.apply_chat_template(turns, **how, **(arguments or {}))
        except Exception as error:  # a template is a program that may raise anything
            raise UserError(f"the chat template of {self.spec} can't be used so: {_reason(error)}") from error

    @property
    def start(self) -> str:
        """What a text coded under the model begins with: a line break if it can't write from nothing."""
        begins = self.tokenizer("").input_ids or self.lm.generation_config.bos_token_id is not None
        return "" if begins else "\n"

    @property
    def _stops(self) -> list[int]:
        """The tokens that generation ends at."""
        ends = self.lm.generation_config.eos_token_id
        return [] if ends is None else torch.as_tensor(ends).flatten().tolist()

    @property
    def end(self) -> int:
        """The token that ends an example in training: one that ends generation, the tokenizer's own if that does."""
        own = [t for t in (self.tokenizer.eos_token_id, self.tokenizer.bos_token_id) if t is not None]
        return next((t for t in own if t in self._stops), [*self._stops, *own, 0][0])

    @cached_property
    def turn_end(self) -> int:
        """The same in a chat: what the template writes behind the model's turn, if generation ends at that."""
        reply = "the reply"
        turns = [{"role": "user", "content": _PROBES[0]}, {"role": "assistant", "content": reply}]
        try:
            behind = self._rendered(turns, add_generation_prompt=False).rpartition(reply)[2]
        except UserError:  # a template may know no such turn
            return self.end
        return next((t for t in self.tokens(behind, chat=True) if t in self._stops), self.end)

    @contextmanager
    def preserved(self, names: Iterable[str] | None = None) -> Iterator[dict[str, torch.Tensor]]:
        """Whatever is done inside to the weights of these names (to all, by default) is undone at the end, and so is
        what was said about which train. Of others nothing is kept: they must not be changed. Yields the copies by name.

        A parameter that comes to a place where the model has none (a bias) is taken away again.
        """
        _ = self.fingerprints  # stays what it was before anything was changed, also for who asks inside
        there = {name for name, _ in self.lm.named_parameters()}
        kept = {name: self._copy(name) for name in (self.names if names is None else names)}
        self._copies.append(kept)
        try:
            yield kept
        finally:
            self._copies.pop()
            with torch.no_grad():
                for name, parameter in list(self.lm.named_parameters()):
                    parameter.grad = None
                    if name in kept:
                        parameter.copy_(kept[name])
                    elif name not in there:
                        module, _, slot = name.rpartition(".")
                        self.lm.get_submodule(module).register_parameter(slot, None)
            self.lm.requires_grad_(True)

    @contextmanager
    def led_by(self, text: str) -> Iterator[None]:
        """Inside, the text goes before each prompt, behind whatever else does."""
        before, self.lead = self.lead, text + self.lead
        try:
            yield
        finally:
            self.lead = before

    @cached_property
    def names(self) -> frozenset[str]:
        """The parameters that the model has, before anything is added to it."""
        return frozenset(name for name, _ in self.lm.named_parameters())

    @cached_property
    def _copies(self) -> list[dict[str, torch.Tensor]]:
        """What those who preserve the model just now have copied."""
        return []

    def _copy(self, name: str) -> torch.Tensor:
        """A copy of a parameter as it is; one that was made before, if it is still the same."""
        weight = self.lm.get_parameter(name).detach()
        for kept in reversed(self._copies):
            if name in kept and kept[name].dtype == weight.dtype and torch.equal(kept[name], weight):
                return kept[name]
        return weight.clone()

    @contextmanager
    def shown(self) -> Iterator[transformers.PreTrainedModel]:
        """The model as a person has it, with today's weights: `lm`, or the user's own in its own arithmetic.

        At the end the user's own is as it was.
        """
        if self.given is None:
            yield self.lm
            return
        theirs, kept, added = dict(self.given.named_parameters()), {}, []
        try:
            with torch.no_grad():
                for name, weight in self.lm.named_parameters():
                    module, _, slot = name.rpartition(".")
                    if name not in theirs:
                        like = next(self.given.get_submodule(module).parameters())
                        new = torch.nn.Parameter(weight.detach().to(like, copy=True), requires_grad=False)
                        self.given.get_submodule(module).register_parameter(slot, new)
                        added.append((module, slot))
                    elif not torch.equal(new := weight.to(theirs[name]), theirs[name]):
                        kept[name] = theirs[name].detach().clone()
                        theirs[name].copy_(new)
            yield self.given
        finally:
            with torch.no_grad():
                for name, weight in kept.items():
                    theirs[name].copy_(weight)
            for module, slot in added:
                self.given.get_submodule(module).register_parameter(slot, None)

    @contextmanager
    def quick(self, writes: bool = False) -> Iterator[None]:
        """Inside, what is computed with the weights, which don't change, takes the type of numbers that is the fastest
        here and no larger than their own. Afterwards they are what they were, to the last bit.

        writes: whether the model writes inside; a token at a time bfloat16 gains nothing.
        """
        trains = [parameter for parameter in self.lm.parameters() if parameter.requires_grad]
        for parameter in trains:
            parameter.requires_grad_(False)
        try:
            dtype = torch.float32 if writes else self._quickest
            with engine.computing_in(self.lm, dtype), products.converted(self.lm):
                yield
        finally:
            for parameter in trains:
                parameter.requires_grad_(True)

    @cached_property
    def _quickest(self) -> torch.dtype:
        """bfloat16 where products in it are the faster by far and the model computes in it; else at most float32."""
        width = self.lm.get_input_embeddings().weight.shape[-1]
        if self.lm.dtype != torch.bfloat16 and devices.gains_by_bfloat16(self.lm.device, width):
            with engine.computing_in(self.lm, torch.bfloat16):
                if engine.computes(self.lm):
                    return torch.bfloat16
        return torch.float32 if self.lm.dtype == torch.float64 else self.lm.dtype

    @contextmanager
    def single_precision(self) -> Iterator[None]:
        """Compute in float32 inside, where weights train and exact repetition is not needed: about twice as fast.

        A model that has bfloat16 stays in that: it takes half the memory.
        """
        dtype = self.lm.dtype
        if dtype != torch.float64:
            yield
            return
        constants = [(module, dict(module._buffers)) for module in self.lm.modules()]
        self.lm.float()
        try:
            yield
        finally:
            self.lm.to(dtype)
            for module, kept in constants:  # not rounded
                module._buffers.update(kept)

    def save(self, folder: Path | str) -> None:
        """Write it as a Hugging Face folder, in float32 or its own smaller type: the M of a standalone program."""
        try:
            with self.single_precision(), quiet():
                self.lm.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot write to {folder}: {_reason(error)}") from error


@quiet()
@read_once()
def load_model(
    spec: str | Path | tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase],
    state: str = "given",
    seed: int = 0,
    revision: str | None = None,
    dtype: str | None = "auto",
    device_map: str | None = None,
) -> Model:
    """Load a hub id, a folder, a .gguf file or a shipped model (`lab:NAME`): onto the GPU with the most free memory,
    over all GPUs if it is too large for one, or on the CPU.

    >>> from taskbits import load_model
    >>> load_model("lab:pretrained").lm.num_parameters()
    3737856

    spec may be a model that is in memory, with its tokenizer: `(lm, tokenizer)`. It stays as it is; what is computed
    is computed with a copy in the arithmetic that scores are made in.
    dtype: "float64", "float32" or "bfloat16"; "auto": float64 up to a billion parameters where that is fast enough,
    else the checkpoint's own; None: as the versions that did not record it, float64 or above a billion parameters
    float32.
    device_map: as transformers has it ("auto", "balanced", "cpu", "cuda:1"), to place the model otherwise.
    state "random" re-initialises it from its config and `seed`; so does a folder that holds no weights of any kind.
    Raises UserError if there is no such model, or if its files are not all of one: nothing is left at random.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"unknown dtype {dtype!r}: use {', '.join(DTYPES)}")
    if isinstance(spec, tuple):
        if state != "given" or revision:
            raise UserError("a model in memory is as it is: state and revision are for one that is named")
        return _copied(*spec, dtype)
    if state not in STATES:
        raise UserError(f"unknown state {state!r}: use {' or '.join(STATES)}")
    spec = str(spec)
    location = resolve(spec, "models")
    path = Path(location)
    if revision and path.exists():
        raise UserError(f"only a hub id has revisions: leave out --revision for {spec}, which is on this machine")
    arguments = {"trust_remote_code": False, **({"revision": revision} if revision else {})}
    try:
        _refuse_pointers(path)
        if location.endswith(".gguf"):
            arguments["gguf_file"] = path.name
            location = str(path.parent)
        elif path.is_dir() and state == "given":
            state = _state_of(path)
        config = _config(location, arguments)
        tokenizer = transformers.AutoTokenizer.from_pretrained(location, **arguments)
        lm = _load(location, config, state, seed, arguments, dtype, device_map)
    except _Unknown as error:
        raise UserError(
            f"unknown model {spec}: not a folder with config.json, a .gguf file, lab:random, lab:pretrained, "
            f"lab:posttrained, nor a hub id that can be reached ({_reason(error.__cause__)})"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # strange files make the libraries raise anything
        raise UserError(f"the model {spec} can't be loaded: {_reason(error)}") from error
    seed = seed if state == "random" else 0
    files = path if path.exists() else _snapshot(location, revision)
    return Model(lm.eval(), tokenizer, spec, state, seed, revision, device_map=device_map, files=files)


def _snapshot(location: str, revision: str | None) -> Path | None:
    """The folder that a hub model was read from, if it lies in the hub's cache."""
    found = transformers.utils.cached_file(
        location, "config.json", revision=revision, local_files_only=True, _raise_exceptions_for_missing_entries=False
    )
    return Path(found).parent if found else None


def _copied(
    lm: transformers.PreTrainedModel, tokenizer: transformers.PreTrainedTokenizerBase, dtype: str | None
) -> Model:
    """A copy of a model in memory, built anew: a model's constants are rounded in the arithmetic that it was built in.

    Raises UserError for what can't be built from its config alone: quantised, wrapped, or not all in memory.
    """
    named = getattr(lm, "name_or_path", "") or type(lm).__name__
    if not isinstance(lm, transformers.PreTrainedModel) or any(p.is_meta for p in lm.parameters()):
        raise UserError(f"{named} is not a whole model of transformers in memory: merge its adapters, load all weights")
    config = copy.deepcopy(lm.config)
    if getattr(lm, "hf_quantizer", None) or getattr(config, "quantization_config", None):
        raise UserError(f"the weights of {named} are quantised: load the model that they were made from")
    kind = _chosen_dtype(dtype, lm.num_parameters(), lm.dtype)
    device, _ = _placed(lm.num_parameters() * kind.itemsize)
    try:
        made = transformers.AutoModelForCausalLM.from_config(config, dtype=kind, trust_remote_code=False)
        made.load_state_dict(lm.state_dict())
    except Exception as error:  # each class has its own reasons
        raise UserError(f"{named} can't be built from its config and weights: {_reason(error)}") from error
    made.generation_config = copy.deepcopy(lm.generation_config)
    return Model(_computing(made.to(device), dtype).eval(), tokenizer, named, "given", 0, None, lm)


class _Unknown(Exception):
    """There is no config where a model should be."""


def _config(location: str, arguments: dict) -> transformers.PretrainedConfig:
    try:
        return transformers.AutoConfig.from_pretrained(location, **arguments)
    except OSError as error:
        if Path(location, "config.json").exists():
            raise
        raise _Unknown from error


def _load(
    location: str, config, state: str, seed: int, arguments: dict, dtype: str | None, device_map: str | None
) -> transformers.PreTrainedModel:
    """The model in its arithmetic, where it fits. Raises ValueError, or whatever the libraries raise."""
    quantized = getattr(config, "quantization_config", None)
    if state == "random":
        config.__dict__.pop("quantization_config", None)
    elif quantized and "gguf_file" not in arguments:
        raise ValueError("its weights are quantised: name the model that they were made from, or a .gguf file")
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        empty.tie_weights()
    count = empty.num_parameters()
    # Not cast afterwards: a model's constants (Gemma's scale) must be as exact as in the standalone file.
    kind = _chosen_dtype(dtype, count, config.get_text_config().dtype)
    device, split = _placed(count * kind.itemsize) if device_map is None else (None, {"device_map": device_map})
    if state == "random":
        return _computing(_at_random(config, seed, kind).to(device or device_map), dtype)
    lm, report = transformers.AutoModelForCausalLM.from_pretrained(
        location,
        config=config,
        dtype=kind,
        use_safetensors=None if "gguf_file" in arguments else True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are in the report
        **split,
        **arguments,
    )
    _require_whole(lm, report)
    if "gguf_file" in arguments:
        _forget_quantization(lm)
    if not split:
        lm = lm.to(device)
    elif len(places := {str(place) for place in lm.hf_device_map.values()}) > 1 and {"cpu", "disk"} & places:
        raise ValueError("it does not fit on the GPUs: hide them (CUDA_VISIBLE_DEVICES=) to compute on the CPU")
    return _computing(lm, dtype)


def _usual_dtype(count: int) -> torch.dtype:
    """The arithmetic of a model with so many parameters of which nothing is said."""
    return torch.float64 if count <= _FLOAT64_LIMIT else torch.float32


def _chosen_dtype(asked: str | None, count: int, own: torch.dtype | None) -> torch.dtype:
    """The arithmetic for a model with so many parameters whose checkpoint has the type `own`."""
    if asked in (None, "auto"):
        usual = _usual_dtype(count)
        slow = torch.cuda.is_available() and not devices.is_fast_in_float64(torch.device("cuda"))
        if asked is None or (usual == torch.float64 and not slow):
            return usual
        return torch.bfloat16 if own == torch.bfloat16 else torch.float32
    return getattr(torch, asked)


def _computing(lm: transformers.PreTrainedModel, asked: str | None) -> transformers.PreTrainedModel:
    """In float32 if not all of its operations have a kernel for float64, such as those of mixtures of experts."""
    if lm.dtype != torch.float64 or engine.computes(lm.eval()):
        return lm
    if asked == "float64":
        raise ValueError("it can't compute in float64: use --dtype float32 or leave it out")
    return lm.float()


def _at_random(config, seed: int, dtype: torch.dtype) -> transformers.PreTrainedModel:
    """Drawn in float32, so that what is drawn depends on no other arithmetic."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
        if dtype == torch.float32:
            return drawn
        lm = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    lm.load_state_dict(drawn.state_dict())
    return lm


def _placed(size: int) -> tuple[torch.device, dict]:
    """The device for weights of so many bytes; or how `from_pretrained` is to split them, if no GPU holds them alone
    but all together do."""
    free = [torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())]
    if not free or size * _HEADROOM > sum(free):
        return torch.device("cpu"), {}
    devices.prepare()
    if size * _HEADROOM <= max(free):
        return torch.device("cuda", free.index(max(free))), {}
    room = {i: int(most / _HEADROOM) for i, most in enumerate(free)}
    return torch.device("cuda"), {"device_map": "auto", "max_memory": room}


def _state_of(folder: Path) -> str:
    """Whether a folder's weights are given or, where it has none, to be drawn. Raises ValueError if they are unsafe."""
    found = sorted({path.name for pattern in _WEIGHTS for path in folder.glob(pattern)})
    if not found:
        return "random"
    if any(".safetensors" in name for name in found):
        return "given"
    if named := [name for name in found if name.endswith(".gguf")]:
        raise ValueError(f"its weights are GGUF: name the file, {folder / named[0]}")
    raise ValueError(
        f"its weights are not safetensors ({found[0]}), and to read others may run code: if you trust them, convert "
        "them (AutoModelForCausalLM.from_pretrained(X, use_safetensors=False).save_pretrained(X)) or use --state random"
    )


def _refuse_pointers(path: Path) -> None:
    """Raise ValueError if a model's file is only a pointer of Git LFS to it."""
    for file in path.iterdir() if path.is_dir() else [path]:
        if file.is_file() and file.stat().st_size < 1024 and file.read_bytes().startswith(_POINTER):
            raise ValueError(f"{file} is a pointer of Git LFS, not the file: get it with 'git lfs pull'")


def _require_whole(lm: transformers.PreTrainedModel, report: dict) -> None:
    """Raise ValueError unless the stored weights are just those that the model has."""
    if getattr(lm, "_hf_peft_config_loaded", False):
        raise ValueError("it is a PEFT adapter: merge it into its model and save that")
    kinds = {"missing": "missing_keys", "unexpected": "unexpected_keys", "of another shape": "mismatched_keys"}
    wrong = [
        f"{len(names)} {what} ({', '.join(names[:2])}{', ...' * (len(names) > 2)})"
        for what, key in kinds.items()
        if (names := sorted(found if isinstance(found, str) else found[0] for found in report.get(key) or []))
    ]
    if wrong := [*wrong, *map(str, report.get("error_msgs") or [])]:
        raise ValueError(f"its weights do not fit its config: {'; '.join(wrong)}; get the files again")


def _reason(error: Exception) -> str:
    """What an error says, in a line."""
    named = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
    return named + textwrap.shorten(str(error) or type(error).__name__, 240, placeholder=" ...")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _defaults(config) -> dict:
    """The config of a class as it is when nothing is said; nothing for a class that must be told."""
    try:
        return type(config)().to_dict()
    except Exception:  # each class has its own reasons
        return {}


def _own(given: dict, usual: dict) -> dict:
    """What is not as usual and computes. So a default that a later version of the library adds changes nothing."""
    found = {}
    for name, value in given.items():
        if isinstance(value, dict) and isinstance(usual.get(name), dict):
            value = _own(value, usual[name])
            if not value:
                continue
        elif name in usual and value == usual[name]:
            continue
        if name not in _NOT_COMPUTED:
            found[str(name)] = value
    return found


def _of_tokenizer(tokenizer: transformers.PreTrainedTokenizerBase) -> list:
    """All that decides about tokens and texts."""
    if tokenizer.is_fast:
        # What is off or absent is left out, as a field is that an older version does not have.
        whole = json.loads(
            tokenizer.backend_tokenizer.to_str(),
            object_hook=lambda fields: {name: value for name, value in fields.items() if value not in (None, False)},
        )
        whole = {name: value for name, value in whole.items() if name not in ("truncation", "padding", "version")}
    else:
        whole = tokenizer.get_vocab()
    return [whole, tokenizer.special_tokens_map, tokenizer.clean_up_tokenization_spaces, tokenizer.chat_template]


def _clock(date: str) -> str:
    """A macro in the place of the function by which chat templates ask for the date and the time."""
    now = datetime.datetime.fromisoformat(date)
    told = {f"%{code}": now.strftime(f"%{code}") for code in "aAbBcdHIjmMpSUwWxXyY"}
    told |= {"%F": f"{now:%Y-%m-%d}", "%T": f"{now:%H:%M:%S}", "%e": f"{now.day:2}", "%-d": now.day, "%-m": now.month}
    replaced = "".join(f"|replace('{code}','{text}')" for code, text in told.items())
    return f"{{% macro strftime_now(format) %}}{{{{ format{replaced} }}}}{{% endmacro %}}\n"


def _forget_quantization(lm: torch.nn.Module) -> None:
    """Weights read from GGUF are plain floats by now, but transformers still refuses to cast or save them."""
    lm.is_quantized, lm.hf_quantizer = False, None
    if hasattr(lm.config, "quantization_config"):
        del lm.config.quantization_config


def weights_digest(lm: torch.nn.Module, names: Iterable[str] | None = None) -> bytes:
    """SHA-256 over the weights of these names, or all, 32 bytes."""
    digest, wanted = hashlib.sha256(), names if names is None else set(names)
    for name, parameter in lm.named_parameters():
        if wanted is not None and name not in wanted:
            continue
        digest.update(name.encode())
        digest.update(_bytes(parameter))
    return digest.digest()


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
