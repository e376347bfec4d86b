"""The desk: pages inside Airflow that show the night. Registered by the plugin, built at the first request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PREFIX = "/nightdesk"

GROUP_TAB = "nightdesk/{page}?dag={{DAG_ID}}&run={{RUN_ID}}"

ICON = {"icon": "nightdesk/static/moon.svg"}

VIEWS: list[dict[str, str]] = [
    # A destination that Airflow does not know removes the whole plugin without a word.
    {"name": "Nights", "href": "nightdesk/nights", "destination": "nav", "url_route": "nights"} | ICON,
    {
        "name": "Stack",
        "href": GROUP_TAB.format(page="stack"),
        "destination": "dag_run",
        "url_route": "stack",
    },
    {
        "name": "Frames",
        "href": GROUP_TAB.format(page="frames"),
        "destination": "dag_run",
        "url_route": "frames",
    },
    {
        "name": "Frame",
        "href": GROUP_TAB.format(page="frame") + "&task={TASK_ID}&index={MAP_INDEX}",
        "destination": "task_instance",
        "url_route": "frame",
    },
]


class LazyDesk:
    """The desk's web application, imported when somebody first asks for a page.

    Five components of Airflow load the plugin and one of them serves pages.
    """

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if self._app is None:
            self._app = await asyncio.to_thread(_build)
        await self._app(scope, receive, send)


def _build() -> Any:
    from nightdesk_airflow.desk.app import build

    return build()
