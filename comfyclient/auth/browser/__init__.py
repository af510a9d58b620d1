"""Logging in with a real browser: the fallback for pages that need one. It needs ``comfyclient[browser]``.

::

    login    BrowserLogin, the scheme: the browser at the page until the instance lets its cookies in
     ├── typist     fills in the form that the page shows, once
     │    ├── forms      the scripts that find, fill and send a form within one document
     │    └── guard      stops the password on its way to other hosts; tells when a page has come to rest
     ├── chromium   starts and ends the browser, the border of Playwright's errors
     └── publickey  of a pinned certificate, for Chromium

Nothing here imports Playwright before a browser is started.
"""

from __future__ import annotations

from comfyclient.auth.browser.login import BrowserLogin

__all__ = ["BrowserLogin"]
