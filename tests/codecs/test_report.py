from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codomain.codecs import image_kind, report
from codomain.codecs.contenders import KINDS
from codomain.codecs.image_kind import read_picture
from PIL import Image

IMAGE = KINDS["image"]


@pytest.fixture(scope="module")
def html(evaluation: Path) -> str:
    return (evaluation / "out" / "report.html").read_text()


@pytest.fixture(scope="module")
def pictures(html: str) -> list[dict[str, Any]]:
    found = re.findall(r'<script type="application/json" class="picture">(.*?)</script>', html)
    return [json.loads(text) for text in found]


def test_everything_is_inside(html: str) -> None:
    assert len(html) < 60e6
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in html
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", html)
    assert "<!--" not in html
    assert html.count("photos") >= 2  # the title stands in head and body


def test_rivals_have_the_bytes_of_ours(pictures: list[dict[str, Any]], evaluation: Path) -> None:
    assert [picture["name"] for picture in pictures] == ["coffee.png", "more/chelsea.png"]
    for picture in pictures:
        labels = [image["label"] for image in picture["versions"]]
        assert labels[0] == "original"
        for ours in ("walloc-rgb-4x", "walloc-rgb-16x"):
            own = picture["versions"][labels.index(ours)]
            for rival in ("jpeg", "webp", "jpeg2000"):
                (found,) = (
                    i for i in picture["versions"] if re.fullmatch(rf"{rival}:\d+ at the bytes of {ours}", i["label"])
                )
                assert found["n_bytes"] == pytest.approx(own["n_bytes"], rel=0.05), found["label"]
                assert found["off"] == round(100 * (found["n_bytes"] / own["n_bytes"] - 1), 1)
        x = read_picture(evaluation / "photos" / picture["name"])
        shown = Image.open(io.BytesIO(base64.b64decode(picture["versions"][0]["src"].partition(",")[2])))
        assert np.array_equal(np.asarray(shown), x)


def test_a_page_that_would_grow_too_large_says_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    images = [
        IMAGE.exhibit("original", x, x, None, ""),
        IMAGE.exhibit("ours", x, x, b"12", ".cdm"),
        IMAGE.exhibit("jpeg2000:9", x, x, b"123", ".jp2") | {"off": 50.0},
    ]
    assert images[1]["psnr"] is None  # equal: JSON knows no infinity
    shown = [{"name": "</script><b>.png", "width": 64, "height": 64, "versions": images}]
    point = {"model": "ours", "name": "ours", "images": 1, "bpp": 0.5, "psnr": 30.0}
    sizes, again = [], []
    for budget in (10**6, sum(len(image["src"]) for image in images) - 1, 1000):
        monkeypatch.setattr(image_kind, "BUDGET", budget)
        small = report.page(IMAGE, "A & B", [point], [], ["left out: <x>"], shown)
        sizes.append(len(small))
        again.append([image["label"] for image in images if not image["lossless"]])
    assert again == [[], ["jpeg2000:9"], ["ours", "jpeg2000:9"]]
    assert sizes == sorted(sizes, reverse=True)
    assert "A &amp; B" in small
    assert "left out: &lt;x&gt;" in small
    assert "</script><b>" not in small


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed (Debian: chromium, chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "window-size=1280,1000",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def test_in_a_real_browser(browser: Any, evaluation: Path, pictures: list[dict[str, Any]]) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    def element(name: str) -> Any:
        return browser.find_element(By.ID, name)

    def run(script: str) -> Any:
        return browser.execute_script(f"return {script}")

    browser.get((evaluation / "out" / "report.html").as_uri())
    browser.execute_async_script("Promise.all([...document.images].map(i => i.decode())).then(arguments[0])")
    assert run("[...document.images].every(i => i.naturalWidth === 256 && i.naturalHeight === 192)")

    # curves: 11 points of 5 codecs; hovering tells the value; a codec can be hidden
    assert run("document.querySelectorAll('#chart circle').length") == 11
    point = browser.find_element(By.CSS_SELECTOR, "#chart circle[data-at='4']")
    ActionChains(browser).move_to_element(point).perform()
    assert re.fullmatch(r"jpeg:60: \d\.\d{3} bpp, \d\d\.\d\d dB", element("tip").text)
    browser.find_elements(By.CSS_SELECTOR, "#legend button")[2].click()
    assert run("document.querySelectorAll('#chart circle').length") == 7
    Select(element("metric")).select_by_visible_text("MS-SSIM, dB")
    assert run("document.querySelectorAll('#chart circle').length") == 7

    # the table sorts, both ways, by number
    head = next(th for th in browser.find_elements(By.CSS_SELECTOR, "#table th") if th.text == "bpp")
    for order in (1, -1):
        head.click()
        rates = [
            float(v)
            for v in run("[...document.querySelectorAll('#table tbody tr')].map(r => r.cells[2].dataset.value)")
        ]
        assert len(rates) == 11
        assert rates == sorted(rates)[::order]

    # pictures: choose, compare, zoom
    Select(element("picture")).select_by_visible_text("more/chelsea.png")
    Select(element("b")).select_by_index(2)
    image = pictures[1]["versions"][2]
    about = element("about-b").text
    assert about.startswith(f"{image['n_bytes']:,} bytes")
    assert f", {image['bpp']:.3f} bpp, {image['psnr']:.2f} dB" in about
    assert run("document.getElementById('image-b').src") == image["src"]
    browser.execute_script("document.getElementById('view').scrollIntoView()")
    width = run("document.getElementById('view').clientWidth")
    ActionChains(browser).click_and_hold(element("handle")).move_by_offset(round(width / 4), 0).release().perform()
    assert run("document.getElementById('right').style.clipPath").startswith("inset(0px 0px 0px 7")
    assert 74 < float(element("position").get_attribute("value")) < 76
    before = run("document.getElementById('zoom').value")
    element("in").click()
    element("in").click()
    assert int(run("document.getElementById('zoom').value").split()[0]) == pytest.approx(
        int(before.split()[0]) * 2.25, rel=0.02
    )
    element("actual").click()
    assert run("document.getElementById('zoom').value") == "100 %"
    element("next").click()
    assert run("document.getElementById('picture').value") == "0"

    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"]
    assert urls
    assert all(url.startswith(("file://", "data:")) for url in urls), urls


@pytest.fixture(scope="module")
def recordings(sound_evaluation: Path) -> list[dict[str, Any]]:
    page = (sound_evaluation / "out" / "report.html").read_text()
    found = re.findall(r'<script type="application/json" class="recording">(.*?)</script>', page)
    return [json.loads(text) for text in found]


def test_sound_is_inside_too(recordings: list[dict[str, Any]], sound_evaluation: Path) -> None:
    page = (sound_evaluation / "out" / "report.html").read_text()
    assert len(page) < 30e6
    assert "default-src 'none'; img-src data:; media-src data:;" in page
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page)
    assert "<!--" not in page
    assert [recording["name"] for recording in recordings] == ["a.wav", "b.flac", "more/c.wav"]
    for recording in recordings:
        original, ours, *rivals = recording["versions"]
        assert (original["label"], ours["label"]) == ("original", "tiny-stereo")
        names = [re.fullmatch(r"(\w+)(@|:[\d.]+ at the bytes of )tiny-stereo", rival["label"])[1] for rival in rivals]
        assert rivals[0]["label"] == "opus@tiny-stereo"  # the file of the run
        assert names == ["opus", "mp3", "vorbis"]
        assert rivals[0]["n_bytes"] == pytest.approx(ours["n_bytes"], rel=0.05)
        for rival in rivals:
            assert rival["off"] == round(100 * (rival["n_bytes"] / ours["n_bytes"] - 1), 1)


def test_sound_in_a_real_browser(browser: Any, sound_evaluation: Path, recordings: list[dict[str, Any]]) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    def run(script: str) -> Any:
        return browser.execute_script(f"return {script}")

    browser.get((sound_evaluation / "out" / "report.html").as_uri())
    loaded = "Promise.all([...document.images].map(i => i.decode())).then(arguments[0])"
    browser.execute_async_script(loaded)
    browser.execute_async_script(
        "Promise.all([...document.querySelectorAll('audio')].map(a => a.readyState > 1 || new Promise(done => "
        "{ a.onloadeddata = done; }))).then(arguments[0])"
    )
    versions = recordings[0]["versions"]
    assert run("[...document.querySelectorAll('audio')].map(a => a.controls && !a.error)") == [True] * len(versions)
    length = recordings[0]["stop"] - recordings[0]["start"]
    for seconds in run("[...document.querySelectorAll('audio')].map(a => a.duration)"):
        assert seconds == pytest.approx(length, abs=0.01)
    captions = run("[...document.querySelectorAll('figcaption')].map(c => c.textContent)")
    assert captions[0] == "original"
    assert captions[1].startswith(f"tiny-stereo{versions[1]['n_bytes']:,} bytes, {versions[1]['kbps']:.1f} kbps, SNR ")

    # a click into a spectrogram goes there, and the player that is started next goes on from there
    spectrogram = browser.find_elements(By.CSS_SELECTOR, ".spectrogram")[1]
    spectrogram.click()  # in its middle
    assert run("document.querySelectorAll('audio')[1].currentTime") == pytest.approx(length / 2, abs=0.05)
    browser.execute_async_script(
        "const a = document.querySelectorAll('audio')[2]; a.muted = true; a.play().then(() => { a.pause(); "
        "arguments[0](); })"
    )
    assert run("document.querySelectorAll('audio')[2].currentTime") >= length / 2 - 0.05

    Select(browser.find_element(By.ID, "recording")).select_by_visible_text("more/c.wav")
    assert run("document.querySelector('#versions img').src") == recordings[2]["versions"][0]["spectrogram"]
    labels = run("[...document.querySelectorAll('.spectrogram')][0].textContent")
    assert labels.startswith("0")
    assert run("document.querySelectorAll('#gains tbody tr').length") == 1
    assert run("document.querySelectorAll('#chart circle').length") == 6
    assert "kilobits per second" in run("document.querySelector('#chart').textContent")

    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"]
    assert all(url.startswith(("file://", "data:", "blob:")) for url in urls), urls


@pytest.fixture(scope="module")
def clips(video_evaluation: Path) -> list[dict[str, Any]]:
    page = (video_evaluation / "out" / "report.html").read_text()
    return [
        json.loads(text) for text in re.findall(r'<script type="application/json" class="clip">(.*?)</script>', page)
    ]


def test_video_is_inside_too(clips: list[dict[str, Any]], video_evaluation: Path) -> None:
    page = (video_evaluation / "out" / "report.html").read_text()
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page)
    assert "<!--" not in page
    assert [clip["name"] for clip in clips] == ["a.mkv", "more/b.mkv"]
    for clip in clips:
        labels = [version["label"] for version in clip["versions"]]
        assert labels[:3] == ["original", "flipbook", "x264@flipbook"]  # the files of the run
        assert [re.sub(r":\d+(\.\d)?", "", name) for name in labels[3:]] == [
            f"{name} at the bytes of flipbook" for name in ("x265", "svtav1")
        ]
        assert [version["crf"] for version in clip["versions"]] == [8, 8, None, 8, None]


def test_video_in_a_real_browser(browser: Any, video_evaluation: Path, clips: list[dict[str, Any]]) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    def element(name: str) -> Any:
        return browser.find_element(By.ID, name)

    def run(script: str) -> Any:
        return browser.execute_script(f"return {script}")

    settled = (
        "const done = arguments[0], wait = () => films.every(v => v.readyState > 1 && !v.seeking) ? done() "
        ": setTimeout(wait, 10); wait()"
    )
    browser.get((video_evaluation / "out" / "report.html").as_uri())
    for i in range(len(clips[0]["versions"])):  # H.264 and AV1 play
        Select(element("b")).select_by_index(i)
        browser.execute_async_script(settled)
        assert run("films.map(v => [v.videoWidth, v.videoHeight, v.error])") == [[176, 128, None]] * 2
        assert run("films.map(v => v.duration)") == pytest.approx([15 / 25] * 2, abs=0.03)
    Select(element("b")).select_by_index(1)
    browser.execute_async_script(settled)
    ours = clips[0]["versions"][1]
    assert element("about-b").text == (
        f"{ours['n_bytes']:,} bytes, {ours['bpp']:.4f} bpp, {ours['psnr']:.2f} dB; shown through H.264 at CRF 8"
    )

    # every frame of the slider is that frame of the film, in both players
    frames = [photo_frame(i) for i in range(15)]
    for i in (0, 7, 14):
        browser.execute_script(f"$('frame').value = {i}; $('frame').oninput()")
        browser.execute_async_script(settled)
        assert element("number").text.startswith(f"frame {i + 1} of 15")
        assert run("films.map(v => v.currentTime)") == pytest.approx([(i + 0.5) / 25] * 2)
        seen = browser.execute_script(
            "const c = document.createElement('canvas'); c.width = 176; c.height = 128; const d = c.getContext('2d');"
            "d.drawImage(films[0], 0, 0); return [...d.getImageData(0, 0, 176, 128).data]"
        )
        shown = np.array(seen).reshape(128, 176, 4)[..., :3]
        errors = [float(np.abs(shown - frame).mean()) for frame in frames]
        assert int(np.argmin(errors)) == i
        assert errors[i] < 4
    element("view").send_keys(Keys.ARROW_LEFT)
    assert element("number").text.startswith("frame 14 of 15")

    # playing goes on in step, and begins again at the end
    browser.execute_async_script("start().then(arguments[0])")
    browser.execute_async_script("setTimeout(arguments[0], 900)")
    a, b = run("films.map(v => v.currentTime)")
    assert abs(a - b) < 0.1
    assert element("play").text == "pause"
    element("play").click()
    browser.execute_async_script(settled)
    a, b = run("films.map(v => v.currentTime)")
    assert a == b

    # the wipe, side by side, another clip
    browser.execute_script("$('zoom').value = '2'; $('zoom').onchange(); $('view').scrollIntoView()")
    assert run("[$('view').clientWidth, $('view').clientHeight]") == [352, 256]
    ActionChains(browser).move_to_element_with_offset(element("view"), 0, 0).click_and_hold().move_by_offset(
        88, 0
    ).release().perform()
    assert run("$('right').style.clipPath").startswith("inset(0px 0px 0px 7")
    Select(element("mode")).select_by_value("beside")
    assert run("$('view').clientWidth") == 704
    element("next").click()
    browser.execute_async_script(settled)
    assert run("$('frame').max") == "9"
    assert run("films[0].src") == clips[1]["versions"][0]["src"]
    assert run("document.querySelectorAll('#chart circle').length") == 6

    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"]
    assert all(url.startswith(("file://", "data:", "blob:")) for url in urls), urls


def photo_frame(i: int) -> np.ndarray:
    """A frame of the clips in `video_evaluation`."""
    photo = np.array(Image.open(Path(__file__).parents[1] / "data" / "chelsea.png").convert("RGB"))
    return photo[40 + i : 168 + i, 100 + 2 * i : 276 + 2 * i]
