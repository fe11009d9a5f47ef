"""What a method hands back: a program, made of what it found in whichever way is shortest."""

from dataclasses import dataclass

from taskbits.errors import UserError
from taskbits.fitting.coefficients import Numbers
from taskbits.models.model import Model
from taskbits.programs import decode
from taskbits.programs.coding import Coded
from taskbits.programs.export import standalone
from taskbits.programs.program import Part, Program
from taskbits.programs.texts import decodes
from taskbits.tasks.frame import Frame
from taskbits.tasks.task import Task


@dataclass(frozen=True)
class Fitted:
    """What a method found: the program, its payload's cross-entropy in bits, and what it is, for people."""

    program: Program
    ideal_bits: float | None
    content: dict


def fitted(
    name: str, model: Model, task: Task, *ways: Coded, then: str = "", frame: Frame | None = None, **settings
) -> Fitted:
    """The program for this model and task whose file is the shortest of several ways to code the same.

    then: a runner that takes the text that was coded, with its `settings`. frame: the task's own by default.
    """
    programs, frame = [], model.framed(frame or task.frame)
    for coded in ways:
        decoded = None if coded.decoded is None else decode.checksum([*coded.decoded, *([""] if then else [])])
        runner, all_settings = f"{coded.runner}+{then}" if then else coded.runner, {**coded.settings, **settings}
        part = Part(runner, all_settings, coded.payload, decoded)
        program = Program(name, model.fingerprint, frame, (part,), model.said_dtype)
        programs.append((len(standalone(program, model.dtype)), program, coded))
    # A text that is coded under the model is worth its decoding only if it is the shortest.
    for _, program, coded in sorted(programs, key=lambda found: found[0]):
        if decodes(model, coded):
            return Fitted(program, coded.ideal_bits, _content(coded, settings))
    raise UserError(f"method {name}: nothing of what it coded decodes")


def _content(coded: Coded, lesson: dict) -> dict:
    """What a program is, for people: its text, or the examples that a lesson trains on; and how they are carried."""
    carried = {"literal": "as it is, compressed with the code", "coded": "coded under the model"}
    how = {"carried": carried[coded.runner]} if coded.runner in carried else {}
    if "between" not in lesson:
        return {**coded.content, **how}
    shown = {"epochs": lesson["epochs"], "learning rate": lesson["rate"], **how}
    if "tokens" not in coded.content:
        return {"examples": coded.content["text"].split(lesson["between"]), **shown}
    examples: list[list] = [[]]
    for token in coded.content["tokens"]:
        examples[-1].append(token)
        if "".join(piece for piece, _ in examples[-1]).endswith(lesson["between"]):
            examples.append([])
    return {"examples": [example for example in examples if example], **shown}


def fitted_numbers(
    name: str, model: Model, task: Task, runner: str, numbers: Numbers, settings: dict, content: dict
) -> Fitted:
    """Wrap whole numbers and their step into a program whose runner also takes `settings`."""
    coded = numbers.coded
    settings = {**settings, "step": numbers.step, **coded.settings}
    return fitted(name, model, task, Coded(runner, settings, coded.payload, coded.ideal_bits, content))
