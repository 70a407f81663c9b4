"""Takes pictures of a report's HTML page, light and dark, wide, tablet and phone, and checks it in the browser.

    python scripts/dev/report_screenshots.py RUN/sft-kit/report.json pictures/      # or report.html

Each picture is a slice of the page (`wide-dark-2.png`), so that it can be looked at in its own size. Checked on every
one: nothing is written to the console, nothing is requested but the page, the page is as wide as the window, and text
has at least the contrast of WCAG 2 AA (4.5, large text 3). Then that the filters of the answers do what they say.
Exit 1 when a check fails.

Needs a Chromium (`apt-get install chromium`; another one's path: --browser), and aiohttp, which comes with datasets:
the browser is driven by its DevTools protocol, because no flag of `chromium --screenshot` sets prefers-color-scheme.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from sft_kit.report.html import html
from sft_kit.report.page import Report

SCHEMES = ("light", "dark")
WIDTHS = {"wide": 1400, "tablet": 768, "phone": 360}  # CSS pixels
SLICE = {"wide": 1500, "tablet": 1500, "phone": 1700}  # height of a picture, in CSS pixels
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip

LOW_CONTRAST = """(() => {
  const parse = (text) => [...(text.match(/[\\d.]+/g) || []).map(Number), 1].slice(0, 4);
  const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3]));
  const light = (rgb) => rgb.map((c) => c / 255).map((c) => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.unshift(parse(getComputedStyle(e).backgroundColor));
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walker.nextNode();) {
    const element = node.parentElement, style = getComputedStyle(element);
    if (!node.data.trim() || !element.checkVisibility() || element.closest("script,style,svg")) continue;
    const back = ground(element), front = over(parse(style.color), back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const ratio = (a + .05) / (b + .05);
    if (ratio < (large ? 3 : 4.5)) found.add(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
  }
  return [...found];
})()"""

WIDER = """[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1
  && e.checkVisibility() && !e.closest("pre, svg")).slice(0, 5).map((e) => e.tagName + "." + e.className)"""

FILTERS = """(() => {
  const rows = [...document.querySelectorAll("#answers tbody tr")], shown = () => rows.filter((r) => !r.hidden);
  const set = (name, value) => {
    const field = document.querySelector(`#filters [name=${name}]`);
    field.value = value;
    field.dispatchEvent(new Event("input", {bubbles: true}));
  };
  const wrong = [];
  for (const select of document.querySelectorAll("#filters select")) {
    for (const option of [...select.options].filter((o) => o.value)) {
      set(select.name, option.value);
      const has = (row) => (row.dataset[select.name] || "").split(" ").includes(option.value);
      if (!shown().length || !shown().every(has) || shown().length !== rows.filter(has).length)
        wrong.push(`${select.name}=${option.value} shows ${shown().length} rows`);
    }
    set(select.name, "");
  }
  set("search", "no such text anywhere");
  if (shown().length) wrong.push("a search for what is not there shows rows");
  set("search", "");
  if (shown().length !== rows.length) wrong.push("not every row comes back");
  return {wrong, rows: rows.length};
})()"""


class Browser:
    """A headless Chromium and one page in it. `events` is everything it reported since the last `open`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        await self._socket.send_json(message | ({"sessionId": self._session} if self._session else {}))
        while True:
            answer = await self._next()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    async def attach(self) -> None:
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.call(f"{domain}.enable")

    async def open(self, address: str) -> None:
        self.events.clear()
        await self.call("Page.navigate", url=address)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            await self._next()

    async def value(self, script: str) -> Any:
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = await self._socket.receive_json(timeout=60)
        if "method" in message:
            self.events.append(message)
        return message


async def main() -> int:
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        page = options.report
        if page.suffix == ".json":
            page = Path(scratch) / "report.html"
            page.write_text(html(Report.from_json(json.loads(options.report.read_text("utf-8")))), "utf-8")
        print(f"{page.stat().st_size / 1e6:.2f} MB of HTML")
        problems = await _look(page, options.folder, options.browser, options.slices, Path(scratch) / "profile")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


async def _look(page: Path, folder: Path, program: str, slices: int, profile: Path) -> list[str]:
    problems: list[str] = []
    process = subprocess.Popen([program, *FLAGS, f"--user-data-dir={profile}"], stderr=subprocess.DEVNULL)
    try:
        port, path = _port(profile)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0) as socket,
        ):
            browser = Browser(socket)
            await browser.attach()
            for (name, width), scheme in itertools.product(WIDTHS.items(), SCHEMES):
                await browser.call(
                    "Emulation.setDeviceMetricsOverride",
                    width=width, height=900, deviceScaleFactor=1, mobile=name == "phone",
                )  # fmt: skip
                await browser.call(
                    "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
                )
                await browser.open(page.resolve().as_uri())
                problems += [f"{name}-{scheme}: {problem}" for problem in await _checked(browser, page, width)]
                await _pictures(browser, folder / f"{name}-{scheme}", width, SLICE[name], slices)
            filters = await browser.value(FILTERS)
            print(f"{filters['rows']} rows of answers")
            problems += filters["wrong"]
            await browser.call("Browser.close")
    finally:
        process.terminate()
        process.wait(30)
    return problems


async def _checked(browser: Browser, page: Path, width: int) -> list[str]:
    problems = []
    for event in browser.events:
        params = event["params"]
        if event["method"] == "Network.requestWillBeSent" and params["request"]["url"] != page.resolve().as_uri():
            problems.append(f"asked for {params['request']['url'][:100]}")
        if event["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            problems.append(f"console: {json.dumps(params)[:300]}")
    wide = await browser.value("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
    if wide != width:
        problems.append(f"is {wide} px wide in a window of {width}: {await browser.value(WIDER)}")
    return problems + [f"low contrast: {found}" for found in await browser.value(LOW_CONTRAST)]


async def _pictures(browser: Browser, stem: Path, width: int, height: int, slices: int) -> None:
    """The first slices of the page, and one from where each of its later sections begins."""
    total = await browser.value("document.documentElement.scrollHeight")
    places = {str(index + 1): height * index for index in range(slices)}
    for name in ("forgetting", "answers", "training"):
        top = f"document.getElementById('{name}')?.getBoundingClientRect().top + scrollY"
        places[name] = await browser.value(f"Math.floor({top})")
    for name, top in places.items():
        if top is not None and top < total:
            clip = {"x": 0, "y": top, "width": width, "height": min(height, total - top), "scale": 1}
            shot = await browser.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
            stem.with_name(f"{stem.name}-{name}.png").write_bytes(base64.b64decode(shot["data"]))


def _port(profile: Path) -> tuple[str, str]:
    """Where the browser listens, which it writes into its profile when it is ready."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            port, path = (profile / "DevToolsActivePort").read_text().split("\n")[:2]
            return port, path
        except (OSError, ValueError):
            time.sleep(0.1)
    raise TimeoutError("the browser did not start")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("report", type=Path, help="report.json or report.html")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "chromium")
    parser.add_argument("--browser", default=found, help="path of a Chromium (default: %(default)s)")
    parser.add_argument("--slices", type=int, default=2, help="pictures from the top of the page (default: 2)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
