"""The head at its published sizes: forward and step,
against a loop over experts and the bare products."""

import torch
from measure import Row, in_turn, ratios, unit_vectors
from torch import nn

from adafuse_lite import AdaFuSE, pick_device
from adafuse_lite.train import contrastive_loss, parameter_groups

FULL, QUICK = (256, 512, 2_048), (32, 32, 64)  # width of the features, of the projections, hidden
BATCHES = {128: (41, 31), 2_064: (21, 15)}  # runs of forward and step


def loop_form(head, text, image):
    """As the field's code writes the equations,
    on the same parameters: outputs stacked, weighed, summed."""
    h_text = head.dropout(nn.functional.gelu(head.text_projection(text)))
    h_image = head.dropout(nn.functional.gelu(head.image_projection(image)))
    h = torch.cat([h_text, h_image], dim=-1)
    gate = head.gate(h)
    weights = torch.softmax(head.router(h), dim=-1)
    outputs = torch.stack([expert(h) for expert in head.experts], dim=1)  # [n, K, hidden]
    mixed = torch.sum(weights.unsqueeze(-1) * outputs, dim=1)
    fused = gate * text + (1 - gate) * image + head.dropout(head.output(mixed))
    return nn.functional.normalize(fused, dim=-1)


class Products:
    """The matrix products of a forward pass or a training step and nothing else,
    into memory that is kept."""

    def __init__(self, head, n, step):
        device, made = head.logit_scale.device, {}
        vectors = lambda width: made.setdefault(
            width, unit_vectors(n, width, device=device, seed=width)
        )
        self.work = []
        for name, layer in head.named_modules():
            if not isinstance(layer, nn.Linear):
                continue
            x, w = vectors(layer.in_features), layer.weight.detach()
            self.work.append((x, w.T))  # y = x W'
            if step:
                g = vectors(layer.out_features)
                self.work.append((g.T, x))  # the gradient of W
                if name not in ("text_projection", "image_projection"):  # features are frozen
                    self.work.append((g, w))  # the gradient of x
        if step:  # the loss: scores of the batch, and the queries' gradient
            x, scores = vectors(head.feature_dim), unit_vectors(n, n, device=device)
            self.work += [(x, x.T), (scores, x)]
        self.flops = sum(2 * a.shape[0] * a.shape[1] * b.shape[1] for a, b in self.work)
        self.out = [a.new_empty(a.shape[0], b.shape[1]) for a, b in self.work]

    def __call__(self):
        for (a, b), out in zip(self.work, self.out):
            torch.mm(a, b, out=out)


class Trainee:
    """A head of its own with its optimizer, as ``fit`` sets them up."""

    def __init__(self, sizes, device, forward, dropout=0.2):
        torch.manual_seed(0)
        self.head = AdaFuSE(*sizes, dropout=dropout, zero_init=False).to(device)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.head, 0.05), lr=1e-3, fused=True)
        self.forward = forward

    def step(self, text, image, wanted):
        loss = contrastive_loss(
            self.forward(self.head, text, image), wanted, self.head.logit_scale.exp()
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.update()

    def update(self):
        nn.utils.clip_grad_norm_(self.head.parameters(), 3.0)
        self.optimizer.step()


def ours(head, text, image):
    return head(text, image).query


@torch.no_grad()
def forward_ways(sizes, n, device):
    torch.manual_seed(0)
    head = AdaFuSE(*sizes, zero_init=False).to(device).eval()
    text, image = (unit_vectors(n, sizes[0], device=device, seed=s) for s in (1, 2))
    apart = (ours(head, text, image) - loop_form(head, text, image)).abs().max()
    assert apart < 1e-5, "both forms must give the same queries"
    bare = Products(head, n, step=False)
    without_gradients = torch.no_grad()
    return bare, {
        "AdaFuSE": without_gradients(lambda: ours(head, text, image)),
        "loop form": without_gradients(lambda: loop_form(head, text, image)),
        "bare products": bare,
    }


def step_ways(sizes, n, device):
    text, image, wanted = (unit_vectors(n, sizes[0], device=device, seed=s) for s in (1, 2, 3))
    trainees = {
        "AdaFuSE": Trainee(sizes, device, ours),
        "loop form": Trainee(sizes, device, loop_form),
        "AdaFuSE without dropout": Trainee(sizes, device, ours, dropout=0.0),
    }
    ways = {name: lambda t=t: t.step(text, image, wanted) for name, t in trainees.items()}
    other = Trainee(sizes, device, ours)
    other.step(text, image, wanted)  # so that there are gradients
    bare = Products(other.head, n, step=True)
    return bare, ways | {"bare products": bare, "clipping and AdamW": other.update}


def measure(quick=False):
    device, sizes, rows = pick_device(), QUICK if quick else FULL, []
    for n, (forward_runs, step_runs) in BATCHES.items():
        n = n // 16 if quick else n
        for kind, make, runs in (
            ("forward", forward_ways, forward_runs),
            ("step", step_ways, step_runs),
        ):
            bare, ways = make(sizes, n, device)
            taken = in_turn(ways, 3 if quick else runs, device)
            us, where = taken["AdaFuSE"], f"{kind} of {n:,}"
            rows += [
                Row(f"{where}: {name}", [1000 * s for s in values], "ms")
                for name, values in taken.items()
            ]
            products = taken["bare products"]
            speed = [bare.flops / s / 1e9 for s in products]
            rows += [
                Row(f"{where}: speed of the bare products", speed, "GFLOP/s"),
                Row(
                    f"{where}: loop form : AdaFuSE", ratios(taken["loop form"], us), "times", ">= 1"
                ),
                Row(f"{where}: bare products : AdaFuSE", ratios(products, us), "share", ">= 0.8"),
            ]
            if kind == "step":
                both = [a + b for a, b in zip(products, taken["clipping and AdamW"])]
                plain = taken["AdaFuSE without dropout"]
                dropout = [1 - a / b for a, b in zip(plain, us)]
                rows += [
                    Row(
                        f"{where}: bare products, clipping and AdamW : AdaFuSE",
                        ratios(both, us),
                        "share",
                    ),
                    Row(
                        f"{where}: bare products : AdaFuSE without dropout",
                        ratios(products, plain),
                        "share",
                    ),
                    Row(f"{where}: dropout in AdaFuSE", dropout, "share"),
                ]
    return rows
