"""Models: any Hugging Face causal LM, as given or re-initialised at random from its config and a seed.

Models of up to a billion parameters compute in float64. Its rounding errors are so small that batching, padding
and caching cannot change what is written, so that a program's fast scoring, `taskbits run` and the standalone
file agree. Larger models compute in float32.
"""

import hashlib
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import transformers

from taskbits.display import quiet
from taskbits.errors import UserError
from taskbits.shipped import resolve

STATES = ("given", "random")
_FLOAT64_LIMIT = 1_000_000_000


@dataclass(eq=False)
class Model:
    """A causal LM in eval mode with its tokenizer. `spec`, `state`, `seed` and `revision` say where it is from."""

    lm: transformers.PreTrainedModel
    tokenizer: transformers.PreTrainedTokenizerBase
    spec: str
    state: str
    seed: int
    revision: str | None

    @cached_property
    def fingerprint(self) -> bytes:
        """Six bytes that stand for config, tokenizer and all weights."""
        digest = hashlib.sha256()
        for text in (self.lm.config.model_type, *sorted(self.tokenizer.get_vocab())):
            digest.update(text.encode() + b"\0")
        digest.update(weights_digest(self.lm))
        return digest.digest()[:6]

    @property
    def context(self) -> int:
        """Longest sequence in tokens, prompt and output together."""
        return getattr(self.lm.config.get_text_config(), "max_position_embeddings", None) or 2**31

    @property
    def dtype(self) -> str:
        """Name of the arithmetic, such as float64."""
        return str(self.lm.dtype).removeprefix("torch.")

    @cached_property
    def pipe(self) -> transformers.TextGenerationPipeline:
        """The model and its tokenizer as the pipeline that standalone files run."""
        return transformers.pipeline("text-generation", self.lm, tokenizer=self.tokenizer, device=self.lm.device)

    def chat(self, text: str) -> str:
        """The text as a user's turn in the model's chat template, up to where the model's own turn begins.

        Raises UserError if the model has no chat template.
        """
        turns = [{"role": "user", "content": text}]
        try:
            rendered = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except ValueError as error:
            raise UserError(f"{self.spec} has no chat template: measure the task without --chat") from error
        # The token that the template begins with may be what the tokenizer puts in front of any text.
        adds = self.tokenizer("").input_ids[:1] == [self.tokenizer.bos_token_id]
        return rendered.removeprefix(self.tokenizer.bos_token) if adds else rendered

    @property
    def start(self) -> str:
        """What a text coded under the model begins with: a line break if it can't write from nothing."""
        begins = self.tokenizer("").input_ids or self.lm.generation_config.bos_token_id is not None
        return "" if begins else "\n"

    @property
    def end(self) -> int:
        """The token that ends an example in training."""
        return next((t for t in (self.tokenizer.eos_token_id, self.tokenizer.bos_token_id) if t is not None), 0)

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Whatever is done to the weights inside, or to which of them train, is undone at the end.

        A parameter that comes to a place where the model has none (a bias) is taken away again.
        """
        kept = {name: parameter.detach().clone() for name, parameter in self.lm.named_parameters()}
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in list(self.lm.named_parameters()):
                    if name in kept:
                        parameter.grad = None
                        parameter.copy_(kept[name])
                    else:
                        module, _, slot = name.rpartition(".")
                        self.lm.get_submodule(module).register_parameter(slot, None)
            self.lm.requires_grad_(True)

    @contextmanager
    def single_precision(self) -> Iterator[None]:
        """Compute in float32 inside, where exact repetition is not needed: about twice as fast."""
        dtype = self.lm.dtype
        self.lm.float()
        try:
            yield
        finally:
            self.lm.to(dtype)

    def save(self, folder: Path | str) -> None:
        """Write it as a Hugging Face folder in float32, so that a standalone program can be given it as M."""
        try:
            with self.single_precision(), quiet():
                self.lm.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error}") from error


@quiet()
def load_model(spec: str, state: str = "given", seed: int = 0, revision: str | None = None) -> Model:
    """Load a hub id, a folder, a .gguf file or a shipped model (`lab:NAME`), on the GPU or GPUs that there are.

    state "random" re-initialises it from its config and `seed`; so does a folder that holds no weights.
    Raises UserError if there is no such model.
    """
    if state not in STATES:
        raise UserError(f"unknown state {state!r}: use {' or '.join(STATES)}")
    location = resolve(spec, "models")
    arguments = {"revision": revision} if revision else {}
    if location.endswith(".gguf"):
        arguments["gguf_file"] = Path(location).name
        location = str(Path(location).parent)
    elif Path(location).is_dir() and not any(Path(location).glob("*.safetensors")):
        state = "random"
    try:
        config = transformers.AutoConfig.from_pretrained(location, **arguments)
        tokenizer = transformers.AutoTokenizer.from_pretrained(location, **arguments)
        if state == "random":
            generator = torch.random.get_rng_state()
            torch.manual_seed(seed)
            lm = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            torch.random.set_rng_state(generator)
        else:
            lm = transformers.AutoModelForCausalLM.from_pretrained(
                location,
                config=config,
                dtype=torch.float32,
                use_safetensors=None if "gguf_file" in arguments else True,
                device_map="auto" if torch.cuda.device_count() > 1 else None,
                **arguments,
            )
    except (OSError, ValueError, KeyError) as error:
        reason = textwrap.shorten(str(error), 160, placeholder=" ...")
        raise UserError(
            f"unknown model {spec}: not a folder with config.json, a .gguf file, lab:random, lab:pretrained, "
            f"lab:posttrained, nor a hub id that can be reached ({reason})"
        ) from error
    if "gguf_file" in arguments:
        _forget_quantization(lm)
    if lm.num_parameters() <= _FLOAT64_LIMIT:
        lm = lm.double()
    if torch.cuda.is_available() and not hasattr(lm, "hf_device_map"):
        lm = lm.cuda()
    return Model(lm.eval(), tokenizer, spec, state, seed if state == "random" else 0, revision)


def _forget_quantization(lm: torch.nn.Module) -> None:
    """Weights read from GGUF are plain floats by now, but transformers still refuses to cast or save them."""
    lm.is_quantized, lm.hf_quantizer = False, None
    if hasattr(lm.config, "quantization_config"):
        del lm.config.quantization_config


def weights_digest(lm: torch.nn.Module) -> bytes:
    """SHA-256 over all weights, 32 bytes."""
    digest = hashlib.sha256()
    for name, parameter in lm.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.digest()
