"""The listening page in a real browser: what a visitor does, sees, and is not bothered with."""

from __future__ import annotations

import io
import json
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from analysis.web.schemas import Limits
from embedder.catalogue import read_catalogue
from embedder.run import Run

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium or chrome on this machine"),
    # gradio counts its own requests with pandas
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

Tone = Callable[..., bytes]


@pytest.fixture(scope="module")
def browser(tone: Tone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium with a microphone that hears Ben."""
    from playwright.sync_api import sync_playwright

    heard = tmp_path_factory.mktemp("microphone") / "heard.wav"
    heard.write_bytes(tone(400.0, 8.0))
    arguments = [
        "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={heard}",
    ]  # fmt: skip
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


class Tab:
    """A page of the site, and all that went wrong or out on it."""

    def __init__(self, browser: Any, address: str, **context: Any) -> None:
        self.context = browser.new_context(permissions=["microphone"], **context)
        self.context.set_default_timeout(120_000)  # ms; a busy machine takes its time
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console", lambda said: said.type == "error" and self.problems.append(said.text)
        )
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.address = address
        self.page.goto(address)
        self.page.wait_for_selector("#file input[type=file]", state="attached")

    def send(self, name: str, data: bytes, place: str = "file") -> None:
        kind = "application/octet-stream"
        self.page.set_input_files(
            f"#{place} input[type=file]", {"name": name, "mimeType": kind, "buffer": data}
        )

    def says(self, place: str, text: str) -> None:
        self.page.wait_for_function(
            "([place, text]) => document.getElementById(place)?.innerText.includes(text)",
            arg=[place, text],
        )

    def outside(self) -> list[str]:
        return [one for one in self.asked if not one.startswith((self.address, "data:", "blob:"))]


@pytest.fixture
def visit(browser: Any, site: Any) -> Iterator[Callable[..., Tab]]:
    """Open the page; at the end nothing may have failed, or been asked of another host."""
    tabs: list[Tab] = []

    def open_tab(address: str = "", **context: Any) -> Tab:
        tabs.append(Tab(browser, address or site.address, **context))
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        tab.context.close()
        assert tab.problems == []
        assert tab.outside() == []
        assert len(tab.asked) > 10
    until = time.monotonic() + 60
    while site.left() and time.monotonic() < until:
        time.sleep(0.1)
    assert site.left() == []


def test_an_upload_is_answered(visit: Callable[..., Tab], site: Any, tone: Tone) -> None:
    tab = visit()
    tab.send("../../an Ö <i>song.ogg", tone(205.0, 3.0, "OGG"))
    tab.says("headline", "This sounds like Ada, 90%.")
    bars = tab.page.locator("#answer .bars li").all_inner_texts()
    assert [re.sub(r"\s+", " ", bar) for bar in bars] == [
        "Ada 90%", "Ben & <b>Co</b> 7%", "Cem under 1%"
    ]  # fmt: skip
    assert site.predictor.heard[-1] == "an Ö <i>song.ogg"
    assert tab.page.locator(".timeline .lane").count() == 4  # Ada, voice, the axis, the cursor
    assert tab.page.locator(".map circle").count() == 15
    assert tab.page.locator(".map circle.near").count() == 5
    assert tab.page.locator(".map .star").count() == 1
    star, ada = (
        tab.page.locator(place).first.bounding_box() for place in (".map .star", ".map .near")
    )
    assert abs(star["x"] - ada["x"]) < 100
    assert tab.page.locator("ol.near li").count() == 5
    assert tab.page.locator("ol.near audio").count() == 4  # of song 1 there is no excerpt
    lengths = tab.page.evaluate(
        """async () => {
          const lengths = [];
          for (const one of [...document.querySelectorAll("audio[src]")].slice(0, 2)) {
            one.preload = "auto"; one.load();
            await new Promise((done) => one.addEventListener("canplaythrough", done, {once: true}));
            lengths.push(one.duration);
          }
          return lengths;
        }"""
    )
    assert lengths == pytest.approx([3.0, 1.0], abs=0.1)
    tab.page.locator(".timeline .lane .time").first.click(position={"x": 5, "y": 5})
    tab.page.wait_for_function("document.querySelector('.cursor i').hidden === false")


@pytest.mark.slow
def test_the_microphone_is_heard(visit: Callable[..., Tab], site: Any) -> None:
    tab = visit()
    tab.page.get_by_role("button", name="Record", exact=True).click()
    stop = tab.page.get_by_role("button", name="Stop", exact=True)
    stop.wait_for()
    time.sleep(3.0)  # what is recorded
    stop.click()
    tab.says("headline", "This sounds like Ben & <b>Co</b>, 90%.")
    assert site.predictor.heard[-1].endswith(".wav")


def test_a_voice_is_taught_and_taken_back(visit: Callable[..., Tab], tone: Tone) -> None:
    tab = visit()
    tab.page.get_by_role("button", name="Undo").click()
    tab.says("taught", "Nothing was enrolled, so there is nothing to take back.")
    name = tab.page.get_by_role("combobox", name="This is")
    name.press("Enter")
    tab.says("taught", "A name is missing; write whose voice it is.")
    name.fill("Eva <i>")
    tab.page.get_by_role("button", name="Remember").click()
    tab.says("taught", "There is no recording yet; record or send one first.")
    tab.send("e.wav", tone(900.0))
    tab.says("headline", "This sounds like Cem")
    tab.page.get_by_role("button", name="Remember").click()
    tab.says("taught", "Learnt: e.wav is Eva <i>.")
    names = "[...document.querySelectorAll('#singers option')].map((one) => one.value)"
    assert tab.page.evaluate(names) == ["Ada", "Ben & <b>Co</b>", "Cem", "Eva <i>"]
    tab.send("f.wav", tone(890.0))
    tab.says("headline", "This sounds like Eva <i>, 90%.")
    tab.page.get_by_role("button", name="Undo").click()
    tab.says("taught", "Taken back: Eva <i>.")
    tab.send("f.wav", tone(890.0))
    tab.says("headline", "This sounds like Cem")


def test_problems_are_sentences(visit: Callable[..., Tab], tone: Tone) -> None:
    tab = visit()
    for name, data, sentence in (
        ("notes.wav", b"no sound at all", "Notes.wav is no recording that can be read."),
        ("hush.wav", tone(0.0), "Hush.wav is silent."),
        ("none.wav", b"", "None.wav is empty."),
        ("pack.zip", zipped(a=b"x"), "Pack.zip is a zip; send it under Many recordings."),
    ):
        tab.send(name, data)
        tab.says("headline", sentence)
        assert tab.page.locator("#headline .problem").count() == 1
        assert tab.page.locator("#answer").inner_text() == ""
    tab.send("new.wav", tone(2000.0))
    tab.says("headline", "Unknown: probably none of the 3 singers that are known here.")
    tab.send("large.wav", tone(200.0, 70.0))
    tab.page.get_by_text("maximum allowed size").first.wait_for()


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_many_recordings_become_a_table(
    visit: Callable[..., Tab], tone: Tone, tmp_path: Path
) -> None:
    tab = visit(viewport={"width": 390, "height": 800})
    tab.page.get_by_role("tab", name="Many recordings").click()
    pack = zipped(**{
        "002.wav": tone(600.0), "sub/x.ogg": tone(210.0, kind="OGG"), "../../10.wav": tone(2000.0),
        "notes.txt": b"words", "bad.wav": b"nothing", "__MACOSX/._x.ogg": b"",
    })  # fmt: skip
    files = [("all.zip", pack), ("1.flac", tone(400.0, kind="FLAC"))]
    tab.page.set_input_files(
        "#files input[type=file]",
        [{"name": n, "mimeType": "application/octet-stream", "buffer": d} for n, d in files],
    )
    tab.says(
        "many-message", "4 recordings answered, 1 of them probably by nobody known here, 2 files"
    )
    cells = tab.page.locator("#many tbody td:first-child").all_inner_texts()
    assert [cell.splitlines()[0] for cell in cells] == [
        "1.flac", "002.wav", "10.wav", "bad.wav", "sub/x.ogg", "notes.txt"
    ]  # fmt: skip
    assert "bad.wav is no recording that can be read" in cells[3]
    with tab.page.expect_download() as download:
        tab.page.get_by_role("link", name="Download prediction.csv").click()
    download.value.save_as(tmp_path / "got.csv")
    assert download.value.suggested_filename == "prediction.csv"
    assert (tmp_path / "got.csv").read_text(encoding="utf-8") == (
        "1,Ben & <b>Co</b>,Ada,Cem\n2,Cem,Ben & <b>Co</b>,Ada\n"
        "10,Cem,Ben & <b>Co</b>,Ada\nsub/x,Ada,Ben & <b>Co</b>,Cem\n"
    )
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert tab.page.evaluate(wide) <= 0


def test_the_keyboard_is_enough(visit: Callable[..., Tab], tone: Tone) -> None:
    """From the top, Tab and Enter reach a file, a name, teaching and undoing."""
    tab = visit(viewport={"width": 390, "height": 800}, color_scheme="dark")
    tab.page.on("filechooser", lambda _: None)  # from now on no window of the system opens
    seen = []

    def reach(name: str) -> None:
        for _ in range(40):
            tab.page.keyboard.press("Tab")
            seen.append(
                tab.page.evaluate(
                    """() => { const one = document.activeElement;
                    return one.getAttribute("aria-label") || one.labels?.[0]?.innerText ||
                      one.innerText || ""; }"""
                )
            )
            if seen[-1].startswith(name):
                style = "getComputedStyle(document.activeElement).outlineStyle"
                assert tab.page.evaluate(style) != "none"
                return
        raise AssertionError(f"{name} is not among {seen}")

    reach("Record")
    reach("Click to upload")
    with tab.page.expect_file_chooser() as chooser:
        tab.page.keyboard.press("Enter")
    chooser.value.set_files({"name": "e.wav", "mimeType": "audio/wav", "buffer": tone(900.0)})
    tab.says("headline", "This sounds like Cem")
    reach("This is")
    tab.page.keyboard.type("Eva")
    reach("Remember")
    tab.page.keyboard.press("Enter")
    tab.says("taught", "Learnt: e.wav is Eva.")
    reach("Undo")
    tab.page.keyboard.press("Space")
    tab.says("taught", "Taken back: Eva.")
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert tab.page.evaluate(wide) <= 0


@pytest.mark.slow
def test_who_waits_sees_the_place_in_the_queue(
    visit: Callable[..., Tab], site: Any, tone: Tone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.predictor, "pause_s", 4.0)
    first, second = visit(), visit()
    first.send("a.wav", tone(200.0))
    second.send("b.wav", tone(600.0))
    second.page.get_by_text(re.compile(r"queue: \d")).first.wait_for()
    first.says("headline", "Ada")
    second.says("headline", "Cem")


# Everything that a screen reader must name, and all text that must be told from its ground.
CHECK = """() => {
  const named = (one) => one.getAttribute("aria-label") || one.textContent.trim() ||
    (one.labels && one.labels.length) || one.getAttribute("aria-labelledby") || one.title;
  const seen = (one) => one.checkVisibility({opacityProperty: true, visibilityProperty: true});
  const nameless = [...document.querySelectorAll(
    "button, input:not([type=file]), select, textarea, audio, a, [role=img], [role=tab], summary")]
    .filter((one) => seen(one) && !named(one)).map((one) => one.outerHTML.slice(0, 200));
  const numbers = (text) => (text.match(/[0-9.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const back = numbers(getComputedStyle(at).backgroundColor);
      if (back.length === 3 || back[3] > 0.9) return back;
    }
    return [255, 255, 255];
  };
  const pale = [];
  for (const one of document.querySelectorAll("main *, .gradio-container *")) {
    const own = [...one.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !seen(one) || one.closest("svg, audio")) continue;
    const [a, b] = [light(numbers(getComputedStyle(one).color)), light(ground(one))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) pale.push([one.innerText.slice(0, 60), contrast.toFixed(2)]);
  }
  return {nameless, pale, language: document.documentElement.lang,
    headings: document.querySelectorAll("h1").length,
    live: [...document.querySelectorAll("[role=status][aria-live=polite]")].map((one) => one.id)};
}"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_and_contrasts(visit: Callable[..., Tab], tone: Tone, scheme: str) -> None:
    tab = visit(color_scheme=scheme)
    tab.send("e.wav", tone(210.0, 2.0))
    tab.says("headline", "Ada")
    tab.says("more", "Songs most like it")
    found = tab.page.evaluate(CHECK)
    assert found["nameless"] == []
    assert found["pale"] == []
    assert found["language"] == "en"
    assert found["headings"] == 1
    assert {"headline", "taught"} <= set(found["live"])


def test_no_request_reaches_other_files(site: Any, tone: Tone, tmp_path: Path) -> None:
    """Of any component: its input may be an upload, but no path or address that somebody writes."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(tone(200.0))
    config = json.loads(urlopen(f"{site.address}/config").read())
    events = [(one["id"], len(one["inputs"])) for one in config["dependencies"]]
    heard = list(site.predictor.heard)
    tried = 0
    for number, inputs in events:
        for path in (str(secret), f"{site.folder}/../{secret}", secret.as_uri(), site.address):
            file = {"path": path, "meta": {"_type": "gradio.FileData"}}
            body = {"data": [file] * inputs, "fn_index": number, "session_hash": "stranger"}
            request = Request(
                f"{site.address}/gradio_api/run/predict",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            if inputs and not config["dependencies"][number]["queue"]:
                with pytest.raises(HTTPError):
                    urlopen(request)
                tried += 1
    assert tried == 4 * 3  # recorded, sent, many
    assert list(site.folder.rglob("*.wav")) == []
    assert site.predictor.heard == heard
    with pytest.raises(HTTPError):
        urlopen(f"{site.address}/gradio_api/file={secret}")


@pytest.mark.slow
def test_a_run_behind_a_password(
    browser: Any, serving: Callable[..., Any], trained: Run, command: Callable[..., Any]
) -> None:
    """Real members, from the run folder to the page; a song of the run is found again."""
    from analysis.web.map import run_context
    from analysis.web.recogniser import open_recogniser
    from ensemble.identifier import SingerIdentifier

    command("analyze", "--pages", "tsne", "--run_dir", trained.root)
    catalogue = read_catalogue(trained.catalogue)
    (song, *_) = catalogue.of("train")
    limits = Limits()
    with (
        SingerIdentifier.load(trained.root) as identifier,
        ExitStack() as stack,
    ):
        context = run_context(trained, identifier.members)
        predictor = open_recogniser(identifier, context, limits, lambda _: None)
        address = stack.enter_context(serving(predictor, limits, "open sesame"))
        context = browser.new_context()
        assert context.request.get(address).status == 401
        context.close()
        tab = Tab(browser, address, http_credentials={"username": "me", "password": "open sesame"})
        tab.send(Path(song.path).name, Path(song.path).read_bytes())
        tab.says("more", "Songs most like it")
        assert tab.page.locator("ol.near b").first.inner_text() == Path(song.path).stem
        assert tab.page.locator(".map .star").count() == 1
        assert tab.page.locator(".map circle").count() == len(predictor.map_points()) > 0
        tab.page.get_by_role("combobox", name="This is").fill("Eva")
        tab.page.get_by_role("button", name="Remember").click()
        tab.says("taught", "Eva")
        tab.page.wait_for_selector("#singers option[value=Eva]", state="attached")
        assert "Eva" in predictor.singers()
        tab.page.get_by_role("button", name="Undo").click()
        tab.page.wait_for_selector("#singers option[value=Eva]", state="detached")
        tab.context.close()
        assert (tab.problems, tab.outside()) == ([], [])
