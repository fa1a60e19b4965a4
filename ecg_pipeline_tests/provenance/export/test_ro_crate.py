"""The crate is a Process Run Crate to the validator of RO-Crate's community, offline."""

import json

WITHOUT_ADDRESS = {
    "Application url",
    "SoftwareApplication id",
    "Root Data Entity: `author` property",
    "Root Data Entity: `publisher` property",
}
"""Recommendations that ask for web addresses and people that no record knows."""


def test_the_crate_is_valid(exported, tools, tmp_path):
    issues = tools.roc_validator(exported("ro-crate"), tmp_path)
    assert issues == {(name, "RECOMMENDED") for name in WITHOUT_ADDRESS}


def test_an_action_without_its_software_is_rejected(copied, tools, tmp_path):
    path = copied("ro-crate") / "ro-crate-metadata.json"
    crate = json.loads(path.read_text())
    action = next(entity for entity in crate["@graph"] if entity["@type"] == "CreateAction")
    del action["instrument"]
    path.write_text(json.dumps(crate))
    assert ("Action instrument", "REQUIRED") in tools.roc_validator(path.parent, tmp_path)


def test_a_file_that_is_gone_is_named(copied, tools, tmp_path):
    crate = copied("ro-crate")
    (crate / "counts.csv").unlink()
    found = {name for name, _ in tools.roc_validator(crate, tmp_path)}
    assert found - WITHOUT_ADDRESS


def test_every_run_is_an_action(exported, facts):
    graph = json.loads((exported("ro-crate") / "ro-crate-metadata.json").read_text())["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    actions = {entity["name"]: entity for entity in graph if entity["@type"] == "CreateAction"}
    assert {*actions} == {f"Making {output.name}" for output in facts.described}
    read = actions["Making low_lvef/heartbeit/finetuned_model@1"]["object"]
    assert {entities[entry["@id"]]["name"] for entry in read} == {
        "heartbeit/pretrained_checkpoint",
        "image_shards@beth_israel",
        "image_shards@mount_sinai",
        "low_lvef/cohort",
    }
