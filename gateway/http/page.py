"""The page at `/`: what runs here and where its documents are."""

from collections.abc import Iterable
from html import escape

from gateway.endpoints import Endpoint
from gateway.work import FamilyState

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Fooocus Serve</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }}
code {{ font-size: 0.95em; }}
</style>
<h1>Fooocus Serve</h1>
<p>Image generation for unmodified fal.ai clients, on your own machines. These endpoints run here:</p>
<ul>
{endpoints}
</ul>
<p><code>POST /run/&lt;endpoint&gt;</code> draws in one call, <code>POST /queue/&lt;endpoint&gt;</code> queues.
All inputs and outputs are described in <a href="/openapi.json">/openapi.json</a>; routes, sizes and errors in
<code>docs/api.md</code> of the repository, the ways to point a client here in its <code>README.md</code>.
<a href="/ready">/ready</a> tells whether requests are served now.</p>
{family}</html>
"""


def page(endpoints: Iterable[Endpoint], family: FamilyState | None) -> str:
    """A self-contained HTML page. family: what is drawn with; None says nothing of it."""
    items = (
        f'<li><a href="/openapi.json?endpoint_id={escape(endpoint.id)}"><code>{escape(endpoint.id)}</code></a></li>'
        for endpoint in endpoints
    )
    return _PAGE.format(endpoints="\n".join(items), family="" if family is None else _told(family))


def _told(family: FamilyState) -> str:
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
