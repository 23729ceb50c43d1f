"""A headless Chromium with the network off, for reading the built book as a browser does.

axe-core, which looks for what keeps readers out, is no part of the book and of no Python package. It is taken from
``$CLAIMBOOK_AXE``, else from where ``npm install axe-core`` puts it in the repository's root.
"""

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --remote-debugging-port=0"
OPTIONS += " --disable-background-networking --disable-component-update --remote-allow-origins=*"
SETTLE = 0.7  # seconds of quiet after which a page counts as loaded
TIMEOUT = 90


def command() -> str | None:
    """The browser's command, None when there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def axe() -> Path | None:
    """The script of axe-core, None where it is not installed."""
    installed = Path(__file__).parents[1] / "node_modules" / "axe-core" / "axe.min.js"
    script = Path(os.environ.get("CLAIMBOOK_AXE") or installed)
    return script if script.is_file() else None


@contextmanager
def opened(folder: Path):
    """Yields a `Tab` of a browser for which every name resolves to nothing: a request is both seen and in vain.

    ``folder`` is the profile.
    """
    options = [*OPTIONS.split(), "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder}"]
    process = subprocess.Popen(
        [command(), *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        connection = websocket.create_connection(_address(folder), timeout=TIMEOUT)
        session = _call(connection, "Target.createTarget", url="about:blank")["targetId"]
        session = _call(connection, "Target.attachToTarget", targetId=session, flatten=True)["sessionId"]
        for domain in ("Network", "Log", "Runtime", "Page"):
            _call(connection, f"{domain}.enable", session)
        yield Tab(connection, session)
        connection.close()
    finally:
        process.terminate()
        process.wait(TIMEOUT)


class Tab:
    """One page at a time, opened from disk, and what a reader does with it."""

    def __init__(self, connection, session: str):
        self._connection, self._session = connection, session

    def visit(self, path: Path, rest: str = "") -> list[str]:
        """Open a page at ``rest``, such as ``#place`` or ``?q=word``; its console's complaints, and its requests."""
        return _visit(self._connection, self._session, path.as_uri() + rest)

    def evaluate(self, script: str):
        """Value of an expression in the page; AssertionError when it throws."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key, by name and code: ("ArrowDown", 40), (" ", 32, " ")."""
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            self._call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **typed)

    def tap(self, selector: str) -> None:
        """Touch the middle of an element, after scrolling it into view."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
        x, y = self.evaluate(f"{box} return [b.left + b.width / 2, b.top + b.height / 2]; }})()")
        self._call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self._call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        time.sleep(SETTLE)

    def resize(self, width: int, height: int, touch: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        self._call("Emulation.setTouchEmulationEnabled", enabled=touch)

    def scheme(self, name: str) -> None:
        """What the reader prefers: "light" or "dark"."""
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def too_faint(self) -> list[str]:
        """Text with too little contrast for WCAG's level AA: 4.5, or 3 where it is large. Folded text is unfolded."""
        return self.evaluate(TOO_FAINT)

    def grave(self, axe: Path) -> list[str]:
        """What axe-core calls serious or critical: the rule, and where it is broken first."""
        self.evaluate(axe.read_text(encoding="utf-8") + "; 0")
        return self.evaluate(GRAVE)

    def _call(self, method: str, **parameters) -> dict:
        return _call(self._connection, method, self._session, **parameters)


def _address(folder: Path) -> str:
    note, end = folder / "DevToolsActivePort", time.monotonic() + TIMEOUT
    while not (note.exists() and note.read_text().count("\n")):
        if time.monotonic() > end:
            raise TimeoutError("the browser did not start")
        time.sleep(0.05)
    port, path = note.read_text().split()
    return f"ws://127.0.0.1:{port}{path}"


def _call(connection, method: str, session: str | None = None, **parameters) -> dict:
    """Send a command and wait for its answer; events that come in between are dropped."""
    message = {"id": 1, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
    connection.settimeout(TIMEOUT)
    connection.send(json.dumps(message))
    while True:
        answer = json.loads(connection.recv())
        if answer.get("id") == 1:
            return answer["result"]


def _visit(connection, session: str, address: str) -> list[str]:
    connection.send(json.dumps({"id": 2, "sessionId": session, "method": "Page.navigate", "params": {"url": address}}))
    found, loaded, end = [], False, time.monotonic() + TIMEOUT
    connection.settimeout(SETTLE)
    while time.monotonic() < end:
        try:
            event = json.loads(connection.recv())
        except websocket.WebSocketTimeoutException:
            if loaded:
                return found
            continue
        loaded |= event.get("method") in ("Page.loadEventFired", "Page.navigatedWithinDocument")
        found += _complaint(event.get("method"), event.get("params", {}))
    raise TimeoutError(f"{address} did not load")


def _complaint(method: str | None, event: dict) -> list[str]:
    if method == "Network.requestWillBeSent" and not event["request"]["url"].startswith(("file:", "data:", "blob:")):
        return [f"asks for {event['request']['url']}"]
    if method == "Log.entryAdded" and event["entry"]["level"] == "error":
        return [event["entry"]["text"]]
    if method == "Runtime.exceptionThrown":
        return [event["exceptionDetails"]["text"]]
    if method == "Runtime.consoleAPICalled" and event["type"] in ("error", "assert"):
        return [" ".join(str(one.get("value")) for one in event["args"])]
    return []


# The colour of each text against what is behind it, both as the page computes them. A drawing's text lies on the page,
# unless `data-on` names the colour that it lies on.
TOO_FAINT = r"""(() => {
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  document.getAnimations().forEach((one) => one.finish());  // what unfolds fades in
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (said) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = said;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = (top, below, alpha) => [0, 1, 2].map((i) => alpha * top[i] + (1 - alpha) * below[i]);
  const light = (colour) => {
    const [r, g, b] = colour.map((x) => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    if (element.dataset.on) return rgba(element.dataset.on);
    const own = rgba(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, behind(element.parentElement), own[3]);
  };
  const opacity = (element) => element ? getComputedStyle(element).opacity * opacity(element.parentElement) : 1;
  const found = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim(), element = texts.currentNode.parentElement;
    const box = element.getBoundingClientRect();
    if (!text || box.width < 2 || box.height < 2 || !element.checkVisibility({visibilityProperty: true})) continue;
    if (element.closest("script, style, noscript, template, title, desc, :disabled")) continue;
    const style = getComputedStyle(element), back = behind(element);
    const ink = rgba(element.closest("svg") ? style.fill : style.color);
    const front = over(ink, back, ink[3] * opacity(element));
    const [high, low] = [light(front), light(back)].sort((a, b) => b - a), ratio = (high + 0.05) / (low + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio >= (large ? 3 : 4.5)) continue;
    const where = `${element.tagName.toLowerCase()}.${element.getAttribute("class") || ""}`;
    const colours = `${front.map(Math.round)} on ${back.map(Math.round)}`;
    found.add(`${where} ${ratio.toFixed(2)}: ${colours}: ${text.slice(0, 30)}`);
  }
  return [...found].slice(0, 30);
})()"""

# A tile's sign, such as ½, is hidden from screen readers, as its label says it in words; one rule reads it anyway.
GRAVE = """axe.run(document, {resultTypes: ["violations"]}).then((found) => found.violations
  .filter((one) => ["serious", "critical"].includes(one.impact))
  .map((one) => [one.id, one.nodes.map((node) => node.html)])
  .map(([id, all]) => [id, all.filter((html) => id !== "label-content-name-mismatch" || !html.includes('class="tile'))])
  .filter(([, all]) => all.length)
  .map(([id, all]) => `${id}, ${all.length} times: ${all[0].slice(0, 160)}`))"""
