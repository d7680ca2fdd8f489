"""The page at `/`: what runs here and where its documents are."""

from collections.abc import Iterable
from html import escape

from gateway.endpoints import Endpoint

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
</html>
"""


def page(endpoints: Iterable[Endpoint]) -> str:
    """A self-contained HTML page."""
    items = (
        f'<li><a href="/openapi.json?endpoint_id={escape(endpoint.id)}"><code>{escape(endpoint.id)}</code></a></li>'
        for endpoint in endpoints
    )
    return _PAGE.format(endpoints="\n".join(items))
