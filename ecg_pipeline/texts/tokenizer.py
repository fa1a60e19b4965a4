"""The tokenizer of texts: a Unigram vocabulary trained on the study's own texts, or the one of a local T5."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import Unigram

from ecg_pipeline.storage.files import read_json, sha256_file, write_atomically, write_json
from ecg_pipeline.texts.unigram import train_unigram

PAD, END, UNKNOWN, MASK = "<pad>", "</s>", "<unk>", "<mask>"
"""Tokens that stand for no words: after a text, at its end, for characters never seen, and for what is hidden."""

T5_MASK = "<extra_id_0>"
"""What hides words where T5's own tokenizer is used: it has no mask token, and D-BETA's authors do not say theirs."""

FILE = "tokenizer.json"

T5, ENCODER = "t5", ("config.json", "model.safetensors")
"""Folder beside T5's tokenizer with its encoder, and the files in it."""

Encode = Callable[[Sequence[str]], tuple[NDArray[np.int32], NDArray[np.int32]]]
"""Cleaned texts to token ids (n, L) int32, each with an end token and padded, and their numbers (n,) int32."""


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer of texts. Files: `tokenizer.json`, as the package `tokenizers` reads it, and `config.json`; with the
    tokenizer of a T5 also `t5`, a folder with its encoder's config and weights."""

    folder: Path

    def config(self) -> dict[str, Any]:
        """Kind ("trained" or "t5"), longest, `facts`, and what was measured on the training texts: number of texts,
        tokens of a text on average, and the share of their tokens that are unknown."""
        return read_json(self.folder / "config.json")

    def facts(self) -> dict[str, Any]:
        """What a network needs to know: vocabulary (number of token ids), the ids pad, end, unknown and mask, and
        special, all ids that stand for no words."""
        config = self.config()
        return {name: config[name] for name in ("vocabulary", "pad", "end", "unknown", "mask", "special")}

    def digest(self) -> str:
        """Digest of everything that decides the tokens of a text."""
        return f"{sha256_file(self.folder / FILE)} {self.config()['longest']}"

    def load(self) -> Encode:
        """The tokenizer, ready to encode texts that were normalised (`clean.normalise`). Longer ones are cut."""
        config = self.config()
        return _encoder(_read(self.folder / FILE), pad=config["pad"], longest=config["longest"])


def train_tokenizer(texts: Sequence[str], *, vocabulary: int, longest: int, out: Path) -> TextTokenizer:
    """Train a Unigram tokenizer on cleaned texts and write it to `out`, the same bytes for the same texts.

    vocabulary: number of token ids, at most, see `train_unigram`. Without any text, a ValueError.
    """
    if not texts:
        raise ValueError("none of the pretraining sites has a text on an ECG of a training patient")
    specials = (PAD, END, UNKNOWN, MASK)
    pieces = train_unigram(texts, vocabulary=vocabulary - len(specials))
    scored = [*((token, 0.0) for token in specials), *pieces]
    tokenizer = Tokenizer(Unigram(scored, unk_id=specials.index(UNKNOWN), byte_fallback=False))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.Metaspace()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"$A {END}", special_tokens=[(END, specials.index(END))]
    )
    write_atomically(out / FILE, lambda path: path.write_text(tokenizer.to_str(pretty=True), encoding="utf-8"))
    return _finished(out, kind="trained", mask=MASK, longest=longest, texts=texts)


def import_tokenizer(folder: Path, *, longest: int, texts: Sequence[str], out: Path) -> TextTokenizer:
    """Take over the tokenizer of a T5 folder, and its encoder with it. One without T5's special tokens is a ValueError.

    texts: cleaned ones, on which it is measured how well it knows their words.
    """
    for name in ENCODER:
        write_atomically(out / T5 / name, lambda path, file=folder / name: copyfile(file, path))
    write_atomically(out / FILE, lambda path: copyfile(folder / FILE, path))
    return _finished(out, kind="t5", mask=T5_MASK, longest=longest, texts=texts)


def _finished(folder: Path, *, kind: str, mask: str, longest: int, texts: Sequence[str]) -> TextTokenizer:
    """Write the config last, so that a folder with a config is complete."""
    tokenizer = _read(folder / FILE)
    ids = {"pad": PAD, "end": END, "unknown": UNKNOWN, "mask": mask}
    known = {name: number for name, token in ids.items() if (number := tokenizer.token_to_id(token)) is not None}
    if missing := [token for name, token in ids.items() if name not in known]:
        raise ValueError(f"{FILE} is no tokenizer of a T5: it has no token {', '.join(missing)}")
    if tokenizer.encode("a").ids[-1] != known["end"]:
        raise ValueError(f"{FILE} is no tokenizer of a T5: its texts do not end with {END}")
    added = tokenizer.get_added_tokens_decoder()
    token_ids, lengths = _encoder(tokenizer, pad=known["pad"], longest=longest)(texts)
    words = int(lengths.sum()) - len(texts)
    config = {
        "kind": kind,
        "vocabulary": tokenizer.get_vocab_size(),
        **known,
        "special": sorted({*known.values(), *(number for number, token in added.items() if token.special)}),
        "longest": longest,
        "texts": len(texts),
        "tokens_per_text": round(words / max(1, len(texts)), 2),
        "unknown_share": round(float((token_ids == known["unknown"]).sum()) / max(1, words), 6),
    }
    write_json(folder / "config.json", config)
    return TextTokenizer(folder)


def _read(file: Path) -> Tokenizer:
    """A tokenizer without the padding that its file may ask for. A file that is none is a ValueError."""
    try:
        tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:  # noqa: BLE001 - the package raises no other
        raise ValueError(f"{file.name} is no file of a tokenizer: {error}") from None
    tokenizer.no_padding()
    return tokenizer


def _encoder(tokenizer: Tokenizer, *, pad: int, longest: int) -> Encode:
    tokenizer.enable_truncation(longest)

    def encode(texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        token_ids = np.full((len(texts), longest), pad, np.int32)
        lengths = np.zeros(len(texts), np.int32)
        for row, text in enumerate(texts):
            ids = tokenizer.encode(text).ids
            token_ids[row, : len(ids)], lengths[row] = ids, len(ids)
        return token_ids, lengths

    return encode
