"""How the bundled models were trained: tokenizer, encoder, autoencoder, generator and probe.

Notebooks A1 and A2 explain and run these functions. Each training writes a checkpoint (safetensors and JSON) now and
then and goes on from it when called again, and appends its losses to a log.
"""

import json
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from ..checkpoint import load_checkpoint, save_checkpoint
from ..train import learning_rate, parameter_groups
from . import captions, render, world

CONTEXT = 77  # tokens the encoder and the generator read, as CLIP does
SHORT = 40  # no training caption is longer
START, END = "<|startoftext|>", "<|endoftext|>"
# Words of everyday questions that no caption uses: a tokenizer knows them, the encoder was never taught them.
QUESTION_WORDS = """what which where who how many much is are was does do did can could would will has have any anything
 else there here it this that these those a an the of in on at to by from for and or not no yes i you we they see tell
 think know say look looks picture image photo scene color colors kind type shape size big small large little old new day
 night time morning evening inside outside people person man woman child boy girl visible show shown appear seem really
 very just only maybe probably sure some more than one two three four five many few several answer question possible
 describe please could about other first background foreground side near far behind front between close wearing made
 standing sitting moving parked weather season building vehicle animal plant flower water river road street fence window
 door wall roof sky ground tree sun moon star cloud rain snow wind happy beautiful bright dark light can't don't it's"""


# --- tokenizer --------------------------------------------------------------------------------------------------------
def train_tokenizer(out, count=20_000, vocabulary=2_000):
    """Learn a byte-pair vocabulary in CLIP's own scheme from captions, and save it in ``out``."""
    from tokenizers import pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    blank = CLIPTokenizer(vocab={START: 0, END: 1}, merges=[])
    rng = random.Random("tokenizer")
    texts = [
        captions.long_caption(s, rng)[0] for s in world.scenes("models", count)
    ] + QUESTION_WORDS.split() * 50
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 2,
        end_of_word_suffix="</w>",
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    learner = blank.backend_tokenizer
    learner.train_from_iterator(texts, trainer)
    model = json.loads(learner.to_str())["model"]
    # Every byte also exists as the end of a word; and the end token is the highest number, as CLIP's pooling wants.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learned = sorted((t for t in model["vocab"] if t not in (START, END)), key=model["vocab"].get)
    tokens = list(dict.fromkeys(alphabet + [a + "</w>" for a in alphabet] + learned)) + [START, END]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    tokenizer = CLIPTokenizer(
        vocab={t: i for i, t in enumerate(tokens)}, merges=merges, model_max_length=CONTEXT
    )
    tokenizer.save_pretrained(out)
    return tokenizer


# --- drawing and training
def pictures(scene_list):
    """The scenes as bytes [n, 3, 64, 64]."""
    return (
        torch.from_numpy(np.stack([render.pixels(s) for s in tqdm(scene_list, desc="draw")]))
        .permute(0, 3, 1, 2)
        .contiguous()
    )


# --- encoder ----------------------------------------------------------------------------------------------------------
def encoder_config(vocabulary):
    """The ``open_clip`` model config of the bundled encoder."""
    return {
        "embed_dim": 96,
        "vision_cfg": {"image_size": render.SIZE, "layers": [1, 1, 1, 1], "width": 16},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": vocabulary,
            "width": 128,
            "heads": 4,
            "layers": 3,
            "hf_tokenizer_name": "tokenizer",
        },
    }


def short_caption(scene, rng):
    """What the encoder is trained on: one to three things, or one thing and a statement or two."""
    if rng.random() < 0.7:
        return captions.caption(scene, rng, things=rng.choice((1, 2, 2, 3)))[0]
    text, facts = captions.caption(scene, rng, things=1)
    names = [
        n
        for n in world.ATTRIBUTES
        if n not in facts and (getattr(scene, n) != "none" or n in world.DETAILS)
    ]
    return ", ".join(
        [text] + [captions.statement(scene, n, rng) for n in rng.sample(names, rng.choice((1, 2)))]
    )


def train(out, name, steps, lr, loss, save_every=100, decay=0.01, warmup=100, **modules):
    """The loop all the trainings share: AdamW, warm-up and cosine, clipping, checkpoints from which a second call goes on.

    ``loss(step, rng)`` gives the loss and a dict of what else to log. Returns the log, one dict a step.
    """
    path = Path(out, "checkpoint.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    together = torch.nn.ModuleDict(modules)
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
        log.append(
            {
                "step": step,
                "loss": round(value.item(), 4),
                **{k: round(float(v), 4) for k, v in more.items()},
            }
        )
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save_checkpoint(path, optimizer, modules, step=step + 1, log=log)
    return log


def train_encoder(out, tokenizer, scene_list, pixels, steps=1_500, batch=256, lr=1e-3):
    """Symmetric InfoNCE on (picture, short caption) pairs. Returns the model and the log [{step, loss, accuracy}]."""
    from open_clip.model import CLIP

    torch.manual_seed(0)
    config = encoder_config(len(tokenizer))
    model = CLIP(
        **{
            **config,
            "text_cfg": {k: v for k, v in config["text_cfg"].items() if k != "hf_tokenizer_name"},
        }
    )

    def loss(step, rng):
        chosen = rng.sample(range(len(scene_list)), batch)
        tokens = tokenizer(
            [short_caption(scene_list[i], rng) for i in chosen],
            padding="longest",
            max_length=SHORT,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        images = model.encode_image(pixels[chosen].float() / 127.5 - 1, normalize=True)
        # CLIP bounds its temperature: the scores are at most 100 times the cosine.
        scores = (
            model.logit_scale.clamp(0, np.log(100)).exp() * images @ encode_short(model, tokens).T
        )
        labels = torch.arange(batch)
        value = (F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels)) / 2
        return value, {"accuracy": (scores.argmax(0) == labels).float().mean()}

    log = train(out, "encoder", steps, lr, loss, decay=0.1, model=model)
    return model, log


def encode_short(model, tokens):
    """``model.encode_text`` for tokens shorter than the context: the causal mask makes the missing padding irrelevant."""
    n = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:n]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:n, :n]))
    return F.normalize(x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection, dim=-1)


# --- autoencoder ------------------------------------------------------------------------------------------------------
def train_autoencoder(out, pixels, steps=1_000, batch=32, lr=2e-3):
    """A picture [3, 64, 64] to a latent [12, 8, 8] and back. Returns the model and the log [{step, loss, psnr}] (dB)."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    # No block works at the full resolution: that is where a convolution costs most.
    model = AutoencoderTiny(
        encoder_block_out_channels=(48,) * 4,
        decoder_block_out_channels=(48,) * 4,
        latent_channels=12,
        num_encoder_blocks=(0, 1, 2, 3),
        num_decoder_blocks=(3, 2, 1, 0),
        scaling_factor=1.0,
    )
    model = model.to(memory_format=torch.channels_last)

    def loss(step, rng):
        images = pixels[rng.sample(range(len(pixels)), batch)].float() / 127.5 - 1
        latents = model.encode(images.contiguous(memory_format=torch.channels_last)).latents
        # Latents of mean 0 and spread 1 suit the diffusion model; a little noise makes the decoder forgive its errors.
        spread = latents.transpose(0, 1).flatten(1)
        tidy = spread.mean(1).square().mean() + (spread.std(1) - 1).square().mean()
        back = model.decode(latents + 0.1 * torch.randn_like(latents)).sample
        squared = (back - images).square().mean()
        value = squared + 0.5 * (back - images).abs().mean() + 0.05 * tidy
        return value, {"psnr": 10 * torch.log10(4 / squared.detach())}

    log = train(out, "autoencoder", steps, lr, loss, decay=0.0, model=model)
    return model, log


# --- generator --------------------------------------------------------------------------------------------------------
def generator_tokens(tokenizer, texts):
    """Token numbers [n, 77], padded with the end token as a StableDiffusionPipeline does."""
    return tokenizer(
        texts, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
    ).input_ids


def train_reader(out, tokenizer, scene_list, steps=1_500, batch=64, lr=1e-3):
    """Teach the generator's text encoder to read: which value does a caption state for each attribute, if any?

    Stable Diffusion starts from a text encoder that can read already; this is ours. Returns the text encoder and the
    log [{step, loss, accuracy}].
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    reader = CLIPTextModel(
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
    sizes = [len(values) + 1 for values in world.ATTRIBUTES.values()]  # one more class: not stated
    heads = torch.nn.Linear(128, sum(sizes))

    def loss(step, rng):
        texts, labels = [], []
        for scene in rng.sample(scene_list, batch):
            text, facts = captions.long_caption(scene, rng)
            texts.append(text)
            labels.append(
                [v.index(facts[a]) if a in facts else len(v) for a, v in world.ATTRIBUTES.items()]
            )
        tokens, labels = generator_tokens(tokenizer, texts), torch.tensor(labels)
        # A fact that was cut off with the end of a long text is noise in the labels; it is rare.
        hidden = reader(tokens).last_hidden_state
        first_end = (tokens == end).int().argmax(1)
        value, right = 0.0, []
        for states in (hidden[torch.arange(batch), first_end], hidden[:, -1]):
            for scores, label in zip(heads(states).split(sizes, 1), labels.T):
                value = value + F.cross_entropy(scores, label) / (2 * len(sizes))
                right.append((scores.argmax(1) == label).float().mean())
        return value, {"accuracy": torch.stack(right).mean()}

    log = train(out, "reader", steps, lr, loss, reader=reader, heads=heads)
    return reader, log


def unet_config():
    """A small UNet on latents [12, 8, 8]: it attends to the words and, pooled, adds them to its time embedding."""
    return dict(
        sample_size=8,
        in_channels=12,
        out_channels=12,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
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


@torch.no_grad()
def in_batches(function, items, batch=500, desc=None):
    """``function`` over slices of ``items``, joined."""
    return torch.cat(
        [function(items[i : i + batch]) for i in tqdm(range(0, len(items), batch), desc=desc)]
    )


def train_unet(
    out, tokenizer, reader, autoencoder, scene_list, pixels, steps=2_600, batch=64, lr=1.5e-3
):
    """Latent diffusion on (picture, caption of any length) pairs; one text in ten is left out, for guidance.

    Reader and autoencoder stay as they are, so latents and text states are computed once. Returns the UNet and the log.
    """
    from diffusers import DDPMScheduler, UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(**unet_config()).to(memory_format=torch.channels_last)
    noise_schedule = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"
    )
    rng = random.Random("unet captions")
    texts = [captions.long_caption(s, rng)[0] for s in scene_list] + [""]
    latents = in_batches(
        lambda x: autoencoder.encode(x.float() / 127.5 - 1).latents, pixels, desc="latents"
    )
    states = in_batches(
        lambda x: reader(generator_tokens(tokenizer, x)).last_hidden_state.half(),
        texts,
        desc="texts",
    )

    def loss(step, rng):
        chosen = rng.sample(range(len(scene_list)), batch)
        clean = latents[chosen].contiguous(memory_format=torch.channels_last)
        said = states[[i if rng.random() > 0.1 else -1 for i in chosen]].float()
        noise, times = torch.randn_like(clean), torch.randint(0, 1000, (batch,))
        noisy = noise_schedule.add_noise(clean, noise, times)
        guess = unet(noisy, times, said).sample
        return F.mse_loss(guess, noise_schedule.get_velocity(clean, noise, times)), {}

    log = train(out, "unet", steps, lr, loss, unet=unet)
    return unet, log


def save_generator(folder, tokenizer, reader, autoencoder, unet, steps=5, guidance=3.0):
    """Put the parts together and save them as a ``StableDiffusionPipeline`` in float16, which they are afterwards."""
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
    Path(folder, "adafuse_lite.json").write_text(json.dumps({"steps": steps, "guidance": guidance}))


# --- logs -------------------------------------------------------------------------------------------------------------
LOGS = (
    Path(__file__).parent / "data" / "logs"
)  # those of the bundled models travel with the package


def write_log(checkpoint, csv, every=10):
    """Keep every tenth step of a checkpoint's log as CSV."""
    from safetensors import safe_open

    with safe_open(checkpoint, "pt") as f:
        log = json.loads(f.metadata()["log"])
    Path(csv).parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(log[0])] + [",".join(map(str, entry.values())) for entry in log[::every]]
    Path(csv).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_log(name):
    """The log of a bundled model ("encoder", "autoencoder", "reader", "unet") or the table of trials, as a data frame."""
    import pandas as pd

    return pd.read_csv(LOGS / f"{name}.csv")
