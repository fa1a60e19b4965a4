"""Dagster's webserver for this machine alone: by itself it answers to any Host header, and so to any web page that a
browser here has open and that has its name resolved to this machine.

Its command line lets nobody add to the server, so the hook of the server class itself gets the check of the header.
"""

from dagster_webserver.cli import main
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ecg_pipeline.links import HOST


def check_host() -> None:
    """Have every webserver of this process refuse a foreign Host header."""
    unchecked = DagsterWebserver.build_middleware

    def checked(self: DagsterWebserver) -> list[Middleware]:
        return [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]), *unchecked(self)]

    DagsterWebserver.build_middleware = checked


if __name__ == "__main__":
    check_host()
    main()
