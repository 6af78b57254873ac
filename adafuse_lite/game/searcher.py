"""The searcher: dialogues become drawings, queries and ranked pictures."""

import threading
from dataclasses import dataclass, field, replace

import torch
from PIL import Image

from ..encoders import load_encoder
from ..fusion import DAR, AdaFuSE, TextOnly
from ..generators import load_generator
from ..postcards.world import ATTRIBUTES
from ..reformulate import rewrite
from .asking import Questioner
from .seeing import probabilities

CANDIDATES = 500  # pictures that a question is chosen for
COARSE = tuple("sky weather light ground tree vehicle animal".split())  # asked about photographs


@dataclass(frozen=True)
class Look:
    """What the searcher makes of one dialogue at one round."""

    entries: tuple
    prompt: str
    seed: int
    drawing: Image.Image
    text: torch.Tensor  # [D] features of the dialogue
    image: torch.Tensor  # [D] features of the drawing
    cut: bool  # the encoder did not read all of the text
    prompt_cut: bool  # the generator did not read all of the prompt
    scores: dict = field(default_factory=dict)  # method: scores [N] of all pictures
    gate: float | None = None  # the head's own weight of the text
    used: float | None = None  # the weight that was used: the player may set another
    routing: tuple = ()  # share of each expert

    def best(self, method, k=3):
        """Corpus indices of the first k pictures."""
        return self.scores[method].topk(min(k, len(self.scores[method]))).indices.tolist()

    def place(self, method, target):
        """The place of a picture, 1 for the first."""
        return int((self.scores[method] > self.scores[method][target]).sum()) + 1


class Searcher:
    """Encoder, generator, head (or None) and a corpus: dialogues in, ``Look`` s out.

    features [N, D]: of the pictures; picture: a function from a corpus index to a ``PIL.Image``;
    names: attributes to ask about.
    """

    def __init__(self, encoder, generator, head, features, picture, names=tuple(ATTRIBUTES)):
        if head is not None:
            head.check_encoder(encoder.hash)
        self.encoder, self.generator, self.head, self.picture = encoder, generator, head, picture
        self.features = features.float().to(encoder.device)
        heads = {} if head is None else {"AdaFuSE": head}
        self.methods = {"TextOnly": TextOnly(), "DAR": DAR(), **heads}
        for model in self.methods.values():
            model.to(encoder.device).eval()
        self.leading = list(self.methods)[-1]  # the method whose candidates the questions are about
        # As in training, where the head learnt at which scale its scores are logits.
        self.scale = head.logit_scale.exp().item() if head is not None else 40.0
        self.questioner = Questioner(probabilities(encoder, self.features, names))
        self.lock = threading.Lock()  # pipelines are not made for two threads

    @classmethod
    def postcards(cls, benchmark, features, encoder=None, generator=None, head=None):
        """The bundled models over the postcards of a benchmark, whose features a bank holds."""
        encoder = encoder or load_encoder("postcards")
        generator = generator or load_generator("postcards")
        head = head or AdaFuSE.from_pretrained("postcards")
        picture = lambda index: benchmark.picture(benchmark.corpus[index])
        return cls(encoder, generator, head, features, picture)

    @classmethod
    def photos(cls, pictures, benchmark, encoder, generator, head=None, names=COARSE):
        """Photographs: a ``PictureIndex`` that this encoder made of a benchmark's pictures."""
        pictures.check(encoder)
        picture = lambda index: benchmark.picture(pictures.names[index])
        return cls(encoder, generator, head, pictures.features, picture, names)

    def look(self, dialogues, seeds, gate=None):
        """A ``Look`` for each dialogue (a tuple of entries), all drawn and encoded together."""
        with self.lock:
            prompts = [rewrite(d, statements=True) or "a postcard" for d in dialogues]
            drawings = self.generator(prompts, seeds=seeds)
            texts = [", ".join(entries) for entries in dialogues]
            text, image = self.encoder.encode_text(texts), self.encoder.encode_images(drawings)
            cut, prompt_cut = self.encoder.cut(texts), self.generator.cut(prompts)
        parts = zip(dialogues, prompts, seeds, drawings, text, image, cut, prompt_cut)
        return self.fuse([Look(tuple(entries), *rest) for entries, *rest in parts], gate)

    @torch.no_grad()
    def fuse(self, looks, gate=None):
        """The same looks ranked anew, with ``gate`` in place of the head's weight of the text."""
        text = torch.stack([look.text for look in looks])
        image = torch.stack([look.image for look in looks])
        rounds = torch.tensor([len(look.entries) - 1 for look in looks], device=text.device)
        with self.lock:
            fused = {name: m(text, image, round=rounds) for name, m in self.methods.items()}
            by_head = fused.get("AdaFuSE")
            if by_head is not None and gate is not None:
                by_hand = lambda module, inputs, output: torch.full_like(output, float(gate))
                with self.head.gate.register_forward_hook(by_hand):
                    fused["AdaFuSE"] = self.head(text, image)
        scores = {name: (f.query @ self.features.T).cpu() for name, f in fused.items()}
        parts = [dict(scores={name: s[i] for name, s in scores.items()}) for i in range(len(looks))]
        for i, part in enumerate(parts if by_head is not None else ()):
            part.update(gate=by_head.gate[i].item(), routing=tuple(by_head.routing[i].tolist()))
            part["used"] = part["gate"] if gate is None else float(gate)
        return [replace(look, **part) for look, part in zip(looks, parts)]

    def likely(self, look=None):
        """The pictures that may be meant [n] and how likely each is [n]; all alike at first."""
        if look is None:
            n = min(len(self.features), 4 * CANDIDATES)
            return torch.arange(n), torch.full((n,), 1 / n)
        scores, indices = look.scores[self.leading].topk(min(CANDIDATES, len(self.features)))
        return indices, (self.scale * scores).softmax(0)

    def ask(self, look, notes, form="open", order=None):
        """The next ``Question`` for this look (None: nothing was said yet), or None."""
        likely, weights = (x.to(self.features.device) for x in self.likely(look))
        return self.questioner.ask(likely, weights, notes, form, order)
