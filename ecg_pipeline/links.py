"""URLs of a study's outputs on the servers that `ecg-pipeline ui` starts.

Links in the Dagster UI are http, because a browser opens no file from an http page. All point to the page server, whose
port is stored in the study's home.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from ecg_pipeline.storage.files import read_json, write_json

HOST = "127.0.0.1"
"""Address that every server listens on: this machine only."""

PORT = 3000
"""Default port of the Dagster UI; the page server has the next one, MLflow the one after."""


@dataclass(frozen=True)
class Addresses:
    """Ports of a study's servers on this machine."""

    dagster: int = PORT
    pages: int = PORT + 1
    mlflow: int = PORT + 2


def ports_from(port: int) -> Addresses:
    """The ports of the servers of a Dagster UI on `port`."""
    return Addresses(port, port + 1, port + 2)


def address(port: int) -> str:
    """Root URL of the server on a port."""
    return f"http://{HOST}:{port}"


def write_addresses(home: Path, addresses: Addresses) -> None:
    """Store the ports of a study's servers, for the links in later runs."""
    write_json(home / "addresses.json", asdict(addresses))


def read_addresses(home: Path) -> Addresses:
    """The ports that a study's servers were last started on, or the default ones."""
    path = home / "addresses.json"
    return Addresses(**read_json(path)) if path.exists() else Addresses()


def report_page(folder: Path, *, home: Path) -> str:
    """URL of a report. folder: its build."""
    return _build_page("reports", folder=folder, home=home)


def audit_page(folder: Path, *, home: Path) -> str:
    """URL of the page on where an output comes from. folder: its build."""
    _, partition, _ = _place(folder, home=home)
    return _build_page("audit", quote(partition), folder=folder, home=home)


def image_preview(folder: Path, *, home: Path) -> str:
    """URL of a preview of a site's first images. folder: the build of its `image_shards`."""
    _, partition, _ = _place(folder, home=home)
    return _build_page("previews", quote(partition), folder=folder, home=home)


def saliency_preview(folder: Path, number: int, *, home: Path) -> str:
    """URL of one picture of a saliency output, counted from 1. folder: its build."""
    return _build_page("previews", str(number), folder=folder, home=home)


def mlflow_run(home: Path, run_id: str) -> str:
    """URL of a run in the MLflow UI, by way of the page server."""
    return f"{address(read_addresses(home).pages)}/runs/{run_id}"


def _build_page(kind: str, *below: str, folder: Path, home: Path) -> str:
    asset, _, build = _place(folder, home=home)
    path = "/".join((kind, quote(asset), *below))
    return f"{address(read_addresses(home).pages)}/{path}?build={build}"


def _place(folder: Path, *, home: Path) -> tuple[str, str, str]:
    """Asset, folder name of the partition, and build of a build's folder."""
    *asset, partition, build = folder.relative_to(home / "assets").parts
    return "/".join(asset), partition, build
