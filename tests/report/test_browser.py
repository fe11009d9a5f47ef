"""The page of a report in a real browser: what a reader with a mouse, a keyboard or a phone gets to see."""

import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from test_report import PROGRAMS, study

from taskbits.report.page import write_page
from taskbits.studies.frontier import envelope

# Those after the first keep the browser from asking the network for anything.
FLAGS = (
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
)


class Reader:
    """A browser with a page open."""

    def __init__(self, driver):
        self.driver = driver

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def shown(self, selector):
        return [element for element in self.all(selector) if element.is_displayed()]

    def emulate(self, command, **settings):
        self.driver.execute_cdp_cmd(f"Emulation.{command}", settings)

    def style(self, selector, name):
        return self.shown(selector)[0].value_of_css_property(name)

    def click(self, element):
        """Click in the middle of an element, on whatever is drawn there."""
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        webdriver.ActionChains(self.driver).move_to_element(element).click().perform()

    def filter(self, family):
        next(label for label in self.shown(".legend label") if label.text == family).click()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study with programs of all families, off the frontier too, and its page."""
    folder = tmp_path_factory.mktemp("browser")
    found = study(folder / "study", PROGRAMS)
    write_page(found, folder / "page.html")
    return found, (folder / "page.html").as_uri()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    browser, chauffeur = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not chauffeur:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(chauffeur))
    yield driver
    driver.quit()


@pytest.fixture
def reader(driver, made):
    """The page as it opens, on a desk and in light; nothing may have been amiss when the test is done."""
    found = Reader(driver)
    found.emulate("setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": "light"}])
    found.emulate("setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
    driver.get(made[1])
    yield found
    assert driver.get_log("browser") == []


def test_a_click_on_a_point_shows_its_program(reader, made):
    frontier = envelope(made[0].measurements())
    [panel] = reader.shown(".program")
    assert panel.get_attribute("id") == f"p-{frontier[-1].program}"  # At first, the best.
    points = reader.shown(".point")
    assert len(points) == len(frontier)
    reader.click(points[1])
    [panel] = reader.shown(".program")
    assert panel.get_attribute("id") == f"p-{frontier[1].program}"
    assert "few-shot, 1,000 bytes" in panel.text and "Think first." in panel.text
    assert points[1].get_attribute("aria-current") == "true"


def test_the_mouse_over_a_dot_says_what_it_is(reader):
    dots = reader.shown(".dots circle")
    assert len(dots) == len(PROGRAMS)
    webdriver.ActionChains(reader.driver).move_to_element(dots[2]).perform()
    [tip] = reader.shown("#tip")
    assert "subset, 3,000 bytes: validation 0.100 (95% interval" in tip.text


def test_a_filter_hides_a_family_everywhere(reader):
    reader.all("summary")[0].click()
    selectors = (".point", ".dots circle", "tbody tr")
    before = {selector: len(reader.shown(selector)) for selector in selectors}
    reader.filter("data")
    after = {selector: len(reader.shown(selector)) for selector in selectors}
    # Of the data programs, two are on the frontier and one isn't; the tables have one more row for their method.
    assert {s: before[s] - after[s] for s in selectors} == {".point": 2, ".dots circle": 3, "tbody tr": 2 + 3 + 1}
    assert not any("subset" in row.text for row in reader.shown("tbody tr"))
    reader.filter("data")
    assert {selector: len(reader.shown(selector)) for selector in selectors} == before


def test_a_program_of_a_hidden_family_gives_way_to_the_best_of_the_others(reader):
    assert "lora, 90,000 bytes" in reader.shown(".program")[0].text
    reader.filter("parametric")
    [panel] = reader.shown(".program")
    assert "subset, 5,000 bytes" in panel.text


def test_the_page_works_by_keyboard(reader):
    first = reader.shown(".point")[0]
    reader.driver.execute_script("arguments[0].focus()", first)
    assert "few-shot, 900 bytes" in reader.shown(".program")[0].text
    boxes = reader.shown("[name=family]")
    reader.driver.execute_script("arguments[0].focus()", reader.shown(".point")[-1])
    keys = webdriver.ActionChains(reader.driver)
    keys.send_keys(Keys.TAB, Keys.SPACE).perform()  # From the last point on to the first box.
    assert [box.is_selected() for box in boxes] == [False, True, True]


def test_a_click_on_a_heading_sorts_the_table(reader):
    def column(k):
        return [row.find_elements(By.TAG_NAME, "td")[k].text for row in reader.shown(".sortable tbody tr")][:5]

    lengths = ["900", "1,000", "4,000", "5,000", "90,000"]
    assert column(0) == lengths
    by_length, by_method = reader.all(".sortable th button")[0], reader.all(".sortable th button")[3]
    by_method.click()
    assert column(3) == sorted(column(3)) and column(0) != lengths
    by_length.click()
    assert column(0) == lengths  # As numbers: as text, 1,000 would be the first.
    by_length.click()
    assert column(0) == lengths[::-1]


def test_dark_readers_get_a_dark_page(reader):
    def colours():
        return [reader.style("body", "background-color"), reader.style("h1", "color"), reader.style(".f0", "fill")]

    light = colours()
    reader.emulate("setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    dark = colours()
    assert all(one != other for one, other in zip(light, dark, strict=True))
    assert brightness(light[0]) > brightness(light[1]) and brightness(dark[0]) < brightness(dark[1])


def brightness(colour):
    """Of a colour as browsers write it, rgba(r, g, b, a)."""
    return sum(map(int, colour.partition("(")[2].split(",")[:3]))


def test_a_phone_need_not_scroll_sideways(reader, made):
    reader.emulate("setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    reader.driver.get(made[1])
    assert [picture.get_attribute("class") for picture in reader.shown("figure > div:has(> svg)")] == ["narrow"]
    reader.all("summary")[0].click()
    for point in reader.shown(".point"):  # Each shows another panel.
        reader.click(point)
        [panel] = reader.shown(".program")
        assert f"#{panel.get_attribute('id')}" == point.get_dom_attribute("href")
        assert reader.driver.execute_script("return document.documentElement.scrollWidth") == 390


def test_print_has_every_program_and_no_controls(reader):
    reader.emulate("setEmulatedMedia", media="print")
    assert len(reader.shown(".program")) == 5
    assert len(reader.shown(".legend label")) == 3 and not reader.shown("input")
