"""Open a run's report in a browser, read the data that it carries, and texts that try to break it."""

import json
import re
from contextlib import contextmanager

HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 1">',
    "{{ 7 * 7 }} {% raw %} ${7*7} <!-- <![CDATA[",
    "\u202eright to left\u202c and \u200bnothing\u2028here",
    "\x1b[31mred\x1b[0m \x07",
    "w" * 10_000_000,
]


def held(page):
    """The data that a report carries."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found)


@contextmanager
def opened(browser, run):
    """A run's report in a browser; whatever goes wrong in it fails the test."""
    context = browser.new_context(accept_downloads=True)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
    page.goto((run / "report.html").as_uri())
    yield page
    context.close()
    assert not wrong
