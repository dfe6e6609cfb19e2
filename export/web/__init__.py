"""A static site on which an artifact runs in the browser."""

from __future__ import annotations

from .request import SiteRequest, SiteResult
from .site import write_site

__all__ = ["SiteRequest", "SiteResult", "write_site"]
