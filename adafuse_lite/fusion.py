"""Fusion: the text of a dialogue and the picture drawn from it become one query.

``AdaFuSE`` is the head of arXiv 2603.21886. The other classes are what it must beat; all are called alike,
``model(text [n, d], image [n, d], round=None) -> Fusion``, and take and give unit vectors, so all compare on equal terms.
"""

import contextlib
import io
import math
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from .errors import InputError
from .files import read_tensors, write_tensors
from .metrics import all_finite, rank_table, read_field, recall_at_k
from .names import bundled, fetching


class Fusion(NamedTuple):
    """What a fusion gives for n queries; ``num_experts`` is 0 where there are no experts."""

    query: torch.Tensor  # [n, d], unit length: search with this
    gate: torch.Tensor  # [n, 1], 0 to 1: the weight of the TEXT
    routing: torch.Tensor  # [n, num_experts], sums to 1: the share of each expert


def checked(text, image, width=None):
    """Both as float32 [n, d]; whatever does not fit ends in InputError."""
    for name, x in (("text", text), ("image", image)):
        if not isinstance(x, torch.Tensor) or x.ndim != 2:
            found = list(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
            raise InputError(
                f"The {name} features are {found}, not a tensor [n, d]; give one row for each query."
            )
        if width is not None and x.shape[1] != width:
            raise InputError(
                f"The {name} features are {x.shape[1]} wide and this head takes {width}; "
                "use features of the encoder that the head was trained with."
            )
        if not all_finite(x):
            query = int((~torch.isfinite(x).all(1)).nonzero()[0])
            raise InputError(
                f"The {name} features of query {query} are not finite numbers; "
                "encode that query anew."
            )
    if text.shape != image.shape:
        raise InputError(
            f"Text features {list(text.shape)} and image features {list(image.shape)} differ in shape; "
            "give one picture's features for each text."
        )
    return text.float(), image.float()


def blend(text, image, gate, residual=0.0):
    """normalise(lam z_T + (1 - lam) z_D + r): the paper's fused query, and with r = 0 every baseline's."""
    return F.normalize(gate * text + (1 - gate) * image + residual, dim=-1)


# --- the head ---------------------------------------------------------------------------------------------------------
LARGEST = 65_536  # of any size of a head: a damaged config must not ask for a million experts
# Our module -> its name in the authors' released checkpoints.
REFERENCE_NAMES = {
    "text_projection": "text_projection_layer",
    "image_projection": "image_projection_layer",
    "gate": "dynamic_scalar",
    "router": "moe_router",
    "experts": "experts",
    "output": "output_layer",
    "logit_scale": "logit_scale",
}


CARD = """---
{{ card_data }}
---
# ADaFuSE head

A gate and experts that fuse the embedding of a dialogue's text with that of a picture drawn from it into one search query
([arXiv:2603.21886](https://arxiv.org/abs/2603.21886)), for **features of one encoder only**.

| | |
| --- | --- |
| trained on | {{ trained_on }} |
| encoder (content hash) | {{ encoder_hash }} |
| width of the features | {{ feature_dim }} |
| experts | {{ num_experts }} |
| parameters | {{ parameters }} |

```python
from adafuse_lite.fusion import AdaFuSE
head = AdaFuSE.from_pretrained("this folder or its name on the hub")
query = head(text_features, drawing_features).query
```

Written by adafuse-lite, an independent implementation. What it is good for was measured on the data named above and nowhere else.
"""


class AdaFuSE(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="adafuse-lite",
    model_card_template=CARD,
    tags=["text-to-image-retrieval", "adafuse"],
):
    """Adaptive gate and experts over frozen features (arXiv 2603.21886; sizes as in its released code).

    feature_dim: width d of the embeddings. projection_dim: width of h_T and h_D. hidden_dim: of gate and experts.
    zero_init: the residual's output layer starts at zero, so training starts from the plain blend;
    False is the published initialisation, a random turn away from it. encoder_hash: of the encoder it belongs to.
    trained_on: what it learnt from, in words, for its model card.
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
        for name, size in (
            ("feature_dim", feature_dim),
            ("projection_dim", projection_dim),
            ("hidden_dim", hidden_dim),
            ("num_experts", num_experts),
        ):
            if type(size) is not int or not 1 <= size <= LARGEST:
                raise InputError(f"{name} is {size!r}: give a whole number from 1 to {LARGEST:,}.")
        if not 0 <= dropout <= 1:  # NaN is refused, too
            raise InputError(f"dropout is {dropout!r}: give a share from 0 to 1.")
        self.feature_dim, self.num_experts = feature_dim, num_experts
        self.encoder_hash, self.trained_on = encoder_hash, trained_on
        joint = 2 * projection_dim
        self.text_projection = nn.Linear(feature_dim, projection_dim)
        self.image_projection = nn.Linear(feature_dim, projection_dim)
        self.dropout = nn.Dropout(dropout)
        if self.has_gate:
            self.gate = nn.Sequential(
                nn.Linear(joint, hidden_dim),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(hidden_dim, 1),
                nn.Sigmoid(),
            )
        else:
            self.constant = nn.Parameter(torch.zeros(()))
        if self.has_experts:
            self.router = nn.Sequential(
                nn.Linear(joint, hidden_dim // 4),
                nn.GELU(),
                nn.Linear(hidden_dim // 4, num_experts),
            )
            self.experts = nn.ModuleList(
                nn.Sequential(nn.Linear(joint, hidden_dim), nn.GELU(), nn.Dropout(dropout))
                for _ in range(num_experts)
            )
            self.output = nn.Linear(hidden_dim, feature_dim)
            if zero_init:
                nn.init.zeros_(self.output.weight)
                nn.init.zeros_(self.output.bias)
        # The logarithm is learned, so the temperature stays positive. It starts at 50 times the cosine.
        self.logit_scale = nn.Parameter(torch.tensor(math.log(50.0)))

    def forward(self, text, image, round=None):
        """Fuse text and image features [n, d] -> Fusion. The head sees no round: it judges the features themselves."""
        text, image = checked(text, image, self.feature_dim)
        h_text = self.dropout(F.gelu(self.text_projection(text)))
        h_image = self.dropout(F.gelu(self.image_projection(image)))
        h = torch.cat([h_text, h_image], dim=-1)  # joint context [n, 2 p]
        gate = self.gate(h) if self.has_gate else self.constant.sigmoid().expand(len(h), 1)
        if not self.has_experts:
            return Fusion(blend(text, image, gate), gate, h.new_zeros(len(h), 0))
        routing = self.router(h).softmax(dim=-1)  # p [n, K], all experts take part
        mixed = sum(p[:, None] * expert(h) for p, expert in zip(routing.unbind(1), self.experts))
        residual = self.dropout(self.output(mixed))  # r [n, d]
        return Fusion(blend(text, image, gate, residual), gate, routing)

    def check_encoder(self, encoder_hash):
        """Refuse features of an encoder other than the head's own (InputError); a head without a hash takes any."""
        if self.encoder_hash is not None and encoder_hash != self.encoder_hash:
            raise InputError(
                f"This head was trained on features of encoder {str(self.encoder_hash)[:12]}, these are of "
                f"{str(encoder_hash)[:12]}; load that encoder or train a head for this one."
            )

    def _save_pretrained(self, save_directory):
        # The mixin noted both when the head was built; they may have been set since.
        self._hub_mixin_config = {
            **self._hub_mixin_config,
            "encoder_hash": self.encoder_hash,
            "trained_on": self.trained_on,
        }
        write_tensors(
            save_directory / "model.safetensors",
            {k: v.detach().cpu() for k, v in self.state_dict().items()},
        )
        card = save_directory / "README.md"
        if card.exists() and "Written by adafuse-lite" in card.read_text(encoding="utf-8"):
            card.unlink()  # of an earlier head; the mixin writes a new one

    def generate_model_card(self, *args, **kwargs):
        """The card that ``save_pretrained`` and ``push_to_hub`` put beside the weights: what it was trained on, and for which encoder."""
        return super().generate_model_card(
            *args,
            **{
                "trained_on": self.trained_on or "not stated",
                "encoder_hash": self.encoder_hash or "not stated",
                "feature_dim": self.feature_dim,
                "num_experts": self.num_experts,
                "parameters": f"{sum(p.numel() for p in self.parameters()):,}",
                **kwargs,
            },
        )

    @classmethod
    def from_pretrained(cls, name, **options):
        """The head called ``name``: "postcards", a folder, or a name on the Hugging Face Hub; in evaluation mode."""
        name = bundled(name, "head") or name  # 04_train trained the bundled one
        try:
            if isinstance(name, Path) and not name.is_dir():
                raise FileNotFoundError("there is no such folder")
            # The mixin prints a line; a lesson need not. On "meta" no memory is taken before the sizes are known to be right.
            with (
                contextlib.redirect_stdout(io.StringIO()),
                fetching(not Path(name).is_dir()),
                torch.device("meta"),
            ):
                return super().from_pretrained(name, **{"strict": True, **options})
        except (OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise InputError(
                f"{name} does not hold a complete {cls.__name__} head ({reason}); "
                "give a folder that save_pretrained wrote, or train the head anew."
            ) from error

    @classmethod
    def _load_as_safetensor(cls, model, model_file, map_location, strict):
        with torch.device(map_location):
            held = read_tensors(model_file, "restore it, or train the head anew")
            held = {k: v.float().clone() for k, v in held.items()}
        model.load_state_dict(held, strict=strict, assign=True)
        return model.eval()

    @classmethod
    def _load_as_pickle(cls, model, model_file, map_location, strict):
        raise InputError(
            f"{model_file} is a pickle, which could run code; ask its owner for model.safetensors."
        )

    @classmethod
    def from_reference(cls, state_dict, encoder_hash=None):
        """A head with the weights of a published checkpoint, in evaluation mode; sizes are read off the shapes."""
        shapes = {name: tuple(x.shape) for name, x in state_dict.items()}
        try:
            projection_dim, feature_dim = shapes["text_projection_layer.weight"]
            num_experts, quarter = shapes["moe_router.2.weight"]
            head = cls(
                feature_dim, projection_dim, 4 * quarter, num_experts, encoder_hash=encoder_hash
            )
        except (KeyError, ValueError) as error:
            raise InputError(
                f"The checkpoint is not a published ADaFuSE head ({error}); give the head's own "
                "state_dict, without prefixes."
            ) from error
        names = {}
        for ours in head.state_dict():
            module, dot, rest = ours.partition(".")
            names[ours] = REFERENCE_NAMES.get(module, module) + dot + rest
        wanted = {names[ours]: tuple(x.shape) for ours, x in head.state_dict().items()}
        if wrong := sorted(
            n for n in wanted.keys() | shapes.keys() if wanted.get(n) != shapes.get(n)
        ):
            n = wrong[0]
            raise InputError(
                f"The checkpoint's {n} is {shapes.get(n, 'missing')} where {wanted.get(n, 'nothing')} is "
                "expected; give a complete ADaFuSE head."
            )
        head.load_state_dict({ours: state_dict[theirs] for ours, theirs in names.items()})
        return head.eval()


class GateOnly(AdaFuSE):
    """Ablation: the gate without the experts, so the query stays between text and picture."""

    has_experts = False


class ExpertsOnly(AdaFuSE):
    """Ablation: the experts without the gate; the blend has one trained weight, the same for every query."""

    has_gate = False


# --- baselines --------------------------------------------------------------------------------------------------------
class FixedWeight(nn.Module):
    """w z_T + (1 - w) z_D: one ``weight`` of the text for all rounds, or a list with one for each round.

    Rounds after the end of the list use its last weight. For unit vectors this ranks as the same sum of scores does.
    """

    def __init__(self, weight):
        super().__init__()
        weights = torch.as_tensor(weight, dtype=torch.float32).reshape(-1)
        if len(weights) == 0 or not ((weights >= 0) & (weights <= 1)).all():
            raise InputError(
                f"The weight {weight} of the text is not between 0 and 1; give one number, or one a round."
            )
        self.register_buffer("weights", weights)

    def forward(self, text, image, round=None):
        """round: an int, or a tensor [n]; needed where the weights differ between rounds."""
        text, image = checked(text, image)
        if round is None and len(self.weights) > 1:
            raise InputError(
                f"{type(self).__name__} has a weight for each round; call it with round=."
            )
        index = torch.as_tensor(
            round or 0 if not isinstance(round, torch.Tensor) else round, device=text.device
        )
        if index.ndim > 1 or (index.ndim == 1 and len(index) != len(text)):
            raise InputError(
                f"There are {index.numel()} rounds for {len(text)} queries; give one round for each."
            )
        gate = self.weights[index.clamp(0, len(self.weights) - 1)].expand(len(text))[:, None]
        return Fusion(blend(text, image, gate), gate, text.new_zeros(len(text), 0))


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
    """s_T / spread_T + s_D / spread_D: scores divided by how much each kind varies over a corpus, then added.

    The level of a score never changes a ranking, only its spread does, so this is what "equal weights" should mean.
    The spreads are two numbers of a validation bank, which makes this a fixed weight that nobody searched for:
    w = spread_D / (spread_T + spread_D).
    """

    def __init__(self, text_spread, image_spread):
        super().__init__(image_spread / (text_spread + image_spread))
        self.text_spread, self.image_spread = text_spread, image_spread

    @classmethod
    def fit_to(cls, bank, text="text", image="generated"):
        """Measure the spreads: the standard deviation of a query's scores over ``bank.corpus``, on average."""
        corpus = read_field(bank, "corpus")
        covariance = torch.cov(corpus.T, correction=0)
        # The variance of q . c over the corpus is q' C q: no score has to be computed.
        spread = [
            ((q := read_field(bank, name).flatten(0, 1)) @ covariance * q)
            .sum(1)
            .clamp(min=0)
            .sqrt()
            .mean()
            .item()
            for name in (text, image)
        ]
        return cls(*spread)


class OffsetRemoved(nn.Module):
    """Another fusion, fed drawings without what they all share: what sets a drawing apart from the picture it is meant to be
    is to a good part one constant vector, the generator's handwriting. A baseline without training beyond one mean: a head
    that learns no more than this constant has learned nothing about a query.
    """

    def __init__(self, fusion, offset):
        super().__init__()
        self.fusion = fusion
        self.register_buffer("offset", offset)

    @staticmethod
    def measure(bank):
        """The offset [d]: mean of the drawings minus mean of the pictures that were meant, on a (training) bank."""
        return read_field(bank, "generated").flatten(0, 1).mean(0) - read_field(bank, "corpus")[
            bank.target
        ].mean(0)

    def forward(self, text, image, round=None):
        text, image = checked(text, image, len(self.offset))
        return self.fusion(text, F.normalize(image - self.offset, dim=-1), round=round)


class CosineGate(nn.Module):
    """lam = sigmoid(10 (a cos(z_T, z_D) + b)): that the picture counts for more when it agrees with the text (so a note on the
    paper reports of its gate), as a gate of two trained numbers a and b. It starts at one half."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, text, image, round=None):
        text, image = checked(text, image)
        cosine = F.cosine_similarity(text, image)[:, None]
        # Cosines vary little and the optimizer's steps are small: the factor 10 lets both numbers get somewhere.
        gate = torch.sigmoid(10 * (self.slope * cosine + self.offset))
        return Fusion(blend(text, image, gate), gate, text.new_zeros(len(text), 0))


def tune_fixed_weight(bank, per_round=False, text="text", image="generated", offset=None):
    """The ``FixedWeight`` with the best Recall@10 on ``bank`` (validation), over weights 0, 0.05 ... 1.

    One weight for all rounds (best on their average), or with ``per_round`` one for each. With an ``offset`` [d] the weight
    is tuned on drawings without it, and comes as ``OffsetRemoved``.
    """
    grid, make = (
        torch.linspace(0, 1, 21),
        lambda w: FixedWeight(w) if offset is None else OffsetRemoved(FixedWeight(w), offset),
    )
    recall = torch.stack(
        [recall_at_k(rank_table(make(w), bank, text, image), 10) for w in grid]
    )  # [21, R]
    best = grid[recall.argmax(0)] if per_round else grid[recall.mean(1).argmax()]
    return make(best)
