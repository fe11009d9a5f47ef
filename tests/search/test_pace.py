"""How long methods look, within a budget."""

import time
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from taskbits.methods import method
from taskbits.search.measure import measure
from taskbits.search.pace import Pace

numbers = st.integers(0, 2000)


@given(numbers, numbers, st.floats(0.01, 100), st.floats(0, 1000))
def test_settings_are_cut_to_the_most_that_fits(seen, asked, each, room):
    pace = Pace()
    pace.saw("lora", {"bytes": 8, "steps": seen}, seen * each)
    cut = pace.within("lora", {"bytes": 8, "steps": asked}, room)
    assert cut["bytes"] == 8 and pace.within("tiny", {"steps": asked}, room) == {"steps": asked}
    if cut["steps"] != asked:
        assert 32 <= cut["steps"] < asked and cut["steps"] * each <= 1.01 * room
        assert 2 * (cut["steps"] + 1) * each >= 0.99 * room
    elif seen >= 32 and asked >= 64:
        assert asked * each <= 1.01 * room or room <= 66 * each


def test_a_method_that_would_take_too_long_looks_for_less_long(model_folder, task_folder, tmp_path, monkeypatch):
    now, begun = [0.0], []
    known = method("instructed").fit

    def fit(model, task, settings, seed, progress):
        begun.append(settings["tries"])
        for step in range(settings["tries"]):
            progress(step, settings["tries"])
            now[0] += 1
        return known(model, task, {"k": settings["k"]}, seed, lambda done, of: None)

    monkeypatch.setattr(method("instructed"), "fit", fit)
    monkeypatch.setattr(method("instructed"), "sweep", lambda model, task: [{"k": k, "tries": 512} for k in (0, 1)])
    monkeypatch.setattr("taskbits.search.trials.time", SimpleNamespace(monotonic=lambda: now[0], sleep=time.sleep))
    monkeypatch.setattr("taskbits.search.measure.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("taskbits.search.measure.confirm_in_fresh_process", lambda study: None)
    study = measure(model_folder, task_folder, str(tmp_path / "study"), methods=["zero-shot", "instructed"], budget=400)
    assert begun == [512, 128, 128]  # two fifths of the time for the first, three of what is left for another
    found = [m for m in study.measurements() if m.method == "instructed"]
    assert [(m.settings["k"], m.settings["tries"]) for m in found] == [(0, 128), (1, 128)]
