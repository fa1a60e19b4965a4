"""Which networks timm has, told without importing it: that takes seconds, which a look at a study should not."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_REGISTERED = re.compile(r"^@register_model\ndef (\w+)\(", re.MULTILINE)


def is_timm_model(name: str) -> bool:
    """Whether timm's registry holds a name; a tag of pretrained weights behind a dot does not matter."""
    if name.partition(".")[0] in _registered():
        return True
    import timm  # Names that are registered in another way are known to timm alone.

    return timm.is_model(name)


@cache
def _registered() -> frozenset[str]:
    """The names that timm's source registers."""
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("timm is not installed")
    sources = (Path(spec.origin).parent / "models").glob("*.py")
    return frozenset(name for path in sources for name in _REGISTERED.findall(path.read_text(encoding="utf-8")))
