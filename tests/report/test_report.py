import base64
import hashlib
import json
import re
import time
from html.parser import HTMLParser

import pytest

from taskbits.errors import UserError
from taskbits.report.card import make_card
from taskbits.report.figure import draw_comparison, draw_frontier, draw_methods
from taskbits.report.page import write_page
from taskbits.report.scale import bounds, label, size, ticks
from taskbits.search.versions import versions
from taskbits.studies.frontier import complexity, envelope, rows
from taskbits.studies.study import Study
from taskbits.tasks.metrics import Score

METHODS = {"inference control": "few-shot", "data": "subset", "parametric": "lora"}
VERSIONS = {"torch": "2.6.0", "threads": "2", "processor": "Abacus 3000", "device": "cpu"}
HOSTILE = "</script><img src=x onerror=alert(1)><b>$answer</b> \u202e&amp; \x07"


def study(folder, programs=(), tested=True, versions=VERSIONS, costs=None, bare=False, **info):
    """A study of `programs`: (bytes, score, family, content) each. costs: by bytes, what else is measured.
    bare: whether the first is of zero-shot.
    """
    info = {
        "name": "a",
        "storage": None,
        "model": "lab:pretrained",
        "state": "given",
        "seed": 3,
        "revision": None,
        "task": "lab:math",
        "fingerprint": "f00d",
        "metric": "regex",
    } | info
    made = Study.create(folder, info)
    for at, (count, value, family, content) in enumerate(programs):
        method = "zero-shot" if bare and at == 0 else METHODS[family]
        with made.trial(method, {"bytes": count}) as trial:
            trial.finish(
                program=b"%d" % count,
                outputs=["an output"],
                method=method,
                family=family,
                settings={"bytes": count},
                bytes=count,
                payload_bytes=count - 900,
                ideal_bits=None,
                validation=score(value),
                adapted="",
                content=content,
                seconds=1.0,
                scoring_seconds=0.5,
                seed=0,
                versions=versions,
                **(costs or {}).get(count, {}),
            )
    if tested:
        for m in envelope(made.measurements()):
            made.record_test(m.program, score(m.validation.value - 0.01), ["an output"])
    return made


def score(value):
    return Score(value, value - 0.01, value + 0.05, 200, bound=round(max(0.0, value - 0.02), 3))


PROGRAMS = [
    (900, 0.02, "inference control", {}),
    (1000, 0.2, "inference control", {"text": "Think first.", "tokens": [["Think", 9.5], [" first.", 3.25]]}),
    (3000, 0.1, "data", {"examples": ["beaten"]}),
    (4000, 0.5, "data", {"examples": ["Q: 1+1?\nA: 2", "Q: 2+2?\nA: 4"], "epochs": 2}),
    (5000, 0.6, "data", {"examples": [[["Q: 3+3?", 20.0], ["\nA: 6", 0.5]], [["Q: 4+4?", 6.0]]], "epochs": 3}),
    (90000, 0.7, "parametric", {"tensors": {"q_proj.A": [4, 64], "q_proj.B": [64, 4]}, "bits_per_weight": 2.5}),
]


class Page(HTMLParser):
    """A page as a browser would understand it: its elements, and the text in them."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.scripts, self._inside = [], "", [], ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data

    def all(self, tag, class_=None):
        return [a for t, a in self.tags if t == tag and (not class_ or class_ in (a.get("class") or "").split())]


def write(folder, *args, **kwargs):
    made = study(folder / "study", *args, **kwargs)
    write_page(made, folder / "page.html")
    return Page(folder / "page.html"), made


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The page of a study with everything in it."""
    return write(tmp_path_factory.mktemp("whole"), PROGRAMS)


def test_page_says_what_was_found(whole):
    found, made = whole
    best = made.measurements()[-1]
    assert "How many bytes must be added to lab:pretrained before it does lab:math?" in found.text
    assert "At most 90,000 bytes bring it to a score of at least 0.670 (regex), with 95% confidence" in found.text
    assert "scores 0.690 on 200 test examples (95% interval 0.680 to 0.740)" in found.text
    assert "A score of 0.335 takes at most 4,000 bytes, with 95% confidence." in found.text
    assert f"taskbits run programs/{best.program}.tbp --model lab:pretrained --input" in found.text
    assert f"taskbits export programs/{best.program}.tbp --standalone" in found.text
    assert "taskbits measure --model lab:pretrained --task lab:math" in found.text and "torch 2.6.0" in found.text


def test_page_shows_every_frontier_program_and_what_it_is(whole):
    found, made = whole
    frontier = envelope(made.measurements())
    assert len(frontier) == 5
    panels = [a["id"] for a in found.all("article")]
    assert panels == [f"p-{m.program}" for m in frontier]
    links = {a["href"] for a in found.all("a", "point")}
    assert links == {f"#{panel}" for panel in panels}
    for text in (
        "the model as it is",
        "2 tokens, 12.8 bits",
        "Think first.",
        "Q: 2+2?\nA: 4",
        "2 tokens, 20.5 bits under the model",
        "Q: 3+3?\nA: 6",
        "2 tensors with 512 values",
        "4 × 64",
        "bits per weight",
    ):
        assert text in found.text
    assert "beaten" not in found.text  # The content of programs off the frontier would only be in the way.
    assert "All 6 programs measured" in found.text


def test_page_shows_what_programs_cost_to_run(tmp_path):
    each = {900: (0.0, 4e9), 1000: (2e6, 6e9), 4000: (3e13, 4e9), 90000: (0.0, 4e9)}
    costs = {size: {"flops_once": once, "flops_per_input": flops} for size, (once, flops) in each.items()}
    made = study(tmp_path / "study", PROGRAMS, costs=costs, bare=True)
    write_page(made, tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert "What a program costs to run" in page.text and "An input takes the model as it is 4.0 billion" in page.text
    assert "1.50×" in page.text and "30.0 trillion operations" in page.text
    charts = [a for a in page.all("svg") if "operations for an input" in (a.get("aria-label") or "")]
    assert len(charts) == 2
    assert [row["per_input"] for row in rows(made.measurements())] == [1.0, 1.5, 1.0, None, 1.0]


def test_page_without_costs_has_no_picture_of_them(whole):
    page, _ = whole
    assert "What a program costs to run" not in page.text


def test_page_tells_time_by_method(tmp_path):
    made = study(tmp_path / "study", PROGRAMS)
    with made.trial("tiny", {"bytes": 4}) as trial:
        time.sleep(0.1)  # a trial that is given up has taken time, too
        trial.give_up("nothing to change")
    write_page(made, tmp_path / "page.html")
    found = Page(tmp_path / "page.html")
    section = found.text.partition("Time by method")[2].partition("Run the best one")[0]
    # Method, seconds, share, settings tried, programs.
    assert re.search(r"subset3\.0\d\d%33few-shot2\.0\d\d%22lora1\.01\d%11tiny0\.\d+%10", section)
    lengths = [a["style"] for a in found.all("span", "part")]
    assert lengths[:3] == ["--length:1.0000", "--length:0.6667", "--length:0.3333"]
    assert 0.03 < float(lengths[3].partition(":")[2]) < 0.33


def test_page_tells_where_its_numbers_come_from(tmp_path):
    options = {"model": "a model", "state": "random", "revision": "v1", "rows": 80, "data": "/my data", "chat": False}
    found, made = write(tmp_path, PROGRAMS, **options)
    for fact in ("ProcessorAbacus 3000", "Devicecpu", "Threads2", "Versionstorch 2.6.0", "6 programs in 6 seconds"):
        assert fact.lower() in found.text.lower()
    assert (
        "taskbits measure --model 'a model' --task lab:math --state random --seed 3 --revision v1 --rows 80 "
        "--data '/my data' --methods few-shot,lora,subset --no-chat --out another-folder"
    ) in found.text
    best = made.measurements()[-1].program
    assert f"taskbits run programs/{best}.tbp --model 'a model' --state random --seed 3 --revision v1" in found.text


def test_a_study_that_went_on_with_other_versions_names_both(tmp_path):
    study(tmp_path / "study", PROGRAMS[:1], tested=False, versions={"torch": "2.5.0"})
    found, _ = write(tmp_path, PROGRAMS[1:])
    assert "torch 2.5.0 and 2.6.0" in found.text and "Abacus 3000" in found.text


def test_page_keeps_the_storage_to_itself(tmp_path):
    found, made = write(tmp_path, PROGRAMS, storage=f"sqlite:///{tmp_path}/secret.db")
    assert "secret" not in found.source


def test_page_shows_what_each_token_costs_as_a_strip(whole):
    found, _ = whole
    strips = found.all("div", "strip")
    assert [a["aria-label"] for a in strips] == [
        f"cost of each token: {cost} under the model"
        for cost in ("2 tokens, 12.8 bits", "2 tokens, 20.5 bits", "1 token, 6.0 bits")
    ]
    parts = [a for a in found.all("span") if "flex-grow" in (a.get("style") or "")]
    assert [float(re.search(r"flex-grow:([\d.]+)", a["style"])[1]) for a in parts] == [9.5, 3.25, 20.0, 0.5, 6.0]
    assert [a["title"].rpartition(" ")[0].rpartition(" ")[2] for a in parts] == ["9.5", "3.2", "20.0", "0.5", "6.0"]


def test_page_places_points_by_length_and_test_score(whole):
    found, _ = whole
    marks = [a["transform"] for t, a in found.tags if t == "path" and "transform" in a]
    places = [tuple(map(float, re.findall(r"[\d.]+", mark))) for mark in marks][:5]  # The first of two sizes.
    assert places == sorted(places) and [y for _, y in places] == sorted((y for _, y in places), reverse=True)
    dots = {float(a["cx"]): float(a["cy"]) for a in found.all("circle") if a["r"] == "2.5"}
    assert all(y > dots[x] for x, y in places)  # The dots are at validation scores, which are higher here.


def test_page_carries_its_numbers(whole):
    found, made = whole
    numbers = json.loads(found.scripts[0])
    told = {name: value for name, value in made.info.items() if name != "storage"}  # It may hold a password.
    assert numbers == {"study": told, "frontier": rows(made.measurements())}


def test_page_sorts_numbers_as_numbers(whole):
    found, made = whole
    values = [a["data-v"] for t, a in found.tags if t == "td" and "data-v" in a]
    assert [float(v) for v in values[:2]] == [900.0, made.measurements()[0].test.value]
    assert len(found.all("table", "sortable")) == 3


def test_page_may_load_nothing(whole):
    found, _ = whole
    policy = next(a["content"] for a in found.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    digest = base64.b64encode(hashlib.sha256(found.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert not re.search(r"https?:|//\w|@import|url\(", found.source.replace("// ", ""))
    for _, attributes in found.tags:
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))


def test_hostile_text_stays_text(tmp_path):
    programs = [
        (900, 0.1, "inference control", {"text": HOSTILE}),
        (1000, 0.2, "inference control", {"text": HOSTILE, "tokens": [[HOSTILE, 2.0]]}),
        (2000, 0.3, "data", {"examples": [HOSTILE, [[HOSTILE, 1.0]]], HOSTILE: HOSTILE}),
        (3000, 0.4, "parametric", {"tensors": {HOSTILE: [2]}}),
    ]
    made_of = {key: HOSTILE for key in ("model", "task", "metric", "command", "fingerprint", "revision")}
    found, made = write(tmp_path, programs, versions={HOSTILE: HOSTILE, "processor": HOSTILE}, **made_of)
    assert not found.all("img") and not found.all("b")
    assert len(found.scripts) == 2
    assert json.loads(found.scripts[0])["study"]["model"] == HOSTILE
    shown = HOSTILE.replace("\u202e", "\N{REPLACEMENT CHARACTER}").replace("\x07", "\N{SYMBOL FOR BELL}")
    assert found.text.count(shown) >= 7 + len(made_of)
    assert "\u202e" not in found.source and "\x07" not in found.source
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)


def test_text_that_is_no_unicode_is_written_all_the_same(tmp_path):
    found, _ = write(tmp_path, [(900, 0.1, "inference control", {"text": "half \ud83d"})])
    assert "half ?" in found.text


def test_page_admits_that_nothing_was_scored_on_test(tmp_path):
    found, _ = write(tmp_path, PROGRAMS, tested=False)
    assert "200 validation examples" in found.text
    assert "not yet scored on others" in found.text
    assert "not yet scored on test" in found.text
    assert not found.all("path", "bar")


def test_page_of_one_program_compares_it_with_nothing(tmp_path):
    found, _ = write(tmp_path, PROGRAMS[:1])
    assert "At most 900 bytes" in found.text
    assert "The shortest program measured" not in found.text and "Half that score" not in found.text


def test_page_of_an_empty_study(tmp_path):
    found, _ = write(tmp_path)
    assert "no program has been measured" in found.text
    assert not found.all("svg") and not found.all("table")


def test_page_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        write_page(study(tmp_path / "study"), tmp_path / "nowhere" / "page.html")


@pytest.mark.parametrize("programs", [PROGRAMS, PROGRAMS[:1], []], ids=["many", "one", "none"])
def test_frontier_is_drawn(tmp_path, programs):
    made = study(tmp_path / "study", programs)
    draw_frontier(made, tmp_path / "a.svg")
    draw_frontier(made, tmp_path / "b.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()
    for family, colour in (("inference control", "#0072b2"), ("data", "#d55e00"), ("parametric", "#009e73")):
        assert (colour in drawn) == any(family == program[2] for program in programs)


def test_comparison_has_a_colour_for_each_study(tmp_path):
    studies = [
        study(tmp_path / "random", PROGRAMS[:2], state="random", name="r"),
        study(tmp_path / "given", PROGRAMS, name="g"),
        study(tmp_path / "empty", name="e", model="$\\frac$ <b>"),  # Neither mathematics nor markup.
    ]
    draw_comparison(studies, tmp_path / "all.svg")
    drawn = (tmp_path / "all.svg").read_text()
    assert all(colour in drawn for colour in ("#0072b2", "#d55e00", "#009e73"))
    draw_comparison(studies[:1], tmp_path / "all.png")
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


def test_studies_beside_each_other_tell_their_gaps(tmp_path, taskbits):
    study(tmp_path / "much", PROGRAMS)
    study(tmp_path / "little", PROGRAMS, model="lab:locked")  # ":locked:" is also the name of a picture of a lock
    arguments = ["compare", tmp_path / "much", tmp_path / "little", "--picture", tmp_path / "c.png"]
    (group,) = json.loads(taskbits(*arguments, "--json").stdout)["groups"]
    gaps = group["gaps"]
    assert list(gaps) == ["lab:pretrained", "lab:locked"] and gaps["lab:locked"]["bytes"].keys() == {"0.5", "0.95"}
    words = " ".join(taskbits(*arguments).stdout.split())
    assert all(f"{name}: {gap['says']}" in words for name, gap in gaps.items())


def test_a_panel_for_each_task_and_a_colour_for_each_method(tmp_path):
    panels = [
        [study(tmp_path / "a", PROGRAMS, name="a")],
        [study(tmp_path / "b", PROGRAMS[:1], task="lab:b", name="b")],
    ]
    draw_methods(panels, tmp_path / "all.svg")
    drawn = (tmp_path / "all.svg").read_text()
    assert drawn.count('id="axes_') == 2 and "#0072b2" in drawn


def test_pictures_that_cannot_be_written(tmp_path):
    made = study(tmp_path / "study")
    with pytest.raises(UserError, match=".png or .svg"):
        draw_frontier(made, tmp_path / "picture.txt")
    with pytest.raises(UserError, match="cannot write"):
        draw_frontier(made, tmp_path / "nowhere" / "picture.png")


def test_a_study_is_named_by_its_model():
    assert label({"model": "lab:pretrained", "state": "given", "seed": 1}) == "lab:pretrained"
    assert label({"model": "lab:pretrained", "state": "random", "seed": 1}) == "lab:pretrained (random, seed 1)"


def test_axis_of_lengths():
    lengths = (5, 500, 1000, 20_000, 5_000_000, 2_000_000_000)
    assert [size(n) for n in lengths] == ["5 B", "500 B", "1 KB", "20 KB", "5 MB", "2 GB"]
    assert ticks(400, 6000) == [500, 1000, 2000, 5000]
    assert ticks(900, 2_000_000_000) == [1000, 1_000_000, 1_000_000_000]
    assert ticks(900, 2_000_000) == [1000, 10_000, 100_000, 1_000_000]


@pytest.mark.parametrize("sizes", [[1213], [1213, 1250], [500, 80_000_000], []])
def test_axis_holds_all_sizes_and_has_a_label(sizes):
    low, high = bounds(sizes)
    assert all(low < n < high for n in sizes)
    assert len(ticks(low, high)) >= 2


def levels(card):
    """The rows of a card's table, as lists of cells."""
    return [line.strip("|").split(" | ") for line in card.splitlines() if " ≤ " in line]


def test_card_says_what_was_found_at_three_levels(tmp_path):
    made = study(tmp_path / "study", PROGRAMS, rows=80)
    card = make_card(made)
    assert card.startswith("# Task complexity of lab:math given lab:pretrained\n")
    assert "At most 90,000 bytes" in card and "at least 0.67 (regex), with 95% confidence" in card
    assert "scores 0.690 on 200 test examples" in card
    # Above what the shortest program can be claimed to do: the lowest and the middle round level, and the highest.
    assert [[cell.strip() for cell in row] for row in levels(card)] == [
        ["0.2", "≤ 4,000 bytes", "subset", "0.490", "0.480 to 0.540", "4,000 bytes"],
        ["0.4", "≤ 4,000 bytes", "subset", "0.490", "0.480 to 0.540", "4,000 bytes"],
        ["0.67", "≤ 90,000 bytes", "lora", "0.690", "0.680 to 0.740", "90,000 bytes"],
    ]
    for level in (0.2, 0.4, 0.67):
        assert f"≤ {complexity(made.measurements(), level).bytes:,} bytes" in card
    for text in (
        "taskbits measure --model lab:pretrained --task lab:math --state given --seed 3 --rows 80 --methods",
        "taskbits complexity study --at 0.67\n",
        f"taskbits export study/programs/{made.measurements()[-1].program}.tbp --standalone program.py",
        "processor: Abacus 3000",
        "versions: torch 2.6.0",
    ):
        assert text in card


@pytest.mark.parametrize("programs, tested", [([], True), (PROGRAMS, False), ([(900, 0.01, "data", {})], True)])
def test_card_of_a_study_that_proves_nothing(tmp_path, programs, tested):
    card = make_card(study(tmp_path / "study", programs, tested))
    assert "Nothing is known yet" in card and not levels(card)


def test_card_of_one_program(tmp_path):
    card = make_card(study(tmp_path / "study", PROGRAMS[1:2]))
    assert len(levels(card)) == 1 and "| 0.17 | ≤ 1,000 bytes" in card


def test_hostile_text_stays_text_in_a_card(tmp_path):
    hostile = "`|x| <img src=x> [a](b) \n```\n# title \u202e"
    card = make_card(study(tmp_path / "study", PROGRAMS, model=hostile, task=hostile, versions={hostile: hostile}))
    fences = [line for line in card.splitlines() if line.startswith("````")]
    assert fences == ["````bash", "````"]
    outside, _, rest = card.partition("````bash")
    outside += rest.partition("\n````\n")[2]
    assert "\n# title" not in outside and not re.search(r"(?<!\\)(<img|\[a|```)", outside)
    assert "\u202e" not in card


def test_card_is_printed_or_written(taskbits, tmp_path):
    made = study(tmp_path / "study", PROGRAMS)
    printed = taskbits("card", made.folder)
    assert printed.stdout == make_card(made)
    assert taskbits("card", made.folder, "--out", tmp_path / "card.md").stdout == f"{tmp_path}/card.md\n"
    assert (tmp_path / "card.md").read_text() == make_card(made)
    refused = taskbits("card", made.folder, "--out", tmp_path / "nowhere" / "card.md")
    assert refused.returncode == 2 and "cannot write" in refused.stderr


def test_report_is_a_page_and_pictures(taskbits, tmp_path):
    made = study(tmp_path / "study", PROGRAMS[:2])
    assert taskbits("report", made.folder).returncode == 0
    for name, start in (("report.html", b"<!DOCTYPE html>"), ("frontier.png", b"\x89PNG"), ("frontier.svg", b"<?xml")):
        assert (made.folder / name).read_bytes().startswith(start)


def test_measuring_records_the_machine():
    assert {"processor", "device", "threads", "torch"} <= versions().keys() and all(versions().values())


def test_what_can_be_claimed_stands_before_what_these_rows_show(taskbits, tmp_path):
    """The shortest that scores 0.49 on test fell short of 0.48 by its bound; the next passes."""
    made = study(tmp_path / "study", PROGRAMS)
    printed = taskbits("complexity", made.folder, "--at", "0.48").stdout.splitlines()
    assert printed[0].startswith("C(T_0.48 | M) ≤ 5,000 bytes (40,000 bits) with 95% confidence: subset, program ")
    assert printed[0].endswith("scores 0.590 on 200 test rows (at least 0.570 with 95% confidence).")
    assert printed[1].startswith("On this test set alone 4,000 bytes score 0.490: subset, program ")
    found = json.loads(taskbits("complexity", made.folder, "--at", "0.48", "--json").stdout)
    assert found["bytes"] == 5000 and found["test"]["bound"] == 0.57 and found["on_this_test_set"]["bytes"] == 4000
    assert found["program"] == complexity(made.measurements(), 0.48).program
    nothing = taskbits("complexity", made.folder, "--at", "0.69").stdout.splitlines()
    assert "nothing is known of C(T_0.69 | M)" in nothing[0] and "90,000 bytes score 0.690" in nothing[1]
    assert taskbits("records", made.folder, "--out", tmp_path / "records.md").returncode == 0
    rows = [line for line in (tmp_path / "records.md").read_text().splitlines() if "| 0.4 |" in line]
    assert len(rows) == 1 and "| 4,000 |" in rows[0] and "| 0.470 | 4,000 | `taskbits score records/" in rows[0]


def test_a_record_is_the_shortest_of_all_studies_of_a_model_and_a_task(taskbits, tmp_path):
    (count, *found), *others = PROGRAMS[3:]
    made = [study(tmp_path / "one", [(7 * count, *found), *others]), study(tmp_path / "two", [(count, *found)])]
    elsewhere = study(tmp_path / "elsewhere", [(7 * count, *found)], rows=40)
    folders = [some.folder for some in (*made, elsewhere)]
    assert taskbits("records", *folders, "--out", tmp_path / "records.md").returncode == 0
    lines = (tmp_path / "records.md").read_text().splitlines()
    rows = [line.split(" | ")[2:4] for line in lines if "`taskbits score" in line]
    assert rows == [["0.4", "4,000"], ["0.5", "5,000"], ["0.6", "90,000"], ["0.4", "28,000"]]
