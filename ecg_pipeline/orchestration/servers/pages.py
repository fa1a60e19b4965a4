"""The page server: reports, audits, pictures and redirects to MLflow runs, for the links in the Dagster UI.

Reads only, below the study's archive only. Pictures are rendered on request and not stored. Invalid names, paths
out of the archive (also by symbolic links) and outputs that do not exist give 404.
"""

import base64
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from ecg_pipeline.explanation.results import Saliency
from ecg_pipeline.images.preview import contact_sheet
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.links import HOST, address
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.audit import audit as audit_of
from ecg_pipeline.provenance.audit_page import audit_page, script
from ecg_pipeline.provenance.record import Record, read_record
from ecg_pipeline.reporting.results import Report

PREVIEWS = 4
"""Sheets on a contact sheet."""

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

HEADERS = {
    # Patients' pictures stay out of the browser's cache, and out of other sites' pages.
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def build_app(home: Path, mlflow: str) -> Starlette:
    """The server over a study's home. mlflow: address of its tracking server."""
    archive = Archive(home.resolve())

    def report(request: Request) -> Response:
        page = Report(_build(archive, request, request.path_params["asset"], None)).page
        return _file(archive, page)

    def sheets(request: Request) -> Response:
        images = ImageShards(_build(archive, request, "image_shards", request.path_params["site"]))
        first = images.scan().head(PREVIEWS).collect()["ecg_id"].to_list()
        if not first:
            raise HTTPException(404)
        return Response(contact_sheet(images.read_ecgs(first), 2), media_type="image/png", headers=HEADERS)

    def picture(request: Request) -> Response:
        saliency = Saliency(_build(archive, request, f"{request.path_params['task']}/saliency", None))
        pictures, number = saliency.pictures(), request.path_params["number"]
        if not 1 <= number <= len(pictures):
            raise HTTPException(404)
        return _file(archive, pictures[number - 1].path)

    def audit(request: Request) -> Response:
        asset, place = request.path_params["asset"], request.path_params["place"]
        record = _record(archive, asset, place, request.query_params.get("build"))
        return HTMLResponse(audit_page(audit_of(archive, record)), headers=HEADERS | _with_script(script()))

    def run(request: Request) -> Response:
        run_id = request.path_params["run_id"]
        if not re.fullmatch("[0-9a-f]{32}", run_id):
            raise HTTPException(404)
        return RedirectResponse(_run_page(mlflow, run_id), 302)

    return Starlette(
        routes=[
            Route("/health", lambda request: PlainTextResponse("OK")),
            Route("/reports/{asset:path}", report),
            Route("/audit/{asset:path}/{place}", audit),
            Route("/previews/image_shards/{site}", sheets),
            Route("/previews/{task}/saliency/{number:int}", picture),
            Route("/runs/{run_id}", run),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
    )


def _build(archive: Archive, request: Request, asset: str, partition: str | None) -> Path:
    """Folder of the build that a request names, or of the newest. An output without a record does not exist."""
    names = [*asset.split("/"), *([] if partition is None else [partition])]
    place = archive.place(asset, partition)
    if not all(NAME.fullmatch(name) for name in names) or not _is_inside(archive, place):
        raise HTTPException(404)
    folder = _recorded(archive, asset, partition, request.query_params.get("build"))
    if folder is None or not _is_inside(archive, folder):
        raise HTTPException(404)
    return folder


def _recorded(archive: Archive, asset: str, partition: str | None, build: str | None) -> Path | None:
    """Folder of a build that has a record: of this name, or the newest where none is given."""
    place = archive.place(asset, partition)
    if build is None:
        newest = archive.newest(asset, partition)
        return archive.folder(newest) if newest else None
    is_recorded = NAME.fullmatch(build) and any((place / "records").glob(f"*-{build}*.json"))
    return place / build if is_recorded else None


def _record(archive: Archive, asset: str, place: str, build: str | None) -> Record:
    """The record of a build, or the newest one, in the folder of a partition."""
    folder = archive.place(asset, None).parent / place
    names = [*asset.split("/"), place, *([build] if build else [])]
    if not all(NAME.fullmatch(name) for name in names) or not _is_inside(archive, folder):
        raise HTTPException(404)
    of_build = sorted((folder / "records").glob(f"*-{build}*.json"))[-1:] if build else [folder / "record.json"]
    if not of_build or not of_build[0].is_file():
        raise HTTPException(404)
    return read_record(of_build[0])


def _with_script(source: str) -> dict[str, str]:
    """The security headers of a page with a script of its own."""
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return {"Content-Security-Policy": f"{HEADERS['Content-Security-Policy']}; script-src 'sha256-{digest}'"}


def _file(archive: Archive, path: Path) -> Response:
    if not path.is_file() or not _is_inside(archive, path):
        raise HTTPException(404)
    return FileResponse(path, headers=HEADERS)


def _is_inside(archive: Archive, path: Path) -> bool:
    return path.resolve().is_relative_to(archive.root)


def _run_page(mlflow: str, run_id: str) -> str:
    """Address of a run in the MLflow UI, which needs its experiment."""
    try:
        with urlopen(f"{mlflow}/api/2.0/mlflow/runs/get?run_id={run_id}", timeout=20) as answer:  # noqa: S310
            info: dict[str, Any] = json.load(answer)["run"]["info"]
    except HTTPError as error:
        raise HTTPException(404 if error.code == 404 else 502, f"MLflow says: {error.reason}") from None
    except URLError as error:
        raise HTTPException(502, f"there is no MLflow server at {mlflow}: {error.reason}") from None
    return f"{mlflow}/#/experiments/{info['experiment_id']}/runs/{run_id}"


def main(home: Path, port: int, mlflow_port: int) -> None:
    """Serve a study's home on this machine."""
    import uvicorn

    uvicorn.run(build_app(home, address(mlflow_port)), host=HOST, port=port, log_level="warning")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
