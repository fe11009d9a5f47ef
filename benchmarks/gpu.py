"""What the README promises, on a GPU: one command of at most eight minutes.

    python benchmarks/gpu.py [--steps measure,methods,verify,tests,large] [--out DIR]

measure: a search of lab:math with lab:pretrained, to its confirmed end. Then side by side: methods: the first setting
of every method on lab:translation, each confirmed in a fresh process. verify: `verify` on the GPU of the same made on
a CPU, in OUT/cpu: there from `--steps cpu` on some machine before, or else made now in processes that see no GPU.
tests: the whole suite. large: a `lora` of 1 KB, to its confirmed end, for the largest Llama of random weights for
which memory and time do. Each step is a process with a limit of time; one that fails leaves the others alone. Writes
OUT/*.log; ends with one line of JSON; exit code 1 if a step failed.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
TASKBITS = [sys.executable, "-m", "taskbits"]
SIDE_BY_SIDE = 6  # processes of a step
LIMITS = {"measure": 90, "methods": 330, "verify": 330, "tests": 330, "large": 330, "cpu": 3600}  # seconds
BUDGET = 45  # of the search
# Of random Llamas: parameters in millions, with the sizes that make them.
LARGE = {
    1_240: {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16},
    3_210: {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28},
    7_500: {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", default="measure,methods,verify,tests,large")
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.worker:
        print(json.dumps(STEPS[arguments.worker](arguments.out)))
        return
    began = time.monotonic()
    found = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": torch.__version__,
    }
    wanted = arguments.steps.split(",")
    for group in (["measure"], [name for name in wanted if name != "measure"]):
        running = {name: start(name, arguments.out) for name in group if name in wanted}
        for name, process in running.items():
            found[name] = finish(name, process, arguments.out)
            print(name, json.dumps(found[name]), flush=True)
    found["seconds"] = round(time.monotonic() - began)
    print(json.dumps(found))
    sys.exit(any("failed" in step for step in found.values() if isinstance(step, dict)))


def start(name: str, out: Path) -> tuple[subprocess.Popen, float]:
    with open(out / f"{name}.log", "w") as log:
        command = [sys.executable, __file__, "--worker", name, "--out", str(out)]
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True), time.monotonic()


def finish(name: str, started: tuple[subprocess.Popen, float], out: Path) -> dict:
    """What the step has printed last, or why there is nothing."""
    process, began = started
    try:
        process.wait(max(1, began + LIMITS[name] - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        return {"failed": f"took more than {LIMITS[name]} s", "log": tail(out / f"{name}.log")}
    text = (out / f"{name}.log").read_text(errors="replace")
    if process.returncode:
        return {"failed": f"exit code {process.returncode}", "log": tail(out / f"{name}.log")}
    return {**json.loads(text.strip().splitlines()[-1]), "seconds": round(time.monotonic() - began, 1)}


def tail(path: Path) -> list[str]:
    return path.read_text(errors="replace").strip().splitlines()[-5:]


def taskbits(*arguments: object, cpu: bool = False, seconds: float | None = None) -> str:
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}  # of processes side by side
    environment = {**os.environ, **threads, **({"CUDA_VISIBLE_DEVICES": ""} if cpu else {})}
    command = [*TASKBITS, *map(str, arguments)]
    return subprocess.run(
        command, check=True, text=True, stdout=subprocess.PIPE, env=environment, timeout=seconds
    ).stdout


def frontier(folder: Path) -> list[dict]:
    rows = json.loads(taskbits("frontier", folder, "--json"))
    return [{key: row[key] for key in ("bytes", "method", "validation", "test")} for row in rows]


def measure(out: Path) -> dict:
    folder = out / "search"
    began = time.monotonic()
    taskbits("measure", "--model", "lab:pretrained", "--task", "lab:math", "--out", folder, "--budget", f"{BUDGET}s")
    return {"budget": BUDGET, "took": round(time.monotonic() - began, 1), "frontier": frontier(folder)}


def methods(out: Path, cpu: bool = False, seconds: float = LIMITS["methods"] - 10) -> dict:
    """Each method for the shortest of budgets: its first setting. What is not done in `seconds` is left."""
    from taskbits.methods import NAMES

    end = time.monotonic() + seconds

    def first(name: str) -> dict:
        folder, began = out / ("cpu" if cpu else "gpu") / name, time.monotonic()
        measured = ["measure", "--model", "lab:pretrained", "--task", "lab:translation", "--rows", 40, "--out", folder]
        try:
            left = max(1.0, end - time.monotonic())
            taskbits(*measured, "--methods", name, "--budget", "0.1s", cpu=cpu, seconds=left)
            row = frontier(folder)[0]
        except (subprocess.SubprocessError, IndexError) as error:
            return {"failed": str(error)[-200:], "test": None}
        return {"bytes": row["bytes"], "test": row["test"], "seconds": round(time.monotonic() - began, 1)}

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        found = dict(zip(NAMES, pool.map(first, NAMES), strict=True))
    failed = [name for name, one in found.items() if one["test"] is None]
    return {"works": len(found) - len(failed), "of": len(found), "not": failed, "each": found}


def cpu(out: Path) -> dict:
    return methods(out, True, LIMITS["cpu"] - 10)


def verify(out: Path) -> dict:
    end = time.monotonic() + LIMITS["verify"] - 10
    if not (out / "cpu").exists():
        methods(out, True, 0.6 * LIMITS["verify"])

    def verified(path: Path) -> str | None:
        try:
            left = max(1.0, end - time.monotonic())
            result = subprocess.run([*TASKBITS, "verify", str(path)], text=True, capture_output=True, timeout=left)
        except subprocess.TimeoutExpired:
            return "the time was over"
        return (result.stderr.strip().splitlines() or ["no message"])[-1][:300] if result.returncode else None

    paths = {path.parent.parent.name: path for path in sorted((out / "cpu").glob("*/programs/*.tbp"))}
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        found = dict(zip(paths, pool.map(verified, paths.values()), strict=True))
    not_held = {name: reason for name, reason in found.items() if reason}
    return {"verified": len(found) - len(not_held), "of": len(found), "not": not_held}


def tests(out: Path) -> dict:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "8",
        "--dist",
        "worksteal",
        "-p",
        "no:cacheprovider",
        "-rfE",
        "tests",
    ]
    with open(out / "pytest.txt", "w") as log:
        process = subprocess.Popen([*command, "--tb=short"], cwd=ROOT, stdout=log, stderr=log)
        try:
            process.wait(LIMITS["tests"] - 20)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # it says what it has seen until then
            process.wait()
    text = (out / "pytest.txt").read_text(errors="replace")
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) (passed|failed|errors?|skipped)", text[-500:])}
    return {**counts, "not": re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)[:60]}


def large(out: Path) -> dict:
    import transformers

    from taskbits.shipped import resolve
    from taskbits.studies.study import Study

    end = time.monotonic() + LIMITS["large"] - 20
    found: dict = {}
    for millions, sizes in LARGE.items():
        folder, study, began = out / f"M{millions}", out / f"study{millions}", time.monotonic()
        tokenizer = transformers.AutoTokenizer.from_pretrained(resolve("lab:random", "models"))
        heads = {"num_attention_heads": sizes["hidden_size"] // 128, "num_key_value_heads": 8, "vocab_size": 128_256}
        ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "max_position_embeddings": 2048}
        config = transformers.LlamaConfig(tie_word_embeddings=True, **heads, **ends, **sizes)
        config.architectures = ["LlamaForCausalLM"]
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        measured = ["measure", "--model", folder, "--task", "lab:translation", "--rows", 8, "--out", study]
        try:
            command = [*TASKBITS, *map(str, measured), "--methods", "lora", "--budget", "0.1s"]
            subprocess.run(command, check=True, timeout=end - began)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            return (
                {**found, "stopped at": {"millions": millions, "why": str(error)[-120:]}}
                if found
                else {"failed": str(error)[-120:]}
            )
        [program] = Study.open(study).measurements()
        found = {
            "millions": millions,
            "bytes": program.bytes,
            "test": program.test and program.test.value,
            "peak_gib": round(program.peak_memory / 2**30, 2),
            "times_bf16_weights": round(program.peak_memory / (2e6 * millions), 2),
            "seconds": round(time.monotonic() - began, 1),
        }
    return found


STEPS = {"measure": measure, "methods": methods, "verify": verify, "tests": tests, "large": large, "cpu": cpu}

if __name__ == "__main__":
    main()
