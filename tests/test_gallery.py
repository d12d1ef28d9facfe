"""`--html`: a page of a run that opens from the disk, filters, sorts, shows what failed, and runs nothing it is given.

The tests in a browser need Debian's `chromium` (or VIT_TEST_CHROMIUM=PATH) and skip, saying so, without it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import noise

from vitcli import gallery
from vitcli.errors import OutputError
from vitcli.gallery import Gallery, address
from vitcli.pictures.preprocess import FAMILIES
from vitcli.pictures.thumbnails import small
from vitcli.results import Failure, Label, Prediction

Vit = Callable[..., Any]
EVIL = "<img src=x onerror=alert(1)>\u2028</script><script>alert(2)</script>.png"
LABELS = [Label(0, None, "tench", 0.9), Label(1, "n02124075", "Egyptian cat", 0.6), Label(2, None, EVIL, 0.2)]


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def filled(path: Path, count: int, **options: Any) -> Path:
    """A page of `count` pictures: every third failed, labels and scores in turn."""
    preprocess = FAMILIES["hf"](32)
    with Gallery(path, "a run", **options) as page:
        for i in range(count):
            if i % 3 == 2:
                page.add(Failure(f"photos/{i}.jpg", "truncated", f"It ends <b>too</b> early {i}."))
                continue
            page.show(pixels(i), preprocess.seen((300, 200)))
            top = (Label(*_fields(LABELS[i % 3], 1 - i / (2 * count))),)
            page.add(Prediction(EVIL if i == 0 else f"photos/{i}.jpg", top, (300, 200), ("rotated",)))
    return path


def _fields(label: Label, score: float) -> tuple[int, str | None, str, float]:
    return label.index, label.wnid, label.label, score


def rows(path: Path) -> dict[str, Any]:
    """What the page's script reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    if found:
        return json.loads(found[1])  # type: ignore[no-any-return]
    script = next(path.parent.glob("*_files/rows.js")).read_text("utf-8")
    return json.loads(script.removeprefix("window.VIT="))  # type: ignore[no-any-return]


def test_a_page_holds_a_row_for_each_result_and_no_markup_from_outside(tmp_path: Path) -> None:
    path = filled(tmp_path / "run.html", 9)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.html"]
    found = rows(path)
    assert len(found["rows"]) == 9
    assert [row[6] if len(row) > 6 else "ok" for row in found["rows"]] == ["ok", "ok", "truncated"] * 3
    assert [len(row[5]) for row in found["rows"]] == [1, 1, 0] * 3
    text = path.read_text("utf-8")
    assert "<img src=x" not in text
    assert "<b>too" not in text
    assert text.count("<script") == 2


def test_beyond_some_thousands_thumbnails_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "INLINE", 10)
    path = filled(tmp_path / "run.html", 30)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["run.html", "run_files"]
    found = rows(path)
    assert len(found["rows"]) == 30
    assert [row[5] for row in found["rows"]] == [1, 1, 0] * 10
    names = sorted(file.name for file in (tmp_path / "run_files").rglob("*.jpg"))
    assert names == [f"{i:07}.jpg" for i in range(30) if i % 3 != 2]
    first = rows(filled(tmp_path / "small.html", 9))["rows"]
    import base64

    assert base64.b64decode(first[4][5][0]) == (tmp_path / "run_files" / "0000" / "0000004.jpg").read_bytes()


def test_nothing_is_overwritten_without_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path / "run.html", 3)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="--force"):
        filled(path, 4)
    assert path.read_bytes() == before
    filled(path, 4, force=True)
    assert len(rows(path)["rows"]) == 4
    (tmp_path / "other_files").mkdir()
    (tmp_path / "other_files" / "mine.txt").write_text("mine")
    monkeypatch.setattr(gallery, "INLINE", 2)
    with pytest.raises(OutputError, match="in the way"):
        filled(tmp_path / "other.html", 5, force=True)
    assert (tmp_path / "other_files" / "mine.txt").read_text() == "mine"


def test_a_run_that_breaks_off_leaves_no_page_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "INLINE", 2)

    def broken() -> None:
        with Gallery(tmp_path / "run.html", "a run") as page:
            for i in range(5):
                page.show(pixels(i), (0, 0, 30, 20))
                page.add(Prediction(f"{i}.jpg", (LABELS[0],), (30, 20)))
            raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="disk"):
        broken()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "family", "expected"), [
    ((300, 200), "hf", (160, 107)), ((200, 300), "hf", (107, 160)), ((3000, 30), "hf", (160, 2)),
    ((300, 200), "timm", (160, 160)),
])  # fmt: skip
def test_a_thumbnail_has_the_proportions_of_what_the_network_saw(
    size: tuple[int, int], family: str, expected: tuple[int, int]
) -> None:
    preprocess = FAMILIES[family](224)
    assert small(preprocess.resized(noise(1, size)), preprocess.seen(size)).size == expected


def test_links_lead_to_files_and_pages_alone(tmp_path: Path) -> None:
    (tmp_path / "a b#c?.jpg").write_bytes(b"x")
    (tmp_path / "javascript:alert(1)").write_bytes(b"x")
    assert address(str(tmp_path / "a b#c?.jpg"), tmp_path) == "./a%20b%23c%3F.jpg"
    assert address(str(tmp_path / "javascript:alert(1)"), tmp_path) == "./javascript%3Aalert%281%29"
    (tmp_path / "sub").mkdir()
    assert address(str(tmp_path / "a b#c?.jpg"), tmp_path / "sub") == "../a%20b%23c%3F.jpg"
    assert address("https://host/a.jpg?x=1", tmp_path) == "https://host/a.jpg?x=1"
    assert address("https://me:secret@host/a.jpg", tmp_path) is None
    assert address("z.zip!/a.jpg", tmp_path) is None
    assert address("javascript:alert(1)", tmp_path / "sub") is None
    assert address("a\0b", tmp_path) is None


def test_a_run_writes_its_page_beside_its_rows(vit: Vit, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    noise(1).save(folder / "a.png")
    (folder / "b.jpg").write_bytes(b"nothing")
    done = vit("classify", folder, "-m", tiny, "-o", tmp_path / "rows.jsonl", "--html", tmp_path / "run.html")
    assert done.returncode == 3, done.stderr
    records = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    found = rows(tmp_path / "run.html")
    assert [row[0] for row in found["rows"]] == [record["path"] for record in records]
    best = records[0]["top"][0]
    assert found["labels"][found["rows"][0][1][0][0]] == [best["index"], best["wnid"], best["label"]]
    assert found["rows"][0][1][0][1] == pytest.approx(best["score"], abs=1e-5)
    assert found["rows"][0][4] == "./in/a.png"
    assert found["rows"][1][6:] == [records[1]["error"], records[1]["message"]]
    plain = vit("classify", folder, "-m", tiny, "-o", tmp_path / "plain.jsonl")
    assert plain.returncode == 3
    assert (tmp_path / "plain.jsonl").read_bytes() == (tmp_path / "rows.jsonl").read_bytes()


def test_a_page_is_of_a_whole_run(vit: Vit, tiny: Path, picture: Path, tmp_path: Path) -> None:
    done = vit("classify", picture, "-m", tiny, "-o", tmp_path / "r.csv", "--resume", "--html", tmp_path / "r.html")
    assert done.returncode == 2
    assert "--resume" in done.stderr
    same = vit("classify", picture, "-m", tiny, "-o", tmp_path / "r.html", "-f", "csv", "--html", tmp_path / "r.html")
    assert same.returncode == 2
    assert not (tmp_path / "r.html").exists()


def test_explanations_stand_beside_their_pictures(vit: Vit, tiny: Path, tmp_path: Path) -> None:
    noise(1, (60, 40)).save(tmp_path / "a.png")
    done = vit("explain", tmp_path / "a.png", tmp_path / "none.png", "-m", tiny, "-o", tmp_path / "out", "-c", "1",
               "-c", "2", "--html", tmp_path / "page.html")  # fmt: skip
    assert done.returncode == 3, done.stderr
    found = rows(tmp_path / "page.html")["rows"]
    assert [len(row[5]) for row in found] == [3, 0]
    assert len(set(found[0][5])) == 3


CHROMIUM = os.environ.get("VIT_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium, or set VIT_TEST_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Page:
    """A page that was opened from the disk, and everything that it complained of."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.page = browser.new_context(**{"viewport": {"width": 1000, "height": 700}, **context}).new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message) or dialog.dismiss())
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(".card")

    def names(self) -> list[str]:
        cards = self.page.query_selector_all(".card")
        return [card.get_attribute("title") for card in sorted(cards, key=lambda c: int(c.get_attribute("data-place")))]

    def told(self) -> str:
        self.page.wait_for_timeout(200)
        return str(self.page.inner_text("#told"))


def test_in_a_browser_it_filters_sorts_and_shows_what_failed(browser: Any, tmp_path: Path) -> None:
    opened = Page(browser, filled(tmp_path / "run.html", 12))
    page = opened.page
    assert opened.told() == "12 of 12 shown, 4 of them failed"
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    page.fill("#find", "egyptian cat")
    assert opened.told() == "4 of 12 shown"
    assert opened.names() == [f"photos/{i}.jpg" for i in (1, 4, 7, 10)]
    page.fill("#find", "photos/7")
    assert opened.told() == "1 of 12 shown"
    page.fill("#find", "")
    page.select_option("#kind", "failed")
    assert opened.told() == "4 of 12 shown, 4 of them failed"
    assert "It ends <b>too</b> early 2." in page.inner_text(".card.failed")
    page.select_option("#kind", "classified")
    page.select_option("#order", "unsure")
    assert opened.told() == "8 of 12 shown"
    assert opened.names()[0] == "photos/10.jpg"
    page.evaluate("document.getElementById('least').value = 90")
    page.dispatch_event("#least", "input")
    assert opened.told() == "2 of 12 shown"
    assert opened.complaints == []
    assert all(url.startswith(("file:", "data:")) for url in opened.asked)


def test_in_a_browser_everything_is_done_by_keyboard(browser: Any, tmp_path: Path) -> None:
    opened = Page(browser, filled(tmp_path / "run.html", 30))
    page = opened.page
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.title") == "photos/1.jpg"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.title") == "photos/29.jpg"
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    assert "tench" in page.inner_text("dialog")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("dialog h2") == "photos/1.jpg"
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="hidden")
    page.wait_for_function("document.activeElement.title === 'photos/1.jpg'")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "find"
    page.keyboard.type("tench")
    assert opened.told() == "10 of 30 shown"
    assert opened.complaints == []


def test_in_a_browser_a_name_is_text(browser: Any, tmp_path: Path) -> None:
    opened = Page(browser, filled(tmp_path / "run.html", 3))
    page = opened.page
    shown = page.get_attribute(".card", "title")
    assert shown.startswith("<img src=x onerror=alert(1)>")
    assert page.evaluate("document.querySelectorAll('img[src=x], #cards script').length") == 0
    page.keyboard.press("Enter")
    page.click(".card")
    assert "<img src=x" in page.inner_text("dialog h2")
    assert opened.complaints == []


def test_in_a_browser_no_script_but_the_pages_own_runs(browser: Any, tmp_path: Path) -> None:
    path = filled(tmp_path / "run.html", 3)
    text = path.read_text("utf-8")
    path.write_text(text.replace("<main", "<script>document.title = 'mine'</script><main"), "utf-8")
    opened = Page(browser, path)
    assert opened.page.title() == "a run"
    assert any("Content Security Policy" in said for said in opened.complaints)


def test_in_a_browser_many_pictures_are_drawn_as_they_are_needed(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "INLINE", 100)
    opened = Page(browser, filled(tmp_path / "run.html", 3000))
    page = opened.page
    assert opened.told().startswith("3,000 of 3,000 shown")
    assert page.evaluate("document.querySelectorAll('.card').length") < 100
    page.keyboard.press("End")
    page.wait_for_timeout(300)
    assert page.evaluate("document.activeElement.title") == "photos/2999.jpg"
    assert page.evaluate("document.querySelectorAll('.card').length") < 100
    page.wait_for_function("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert opened.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_in_a_browser_it_fits_every_width_and_can_be_read(
    browser: Any, tmp_path: Path, scheme: str, width: int
) -> None:
    opened = Page(browser, filled(tmp_path / "run.html", 9), color_scheme=scheme,
                  viewport={"width": width, "height": 800})  # fmt: skip
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    light, dark = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (paper, ink))
    assert (light > 600) == (scheme == "light")
    assert abs(light - dark) > 450
    assert opened.complaints == []
