"""The chat page's interface: files that a site and the server serve unchanged, each with an engine of its own."""

from pathlib import Path

INTERFACE = Path(__file__).parent / "interface"
"""The folder of the files; `app/place.js` and `engine/worker.js` come from those who serve it; the worker
answers by `engine/requests.js`."""
