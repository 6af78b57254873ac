"""Fusion: the text of a dialogue and the picture drawn from it become one query.

``AdaFuSE`` is the head of arXiv 2603.21886. The other classes are what it must beat. All are called
alike, ``model(text [n, d], image [n, d], round=None) -> Fusion``, and take and give unit vectors.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .bank import read_field
from .errors import InputError
from .hub import StoredHead

LARGEST = 65_536  # of any size of a head: a damaged config must not ask for a million experts


class Fusion(NamedTuple):
    """What a fusion gives for n queries; ``num_experts`` is 0 where there are no experts."""

    query: torch.Tensor  # [n, d], unit length: search with this
    gate: torch.Tensor  # [n, 1], 0 to 1: the weight of the TEXT
    routing: torch.Tensor  # [n, num_experts], sums to 1: the share of each expert


def blend(text, image, gate, residual=0.0):
    """normalise(lam z_T + (1 - lam) z_D + r), eq. (4): with r = 0 every baseline's query, too."""
    return F.normalize(gate * text + (1 - gate) * image + residual, dim=-1)


def blended(text, image, gate):
    """The ``Fusion`` of a blend without experts, for a gate [n, 1]."""
    return Fusion(blend(text, image, gate), gate, gate.new_zeros(len(gate), 0))


def checked(text, image, width=None):
    """Both as float32 [n, d]; ``InputError`` where their shapes do not fit."""
    for name, x in (("text", text), ("image", image)):
        if not isinstance(x, torch.Tensor) or x.ndim != 2:
            given = list(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
            raise InputError(f"The {name} features are {given}, not a tensor [n, d]: stack them.")
        if width is not None and x.shape[1] != width:
            fault = f"The {name} features are {x.shape[1]} wide and this head takes {width}"
            raise InputError(f"{fault}: give those of the encoder that it was trained with.")
    if text.shape != image.shape:
        shapes = f"{list(text.shape)} and {list(image.shape)}"
        raise InputError(f"Texts and images differ in shape, {shapes}: give one image a text.")
    return text.float(), image.float()


class AdaFuSE(nn.Module, StoredHead):
    """Adaptive gate and experts over frozen features (arXiv 2603.21886; its released code's sizes).

    feature_dim: width d of the embeddings. projection_dim: of h_T and h_D. hidden_dim: of gate and
    experts. zero_init: the residual starts at zero, so training starts from the plain blend; False
    is the published initialisation. encoder_hash: of the encoder it belongs to. trained_on: what it
    learnt from, in words, for its model card.
    """

    has_gate = has_experts = True

    def __init__(
        self,
        feature_dim,
        projection_dim=512,
        hidden_dim=2048,
        num_experts=4,
        dropout=0.2,
        zero_init=True,
        encoder_hash=None,
        trained_on=None,
    ):
        super().__init__()
        _check_sizes(feature_dim, projection_dim, hidden_dim, num_experts, dropout)
        self.feature_dim, self.num_experts = feature_dim, num_experts
        self.encoder_hash, self.trained_on = encoder_hash, trained_on
        joint = 2 * projection_dim
        self.text_projection = nn.Linear(feature_dim, projection_dim)
        self.image_projection = nn.Linear(feature_dim, projection_dim)
        self.dropout = nn.Dropout(dropout)
        if self.has_gate:
            hidden, score = nn.Linear(joint, hidden_dim), nn.Linear(hidden_dim, 1)
            self.gate = nn.Sequential(hidden, nn.GELU(), self.dropout, score, nn.Sigmoid())
        else:
            self.constant = nn.Parameter(torch.zeros(()))
        if self.has_experts:
            hidden = nn.Linear(joint, hidden_dim // 4)
            self.router = nn.Sequential(hidden, nn.GELU(), nn.Linear(hidden_dim // 4, num_experts))
            expert = lambda: nn.Sequential(nn.Linear(joint, hidden_dim), nn.GELU(), self.dropout)
            self.experts = nn.ModuleList(expert() for _ in range(num_experts))
            self.output = nn.Linear(hidden_dim, feature_dim)
            if zero_init:
                nn.init.zeros_(self.output.weight)
                nn.init.zeros_(self.output.bias)
        # The logarithm is learned, so the temperature stays positive. It starts at 50 x the cosine.
        self.logit_scale = nn.Parameter(torch.tensor(math.log(50.0)))

    def forward(self, text, image, round=None):
        """Fuse features [n, d] -> Fusion. The head sees no round: it judges the features alone."""
        text, image = checked(text, image, self.feature_dim)
        h_text = self.dropout(F.gelu(self.text_projection(text)))
        h_image = self.dropout(F.gelu(self.image_projection(image)))
        h = torch.cat([h_text, h_image], dim=-1)  # (1) joint context [n, 2 p]
        gate = self.gate(h) if self.has_gate else self.constant.sigmoid().expand(len(h), 1)  # (2)
        if not self.has_experts:
            return blended(text, image, gate)
        routing = self.router(h).softmax(dim=-1)  # (3) p [n, K]: all experts take part
        mixed = sum(p[:, None] * expert(h) for p, expert in zip(routing.unbind(1), self.experts))
        residual = self.dropout(self.output(mixed))  # r [n, d]
        return Fusion(blend(text, image, gate, residual), gate, routing)

    def check_encoder(self, encoder_hash):
        """``InputError`` for features of another encoder; a head without a hash takes any."""
        if self.encoder_hash is not None and encoder_hash != self.encoder_hash:
            own, other = str(self.encoder_hash)[:12], str(encoder_hash)[:12]
            fault = f"This head was trained on features of encoder {own}, these are of {other}"
            raise InputError(f"{fault}; load that encoder or train another head.")


def _check_sizes(feature_dim, projection_dim, hidden_dim, num_experts, dropout):
    sizes = dict(feature_dim=feature_dim, projection_dim=projection_dim, hidden_dim=hidden_dim)
    for name, size in (sizes | {"num_experts": num_experts}).items():
        if type(size) is not int or not 1 <= size <= LARGEST:
            raise InputError(f"{name} is {size!r}: give a whole number from 1 to {LARGEST:,}.")
    if not 0 <= dropout <= 1:  # NaN is refused, too
        raise InputError(f"dropout is {dropout!r}: give a share from 0 to 1.")


class GateOnly(AdaFuSE):
    """Ablation: no experts, so the query stays between text and picture."""

    has_experts = False


class ExpertsOnly(AdaFuSE):
    """Ablation: no gate; the blend has one trained weight, the same for every query."""

    has_gate = False


class FixedWeight(nn.Module):
    """w z_T + (1 - w) z_D: one ``weight`` of the text for all rounds, or a list with one a round.

    Rounds after the end of the list use its last weight. For unit vectors this ranks as the same
    sum of scores does.
    """

    def __init__(self, weight):
        super().__init__()
        weights = torch.as_tensor(weight, dtype=torch.float32).reshape(-1)
        if len(weights) == 0 or not ((weights >= 0) & (weights <= 1)).all():
            raise InputError(f"The weight {weight} of the text must be between 0 and 1.")
        self.register_buffer("weights", weights)

    def forward(self, text, image, round=None):
        """round: an int, or a tensor [n]; needed where the weights differ between rounds."""
        text, image = checked(text, image)
        if round is None and len(self.weights) > 1:
            name = type(self).__name__
            raise InputError(f"{name} has a weight for each round; call it with round=.")
        rounds = torch.as_tensor(0 if round is None else round, device=text.device)
        if rounds.ndim and rounds.shape != text.shape[:1]:
            raise InputError(f"{rounds.numel()} rounds for {len(text)} queries: give each one.")
        gate = self.weights[rounds.clamp(0, len(self.weights) - 1)].expand(len(text))
        return blended(text, image, gate[:, None])


class TextOnly(FixedWeight):
    """The dialogue alone: what ChatIR does."""

    def __init__(self):
        super().__init__(1.0)


class ImageOnly(FixedWeight):
    """The drawn picture alone."""

    def __init__(self):
        super().__init__(0.0)


class DAR(FixedWeight):
    """DAR's schedule: the text weighs 0.8 in rounds 0 and 1, then 0.5 (SIGIR 2025)."""

    def __init__(self):
        super().__init__([0.8, 0.8, 0.5])


class StandardisedSum(FixedWeight):
    """s_T / spread_T + s_D / spread_D: scores divided by how much each kind varies over a corpus.

    The level of a score never changes a ranking, only its spread does, so this is what "equal
    weights" should mean: a fixed weight, spread_D / (spread_T + spread_D), that nobody tuned.
    """

    def __init__(self, text_spread, image_spread):
        super().__init__(image_spread / (text_spread + image_spread))
        self.text_spread, self.image_spread = text_spread, image_spread

    @classmethod
    def fit_to(cls, bank, text="text", image="generated"):
        """Measure the spreads: the mean deviation of a query's scores over ``bank.corpus``."""
        covariance = torch.cov(read_field(bank, "corpus").T, correction=0)

        def spread(field):  # the variance of q . c over the corpus is q' C q: no score is needed
            queries = read_field(bank, field).flatten(0, 1)
            return (queries @ covariance * queries).sum(1).clamp(min=0).sqrt().mean().item()

        return cls(spread(text), spread(image))


class OffsetRemoved(nn.Module):
    """Another fusion, fed drawings without the mean difference of drawings and real pictures.

    A baseline without training beyond one mean: a head that learns no more than this constant has
    learned nothing about a query.
    """

    def __init__(self, fusion, offset):
        super().__init__()
        self.fusion = fusion
        self.register_buffer("offset", offset)

    @staticmethod
    def measure(bank):
        """The offset [d] on a (training) bank: mean of the drawings minus mean of the targets."""
        drawings, corpus = read_field(bank, "generated"), read_field(bank, "corpus")
        return drawings.flatten(0, 1).mean(0) - corpus[bank.target].mean(0)

    def forward(self, text, image, round=None):
        text, image = checked(text, image, len(self.offset))
        return self.fusion(text, F.normalize(image - self.offset, dim=-1), round=round)


class CosineGate(nn.Module):
    """lam = sigmoid(10 (a cos(z_T, z_D) + b)): a gate of two trained numbers a and b.

    The paper's gate is reported to trust pictures that agree with the text. It starts at one half.
    """

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, text, image, round=None):
        text, image = checked(text, image)
        cosine = F.cosine_similarity(text, image)[:, None]
        # Cosines vary little and an optimizer's steps are small: 10 lets both get somewhere.
        return blended(text, image, torch.sigmoid(10 * (self.slope * cosine + self.offset)))
