"""How alike texts are by the words that they share: TF-IDF, reduced by a singular value decomposition."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

WORD = re.compile(r"[^\W_]+")

DIMENSIONS = 128
"""Length of the vectors, at most."""


def tf_idf(texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors (n, D) of texts whose cosine says how alike two texts are: 1 for equal texts.

    Deterministic: one thread, and the decomposition's seed is fixed. Fewer words or texts than dimensions are not
    decomposed.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    weighted = TfidfVectorizer(analyzer=WORD.findall).fit_transform(texts)  # pyright: ignore[reportArgumentType]
    if min(weighted.shape) <= DIMENSIONS:
        return weighted.toarray().astype(np.float32)
    with threadpool_limits(1):
        return TruncatedSVD(DIMENSIONS, random_state=0).fit_transform(weighted).astype(np.float32)
