"""Text-to-image diffusion models: prompts and seeds to pictures, the same whatever the batch.

The bundled generator is a ``diffusers`` StableDiffusionPipeline in a local directory, so any other text-to-image pipeline of
``diffusers`` is one name away.
"""
from contextlib import contextmanager
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import AutoPipelineForText2Image

from .errors import InputError
from .files import check_texts, content_hash, halved, read_json, read_tensors

BUNDLED = {"postcards": Path(__file__).parent / "data" / "models" / "generator"}
INDEX, SETTINGS = "model_index.json", "adafuse_lite.json"
# Steps and guidance of pipelines without settings of their own: the first family whose name occurs in the pipeline's.
FAMILIES = {"turbo": {"steps": 2, "guidance": 0.0}, "lightning": {"steps": 4, "guidance": 0.0}, "": {"steps": 25, "guidance": 7.5}}


class Generator:
    """A text-to-image pipeline. ``.steps`` and ``.guidance`` are its defaults; ``.batch`` pictures are drawn together."""

    def __init__(self, pipeline, settings, made_of=None, batch=64):
        self.pipeline, self.batch, self._made_of, self._files = pipeline, batch, made_of, None
        self.steps, self.guidance = int(settings["steps"]), float(settings["guidance"])
        pipeline.set_progress_bar_config(disable=True)

    @property
    def hash(self):
        """Content hash of weights, configuration and the settings in force."""
        if self._files is None:
            modules = {n: m for n, m in self.pipeline.components.items() if isinstance(m, torch.nn.Module)}
            self._files = content_hash(*(self._made_of or [halved(m.state_dict()) for _, m in sorted(modules.items())]))
        return content_hash([self._files, self.steps, self.guidance])

    def cut(self, prompts):
        """Whether each prompt is longer than the text encoder reads (list of bool; its sum counts them)."""
        check_texts(prompts)
        tokenizer = self.pipeline.tokenizer
        with quiet():
            return [len(ids) > tokenizer.model_max_length for ids in tokenizer(list(prompts))["input_ids"]]

    @torch.no_grad()
    def __call__(self, prompts, seed=0, seeds=None, steps=None, guidance=None):
        """Pictures (list of ``PIL.Image``, RGB) of the prompts.

        Prompt i starts from noise drawn on the CPU from ``seeds[i]`` (``seed`` for all if not given), whatever else is in
        the batch. ``steps`` and ``guidance`` (1 or less: none) stand in for the defaults.
        """
        check_texts(prompts)
        seeds = [seed] * len(prompts) if seeds is None else [int(s) for s in seeds]
        if len(seeds) != len(prompts):
            raise InputError(f"There are {len(prompts)} prompts but {len(seeds)} seeds: give one seed a prompt.")
        images = []
        for i in range(0, len(prompts), self.batch):
            noise = [torch.Generator().manual_seed(s) for s in seeds[i:i + self.batch]]
            with quiet():
                images += self.pipeline(list(prompts[i:i + self.batch]), generator=noise,
                                        num_inference_steps=self.steps if steps is None else steps,
                                        guidance_scale=self.guidance if guidance is None else guidance).images
        return images


def load_generator(name="postcards", device=None):
    """The generator called ``name``: "postcards", a local ``diffusers`` directory, or a pipeline's name on the hub.

    A directory may state its steps and guidance in ``adafuse_lite.json``. The device is a GPU if there is one and no
    other is given; pipelines without such a file run in half precision there. Raises ``InputError`` for weights that are
    missing, damaged or pickled.
    """
    folder = Path(BUNDLED.get(name, name))
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    settings, files = next(s for family, s in FAMILIES.items() if family in str(name).lower()), None
    local = name in BUNDLED or folder.is_dir()
    if local:
        files = _check(folder)
        if (folder / SETTINGS).exists():
            settings = read_json(folder / SETTINGS, "restore it, or remove it for the usual settings")
            if not {"steps", "guidance"} <= set(settings):
                raise InputError(f'{folder / SETTINGS}: it must hold "steps" and "guidance"; add them or remove the file.')
    elif folder.is_absolute() or name.startswith("."):
        raise InputError(f"{name} is no folder: give the path of a diffusers directory or the name of a pipeline.")
    whole = device.type == "cpu" or (folder / SETTINGS).exists()
    try:
        with quiet():
            pipeline = AutoPipelineForText2Image.from_pretrained(str(folder) if local else name, use_safetensors=True)
            pipeline = pipeline.to(device, torch.float32 if whole else torch.float16)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(f"{name}: diffusers cannot load it ({reason}); give a local text-to-image pipeline with "
                         "safetensors weights, or check the name and the connection.") from error
    return Generator(pipeline, settings, files, batch=64 if whole else 8)


def _check(folder):
    """The files that make the pipeline in ``folder``; raises ``InputError`` for what is missing or damaged."""
    parts = read_json(folder / INDEX, "restore it, or name a directory that diffusers wrote")
    files = [folder / INDEX]
    for part, source in sorted(parts.items()):
        if part.startswith("_") or not isinstance(source, list) or source[0] is None:
            continue
        found = sorted(p for p in (folder / part).glob("*") if p.suffix in (".json", ".txt", ".safetensors"))
        if not found:
            raise InputError(f"{folder / part} is missing: restore it, or save the pipeline as safetensors.")
        for path in found:
            if path.suffix == ".safetensors":
                read_tensors(path, "restore it, or save the pipeline anew")
        files += found
    return files


@contextmanager
def quiet():
    """No progress bars and no remarks of the libraries: ``cut`` tells what they would say."""
    kits = (diffusers.utils.logging, transformers.utils.logging)
    levels, bars = [kit.get_verbosity() for kit in kits], [kit.is_progress_bar_enabled() for kit in kits]
    for kit in kits:
        kit.set_verbosity_error()
        kit.disable_progress_bar()
    try:
        yield
    finally:
        for kit, level, bar in zip(kits, levels, bars):
            kit.set_verbosity(level)
            if bar:
                kit.enable_progress_bar()
