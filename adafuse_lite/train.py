"""Training: a fusion learns on frozen features, by contrast with the other targets of its batch."""

import hashlib
import json
import math
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from .errors import InputError
from .files import make_folder, optimizer_tensors, read_all, restore_optimizer, write_tensors
from .metrics import rank_table, read_field, recall_at_k

FIXED_SCALE = 50.0  # 1 / temperature of models that have none of their own


@dataclass
class History:
    """One entry an epoch: mean loss, validation Recall@10 (mean over rounds), and what the model did in training."""

    loss: list = field(default_factory=list)
    recall: list = field(default_factory=list)
    gate: list = field(default_factory=list)  # mean weight of the text
    routing: list = field(default_factory=list)  # mean share of each expert
    scale: list = field(default_factory=list)  # 1 / temperature

    @property
    def best_epoch(self):
        """The (first) epoch with the best validation recall: its weights are the ones that were kept."""
        return self.recall.index(max(self.recall))


def seed_everything(seed):
    """Seed Python, NumPy and PyTorch; call it before building a model."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (libraries draw from this one)
    torch.manual_seed(seed)


def pick_device():
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def contrastive_loss(query, target, scale):
    """Symmetric InfoNCE: each query [n, d] must find its own target picture [n, d] in the batch, and the other way round."""
    scores = scale * query @ target.T
    labels = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels)) / 2


def schedule(step, steps, peak, rise):
    """Learning rate: linear warm-up over the first ``rise`` steps, then half a cosine to zero."""
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def learning_rate(step, steps, peak, warmup):
    """The same with a warm-up over the first share ``warmup`` of the steps."""
    return schedule(step, steps, peak, max(1, round(warmup * steps)))


def parameter_groups(model, weight_decay):
    """For AdamW: decay pulls matrices towards zero; biases, norms, the temperature and other single numbers are left alone."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def fit(
    model,
    bank,
    validation_bank,
    text="text",
    image="generated",
    epochs=20,
    batch_size=128,
    lr=1e-3,
    weight_decay=0.05,
    warmup=0.1,
    clip=3.0,
    seed=0,
    device=None,
    checkpoint=None,
    progress=True,
):
    """Train ``model`` in place and leave it in evaluation mode with the weights that did best on ``validation_bank``.

    bank, validation_bank: feature banks; ``text`` and ``image`` name the fields that are fed (see ``rank_table``).
    Each epoch shows every dialogue once, at a random round. AdamW, warm-up and cosine, gradients clipped to ``clip``;
    the loss is the symmetric InfoNCE of fused query and target picture with the model's own temperature.
    warmup: share of all steps. device: default ``pick_device()``. checkpoint: a file (safetensors) written after each
    epoch; called again with it, an interrupted training goes on and ends as an unbroken one would.
    Returns the History. Unfit banks, models without parameters and foreign checkpoints end in InputError.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise InputError(f"{type(model).__name__} has no parameters to train; use it as it is.")
    device = torch.device(device or pick_device())
    model.to(device)
    texts, images, corpus = (read_field(bank, name).to(device) for name in (text, image, "corpus"))
    target = bank.target.to(device)
    if len(target) < 2:
        raise InputError(
            f"The training bank has {len(target)} dialogues; contrastive training needs at least 2."
        )
    if target.min() < 0 or target.max() >= len(corpus):
        raise InputError("The training bank has targets outside its corpus; build the bank anew.")

    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay), lr=lr, fused=True)
    settings = {
        "model": str(model),
        "data": _fingerprint(bank, validation_bank, text, image),
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "weight_decay": weight_decay,
        "warmup": warmup,
        "clip": clip,
        "seed": seed,
    }
    history, best = History(), {}
    if checkpoint is not None and Path(checkpoint).exists():
        history, best = _load(checkpoint, settings, model, optimizer)

    per_epoch = max(1, len(target) // batch_size)  # what is left over is shown in another epoch
    bar = tqdm(
        range(len(history.loss), epochs),
        initial=len(history.loss),
        total=epochs,
        disable=not progress,
        desc=f"train {type(model).__name__}",
    )
    # Every epoch has its own seed: to go on after a break needs no memory of the random numbers drawn before.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for epoch in bar:
            torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
            order = torch.randperm(len(target)).to(device)
            rounds = torch.randint(texts.shape[1], (len(target),)).to(device)
            model.train()
            seen = []
            for step in range(per_epoch):
                i = order[step * batch_size : (step + 1) * batch_size]
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(
                        epoch * per_epoch + step, epochs * per_epoch, lr, warmup
                    )
                fused = model(texts[i, rounds[i]], images[i, rounds[i]], round=rounds[i])
                loss = contrastive_loss(fused.query, corpus[target[i]], _scale(model))
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(trained, clip)
                optimizer.step()
                seen.append(
                    torch.cat(
                        [
                            loss.detach()[None],
                            fused.gate.detach().mean(0),
                            fused.routing.detach().mean(0),
                        ]
                    )
                )
            mean_loss, gate, *routing = torch.stack(seen).mean(0).tolist()
            recall = recall_at_k(rank_table(model, validation_bank, text, image)).mean().item()
            if not history.recall or recall > max(history.recall):
                best = _copy(model)
            history.loss.append(mean_loss)
            history.recall.append(recall)
            history.gate.append(gate)
            history.routing.append(routing)
            history.scale.append(float(torch.as_tensor(_scale(model)).detach()))
            bar.set_postfix(loss=f"{mean_loss:.3f}", recall=f"{recall:.1%}")
            if checkpoint is not None:
                _save(checkpoint, settings, history, best, model, optimizer)
    model.load_state_dict(best)
    model.eval()
    return history


def _scale(model):
    return model.logit_scale.exp() if hasattr(model, "logit_scale") else FIXED_SCALE


def _copy(model):
    return {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}


def _fingerprint(bank, validation_bank, text, image):
    """A hash of all the numbers that training sees."""
    digest = hashlib.sha256()
    for one in (bank, validation_bank):
        for x in (*(read_field(one, name) for name in (text, image, "corpus")), one.target):
            digest.update(x.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


# --- checkpoints ------------------------------------------------------------------------------------------------------
def _save(path, settings, history, best, model, optimizer):
    """One file, replaced in one go: a kill at any moment leaves the old one or the new one."""
    tensors = {f"model.{k}": v for k, v in _copy(model).items()} | {
        f"best.{k}": v for k, v in best.items()
    }
    make_folder(Path(path).parent)
    write_tensors(
        path,
        tensors | optimizer_tensors(optimizer),
        {"settings": json.dumps(settings), "history": json.dumps(asdict(history))},
    )


def _load(path, settings, model, optimizer):
    """Put model and optimizer where the checkpoint left off -> history, best weights."""
    remedy = "delete it to start anew"
    tensors, metadata = read_all(path, remedy)
    part = lambda name: {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}
    try:
        known, history = (
            json.loads(metadata["settings"]),
            History(**json.loads(metadata["history"])),
        )
        if changed := sorted(k for k in settings if known.get(k) != settings[k]):
            raise InputError(
                f"{path} belongs to another training ({', '.join(changed)} changed); {remedy} or give another file."
            )
        model.load_state_dict(part("best."))  # only to see that they fit
        model.load_state_dict(part("model."))
        restore_optimizer(optimizer, tensors)
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is no training checkpoint; {remedy}.") from error
    return history, part("best.")
