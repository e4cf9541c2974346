"""How a page fits a screen, for the tests of pages: sizes, schemes, and what must hold at each."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

SIZES = ((320, 568), (390, 844), (768, 1024), (1280, 800))
SCHEMES = ("light", "dark")


def resize(driver: Any, width: int, height: int) -> None:
    """A screen of that many CSS pixels, a phone's when it is narrow."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": min(width, height) < 700},
    )


def painted(driver: Any) -> None:
    """Wait for two frames: the events of a scroll and of a new size have been dispatched then."""
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(() => arguments[0]()))")


def prefer(driver: Any, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def usual(driver: Any) -> None:
    """The browser as it was."""
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


# What is wrong, as a list of texts: sideways scrolling, what sticks out, small inputs, controls without a label, text
# that is hard to read.
PROBLEMS = """
const bad = [], root = document.documentElement;
if (root.scrollWidth > innerWidth) bad.push(`the page is ${root.scrollWidth} px wide on ${innerWidth}`);
const shown = one => one.checkVisibility({visibilityProperty: true}) && one.getClientRects().length > 0;
const scrolls = one => {
  for (let up = one.parentElement; up; up = up.parentElement)
    if (up.scrollWidth > up.clientWidth && getComputedStyle(up).overflowX !== "visible") return true;
  return false;
};
for (const one of document.querySelectorAll("body *")) {
  if (!shown(one)) continue;
  const {left, right, width} = one.getBoundingClientRect(), name = one.id || one.className || one.tagName;
  if (width > 2 && (left < -1 || right > innerWidth + 1) && !scrolls(one)) bad.push(`${name} sticks out: ${right}`);
}
for (const one of document.querySelectorAll("input, button")) {
  if (!shown(one)) continue;
  if (one.tagName === "INPUT" && parseFloat(getComputedStyle(one).fontSize) < 16) bad.push(`${one.id} has small text`);
  if (!(one.labels?.length || one.ariaLabel || one.textContent.trim())) bad.push(`${one.id} has no label`);
}
// WCAG 2.1: a contrast of 4.5 for text, of what it is painted with and on.
const rgb = text => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = one => {
  for (let up = one; up; up = up.parentElement) {
    const colour = rgb(getComputedStyle(up).backgroundColor);
    if (colour.length < 4 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const told = new Set();
for (const one of document.querySelectorAll("body *")) {
  const own = [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  if (!own || !shown(one) || one.closest("[disabled]")) continue;
  if (getComputedStyle(one).backgroundImage !== "none" || one.closest(".away")) continue;
  const [a, b] = [light(rgb(getComputedStyle(one).color)), light(ground(one))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const name = `${one.tagName.toLowerCase()}.${one.className} in #${one.closest("[id]")?.id}`;
  if (contrast < 4.5 && !told.has(name)) bad.push(`${name} has a contrast of ${contrast.toFixed(2)}`);
  told.add(name);
}
return bad;
"""

VISIBLE = """
const one = document.querySelector(arguments[0]);
if (!one) return false;
const {left, top, right, bottom} = one.getBoundingClientRect();
const within = left >= -0.5 && top >= -0.5 && right <= innerWidth + 0.5 && bottom <= innerHeight + 0.5;
return within && right > left && bottom > top;
"""

# Where the pieces of an element begin and end: [[left, top of its first line, right, top of its last line], ...].
PIECES = """
return [...arguments[0].childNodes].filter(node => node.textContent).map(node => {
  const range = document.createRange();
  range.selectNodeContents(node);
  const lines = range.getClientRects(), last = lines[lines.length - 1];
  return [lines[0].left, lines[0].top, last.right, last.top];
});
"""


def problems(driver: Any) -> list[str]:
    return list(driver.execute_script(PROBLEMS))


def is_visible(driver: Any, selector: str) -> bool:
    """Whether all of the first such element is within the screen."""
    return bool(driver.execute_script(VISIBLE, selector))


def in_order(driver: Any, element: Any) -> bool:
    """Whether the pieces of an element stand one behind the other, from left to right, or on a line below."""
    pieces = driver.execute_script(PIECES, element)
    return all(
        left >= right - 1 or top > last_top + 4 for (_, _, right, last_top), (left, top, _, _) in pairwise(pieces)
    )
