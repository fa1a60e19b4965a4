"""The names of timm's models without importing timm, which takes seconds: checking a study stays fast."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_REGISTERED = re.compile(r"^@register_model\ndef (\w+)\(", re.MULTILINE)


def is_timm_model(name: str) -> bool:
    """Whether timm has a model of this name. A tag of pretrained weights after a dot is ignored."""
    if name.partition(".")[0] in _registered():
        return True
    import timm  # only for names that its source registers without the decorator

    return timm.is_model(name)


@cache
def _registered() -> frozenset[str]:
    """The names under `@register_model` in timm's source."""
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("timm is not installed")
    sources = (Path(spec.origin).parent / "models").glob("*.py")
    return frozenset(name for path in sources for name in _REGISTERED.findall(path.read_text(encoding="utf-8")))
