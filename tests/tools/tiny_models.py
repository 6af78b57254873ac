"""Tiny random models in the formats of the bundled ones, for tests of what loads and runs them."""

from functools import lru_cache

import torch

from adafuse_lite.files import write_json
from adafuse_lite.postcards import pretrain


@lru_cache(1)
def tokenizer(folder):
    """A tokenizer learnt from a few captions, with a limit of 77 tokens."""
    return pretrain.train_tokenizer(folder, count=60, vocabulary=700)


def write_encoder(folder):
    """Store a random encoder; returns the model that was stored."""
    from open_clip.model import CLIP

    torch.manual_seed(0)
    words = tokenizer(str(folder))
    config = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 64,
            "layers": 1,
            "width": 32,
            "head_width": 16,
            "patch_size": 16,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": len(words),
            "width": 32,
            "heads": 2,
            "layers": 1,
        },
    }
    model = CLIP(**config).eval()
    config["text_cfg"]["hf_tokenizer_name"] = "tokenizer"
    pretrain.save_encoder(model, config, words, folder)
    return model


def write_generator(folder):
    """Store a random pipeline made of the same parts as the bundled one; returns it."""
    from diffusers import (
        AutoencoderTiny,
        DPMSolverMultistepScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    words = tokenizer(str(folder / "words"))
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=12,
        out_channels=12,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        latent_channels=12,
        num_encoder_blocks=(0, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 0),
        scaling_factor=1.0,
    )
    reader = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    scheduler = DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", steps_offset=1
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(reader),
        tokenizer=words,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    write_json(folder / "adafuse_lite.json", {"steps": 3, "guidance": 3.0})
    return pipeline


def write_blip(folder):
    """Store a random BLIP for retrieval with a word-piece tokenizer of a few words;
    returns the model."""
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForImageTextRetrieval,
        BlipImageProcessor,
    )

    torch.manual_seed(0)
    special = "[PAD] [UNK] [CLS] [SEP] [MASK]".split()
    words = special + "a the red blue barn tree is on left right what color ? , ##s".split()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    size = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = BlipConfig(
        text_config={
            **size,
            "vocab_size": len(words),
            "encoder_hidden_size": 32,
            "max_position_embeddings": 40,
            "bos_token_id": 2,
            "sep_token_id": 3,
            "pad_token_id": 0,
        },
        vision_config={**size, "image_size": 32, "patch_size": 16},
        projection_dim=16,
        image_text_hidden_size=16,
    )
    model = BlipForImageTextRetrieval(config).eval()
    model.save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    BlipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return model
