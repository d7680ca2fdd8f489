"""The HTML of the pages: one shell, which the modules fill, and what is told without them."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from gateway.endpoints import Endpoint
from gateway.playground.assets import Assets
from gateway.work import FamilyState

STYLES = ("page.css", "playground.css")  # of all pages; one of a page's own name is that page's
_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="{icon}" type="image/svg+xml">
{styles}
{modules}
<script type="module" src="{main}"></script>
</head>
<body data-page="{page}" data-endpoint="{endpoint}" data-origin="{origin}" data-keys="{keys}">
<a class="skip" href="#main">To the content</a>
<fs-header></fs-header>
<main id="main" tabindex="-1"><noscript><p>The pages need JavaScript; the interfaces below do not.</p></noscript></main>
<footer>
<details>
<summary>About this service</summary>
<p>Image generation for unmodified fal.ai clients, on your own machines. These endpoints run here:</p>
<ul>
{endpoints}
</ul>
<p><code>POST /run/&lt;endpoint&gt;</code> draws in one call, <code>POST /queue/&lt;endpoint&gt;</code> queues.
All inputs and outputs are described in <a href="/openapi.json">/openapi.json</a>; routes, sizes and errors in
<code>docs/api.md</code> of the repository, the ways to point a client here in its <code>README.md</code>, metrics in
<code>docs/operations.md</code>. <a href="/ready">/ready</a> tells whether requests are served now.</p>
{family}</details>
</footer>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What all pages tell of the service. origin: its public address, where it has one. keys: whether they are
    required. family: what is drawn with; None says nothing of it.
    """

    assets: Assets
    endpoints: Sequence[Endpoint]
    origin: str
    keys: bool
    family: FamilyState | None


def shell(page: str, title: str, told: Told, endpoint: str = "") -> str:
    """A page. page: which; its module fills it. endpoint: of which it is, where that is one."""
    assets = told.assets
    items = (
        f'<li><a href="/models/{escape(each.id)}"><code>{escape(each.id)}</code></a>'
        f' (<a href="/openapi.json?endpoint_id={escape(each.id)}">its schemas</a>)</li>'
        for each in told.endpoints
    )
    # all at once, not one after another as each names the next
    needed = assets.needed("main.js", f"{page}.js")
    modules = [f'<link rel="modulepreload" href="{assets.address(name)}">' for name in needed]
    sheets = dict.fromkeys([*STYLES, f"{page}.css"])
    styles = [f'<link rel="stylesheet" href="{assets.address(name)}">' for name in sheets if name in assets.files]
    return _SHELL.format(
        title=escape(title),
        icon=assets.address("icon.svg"),
        styles="\n".join(styles),
        modules="\n".join(modules),
        main=assets.address("main.js"),
        page=escape(page),
        endpoint=escape(endpoint),
        endpoints="\n".join(items),
        family="" if told.family is None else _family(told.family),
        origin=escape(told.origin),
        keys="required" if told.keys else "off",
    )


def _family(family: FamilyState) -> str:
    has = f", with {escape(', '.join(family.has))}" if family.has else ""
    lines = [f"<p>The model family <code>{escape(family.name)}</code> draws here{has}.</p>"]
    if not family.checks_pictures:
        lines.append("<p><strong>Pictures are not checked</strong> for what is not safe for work.</p>")
    if family.missing:
        items = (_missing(part, command) for part, command in family.missing.items())
        lines.append("<p>It lacks these; what needs one is refused until its command has brought it,")
        lines.append("and the service was started again:</p>")
        lines += ["<ul>", *items, "</ul>"]
    return "\n".join(lines) + "\n"


def _missing(part: str, command: str) -> str:
    return f"<li>{escape(part)}: <code>{escape(command)}</code></li>"
