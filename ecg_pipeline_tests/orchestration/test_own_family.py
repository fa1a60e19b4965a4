"""The page on model families, followed to the letter: a family of another package, from study to report."""

import shutil
from pathlib import Path

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.reporting.results import Report
from ecg_pipeline_tests.howto import follow, run

REPOSITORY = Path(__file__).parents[2]


def test_a_family_of_another_package_needs_no_edit_and_a_family_of_ours_two_lines(tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(REPOSITORY / "ecg_pipeline", tree / "ecg_pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "setup.cfg", tree)
    settings = {"ECG_HOME": str(tree / "home"), "ECG_WORKERS": "2"}
    printed = follow("add-a-family.md", tree, settings)
    page = Path(printed.strip().splitlines()[-1])
    results = Report(page.parent).results()
    assert set(results["model"]) == {"lead_spread", "small_cnn", "spread_probe"}
    assert results["auroc"].null_count() == 0
    text = page.read_text()
    assert "linear model on the spread of 12 leads" in text
    assert "Not explained: lead_spread, spread_probe" in text

    archive = Archive(tree / "home" / "spread")
    assert archive.newest("low_lvef/lead_spread/finetuned_model", "1") is not None
    assert not any(
        (tree / "home" / "spread" / "assets" / name).exists() for name in ("image_shards", "image_tokenizer")
    )

    # The edits at the end of the page were made: now the family is one of the package's own.
    family = tree / "ecg_pipeline" / "models" / "lead_spread"
    family.mkdir()
    light = (tree / "families" / "lead_spread.py").read_text()
    (family / "__init__.py").write_text(light.replace("lead_spread_network", "ecg_pipeline.models.lead_spread.network"))
    shutil.copy(tree / "families" / "lead_spread_network.py", family / "network.py")
    run("ecg-pipeline study check spread.yaml", tree, settings)
    run("lint-imports --config setup.cfg", tree, settings | {"PATH": f"{REPOSITORY / '.venv' / 'bin'}:/usr/bin:/bin"})
