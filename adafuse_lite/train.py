"""Training: a fusion learns on frozen features, by contrast with the other targets of its batch."""

import copy
import hashlib
import math
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from .bank import read_field
from .checkpoint import load_checkpoint, save_checkpoint
from .device import device_of, pick_device
from .errors import InputError
from .fusion import FixedWeight, OffsetRemoved
from .metrics import recall_at_k
from .search import rank_table

FIXED_SCALE = 50.0  # 1 / temperature of models that have none of their own


@dataclass(frozen=True)
class Settings:
    """How ``fit`` trains: AdamW, warm-up and cosine, gradients clipped to length ``clip``."""

    epochs: int = 20
    batch_size: int = 128  # dialogues; the targets of the others are the wrong answers
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1  # share of all steps
    clip: float = 3.0


@dataclass
class History:
    """One entry an epoch: what the model did in training, and its validation Recall@10."""

    loss: list = field(default_factory=list)  # mean
    recall: list = field(default_factory=list)  # mean over rounds, on validation
    gate: list = field(default_factory=list)  # mean weight of the text
    routing: list = field(default_factory=list)  # mean share of each expert
    scale: list = field(default_factory=list)  # 1 / temperature

    @property
    def best_epoch(self):
        """The (first) epoch with the best validation recall: its weights are kept."""
        return self.recall.index(max(self.recall))


def contrastive_loss(query, target, scale):
    """Symmetric InfoNCE, eq. (5): each query [n, d] must find its own target [n, d], and back."""
    scores = scale * query @ target.T
    labels = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels)) / 2


def learning_rate(step, steps, peak, rise):
    """Linear warm-up over the first ``rise`` steps, then half a cosine to zero."""
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def parameter_groups(model, weight_decay):
    """For AdamW: decay pulls matrices towards zero; biases, norms and scalars it does not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices, others = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    decayed = {"params": matrices, "weight_decay": weight_decay}
    return [decayed, {"params": others, "weight_decay": 0.0}]


def fit(
    model,
    bank,
    validation_bank,
    text="text",
    image="generated",
    seed=0,
    device=None,
    checkpoint=None,
    progress=True,
    **settings,
):
    """Train ``model`` in place; it ends in evaluation mode with its best weights on validation.

    ``text`` and ``image`` name the fields of the banks that are fed; for ``settings`` see Settings.
    Each epoch shows every dialogue once, at a random round. checkpoint: a file written after each;
    called again with it, a broken-off training goes on. Returns the History, or raises InputError.
    """
    settings, device = Settings(**settings), pick_device(device)
    features = _training_features(model.to(device), bank, text, image)
    groups = parameter_groups(model, settings.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, fused=True)
    modules = {"model": model, "best": copy.deepcopy(model)}
    decides = {"model": str(model), "data": _fingerprint(bank, validation_bank, text, image)}
    decides |= asdict(settings) | {"seed": seed}
    seen_before = lambda notes: History(**notes["history"])
    history = load_checkpoint(checkpoint, optimizer, modules, decides, seen_before) or History()
    name, done = f"train {type(model).__name__}", len(history.loss)
    with tqdm(total=settings.epochs, initial=done, disable=not progress, desc=name) as bar:
        for epoch in range(done, settings.epochs):
            _train_epoch(model, features, optimizer, settings, seed, epoch, history)
            recall = recall_at_k(rank_table(model, validation_bank, text, image)).mean().item()
            history.recall.append(recall)
            if history.best_epoch == epoch:
                modules["best"].load_state_dict(model.state_dict())
            save_checkpoint(checkpoint, optimizer, modules, settings=decides, history=vars(history))
            bar.set_postfix(loss=f"{history.loss[-1]:.3f}", recall=f"{recall:.1%}", refresh=False)
            bar.update()
    model.eval().load_state_dict(modules["best"].state_dict())
    return history


def _training_features(model, bank, text, image):
    """Texts, drawings [Q, R, D], the targets' features [Q, D], beside the model; or InputError."""
    if not any(p.requires_grad for p in model.parameters()):
        hint = "use it as it is, or call requires_grad_() if it was loaded"
        raise InputError(f"{type(model).__name__} has no parameters to train; {hint}.")
    if len(bank.target) < 2:
        raise InputError(f"The training bank has {len(bank.target)} dialogues: give at least 2.")
    texts, images, corpus = (read_field(bank, name) for name in (text, image, "corpus"))
    if bank.target.min() < 0 or bank.target.max() >= len(corpus):
        raise InputError("The training bank has targets outside its corpus; build the bank anew.")
    return [x.to(device_of(model)) for x in (texts, images, corpus[bank.target])]


def _train_epoch(model, features, optimizer, settings, seed, epoch, history):
    """One pass over the dialogues; appends what it saw to the history."""
    texts, images, targets = features
    trained, device = [p for p in model.parameters() if p.requires_grad], device_of(model)
    per_epoch = max(1, len(targets) // settings.batch_size)  # the rest is shown another time
    steps = settings.epochs * per_epoch
    rise = max(1, round(settings.warmup * steps))
    model.train()
    seen = []
    # Every epoch has its own seed: to go on after a break needs no memory of earlier draws.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
        order = torch.randperm(len(targets)).to(device)
        rounds = torch.randint(texts.shape[1], (len(targets),)).to(device)
        for step in range(per_epoch):
            i = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(epoch * per_epoch + step, steps, settings.lr, rise)
            fused = model(texts[i, rounds[i]], images[i, rounds[i]], round=rounds[i])
            loss = contrastive_loss(fused.query, targets[i], scale_of(model))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, settings.clip)
            optimizer.step()
            told = [loss[None], fused.gate.mean(0), fused.routing.mean(0)]
            seen.append(torch.cat(told).detach())
    loss, gate, *routing = torch.stack(seen).mean(0).tolist()
    history.loss.append(loss)
    history.gate.append(gate)
    history.routing.append(routing)
    history.scale.append(float(torch.as_tensor(scale_of(model)).detach()))


def scale_of(model):
    """1 / temperature of a model: its own, or a fixed one."""
    return model.logit_scale.exp() if hasattr(model, "logit_scale") else FIXED_SCALE


def _fingerprint(bank, validation_bank, text, image):
    """A hash of all the numbers that training sees."""
    digest = hashlib.sha256()
    for part in (bank, validation_bank):
        for x in (*(read_field(part, name) for name in (text, image, "corpus")), part.target):
            digest.update(x.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def tune_fixed_weight(bank, per_round=False, text="text", image="generated", offset=None):
    """The ``FixedWeight`` with the best Recall@10 on ``bank`` (validation), over 0, 0.05 ... 1.

    One weight for all rounds (best on their average), or with ``per_round`` one for each. With an
    ``offset`` [d] it is tuned on drawings without it, and comes as ``OffsetRemoved``.
    """
    make = FixedWeight if offset is None else lambda w: OffsetRemoved(FixedWeight(w), offset)
    weights = torch.linspace(0, 1, 21)
    recall = [recall_at_k(rank_table(make(w), bank, text, image)) for w in weights]
    recall = torch.stack(recall)  # [21, R]
    return make(weights[recall.argmax(0) if per_round else recall.mean(1).argmax()])
