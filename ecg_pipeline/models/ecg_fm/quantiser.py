"""The product quantiser of wav2vec 2.0 with Gumbel noise: frames to codes, and to the vectors of those codes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """vectors (..., D): of the chosen codes, all codebooks side by side. codes (..., G): one a codebook.

    code_perplexity, probability_perplexity: how many codes are in use, summed over codebooks; by the codes without
    noise, and by their probabilities, through which the gradient flows. size: number of codes of all codebooks.
    """

    vectors: Tensor
    codes: Tensor
    code_perplexity: Tensor
    probability_perplexity: Tensor
    size: int

    @property
    def unused(self) -> Tensor:
        """The share of codes that are not in use, by their probabilities: the loss that keeps codes diverse."""
        return (self.size - self.probability_perplexity) / self.size


class Quantiser(nn.Module):
    """Vectors (..., width) -> quantised vectors (..., out). In training, codes are sampled."""

    def __init__(self, width: int, *, codebooks: int, codes: int, out: int):
        super().__init__()
        self.codebooks, self.codes = codebooks, codes
        self.vars = nn.Parameter(torch.rand(1, codebooks * codes, out // codebooks))
        self.weight_proj = nn.Linear(width, codebooks * codes)
        nn.init.normal_(self.weight_proj.weight)
        nn.init.zeros_(self.weight_proj.bias)

    def forward(self, x: Tensor, *, temperature: float = 1.0, noise: Tensor | None = None) -> Quantised:
        """In training, the code is that of the largest logit plus Gumbel noise, and its gradient is that of a softmax
        with `temperature`. Otherwise it is that of the largest logit. The vectors are of one code in both.

        noise: (..., G, V), sampled from torch's global generator if it is None.
        """
        with torch.autocast(x.device.type, enabled=False):  # a code must not depend on the precision
            logits = self.weight_proj(x.float()).unflatten(-1, (self.codebooks, self.codes))
            codes = logits.argmax(dim=-1)
            chosen = one_hot(codes, self.codes).to(logits)
            code_perplexity = _perplexity(chosen)
            probability_perplexity = _perplexity(logits.softmax(dim=-1))
            if self.training:
                noise = -torch.empty_like(logits).exponential_().log() if noise is None else noise
                soft = ((logits + noise) / temperature).softmax(dim=-1)
                codes = soft.argmax(dim=-1)
                chosen = one_hot(codes, self.codes) + (soft - soft.detach())
            codebooks = self.vars[0].unflatten(0, (self.codebooks, self.codes))
            vectors = torch.einsum("...gv,gvd->...gd", chosen, codebooks).flatten(-2)
        return Quantised(
            vectors=vectors,
            codes=codes,
            code_perplexity=code_perplexity,
            probability_perplexity=probability_perplexity,
            size=self.codebooks * self.codes,
        )

    def joint_codes(self, codes: Tensor) -> Tensor:
        """One number for each combination of codes: (..., G) -> (...)."""
        places = self.codes ** torch.arange(self.codebooks - 1, -1, -1, device=codes.device)
        return (codes * places).sum(dim=-1)


def _perplexity(shares: Tensor) -> Tensor:
    """Sum over codebooks of the perplexity of the mean shares. shares: (..., G, V)."""
    mean = shares.flatten(0, -3).mean(dim=0)
    return (-(mean * (mean + 1e-7).log()).sum(dim=-1)).exp().sum()
