"""``/docs`` and ``/redoc``: the API's documentation in a browser, without the internet.

Swagger UI and ReDoc come as files with the package ``fastapi-offline``; the pages around them are ours. No script
stands in a page itself, so that the browser can be told to run none that does.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import HTMLResponse, Response

from comfyclient.api.replies import problem
from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["add_pages"]

_PACKAGE: Final = "fastapi_offline"
_FILES: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
}
"""Of the package, with their media types."""
# ReDoc takes one picture from its maker's host. The policy below refuses that; so it is not even asked for.
_LOGO: Final = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_NOTHING: Final = b"data:image/svg+xml,%3Csvg%20xmlns=%22http://www.w3.org/2000/svg%22/%3E"
_SCRIPTS: Final = {
    "docs.js": """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  layout: "BaseLayout",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null,
});
""",
    "redoc.js": """\
Redoc.init("openapi.json", { disableSearch: true, hideLoading: true }, document.getElementById("page"));
""",
}
"""Ours."""
# Both libraries write styles into the page. Everything else comes from this server, and goes to it.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>comfyclient: {title}</title>
<link rel="icon" href="data:,">
<style>body {{ margin: 0; }}</style>
{style}</head>
<body>
<div id="page"></div>
<script src="static/{library}"></script>
<script src="static/{script}"></script>
</body>
</html>
"""
_DOCS: Final = _PAGE.format(
    title="the REST API",
    style='<link rel="stylesheet" href="static/swagger-ui.css">\n',
    library="swagger-ui-bundle.js",
    script="docs.js",
)
_REDOC: Final = _PAGE.format(title="the REST API", style="", library="redoc.standalone.js", script="redoc.js")


def add_pages(app: FastAPI) -> None:
    """Add ``/docs``, ``/redoc`` and what they load, ``/static/…``, to the application.

    Raises:
        ConfigError: The package with the files is not installed.
    """
    folder = _folder()
    files = {name: (folder / name).read_bytes().replace(_LOGO, _NOTHING) for name in _FILES}

    async def docs() -> Response:
        return _page(_DOCS)

    async def redoc() -> Response:
        return _page(_REDOC)

    async def static(name: str) -> Response:
        if name in _SCRIPTS:
            return Response(_SCRIPTS[name], media_type="text/javascript")
        if name in files:
            return Response(files[name], media_type=_FILES[name])
        return problem(404, "not_found", "there is no such file")

    app.add_api_route("/docs", docs, include_in_schema=False)
    app.add_api_route("/redoc", redoc, include_in_schema=False)
    app.add_api_route("/static/{name}", static, include_in_schema=False)


def _page(html: str) -> HTMLResponse:
    return HTMLResponse(html, headers={"Content-Security-Policy": _POLICY})


def _folder() -> Path:
    """Where the package keeps the files. It is found, and not imported: its own application is not wanted."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("the pages of the documentation are missing", hint="pip install 'comfyclient[api]'")
    return Path(spec.submodule_search_locations[0]) / "static"
