"""Exports of an output's provenance in public formats, all from one table of facts."""
