"""All that may be shown of a packed status, for a process of any kind: with msgspec, or one that only shows."""

from __future__ import annotations

import json

from reconciler.cli.views.painting import paint
from reconciler.cli.views.status import View, failing, status_page
from reconciler.cli.views.status_screen import narrowed, status_code
from reconciler.model.status import Status
from reconciler.model.value import to_whole
from reconciler.wire import rpc
from tests.cli.answers import NOW_NS


def shown(packed: bytes) -> str:
    """Return pages, exit codes and the document of a status, as one line."""
    status = rpc.unpack(Status, packed)
    pages = []
    for bits in range(16):
        view = View(*(bool(bits >> place & 1) for place in range(4)))
        page = narrowed(status) if view.selected else status
        pages.append(paint(status_page(page, NOW_NS, view)))
        pages.append([str(status_code(page, selected=view.selected)), str(len(failing(page)))])
    plain = rpc.Response(0, None, packed).result
    return json.dumps([pages, to_whole(status, plain)])
