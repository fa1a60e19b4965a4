"""What Dagster's database is given to keep: links and figures of many, no patient's picture."""

import numpy as np
import polars as pl
from PIL import Image

from ecg_pipeline.evaluation.evaluate import write_evaluation
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.evaluation.summary import compute_metrics
from ecg_pipeline.explanation.results import ERRORS, SHARES, WINDOW, Saliency
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.metrics.table import METRICS
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.storage.shards import write_index, write_shard


def written(shown):
    """All that a mapping of metadata would put into the database, as text."""
    return " ".join(str(getattr(value, "value", value)) for value in shown.values())


def test_first_sheets_are_a_link_and_name_nobody(tmp_path):
    folder = tmp_path / "assets" / "image_shards" / "north" / "b1"
    write_shard(folder, 0, np.zeros((1, 8, 8), np.uint8))
    write_index(folder, pl.DataFrame({"ecg_id": ["ecg-of-somebody"], "shard": [0], "row": [0]}))
    shown = metadata.image_shards(ImageShards(folder), tmp_path)
    assert shown["dagster/row_count"] == 1
    assert shown["first_sheets"].value == "http://127.0.0.1:3001/previews/image_shards/north?build=b1"
    assert "somebody" not in written(shown)
    assert "image/png" not in written(shown)


def test_a_site_without_sheets_has_no_link(tmp_path):
    folder = tmp_path / "assets" / "image_shards" / "north" / "b1"
    write_index(folder, pl.DataFrame(schema={"ecg_id": pl.String, "shard": pl.Int32, "row": pl.Int32}))
    assert metadata.image_shards(ImageShards(folder), tmp_path) == {"dagster/row_count": 0}


def test_pictures_of_a_saliency_are_links(tmp_path):
    folder = tmp_path / "assets" / "stroke" / "saliency" / "all" / "b1"
    row = {"ecg_id": "ecg-of-somebody", "model": "m", "initialisation": "random", "kind": WINDOW, "region": "qrs"}
    numbers = {name: 0.5 for name, kind in SHARES.items() if kind == pl.Float64}
    shares = pl.DataFrame([{"ecg": number, **row, **numbers} for number in (1, 2)], schema=SHARES)
    write_parquet(folder / "shares.parquet", shares)
    for number in (1, 2):
        Image.new("L", (4, 4)).save(folder / f"ecg_{number}.png")
    wrong = {"model": "m", "kind": "false_positive", "ecg_id": "ecg-of-somebody", "site": "north"}
    numbers = {name: 0.5 for name, kind in ERRORS.items() if kind == pl.Float64}
    errors = pl.DataFrame([{"place": place, **wrong, **numbers} for place in (1, 2)], schema=ERRORS)
    assert "errors" not in metadata.saliency(Saliency(folder), tmp_path), "an output from before errors were explained"
    write_parquet(folder / "errors.parquet", errors)
    shown = metadata.saliency(Saliency(folder), tmp_path)
    assert shown["ecgs"] == 2
    assert [record.data for record in shown["errors"].records] == [
        {"model": "m", "kind": "false_positive", "threshold": 0.5, "ecgs": 2}
    ]
    for number, title in enumerate(("ECG 1", "ECG 2", "false positives of m"), start=1):
        address = f"http://127.0.0.1:3001/previews/stroke/saliency/{number}?build=b1"
        assert f"[{title}]({address})" in shown["pictures"].value
    assert "somebody" not in written(shown)
    assert "image/png" not in written(shown)


def test_every_metric_of_an_evaluation_is_shown(tmp_path):
    predictions = pl.DataFrame(
        {
            "ecg_id": [f"ecg-of-somebody-{number}" for number in range(40)],
            "site": "north",
            "patient": [f"p{number}" for number in range(40)],
            "label": [0, 1] * 20,
            "age_years": 50.0,
            "sex": "F",
            "device": "MAC",
            "seed": 0,
            "score": [0.2, 0.6, 0.5, 0.4] * 10,
        }
    )
    computed = compute_metrics(predictions, {}, EvaluationRecipe(bootstrap_draws=20))
    about = {
        "operating_points": {"by_seed": {}, "reason": "none"},
        "model": {"chosen_by": "highest AUROC on validation patients", "optimistic": False},
    }
    shown = metadata.evaluation(write_evaluation(predictions, computed, about=about, out=tmp_path))
    for metric in METRICS:
        value = computed.metrics[metric.name]
        assert shown[metric.name] == (value["value"] if metric.interval else value)
        assert (f"{metric.name}_95" in shown) == metric.interval
    assert "somebody" not in written(shown)
