"""The package leaves the libraries that it uses as it finds them, for whoever imports it into their own program."""

import subprocess
import sys
from textwrap import dedent

SNAPSHOT = dedent(
    """
    import logging, os, pkgutil, signal, sys, warnings
    import datasets, huggingface_hub.utils, lm_eval, optuna, torch, transformers
    # These set warning filters and levels of their own as they are imported, whoever does so.
    import cmaes, matplotlib.figure, nltk.tokenize.punkt, peft, sacrebleu, scipy.special, scipy.stats, sqlalchemy, typer
    import gguf, lm_eval.api.task, tqdm.auto, transformers.pipelines

    def snapshot():
        names = ("", "transformers", "huggingface_hub", "optuna", "datasets", "lm_eval", "sqlalchemy", "matplotlib")
        loggers = {
            name: (logger.level, logger.propagate, logger.disabled, list(logger.handlers), list(logger.filters))
            for name, logger in ((name, logging.getLogger(name)) for name in names)
        }
        return {
            **loggers,
            "disabled": logging.root.manager.disable,
            "filters": list(warnings.filters),
            "show": warnings.showwarning,
            "bars": (
                transformers.utils.logging.is_progress_bar_enabled(),
                huggingface_hub.utils.are_progress_bars_disabled(),
                datasets.are_progress_bars_disabled(),
            ),
            "replaced": (gguf.GGUFReader, vars(tqdm.std.tqdm)["__init__"]),
            "types": (torch.float32, torch.float, torch.Tensor.float, torch.get_default_dtype()),
            "threads": torch.get_num_threads(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "precision": torch.get_float32_matmul_precision(),
            "modes": torch.overrides._get_current_function_mode_stack(),
            # Intel's OpenMP is set up by scikit-learn, where it is installed, as it is imported.
            "environment": {name: value for name, value in os.environ.items() if not name.startswith("KMP_")},
            "signals": [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)],
            "hook": (sys.excepthook, sys.path[:]),
        }

    def compare(before, when):
        after = snapshot()
        changed = [name for name in before if before[name] != after[name]]
        if "filters" in changed:
            before["filters"], after["filters"] = (
                [each for each in one["filters"] if each not in other["filters"]]
                for one, other in ((before, after), (after, before))
            )
        assert not changed, (when, [(name, before[name], after[name]) for name in changed])
    """
)


def run(code, *arguments):
    result = subprocess.run(
        [sys.executable, "-c", SNAPSHOT + dedent(code), *arguments], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result


def test_importing_and_measuring_change_nothing_for_others(model_folder, task_folder, tmp_path):
    """All modules; a measurement, with its confirmation by another number of threads, through the Python interface."""
    result = run(
        """
        before = snapshot()
        import taskbits
        for module in pkgutil.walk_packages(taskbits.__path__, "taskbits."):
            if module.name != "taskbits.__main__":
                __import__(module.name)
        compare(before, "import")

        import dataclasses
        from taskbits.search import confirm, measure
        from taskbits.programs import texts
        from taskbits.methods import few_shot
        measure.confirm_in_fresh_process = lambda study: confirm.confirm(str(study.folder))
        found = measure.measure(*sys.argv[1:], methods=["zero-shot", "few-shot"], budget=0.01)
        study = getattr(found, "study", found)
        compare(before, "measure")
        one, *_ = study.measurements()
        assert one.test is not None
        more = dataclasses.replace(one, versions={**one.versions, "threads": 2})
        torch.set_num_threads(1)
        confirm.check(study, more, *confirm.open_parts(study), ["validation"], lambda n: None)
        torch.set_num_threads(before["threads"])
        compare(before, "check")
        """,
        model_folder,
        task_folder,
        str(tmp_path / "study"),
    )
    assert "Loading weights" not in result.stderr and "A new study created" not in result.stderr


def test_the_command_line_is_quiet_while_it_runs(model_folder, monkeypatch):
    """And leaves a process that calls it (a test, a notebook) as it was."""
    result = run(
        """
        from taskbits import cli
        def command():
            warnings.warn_explicit("noise", FutureWarning, "x.py", 1, module="transformers.x")
            list(tqdm.auto.tqdm([1], desc="noise"))
            logging.getLogger("transformers").warning("noise")
            logging.getLogger("optuna").error("noise")
        before = snapshot()
        cli.app = command
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        cli.main()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        compare(before, "main")
        """
    )
    assert "noise" not in result.stderr
