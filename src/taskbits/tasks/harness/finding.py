"""A task of the harness: its file, its class, its data, and whether it is of a kind that is supported."""

import difflib
import re
from pathlib import Path

from taskbits.errors import UserError
from taskbits.tasks.imports import hash_of
from taskbits.tasks.rows import find_file, read_rows

_NAME = re.compile(r"""^["']?(?:task|group)["']?: *["']?([^"'#\n]+?)["']? *(?:#.*)?$""", re.MULTILINE)
_SUPPORTED = "supported are generate_until and multiple_choice tasks, one at a time"


def find_task(name: str, data: Path | None):
    """The harness's task, with no demonstrations and with its first metric and filter only."""
    import evaluate
    import huggingface_hub
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    # Metrics come from the hub too, under a switch of their own.
    evaluate.config.HF_EVALUATE_OFFLINE |= huggingface_hub.constants.HF_HUB_OFFLINE
    try:
        path = _config_file(name)
        _check(name, load_yaml(path, resolve_func=False))
        config = load_yaml(path)
        kind = _with_data(config.pop("class", ConfigurableTask), name, config["task"], data)
        config |= {"num_fewshot": 0, "fewshot_split": None, "fewshot_config": {"samples": []}}
        config |= {key: config[key][:1] for key in ("metric_list", "filter_list") if config.get(key)}
        return kind(config={key: value for key, value in config.items() if key not in ("tag", "group")})
    except UserError:
        raise
    except Exception as error:  # a task may run any code of its own when it is made
        raise UserError(f"lm-eval:{name} can't be loaded ({short(error)})") from error


def _with_data(kind: type, name: str, folder: str, data: Path | None) -> type:
    """This class of tasks, with the files of `data` as its data set, or with a clear error if it can't be had."""

    def download(self, *args, **kwargs) -> None:
        if data:
            self.dataset = _Files(data, folder)
            return
        try:
            kind.download(self, *args, **kwargs)
        except Exception as error:  # whatever the hub's client raises: it has no common class
            files = " and ".join(f"{split}.jsonl" for split in dict.fromkeys(split_names(self).values()))
            raise UserError(
                f"the data set {self.DATASET_PATH} of lm-eval:{name} can't be had from the hub "
                f"({short(error)}): get a connection, or name a folder with {files} with --data"
            ) from error

    return type(kind.__name__, (kind,), {"download": download})


class _Files(dict):
    """A data set's splits by their names, each read from its file when it is asked for."""

    def __init__(self, data: Path, folder: str):
        self._place = data, folder

    def __missing__(self, split: str):
        import datasets

        path = find_file(*self._place, f"{split}.jsonl")
        rows = read_rows(path, [])
        if not rows:
            raise UserError(f"{path} holds no rows")
        return self.setdefault(split, datasets.Dataset.from_list(rows))


def split_names(task) -> dict[str, str]:
    """The names that the task's data set has for training, validation and test, those that there are.

    A task that is a Python class of its own says only which there are.
    """
    there = {
        "train": (task.has_training_docs(), task.config.training_split),
        "validation": (task.has_validation_docs(), task.config.validation_split),
        "test": (task.has_test_docs(), task.config.test_split),
    }
    return {split: name or split for split, (has, name) in there.items() if has}


def _config_file(name: str) -> Path:
    """The task's YAML file."""
    import lm_eval.tasks

    if name.endswith(".yaml"):
        if not Path(name).is_file():
            raise UserError(f"lm-eval:{name}: no such file")
        return Path(name)
    files: dict[str, Path] = {}
    # The harness's own index of these 14,000 files takes ten times as long.
    for path in sorted(Path(lm_eval.tasks.__file__).parent.rglob("*.yaml"), key=Path.as_posix):
        for found in _NAME.findall(path.read_text(encoding="utf-8")):
            files.setdefault(found, path)
    if name in files:
        return files[name]
    near = difflib.get_close_matches(name, files, 1)
    raise UserError(f"lm-eval has no task {name}" + (f": did you mean lm-eval:{near[0]}?" if near else ""))


def sources(path: Path) -> tuple[str, ...]:
    """A hash of each file that a task's YAML file is made of: itself, its functions' modules, and what it includes."""
    from lm_eval.tasks._yaml_loader import load_yaml

    found, waiting = [], [path]
    while waiting:
        path = waiting.pop()
        found.append(hash_of(path))
        modules = re.findall(r"!function\s+[\"']?([\w.]+)\.\w+", path.read_text(encoding="utf-8"))
        places = [path.parent.joinpath(*module.split(".")).with_suffix(".py") for module in dict.fromkeys(modules)]
        found += [hash_of(place) for place in places if place.is_file()]
        included = load_yaml(path, resolve_func=False, recursive=False).get("include", [])
        waiting += [path.parent / one for one in ([included] if isinstance(included, str) else included)]
    return tuple(found)


def _check(name: str, config: dict) -> None:
    kind = config.get("output_type", "generate_until")
    if not isinstance(config.get("task"), str) or "group" in config:
        raise refusal(name, "stands for several tasks")
    if kind not in ("generate_until", "multiple_choice"):
        raise refusal(name, f"is a {kind} task")
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        raise refusal(name, "shows more than text")
    if config.get("unsafe_code"):
        raise refusal(name, "runs code that the model writes")
    if kind == "generate_until":
        greedy(name, config.get("generation_kwargs") or {}, config.get("repeats", 1))


def greedy(name: str, wanted: dict, repeats: int = 1) -> dict:
    """The harness's reading of a task's generation_kwargs, with its default length. Raises UserError if it samples."""
    from lm_eval.models.utils import normalize_gen_kwargs

    wanted = normalize_gen_kwargs(wanted, 256)
    if wanted["do_sample"] or wanted.get("num_beams", 1) > 1 or repeats > 1:
        raise refusal(name, "does not generate greedily")
    return wanted


def refusal(name: str, reason: str) -> UserError:
    return UserError(f"lm-eval:{name} {reason}: {_SUPPORTED}")


def short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
