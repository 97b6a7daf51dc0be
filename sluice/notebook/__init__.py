"""How notebooks show what the client returns.

The objects of the API ask `html` for their display, so this is loaded only where something is displayed. `show` shows
an answer while it is written:

    from sluice.notebook import show

    answer = show(client.stream("How long is the warranty?"))
"""

from sluice.notebook.display import html
from sluice.notebook.live import LiveJob, show, show_async

__all__ = ["LiveJob", "html", "show", "show_async"]
