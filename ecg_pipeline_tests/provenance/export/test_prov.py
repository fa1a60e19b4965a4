"""The document survives a round trip through the library, and the library refuses what is none."""

import json

import pytest
from prov.model import ProvActivity, ProvDerivation, ProvDocument, ProvEntity, ProvUsage

from ecg_pipeline.provenance.export.prov import document


def read(path):
    return ProvDocument.deserialize(content=path.read_text(), format="json")


def test_round_trip(exported, facts):
    found = read(exported("prov"))
    assert found == document(facts)
    again = ProvDocument.deserialize(content=found.serialize(format="json"), format="json")
    assert again == found


def test_every_use_and_derivation_is_of_what_is_described(exported, facts):
    found = read(exported("prov"))
    entities = {entity.identifier for entity in found.get_records(ProvEntity)}
    activities = {activity.identifier for activity in found.get_records(ProvActivity)}
    assert len(activities) == len(facts.described)
    for usage in found.get_records(ProvUsage):
        activity, entity = usage.args[:2]
        assert activity in activities
        assert entity in entities
    inputs = sum(len(output.inputs) for output in facts.described)
    assert len([*found.get_records(ProvDerivation)]) == inputs


def test_defects_are_found(copied, facts):
    path = copied("prov")
    content = json.loads(path.read_text())
    changed = json.loads(path.read_text())
    derivation = next(iter(changed["wasDerivedFrom"].values()))
    derivation["prov:usedEntity"] = derivation["prov:generatedEntity"]
    path.write_text(json.dumps(changed))
    assert read(path) != document(facts)
    del content["prefix"]["record"]
    path.write_text(json.dumps(content))
    with pytest.raises(Exception, match="identifier is missing"):
        read(path)
