"""Who may see and who may write, and what every answer carries: Airflow gives a plugin's pages no guard of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, Header, HTTPException

from nightdesk_airflow.note import GROUP_DAG

if TYPE_CHECKING:
    from nightdesk_airflow.desk import Receive, Scope, Send

MAY_SEE: Final = Depends(requires_access_dag("GET", DagAccessEntity.RUN, GROUP_DAG))
"""For whoever may look at the runs of `reduce_group`."""

MAY_WRITE: Final = Depends(requires_access_dag("POST", DagAccessEntity.RUN, GROUP_DAG))
"""For whoever may start a run of it: positions start one."""

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
)

_HEADERS: Final = [
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


def from_our_page(
    sec_fetch_site: Annotated[str | None, Header()] = None, content_type: Annotated[str | None, Header()] = None
) -> None:
    """Refuse a request that was not made by one of our own pages: Airflow's API has no token against forged ones."""
    if sec_fetch_site != "same-origin":
        raise HTTPException(403, "This request did not come from a page of this site.")
    if (content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "Positions are sent as JSON.")


class Guarded:
    """An application whose every answer, errors too, carries the headers of a closed page."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))
                present = {name.lower() for name, _ in headers}
                headers += [(name, value) for name, value in _HEADERS if name not in present]
                if b"cache-control" not in present:
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, with_headers)
