"""How the bundled models were trained: tokenizer, encoder, autoencoder, generator and probe.

A1 and A2 explain and run these functions; the architectures are in ``models.toml``. Each training
writes a checkpoint now and then and goes on from it when called again; it logs its losses.
"""

import json
import random
import tomllib
from pathlib import Path

import diffusers
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from tokenizers import pre_tokenizers, trainers
from tqdm.auto import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..checkpoint import load_checkpoint, save_checkpoint
from ..device import device_of, pick_device
from ..encoders import CONFIG, WEIGHTS
from ..files import halved, make_folder, write_json, write_tensors
from ..generators import quiet
from ..names import DATA
from ..train import learning_rate, parameter_groups
from . import render, world
from .captions import caption, long_caption, statement, unsaid
from .probe import SIZES, Probe

MODELS = tomllib.loads(Path(__file__).with_name("models.toml").read_text(encoding="utf-8"))
CONTEXT = MODELS["encoder"]["text_cfg"]["context_length"]  # tokens that are read, as CLIP does
SHORT = 40  # tokens; no caption that the encoder is trained on is longer


def train_tokenizer(out, count=20_000, vocabulary=2_000):
    """Learn a byte-pair vocabulary in CLIP's own scheme from captions, and save it in ``out``."""
    start, end, alphabet = "<|startoftext|>", "<|endoftext|>", pre_tokenizers.ByteLevel.alphabet()
    rng = random.Random("tokenizer")
    texts = [long_caption(scene, rng)[0] for scene in world.scenes("models", count)]
    texts += MODELS["tokenizer"]["question_words"].split() * 50
    scheme = {"end_of_word_suffix": "</w>", "initial_alphabet": alphabet, "show_progress": False}
    learner = CLIPTokenizer(vocab={start: 0, end: 1}, merges=[]).backend_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - 2, **scheme)
    learner.train_from_iterator(texts, trainer)
    model = json.loads(learner.to_str())["model"]
    # Every byte also exists as the end of a word; and the end token has the highest number, as
    # CLIP's pooling wants.
    learned = sorted(set(model["vocab"]) - {start, end}, key=model["vocab"].get)
    ends = [byte + "</w>" for byte in sorted(alphabet)]
    tokens = [*dict.fromkeys([*sorted(alphabet), *ends, *learned]), start, end]
    numbers = {token: i for i, token in enumerate(tokens)}
    merges = [tuple(m.split(" ") if isinstance(m, str) else m) for m in model["merges"]]
    tokenizer = CLIPTokenizer(vocab=numbers, merges=merges, model_max_length=CONTEXT)
    tokenizer.save_pretrained(out)
    return tokenizer


def pictures(scenes):
    """The scenes as bytes [n, 3, 64, 64]."""
    drawn = np.stack([render.pixels(scene) for scene in tqdm(scenes, desc="draw")])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).contiguous()


def as_input(pixels, model):
    """What models read of bytes [n, 3, 64, 64]: values in -1..1, beside the model."""
    return pixels.to(device_of(model)).float() / 127.5 - 1


@torch.no_grad()
def in_batches(model, function, items, desc, batch=500):
    """``function``, which runs ``model``, over slices of ``items``, joined; all ends on the CPU."""
    model.to(pick_device())
    starts = tqdm(range(0, len(items), batch), desc=desc)
    values = torch.cat([function(items[i : i + batch]).cpu() for i in starts])
    model.cpu()
    return values


def train_loop(out, name, steps, lr, loss, save_every=100, decay=0.01, warmup=100, **modules):
    """AdamW, warm-up and cosine, clipping, and checkpoints from which a second call goes on.

    ``loss(step, rng)`` gives the loss and a dict of what else to log. Returns the log, one dict a
    step. The modules are trained where ``pick_device`` says and end on the CPU.
    """
    path, together = Path(out, "checkpoint.safetensors"), torch.nn.ModuleDict(modules)
    together.to(pick_device())
    optimizer = torch.optim.AdamW(parameter_groups(together, decay), lr=lr, betas=(0.9, 0.98))
    notes = load_checkpoint(path, optimizer, modules) or {"step": 0, "log": []}
    start, log = notes["step"], notes["log"]
    for step in tqdm(range(start, steps), initial=start, total=steps, desc=name):
        rng = random.Random(f"{name}/{step}")
        torch.manual_seed(rng.getrandbits(60))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, lr, warmup)
        value, more = loss(step, rng)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(together.parameters(), 1.0)
        optimizer.step()
        seen = {"loss": value.item(), **more}
        log.append({"step": step, **{k: round(float(v), 4) for k, v in seen.items()}})
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save_checkpoint(path, optimizer, modules, step=step + 1, log=log)
    together.cpu()
    return log


def read_log(name):
    """The log of a bundled model ("encoder", "reader", ...) or the table of trials (data frame)."""
    return pd.read_csv(DATA / "logs" / f"{name}.csv")


def encoder_config(vocabulary):
    """The ``open_clip`` model config of the bundled encoder."""
    text = {**MODELS["encoder"]["text_cfg"], "vocab_size": vocabulary}
    return {**MODELS["encoder"], "text_cfg": text}


def short_caption(scene, rng):
    """What the encoder is trained on: one to three things, or one and a statement or two."""
    if rng.random() < 0.7:
        return caption(scene, rng, things=rng.choice((1, 2, 2, 3)))[0]
    text, facts = caption(scene, rng, things=1)
    names = rng.sample(unsaid(scene, facts), rng.choice((1, 2)))
    return ", ".join([text, *(statement(scene, name, rng) for name in names)])


def train_encoder(out, tokenizer, scenes, pixels, steps=1_500, batch=256, lr=1e-3):
    """Symmetric InfoNCE on (picture, caption) pairs -> model, log [{step, loss, accuracy}]."""
    torch.manual_seed(0)
    model = CLIP(**encoder_config(len(tokenizer)))
    options = {"padding": "longest", "max_length": SHORT, "truncation": True}

    def loss(step, rng):
        chosen = rng.sample(range(len(scenes)), batch)
        texts = [short_caption(scenes[i], rng) for i in chosen]
        tokens = tokenizer(texts, return_tensors="pt", **options).input_ids
        images = model.encode_image(as_input(pixels[chosen], model), normalize=True)
        # CLIP bounds its temperature: the scores are at most 100 times the cosine.
        scale = model.logit_scale.clamp(0, np.log(100)).exp()
        scores = scale * images @ encode_short(model, tokens).T
        labels = torch.arange(batch, device=scores.device)
        value = (F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels)) / 2
        return value, {"accuracy": (scores.argmax(0) == labels).float().mean()}

    return model, train_loop(out, "encoder", steps, lr, loss, decay=0.1, model=model)


def encode_short(model, tokens):
    """``model.encode_text`` for fewer tokens: the causal mask makes missing padding irrelevant."""
    n, tokens = tokens.shape[1], tokens.to(device_of(model))
    x = model.token_embedding(tokens) + model.positional_embedding[:n]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:n, :n]))
    last = x[torch.arange(len(x), device=x.device), tokens.argmax(-1)]
    return F.normalize(last @ model.text_projection, dim=-1)


def train_autoencoder(out, pixels, steps=1_000, batch=32, lr=2e-3):
    """A picture to a latent [12, 8, 8] and back -> model, log [{step, loss, psnr}] (dB)."""
    torch.manual_seed(0)
    model = diffusers.AutoencoderTiny(**MODELS["autoencoder"])
    model.to(memory_format=torch.channels_last)

    def loss(step, rng):
        images = as_input(pixels[rng.sample(range(len(pixels)), batch)], model)
        latents = model.encode(images.contiguous(memory_format=torch.channels_last)).latents
        # Latents of mean 0 and spread 1 suit the diffusion model; a little noise makes the decoder
        # forgive its errors.
        channels = latents.transpose(0, 1).flatten(1)
        off = channels.mean(1).square().mean() + (channels.std(1) - 1).square().mean()
        error = model.decode(latents + 0.1 * torch.randn_like(latents)).sample - images
        squared = error.square().mean()
        psnr = 10 * torch.log10(4 / squared.detach())
        return squared + 0.5 * error.abs().mean() + 0.05 * off, {"psnr": psnr}

    return model, train_loop(out, "autoencoder", steps, lr, loss, decay=0.0, model=model)


def generator_tokens(tokenizer, texts):
    """Token numbers [n, 77], padded with the end token as a StableDiffusionPipeline does."""
    options = {"padding": "max_length", "max_length": CONTEXT, "truncation": True}
    return tokenizer(texts, return_tensors="pt", **options).input_ids


def train_reader(out, tokenizer, scenes, steps=1_500, batch=64, lr=1e-3):
    """Teach the generator's text encoder to read: which values does a caption state, if any?

    Stable Diffusion starts from one that can read already; this is ours. Returns it and the log
    [{step, loss, accuracy}].
    """
    torch.manual_seed(0)
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    special = {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    config = CLIPTextConfig(vocab_size=len(tokenizer), **MODELS["reader"], **special)
    reader = CLIPTextModel(config)
    sizes = [size + 1 for size in SIZES]  # one more class: not stated
    heads = torch.nn.Linear(config.hidden_size, sum(sizes))
    codes = {name: {v: i for i, v in enumerate(vs)} for name, vs in world.ATTRIBUTES.items()}
    stated = lambda facts: [code.get(facts.get(name), len(code)) for name, code in codes.items()]

    def loss(step, rng):
        captions = [long_caption(scene, rng) for scene in rng.sample(scenes, batch)]
        device, texts = device_of(reader), [text for text, _ in captions]
        # A fact that was cut off with the end of a long text is noise in the labels; it is rare.
        labels = torch.tensor([stated(facts) for _, facts in captions], device=device)
        tokens = generator_tokens(tokenizer, texts).to(device)
        hidden = reader(tokens).last_hidden_state
        first_end = (tokens == end).int().argmax(1)
        value, right = 0.0, []
        for states in (hidden[torch.arange(batch), first_end], hidden[:, -1]):
            for scores, label in zip(heads(states).split(sizes, 1), labels.T):
                value = value + F.cross_entropy(scores, label) / (2 * len(sizes))
                right.append((scores.argmax(1) == label).float().mean())
        return value, {"accuracy": torch.stack(right).mean()}

    return reader, train_loop(out, "reader", steps, lr, loss, reader=reader, heads=heads)


def scheduler():
    """The noise schedule, and the solver that draws with it."""
    return diffusers.DPMSolverMultistepScheduler(**MODELS["noise"], **MODELS["solver"])


def train_unet(
    out, tokenizer, reader, autoencoder, scenes, pixels, steps=2_600, batch=64, lr=1.5e-3
):
    """Latent diffusion on (picture, caption of any length) pairs -> the UNet, log [{step, loss}].

    One text in ten is left out, for guidance. Reader and autoencoder stay as they are, so latents
    and text states are computed once.
    """
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(**MODELS["unet"]).to(memory_format=torch.channels_last)
    schedule, rng = diffusers.DDPMScheduler(**MODELS["noise"]), random.Random("unet captions")
    texts = [long_caption(scene, rng)[0] for scene in scenes] + [""]

    def states_of(texts):
        tokens = generator_tokens(tokenizer, texts).to(device_of(reader))
        return reader(tokens).last_hidden_state.half()

    latents_of = lambda x: autoencoder.encode(as_input(x, autoencoder)).latents
    latents = in_batches(autoencoder, latents_of, pixels, "latents")
    states = in_batches(reader, states_of, texts, "texts")

    def loss(step, rng):
        chosen, device = rng.sample(range(len(scenes)), batch), device_of(unet)
        clean = latents[chosen].contiguous(memory_format=torch.channels_last).to(device)
        said = states[[i if rng.random() > 0.1 else -1 for i in chosen]].float().to(device)
        noise, times = torch.randn_like(clean), torch.randint(0, 1000, (batch,), device=device)
        guess = unet(schedule.add_noise(clean, noise, times), times, said).sample
        return F.mse_loss(guess, schedule.get_velocity(clean, noise, times)), {}

    return unet, train_loop(out, "unet", steps, lr, loss, unet=unet)


def save_encoder(model, config, tokenizer, folder):
    """Store a trained ``open_clip`` CLIP model as an ``open_clip`` directory, in float16.

    ``config``: of the model, its ``text_cfg`` with ``hf_tokenizer_name``; ``tokenizer``: of
    ``transformers``. Pixels 0..255 of pictures of ``image_size`` become -1..1, nothing else.
    """
    tokenizer.save_pretrained(make_folder(folder))
    pixels = {"size": config["vision_cfg"]["image_size"], "mean": [0.5] * 3, "std": [0.5] * 3}
    preprocess = {**pixels, "interpolation": "bicubic", "resize_mode": "shortest"}
    write_tensors(Path(folder, WEIGHTS), halved(model.state_dict()))
    write_json(Path(folder, CONFIG), {"model_cfg": config, "preprocess_cfg": preprocess})


def save_generator(folder, tokenizer, reader, autoencoder, unet, steps=5, guidance=3.0):
    """Save the parts as a ``StableDiffusionPipeline`` in float16, which they are afterwards."""
    parts = {"vae": autoencoder, "text_encoder": reader, "tokenizer": tokenizer, "unet": unet}
    unused = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = diffusers.StableDiffusionPipeline(**parts, scheduler=scheduler(), **unused)
    with quiet():
        pipeline.to(torch.float16).save_pretrained(folder)
    Path(folder, "adafuse_lite.json").write_text(json.dumps({"steps": steps, "guidance": guidance}))


def blemish(x):
    """Blur and noise of a random strength for each picture, since decoded pictures have both."""
    strength = torch.rand(2, len(x), 1, 1, 1, device=x.device)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return x + strength[0] * (blurred - x) + 0.2 * strength[1] * torch.randn_like(x)


def train_probe(out, scenes, pixels, steps=1_000, batch=128, lr=3e-3):
    """Cross-entropy of all 18 attributes -> the probe, the log [{step, loss, accuracy}]."""
    torch.manual_seed(0)
    model, codes = Probe(), torch.tensor([scene.codes() for scene in scenes])

    def loss(step, rng):
        chosen = rng.sample(range(len(scenes)), batch)
        scores = model(blemish(as_input(pixels[chosen], model))).split(SIZES, 1)
        pairs = list(zip(scores, codes[chosen].to(device_of(model)).T))
        right = torch.stack([s.argmax(1) == truth for s, truth in pairs])
        value = sum(F.cross_entropy(s, truth) for s, truth in pairs) / len(SIZES)
        return value, {"accuracy": right.float().mean()}

    log = train_loop(out, "probe", steps, lr, loss, decay=0.05, model=model)
    return model.eval(), log
