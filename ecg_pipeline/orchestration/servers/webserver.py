"""Dagster's webserver with a check of the Host header, against DNS rebinding: by itself it accepts any host name.

Its command line has no option for middleware, so the server class is patched.
"""

from dagster_webserver.cli import main
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ecg_pipeline.links import HOST


def check_host() -> None:
    """Make every webserver of this process refuse foreign Host headers."""
    unchecked = DagsterWebserver.build_middleware

    def checked(self: DagsterWebserver) -> list[Middleware]:
        return [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]), *unchecked(self)]

    DagsterWebserver.build_middleware = checked


if __name__ == "__main__":
    check_host()
    main()
