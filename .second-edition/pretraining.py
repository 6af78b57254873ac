"""How the second edition's models were trained: encoder, autoencoder, reader and UNet.

Notebooks A1 and A2 explain and run these functions. Each training writes one checkpoint
(safetensors: models, averages, optimizer, step and log) every few minutes and goes on from it when
called again; so the long ones may be run in pieces. A device is chosen once (``device()``); on a
GPU all is minutes. From a shell:

    python -m adafuse_lite.postcards.pretraining encoder runs --minutes 60
"""

import argparse
import copy
import json
import random
import time
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn
from tqdm.auto import tqdm

from .. import world
from ..errors import InputError
from ..files import model_device, optimizer_tensors, read_all, restore_optimizer, write_tensors
from ..train import parameter_groups, schedule
from . import judging, writing

CONTEXT = 77  # tokens that encoder and generator read, as CLIP does
SAVE_EVERY = 180  # seconds between checkpoints
MODELS = Path(__file__).parents[1] / "data" / "models"


@cache
def device():
    """Where all of this runs: a GPU if there is one."""
    return model_device()


def fast():
    """bfloat16 where the machine computes with it faster, else nothing."""
    kind = device().type
    able = kind == "cuda" or kind == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(kind, torch.bfloat16) if able else nullcontext()


def normalised(pixels):
    """Bytes [n, 3, 64, 64] -> numbers in -1..1 on the device, laid out as convolutions like it."""
    pixels = pixels.to(device(), non_blocking=True).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


# --- the loop that all the trainings share ------------------------------------------------------
def _save(path, step, log, optimizer, modules):
    tensors = optimizer_tensors(optimizer)
    for name, module in modules.items():
        for k, v in module.state_dict().items():
            tensors[f"{name}.{k}"] = v.detach().cpu().clone().contiguous()
    write_tensors(path, tensors, {"step": str(step), "log": json.dumps(log)})


def restore(path, modules, optimizer=None):
    """Load the checkpoint at ``path`` into the modules {name: module}; returns (step, log), (0,
    []) if there is none. Without an optimizer only the models are wanted."""
    if not Path(path).exists():
        return 0, []
    tensors, meta = read_all(path, "delete it to start anew")
    for name, module in modules.items():
        start = name + "."
        module.load_state_dict(
            {k[len(start) :]: v for k, v in tensors.items() if k.startswith(start)}
        )
    if optimizer:
        restore_optimizer(optimizer, tensors)
    return int(meta["step"]), json.loads(meta["log"])


def train(
    out, name, steps, lr, loss, modules, average=(), evaluate=None, every=500, minutes=None,
    decay=0.01, warmup=100, momentum=0.999,
):  # fmt: skip
    """AdamW, warm-up and cosine, clipping; checkpoints from which a second call goes on as if
    unbroken.

    loss(step, rng): the loss and a dict of what else to log. modules: {name: module}, what is
    trained. average: names of those of which a moving average of the weights is kept, too, as
    "<name> average". evaluate(modules): a dict to log every ``every`` steps and at the end.
    minutes: stop (with a checkpoint) after so long. Returns (modules and averages, log); the log
    has one dict a step.
    """
    path = Path(out, "checkpoint.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    modules = {k: m.to(device()) for k, m in modules.items()}
    together = nn.ModuleDict(modules)
    optimizer = torch.optim.AdamW(parameter_groups(together, decay), lr=lr, betas=(0.9, 0.98))
    averages = {f"{k} average": copy.deepcopy(modules[k]).requires_grad_(False) for k in average}
    everything = {**modules, **averages}
    begun = saved = time.monotonic()
    start, log = restore(path, everything, optimizer)
    together.train()
    for step in tqdm(range(start, steps), initial=start, total=steps, desc=name, mininterval=30):
        rng = random.Random(f"{name}/{step}")
        torch.manual_seed(rng.getrandbits(60))
        for group in optimizer.param_groups:
            group["lr"] = schedule(step, steps, lr, warmup)
        value, more = loss(step, rng)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(together.parameters(), 1.0)
        optimizer.step()
        for k in average:
            follow(averages[f"{k} average"], modules[k], min(momentum, (1 + step) / (10 + step)))
        more = {"loss": value.item(), **more}
        done = step + 1
        over = minutes is not None and time.monotonic() - begun > 60 * minutes
        if evaluate and (done % every == 0 or done == steps):
            together.eval()
            more |= evaluate(everything)
            together.train()
            print(name, done, {k: round(float(v), 3) for k, v in more.items()}, flush=True)
        log.append({"step": step, **{k: round(float(v), 4) for k, v in more.items()}})
        if over or done == steps or time.monotonic() - saved > SAVE_EVERY:
            _save(path, done, log, optimizer, everything)
            saved = time.monotonic()
        if over:
            break
    together.eval()
    return everything, log


@torch.no_grad()
def follow(average, module, momentum):
    """Move the averaged weights a little towards those of the moment."""
    for a, b in zip(average.state_dict().values(), module.state_dict().values()):
        if a.is_floating_point():
            a.lerp_(b, 1 - momentum)
        else:
            a.copy_(b)


# --- encoder ------------------------------------------------------------------------------------
def encoder_config(vocabulary):
    """The ``open_clip`` model config of the encoder: a small ResNet with attention pooling, 4 M
    parameters with its text side."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": world.SIZE, "layers": [1, 2, 1, 1], "width": 24},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": vocabulary,
            "width": 128,
            "heads": 4,
            "layers": 3,
            "hf_tokenizer_name": "tokenizer",
        },
    }


def blank_encoder(tokenizer):
    """The untrained ``open_clip`` model."""
    from open_clip.model import CLIP

    config = encoder_config(len(tokenizer))
    text = {k: v for k, v in config["text_cfg"].items() if k != "hf_tokenizer_name"}
    model = CLIP(**{**config, "text_cfg": text})
    for name, weight in model.visual.named_parameters():
        if name.endswith("bn3.weight"):  # zero there helps deep towers to start and slows this one
            nn.init.ones_(weight)
    return model


DENSE = (12, 16, 18, 18)  # facts of a caption that is to be written; the most there are is 18


class Captioner(nn.Module):
    """Writes a caption from a picture's embedding; used in training only, as BLIP and CoCa do.

    The embedding [n, dim] becomes ``prefix`` tokens before the words; each word then sees them and
    the words before it. Beside that ``spot`` says which words will come at all, without any order:
    a writer learns to see late, since it must first learn to write (compare Joulin et al. 2016,
    arXiv 1511.02251, and SuperClass, arXiv 2411.03313).
    """

    def __init__(self, vocabulary, dim=128, width=128, layers=2, heads=4, prefix=8):
        super().__init__()
        self.prefix = prefix
        # Bright things (sky, ground) fill most of an embedding; standardised, small ones are heard.
        self.even = nn.BatchNorm1d(dim, affine=False)
        self.spot = nn.Linear(dim, vocabulary)
        self.open = nn.Linear(dim, prefix * width)
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.01 * torch.randn(prefix + CONTEXT, width))
        nn.init.normal_(self.words.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, F.gelu, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(width), enable_nested_tensor=False
        )

    def forward(self, embedding, tokens):
        """Embeddings [n, dim] of unit length, tokens [n, t] -> scores of each next token [n, t,
        words], and of each word's being in the caption at all [n, words]."""
        seen = self.even(embedding)
        start = self.open(seen).view(len(tokens), self.prefix, -1)
        x = torch.cat([start, self.words(tokens)], 1)
        x = x + self.places[: x.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        x = self.layers(x, mask=mask, is_causal=True)
        return x[:, self.prefix :] @ self.words.weight.T, self.spot(seen)


def caption_loss(captioner, embedding, tokens, end, weights):
    """Cross-entropy of the next token, and of which words there are at all.

    Padding behind the first end token does not count, and a word as much as ``weights`` [words]
    says. Returns both; the second is a sum over words, for each of 18 facts.
    """
    given, wanted = tokens[:, :-1], tokens[:, 1:]
    counts = ((wanted == end).cumsum(1) - (wanted == end).int() == 0).float() * weights[wanted]
    scores, spotted = (x.float() for x in captioner(embedding, given))
    each = F.cross_entropy(scores.flatten(0, 1), wanted.flatten(), reduction="none")
    there = torch.zeros_like(spotted).scatter_(1, wanted, 1.0)
    apart = F.binary_cross_entropy_with_logits(spotted, there, reduction="none")
    spot = (apart * (weights == 1)).sum(1).mean() / len(world.ATTRIBUTES)
    return (each * counts.flatten()).sum() / counts.sum(), spot


def telling(tokenizer, little=0.1):
    """How much a token counts in captioning [words]: 1 if it says something of the picture, else
    ``little``: which phrase comes next is chance, and its gradient but noise to the picture
    side."""
    weights = torch.full((len(tokenizer),), little)
    for word in writing.TELLING:
        weights[tokenizer(word, add_special_tokens=False).input_ids] = 1.0
    return weights.to(device())


def tokens_of(tokenizer, texts, padding="longest"):
    """Token numbers [n, t] on the device, padded with the end token, cut at ``CONTEXT``."""
    read = tokenizer(
        list(texts), padding=padding, max_length=CONTEXT, truncation=True, return_tensors="pt"
    )
    return read.input_ids.to(device())


def encode_text(model, tokens):
    """``model.encode_text`` for tokens shorter than the context: the causal mask makes the missing
    padding irrelevant."""
    n = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:n]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:n, :n]))
    rows = torch.arange(len(x), device=x.device)
    return F.normalize(x[rows, tokens.argmax(-1)] @ model.text_projection, dim=-1)


def train_encoder(
    out, tokenizer, scenes, pixels, steps=2_000, alone=300, batch=256, captioned=128, weight=4.0,
    lr=2e-3, **options,
):  # fmt: skip
    """Contrast of (picture, short caption), and captioning of ``captioned`` of the pictures.

    alone: for so many steps only captions are learnt, so that the picture side sees before it is
    matched (those steps also cost a third). weight: of the captioning loss (0: contrast alone,
    from the first step). Returns the ``open_clip`` model and the log [{step, loss, contrast,
    accuracy, caption, spotted, and every 250 steps what ``judge_encoder`` finds}].
    """
    torch.manual_seed(0)
    model, captioner = blank_encoder(tokenizer), Captioner(len(tokenizer))
    model.visual.to(memory_format=torch.channels_last)
    labels, weights = torch.arange(batch, device=device()), telling(tokenizer)

    def see(chosen):
        with fast():
            return F.normalize(model.encode_image(normalised(pixels[chosen])).float(), dim=-1)

    def contrast(images, chosen, rng):
        short = tokens_of(tokenizer, [writing.short_caption(scenes[i], rng)[0] for i in chosen])
        with fast():
            texts = encode_text(model, short).float()
        # CLIP bounds its temperature: the scores are at most 100 times the cosine.
        scores = model.logit_scale.clamp(0, np.log(100)).exp() * images @ texts.T
        value = (F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels)) / 2
        return value, (scores.argmax(0) == labels).float().mean()

    def caption(images, chosen, rng):
        dense = [writing.dense_caption(scenes[i], rng, DENSE, statements=0)[0] for i in chosen]
        with fast():
            tokens = tokens_of(tokenizer, dense)
            return caption_loss(captioner, images, tokens, tokenizer.eos_token_id, weights)

    def loss(step, rng):
        both = step >= alone or not weight
        chosen = rng.sample(range(len(scenes)), batch if both else captioned)
        images = see(chosen)
        matched, accuracy = contrast(images, chosen, rng) if both else (images.new_zeros(()), 0)
        words = spotted = matched * 0
        if weight:
            words, spotted = caption(images[:captioned], chosen[:captioned], rng)
        return matched + weight * (words + spotted), {
            "contrast": matched.detach(),
            "accuracy": accuracy,
            "caption": words.detach(),
            "spotted": spotted.detach(),
        }

    everything, log = train(
        out, "encoder", steps, lr, loss, dict(model=model, captioner=captioner), decay=0.1,
        evaluate=lambda modules: judge(modules["model"], tokenizer, fit=2_500), every=250,
        **options,
    )  # fmt: skip
    return everything["model"], log


@torch.no_grad()
def in_batches(function, items, batch=500):
    """``function`` over slices of ``items``, joined."""
    return torch.cat([function(items[i : i + batch]) for i in range(0, len(items), batch)])


def judge(model, tokenizer, **options):
    """``judging.judge_encoder`` of an ``open_clip`` model in training."""
    return judging.judge_encoder(
        lambda texts: in_batches(lambda x: encode_text(model, tokens_of(tokenizer, x)), texts),
        lambda x: in_batches(lambda p: model.encode_image(normalised(p), normalize=True), x),
        **options,
    )


# --- autoencoder --------------------------------------------------------------------------------
def blank_autoencoder():
    """Pictures [3, 64, 64] to latents [4, 16, 16] and back, 12 times smaller; untrained."""
    from diffusers import AutoencoderTiny

    # No block works at the full resolution: that is where a convolution costs most.
    return AutoencoderTiny(
        encoder_block_out_channels=(48,) * 3,
        decoder_block_out_channels=(48,) * 3,
        latent_channels=4,
        num_encoder_blocks=(0, 1, 3),
        num_decoder_blocks=(3, 1, 0),
        scaling_factor=1.0,
    ).to(memory_format=torch.channels_last)


def as_bytes(pictures):
    """Numbers in -1..1 -> bytes on the CPU."""
    return ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def train_autoencoder(out, pixels, steps=3_000, batch=32, lr=2e-3, **options):
    """Returns the autoencoder and the log [{step, loss, psnr in dB, and what ``judge_autoencoder``
    finds}]."""
    from ..probe import load_probe

    torch.manual_seed(0)
    model, probe = blank_autoencoder(), load_probe(device=device())

    def loss(step, rng):
        images = normalised(pixels[rng.sample(range(len(pixels)), batch)])
        with fast():
            latents = model.encode(images).latents.float()
            # Latents of mean 0 and spread 1 suit the diffusion model; a little noise makes the
            # decoder forgive its errors.
            spread = latents.transpose(0, 1).flatten(1)
            tidy = spread.mean(1).square().mean() + (spread.std(1) - 1).square().mean()
            back = model.decode(latents + 0.1 * torch.randn_like(latents)).sample.float()
        squared = (back - images).square().mean()
        value = squared + 0.5 * (back - images).abs().mean() + 0.05 * tidy
        return value, {"psnr": 10 * torch.log10(4 / squared.detach())}

    def evaluate(modules):
        back = lambda x: in_batches(lambda p: as_bytes(reconstructed(modules["model"], p)), x)
        return {f"{k} held out": v for k, v in judging.judge_autoencoder(back, probe).items()}

    everything, log = train(
        out, "autoencoder", steps, lr, loss, dict(model=model), decay=0.0, evaluate=evaluate,
        **options,
    )  # fmt: skip
    return everything["model"], log


def reconstructed(model, pixels):
    """Bytes [n, 3, 64, 64] through the autoencoder and back, in -1..1."""
    return model.decode(model.encode(normalised(pixels)).latents).sample


# --- generator ----------------------------------------------------------------------------------
def blank_reader(tokenizer):
    """The generator's text encoder, of CLIP's kind, untrained."""
    from transformers import CLIPTextConfig, CLIPTextModel

    end = tokenizer.eos_token_id
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            projection_dim=128,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=end,
            pad_token_id=end,
            attention_dropout=0.0,
        )
    )


def train_reader(out, tokenizer, scenes, steps=2_500, batch=64, lr=1e-3, **options):
    """Teach the generator's text encoder to read: which value does a caption state for each
    attribute, if any? Stable Diffusion starts from a text encoder that can read already; this is
    ours. Returns the text encoder and the log [{step, loss, accuracy}]."""
    torch.manual_seed(0)
    reader = blank_reader(tokenizer)
    sizes = [size + 1 for size in judging.SIZES]  # one more class: not stated
    heads = nn.Linear(128, sum(sizes))

    def loss(step, rng):
        texts, labels = [], []
        for scene in rng.sample(scenes, batch):
            text, facts = writing.dense_caption(scene, rng)
            texts.append(text)
            labels.append(
                [v.index(facts[a]) if a in facts else len(v) for a, v in world.ATTRIBUTES.items()]
            )
        tokens = tokens_of(tokenizer, texts, "max_length")
        labels = torch.tensor(labels, device=device())
        with fast():
            hidden = reader(tokens).last_hidden_state
            first_end = (tokens == tokenizer.eos_token_id).int().argmax(1)
            rows = torch.arange(batch, device=device())
            ends = [heads(hidden[rows, first_end]).float(), heads(hidden[:, -1]).float()]
        value, right = 0.0, []
        for states in ends:
            for scores, label in zip(states.split(sizes, 1), labels.T):
                value = value + F.cross_entropy(scores, label) / (2 * len(sizes))
                right.append((scores.argmax(1) == label).float().mean())
        return value, {"accuracy": torch.stack(right).mean()}

    everything, log = train(
        out, "reader", steps, lr, loss, dict(reader=reader, heads=heads), **options
    )
    return everything["reader"], log


def unet_config():
    """A small UNet on latents [4, 16, 16]: at 8 x 8 it attends to the words and, pooled, adds them
    to its time embedding."""
    return dict(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(48, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def scheduler():
    """The noise schedule, and the solver that draws with it."""
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )


def train_unet(
    out, tokenizer, reader, autoencoder, scenes, pixels, steps=20_000, batch=64, lr=1e-3, **options
):
    """Latent diffusion on (picture, dense caption) pairs, a new caption each time a scene comes
    up; one text in ten is left out, for guidance. Reader and autoencoder stay as they are, so
    latents are computed once. Returns the UNet with averaged weights and the log [{step, loss, and
    what ``judge_generator`` finds}]."""
    from diffusers import DDPMScheduler, UNet2DConditionModel

    from ..probe import load_probe

    torch.manual_seed(0)
    unet = UNet2DConditionModel(**unet_config()).to(memory_format=torch.channels_last)
    noise_schedule = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"
    )
    autoencoder, reader = (m.to(device()).requires_grad_(False) for m in (autoencoder, reader))
    latents = in_batches(lambda x: autoencoder.encode(normalised(x)).latents, pixels)
    probe = load_probe(device=device())

    def states(texts):
        with torch.no_grad(), fast():
            return reader(tokens_of(tokenizer, texts, "max_length")).last_hidden_state.float()

    def loss(step, rng):
        chosen = rng.sample(range(len(scenes)), batch)
        texts = [
            writing.dense_caption(scenes[i], rng)[0] if rng.random() > 0.1 else "" for i in chosen
        ]
        clean = latents[chosen].contiguous(memory_format=torch.channels_last)
        noise = torch.randn_like(clean)
        times = torch.randint(0, 1000, (batch,), device=device())
        noisy = noise_schedule.add_noise(clean, noise, times)
        with fast():
            guess = unet(noisy, times, states(texts)).sample.float()
        return F.mse_loss(guess, noise_schedule.get_velocity(clean, noise, times)), {}

    def evaluate(modules):
        draw = lambda captions, seed: drawn(
            tokenizer, reader, autoencoder, modules["unet average"], captions, seed
        )
        return judging.judge_generator(draw, probe)

    everything, log = train(
        out,
        "unet",
        steps,
        lr,
        loss,
        dict(unet=unet),
        average=["unet"],
        evaluate=evaluate,
        **options,
    )
    return everything["unet average"], log


@torch.no_grad()
def drawn(tokenizer, reader, autoencoder, unet, captions, seed=0, steps=5, guidance=2.0, batch=96):
    """What the pipeline would draw, as bytes [n, 3, 64, 64]; noise i is seeded with (seed, i)."""
    pictures = []
    for start in range(0, len(captions), batch):
        part = list(captions[start : start + batch])
        seeds = [
            torch.Generator().manual_seed(1_000_003 * seed + start + i) for i in range(len(part))
        ]
        x = torch.stack([torch.randn(latent_shape(unet), generator=g) for g in seeds]).to(device())
        tokens = tokens_of(tokenizer, part + [""] * len(part), "max_length")
        states, solver = reader(tokens).last_hidden_state, scheduler()
        solver.set_timesteps(steps, device=device())
        for t in solver.timesteps:
            told, untold = unet(torch.cat([x, x]), t, states).sample.chunk(2)
            x = solver.step(untold + guidance * (told - untold), t, x).prev_sample
        pictures.append(as_bytes(autoencoder.decode(x).sample))
    return torch.cat(pictures)


def latent_shape(unet):
    size = unet.config.sample_size
    return unet.config.in_channels, size, size


def save_generator(folder, tokenizer, reader, autoencoder, unet, steps=5, guidance=2.0):
    """Put the parts together and save them as a ``StableDiffusionPipeline`` in float16, which they
    are afterwards."""
    from diffusers import StableDiffusionPipeline

    from ..generators import quiet

    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=reader,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with quiet():
        pipeline.to(torch.float16).save_pretrained(folder)
    settings = json.dumps({"steps": steps, "guidance": guidance})
    Path(folder, "adafuse_lite.json").write_text(settings)


# --- what is left of a training ------------------------------------------------------------------
def write_log(checkpoint, csv, every=10):
    """Keep every tenth step of a checkpoint's log as CSV, and each step at which it was judged."""
    import pandas as pd

    with safe_open(checkpoint, "pt") as file:
        log = json.loads(file.metadata()["log"])
    usual = min(len(entry) for entry in log)
    kept = [entry for entry in log if entry["step"] % every == 0 or len(entry) > usual]
    Path(csv).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(kept).to_csv(csv, index=False)


def tokenizer_of(folder=MODELS / "encoder"):
    """The bundled tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def loaded(path, name, module):
    """A module with the weights it has in a checkpoint, in evaluation mode."""
    step, _ = restore(path, {name: module})
    if not step:
        raise InputError(f"{path} is missing: run that training first.")
    return module.to(device()).eval()


def trained(folder, *names):
    """Models as the trainings in ``folder`` left them: "encoder", "autoencoder", "reader",
    "unet"."""
    from diffusers import UNet2DConditionModel

    blank = {
        "encoder": ("model", lambda: blank_encoder(tokenizer_of())),
        "autoencoder": ("model", blank_autoencoder),
        "reader": ("reader", lambda: blank_reader(tokenizer_of())),
        "unet": ("unet average", lambda: UNet2DConditionModel(**unet_config())),
    }
    return [
        loaded(Path(folder, name, "checkpoint.safetensors"), key, make())
        for name, (key, make) in ((n, blank[n]) for n in names)
    ]


def save(folder, out):
    """Store what is trained in ``folder`` as directories of ``open_clip`` (OUT/encoder) and
    ``diffusers`` (OUT/generator), and the logs as CSV (OUT/logs)."""
    from ..encoders import save_encoder

    tokenizer, there = tokenizer_of(), [p.parent.name for p in Path(folder).glob("*/checkpoint*")]
    if "encoder" in there:
        config = encoder_config(len(tokenizer))
        save_encoder(*trained(folder, "encoder"), config, tokenizer, Path(out, "encoder"))
    if {"autoencoder", "reader", "unet"} <= set(there):
        autoencoder, reader, unet = trained(folder, "autoencoder", "reader", "unet")
        save_generator(Path(out, "generator"), tokenizer, reader, autoencoder, unet)
    for name in {"encoder", "autoencoder", "reader", "unet"} & set(there):
        write_log(Path(folder, name, "checkpoint.safetensors"), Path(out, "logs", f"{name}.csv"))


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Train one of the world's models.")
    parser.add_argument("model", choices=("encoder", "autoencoder", "reader", "unet", "save"))
    parser.add_argument("out", type=Path, help="folder of the trainings: OUT/<model> is this one's")
    parser.add_argument("--minutes", type=float, help="stop after so many, with a checkpoint")
    parser.add_argument("--steps", type=int, help="length of the schedule")
    parser.add_argument("--scenes", type=int, default=60_000)
    options = vars(parser.parse_args(arguments))
    name, count, folder = (options.pop(k) for k in ("model", "scenes", "out"))
    if name == "save":
        return save(folder, folder / "models")
    options = {k: v for k, v in options.items() if v is not None} | {"out": folder / name}
    options["scenes"], tokenizer = world.scenes("models", count), tokenizer_of()
    if name != "reader":
        options["pixels"] = judging.draw(options["scenes"])
    if name == "encoder":
        train_encoder(tokenizer=tokenizer, **options)
    elif name == "autoencoder":
        options.pop("scenes")
        train_autoencoder(**options)
    elif name == "reader":
        train_reader(tokenizer=tokenizer, **options)
    else:
        reader, autoencoder = trained(folder, "reader", "autoencoder")
        train_unet(tokenizer=tokenizer, reader=reader, autoencoder=autoencoder, **options)


if __name__ == "__main__":
    main()
