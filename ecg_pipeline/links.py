"""Where a study's outputs open in a browser: the addresses of the servers that `ecg-pipeline ui` starts.

Links into the Dagster UI are http, because a browser opens no file from an http page. All lead to the page server,
which knows the newest build, the pictures and the MLflow server; its address stands in the study's home.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from ecg_pipeline.storage.files import read_json, write_json

HOST = "127.0.0.1"
"""What every server listens on: this machine alone."""

PORT = 3000
"""Port of the Dagster UI where nobody chose another; the page server has the next one, MLflow the one after."""


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
    """Root of a server's pages."""
    return f"http://{HOST}:{port}"


def write_addresses(home: Path, addresses: Addresses) -> None:
    """Keep the ports that a study's servers are started on, for the links of every run after."""
    write_json(home / "addresses.json", asdict(addresses))


def read_addresses(home: Path) -> Addresses:
    """The ports that a study's servers were last started on."""
    path = home / "addresses.json"
    return Addresses(**read_json(path)) if path.exists() else Addresses()


def report_page(home: Path, folder: Path) -> str:
    """Address of a report. folder: its build."""
    return _build_page(home, folder, "reports")


def sheets_preview(home: Path, folder: Path) -> str:
    """Address of a picture of a site's first sheets. folder: the build of its `image_shards`."""
    _, partition, _ = _place(home, folder)
    return _build_page(home, folder, "previews", quote(partition))


def saliency_preview(home: Path, folder: Path, number: int) -> str:
    """Address of one of the pictures of a saliency, counted from 1. folder: its build."""
    return _build_page(home, folder, "previews", str(number))


def mlflow_run(home: Path, run_id: str) -> str:
    """Address that leads on to a run in the MLflow UI."""
    return f"{address(read_addresses(home).pages)}/runs/{run_id}"


def _build_page(home: Path, folder: Path, kind: str, *below: str) -> str:
    asset, _, build = _place(home, folder)
    path = "/".join((kind, quote(asset), *below))
    return f"{address(read_addresses(home).pages)}/{path}?build={build}"


def _place(home: Path, folder: Path) -> tuple[str, str, str]:
    """Asset, folder name of the partition, and build that a folder of the archive belongs to."""
    *asset, partition, build = folder.relative_to(home / "assets").parts
    return "/".join(asset), partition, build
