"""HDF5 files, opened so that no other file is read and no plugin is run.

An HDF5 file can refer to others: by links, by data sets whose samples are in another file, by data sets put together
from others, and by filters that the library would load as plugins. None of it is followed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_pipeline.ingest.rejects import Rejected, RejectReason

if TYPE_CHECKING:
    import h5py

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_CHUNK_BYTES = 32 * 2**20
"""Limit of what the library decompresses at once; whole tracings have 200 kilobytes."""

FILTERS = {1, 2, 3, 32000}
"""Filters that are part of the library or of h5py: deflate, shuffle, checksum, LZF. Others would be plugins."""

_FAULTS = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError)
"""What h5py raises for damaged files."""


@contextmanager
def open_hdf5(path: Path) -> Iterator["h5py.File"]:
    """An HDF5 file, open for reading. What is damaged is `Rejected`, when it is opened or within the context."""
    import h5py

    with path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            raise Rejected(RejectReason.NOT_AN_ECG, "not an HDF5 file")
    try:
        # Without a lock: data sets may be on a disk that has none.
        with h5py.File(path, "r", driver="sec2", locking=False) as opened:
            yield opened
    except _FAULTS:
        raise Rejected(RejectReason.UNREADABLE, "damaged HDF5") from None


def dataset(file: "h5py.File", name: str, *, kinds: str, dimensions: int) -> "h5py.Dataset":
    """A data set of numbers whose samples are in the file itself; otherwise `Rejected`.

    kinds: the numpy kinds that it may have.
    """
    import h5py

    # Unlike `name in file`, this follows no link.
    if not file.id.links.exists(name.encode()):
        raise Rejected(RejectReason.NOT_AN_ECG, f"no data set {name}")
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise Rejected(RejectReason.OUTSIDE_FOLDER, f"{name} is a link")
    if file.get(name, getclass=True) is not h5py.Dataset:
        raise Rejected(RejectReason.NOT_AN_ECG, f"{name} is no data set")
    properties = h5py.h5d.open(file.id, name.encode()).get_create_plist()
    layout = properties.get_layout()
    if layout == h5py.h5d.VIRTUAL or properties.get_external_count():
        raise Rejected(RejectReason.OUTSIDE_FOLDER, f"the samples of {name} are in another file")
    if any(properties.get_filter(number)[0] not in FILTERS for number in range(properties.get_nfilters())):
        raise Rejected(RejectReason.UNREADABLE, f"a filter of {name} that is not read")
    found = file[name]
    assert isinstance(found, h5py.Dataset)
    if found.dtype.kind not in kinds or found.dtype.itemsize > 8 or len(found.shape) != dimensions:
        raise Rejected(RejectReason.NOT_AN_ECG, f"{name} is no array of the expected kind")
    chunk = found.dtype.itemsize
    for length in found.chunks or ():
        chunk *= length
    if chunk > MAX_CHUNK_BYTES:
        raise Rejected(RejectReason.TOO_LARGE, f"chunks of {chunk / 2**20:.0f} MB")
    return found
