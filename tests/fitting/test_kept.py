"""What methods keep from one trial for the next belongs to the search that made it."""

import gc

from taskbits.fitting import kept
from taskbits.search.measure import measure
from taskbits.search.trials import Search


def test_what_methods_keep_is_shared_by_the_trials_of_a_search_and_freed_with_it(
    model_folder, task_folder, tmp_path, monkeypatch
):
    seen = []

    def trial(self, *given, known=Search.trial):
        well = known(self, *given)
        seen.append({what: len(found) for what, found in kept._kept[self.task].items()})
        return well

    monkeypatch.setattr(Search, "trial", trial)
    measure(model_folder, task_folder, str(tmp_path / "study"), methods=["norms"], budget=0.01)
    assert seen == [{"coefficients": 1}]
    gc.collect()
    assert not kept._kept
