"""What Dagster's database is given to keep: links and figures of many, no patient's picture."""

import numpy as np
import polars as pl
from PIL import Image

from ecg_pipeline.explanation.results import SHARES, WINDOW, Saliency
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.storage.shards import PartsWriter


def written(shown):
    """All that a mapping of metadata would put into the database, as text."""
    return " ".join(str(getattr(value, "value", value)) for value in shown.values())


def test_first_sheets_are_a_link_and_name_nobody(tmp_path):
    folder = tmp_path / "assets" / "image_shards" / "north" / "b1"
    writer = PartsWriter(folder)
    writer.write(0, np.zeros((1, 8, 8), np.uint8))
    writer.finish(pl.DataFrame({"record": ["ecg-of-somebody"], "part": [0], "row": [0]}))
    shown = metadata.image_shards(ImageShards(folder), tmp_path)
    assert shown["dagster/row_count"] == 1
    assert shown["first_sheets"].value == "http://127.0.0.1:3001/previews/image_shards/north?build=b1"
    assert "somebody" not in written(shown)
    assert "image/png" not in written(shown)


def test_a_site_without_sheets_has_no_link(tmp_path):
    folder = tmp_path / "assets" / "image_shards" / "north" / "b1"
    PartsWriter(folder).finish(pl.DataFrame(schema={"record": pl.String, "part": pl.Int32, "row": pl.Int32}))
    assert metadata.image_shards(ImageShards(folder), tmp_path) == {"dagster/row_count": 0}


def test_pictures_of_a_saliency_are_links(tmp_path):
    folder = tmp_path / "assets" / "stroke" / "saliency" / "all" / "b1"
    row = {"record": "ecg-of-somebody", "model": "m", "initialisation": "random", "kind": WINDOW, "region": "qrs"}
    numbers = {name: 0.5 for name, kind in SHARES.items() if kind == pl.Float64}
    shares = pl.DataFrame([{"ecg": number, **row, **numbers} for number in (1, 2)], schema=SHARES)
    write_parquet(folder / "shares.parquet", shares)
    for number in (1, 2):
        Image.new("L", (4, 4)).save(folder / f"ecg_{number}.png")
    shown = metadata.saliency(Saliency(folder), tmp_path)
    assert shown["ecgs"] == 2
    for number in (1, 2):
        address = f"http://127.0.0.1:3001/previews/stroke/saliency/{number}?build=b1"
        assert f"[ECG {number}]({address})" in shown["pictures"].value
    assert "somebody" not in written(shown)
    assert "image/png" not in written(shown)
