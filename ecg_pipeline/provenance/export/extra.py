"""The libraries of formats, which are an extra that not everybody installs."""

from collections.abc import Iterator
from contextlib import contextmanager

LIBRARIES = ("cryptography", "cyclonedx", "mlcroissant", "model_signing", "openlineage", "OpenSSL", "prov", "rocrate")


class MissingExtra(ImportError):  # noqa: N818
    """A library of the extra `audit` is not installed."""


@contextmanager
def audit_extra() -> Iterator[None]:
    """Turn the failed import of a library of the extra into one sentence that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in LIBRARIES:
            raise
        raise MissingExtra(
            f"{error.name} is not installed, and this format needs it: pip install 'ecg-pipeline[audit]'"
        ) from error
