"""The page in a browser: what a reader clicks, filters, selects and sees, light, dark and printed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from nas_compress.report.page import write_report
from nas_compress.runs.folder import RunFolder
from running import quick_and_apart

Make = Callable[..., RunFolder]

SELECTED = """
return panels.map((panel) => [1, 2, 3].flatMap((trace) => {
  const drawn = panel.element.data[trace];
  return (drawn.selectedpoints ?? []).map((index) => drawn.customdata[index]);
}));
"""

PLACE = """
const [panel, trial] = [panels[arguments[0]], arguments[1]], row = byTrial.get(trial), full = panel.element._fullLayout;
const box = panel.element.getBoundingClientRect(), x = full.xaxis, y = full.yaxis;
return [box.left + x._offset + x.d2p(value(row, panel.x)), box.top + y._offset + y.d2p(value(row, panel.y))];
"""

ANOTHER_MEMBER = """
const wanted = (row) => value(row, "standing") === "front" && value(row, "trial") !== data.knee;
return value(data.rows.find(wanted), "trial");
"""

RINGED = """
const row = byTrial.get(arguments[0]);
return panels.map((panel) => panel.element.data[HOVERED].x[0] === value(row, panel.x));
"""

AREA = """
const size = panels[1].element._fullLayout._size, box = panels[1].element.getBoundingClientRect();
return [box.left + size.l, box.top + size.t, size.w, size.h];
"""

INSIDE = """
const panel = panels[1], box = panel.element.layout.selections[0];
const between = (it, one, other) => it >= Math.min(one, other) && it <= Math.max(one, other);
const inside = (row) => known(row, panel.x, panel.y) &&
  between(value(row, panel.x), box.x0, box.x1) && between(value(row, panel.y), box.y0, box.y1);
return data.rows.filter(inside).map((row) => value(row, "trial"));
"""

COLUMN = """
const lines = [...document.querySelectorAll("#trials tbody tr")];
return lines.map((line) => value(byTrial.get(Number(line.dataset.trial)), arguments[0]));
"""


@pytest.fixture(scope="module")
def page(make_run: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a made run of 40 trials and 2 failures."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(make_run(trained=40, failed=2), path)
    return path


@pytest.fixture
def opened(browser: WebDriver, page: Path) -> Iterator[WebDriver]:
    yield visit(browser, page)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def visit(browser: WebDriver, page: Path) -> WebDriver:
    browser.get(page.as_uri())
    WebDriverWait(browser, 60).until(lambda b: b.execute_script("return document.body.dataset.ready === 'yes'"))
    return browser


def cells(browser: WebDriver, column: str) -> list[Any]:
    """A column of the rows that the table shows."""
    return list(browser.execute_script(COLUMN, column))


def test_it_loads_alone_and_without_errors(opened: WebDriver) -> None:
    assert opened.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)") == []
    assert [line for line in opened.get_log("browser") if line["level"] == "SEVERE"] == []
    assert opened.execute_script("return panels.length") == 3
    assert len(cells(opened, "trial")) == 42


def test_a_limit_filters_the_table_and_dims_the_panels(opened: WebDriver) -> None:
    opened.find_element(By.CSS_SELECTOR, "[data-limit=size_bytes]").send_keys("100000")
    sizes = cells(opened, "size_bytes")
    assert 0 < len(sizes) < 40
    assert max(sizes) <= 100_000
    kept = set(cells(opened, "trial"))
    assert opened.find_element(By.ID, "kept").text == f"{len(kept)} of 42 trials kept"
    assert all(set(panel) == kept for panel in opened.execute_script(SELECTED))
    opened.find_element(By.CSS_SELECTOR, "[data-limit=accuracy]").send_keys("0.5")
    assert min(cells(opened, "accuracy")) >= 0.5
    opened.find_element(By.ID, "only-front").click()
    assert set(cells(opened, "standing")) == {"front"}
    opened.find_element(By.ID, "reset").click()
    assert len(cells(opened, "trial")) == 42


def test_a_heading_sorts_both_ways_with_empty_cells_last(opened: WebDriver) -> None:
    for turn in (1, -1):
        opened.find_element(By.CSS_SELECTOR, "th[data-column=accuracy]").click()
        column = cells(opened, "accuracy")
        assert column[-2:] == [None, None]
        assert column[:-2] == sorted(column[:-2])[::turn]


def test_a_point_opens_the_card_of_its_trial_and_is_ringed_in_every_panel(opened: WebDriver) -> None:
    trial = opened.execute_script(ANOTHER_MEMBER)
    opened.execute_script("document.getElementById('panels').scrollIntoView({block: 'center'})")
    x, y = opened.execute_script(PLACE, 0, trial)
    mouse = ActionChains(opened)
    mouse.w3c_actions.pointer_action.move_to_location(int(x), int(y))
    mouse.perform()
    WebDriverWait(opened, 10).until(
        lambda b: b.execute_script("return panels.every((p) => p.element.data[HOVERED].x.length === 1)")
    )
    ringed = opened.execute_script(RINGED, trial)
    assert ringed == [True, True, True]
    card = opened.find_element(By.ID, f"card-{trial}")
    assert card.get_attribute("open") is None
    ActionChains(opened).click().perform()
    WebDriverWait(opened, 10).until(lambda _: card.get_attribute("open") is not None)
    (picked,) = opened.find_elements(By.CSS_SELECTOR, "tr.picked")
    assert picked.get_attribute("data-trial") == str(trial)


def test_a_box_in_one_panel_selects_in_all_and_in_the_table(opened: WebDriver) -> None:
    opened.execute_script("document.getElementById('panels').scrollIntoView({block: 'center'})")
    opened.execute_script("return Plotly.relayout(panels[1].element, {dragmode: 'select'})")
    left, top, width, height = opened.execute_script(AREA)
    mouse = ActionChains(opened)
    mouse.w3c_actions.pointer_action.move_to_location(int(left + 2), int(top + 2))
    mouse.click_and_hold().move_by_offset(int(width * 0.7), int(height * 0.6)).release().perform()
    WebDriverWait(opened, 10).until(lambda _: 0 < len(cells(opened, "trial")) < 42)
    kept = set(cells(opened, "trial"))
    assert all(set(panel) == kept for panel in opened.execute_script(SELECTED))
    assert kept == set(opened.execute_script(INSIDE))


def shot(browser: WebDriver, path: Path) -> np.ndarray:
    path.write_bytes(base64.b64decode(browser.get_screenshot_as_base64()))
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"))


def test_it_is_light_or_dark_as_the_reader_has_it_and_by_its_button(opened: WebDriver, tmp_path: Path) -> None:
    def prefer(scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    painted = "return panels.every((p) => p.element._fullLayout.paper_bgcolor === color('page'))"
    prefer("light")
    light = shot(opened, tmp_path / "light.png")
    prefer("dark")
    WebDriverWait(opened, 10).until(lambda b: b.execute_script(painted))
    dark = shot(opened, tmp_path / "dark.png")
    assert np.median(light) > 200
    assert np.median(dark) < 60
    assert light.std() > 5, "the page must show something"
    assert dark.std() > 5, "the page must show something"
    opened.find_element(By.ID, "theme").click()
    WebDriverWait(opened, 10).until(lambda b: b.execute_script(painted))
    assert np.median(shot(opened, tmp_path / "button.png")) > 200


def test_paper_gets_the_static_picture(opened: WebDriver) -> None:
    picture, panels = opened.find_element(By.CSS_SELECTOR, ".print img"), opened.find_element(By.ID, "panels")
    assert (picture.is_displayed(), panels.is_displayed()) == (False, True)
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert (picture.is_displayed(), panels.is_displayed()) == (True, False)
    assert opened.execute_script("return arguments[0].naturalWidth", picture) > 1000


def test_a_real_run_and_an_empty_one_open_without_errors(
    browser: WebDriver, finished: RunFolder, make_run: Make, tmp_path: Path
) -> None:
    for name, folder in (("real", finished), ("empty", make_run(failed=1))):
        with quick_and_apart():
            write_report(folder, tmp_path / f"{name}.html")
        visit(browser, tmp_path / f"{name}.html")
        assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    assert "None of the 1 trials was measured" in browser.find_element(By.ID, "empty").text
