"""Text-to-image diffusion models: prompts and seeds to pictures, the same whatever the batch.

The bundled generator is a ``diffusers`` StableDiffusionPipeline in a local directory, so any other
text-to-image pipeline of ``diffusers`` is one name away. ``drawings.Drawings`` can take its place.
"""

from contextlib import contextmanager
from functools import cached_property

import diffusers
import torch
import transformers
from diffusers import AutoPipelineForText2Image

from .checks import check_texts
from .device import pick_device
from .errors import InputError
from .files import content_hash, halved, read_json, read_tensors
from .names import DEFAULT, files_of, load_model, local_folder

INDEX, SETTINGS = "model_index.json", "adafuse_lite.json"
# Steps and guidance, by the first word that occurs in the name of a pipeline without settings.
FAMILIES = {"turbo": (1, 0.0), "lightning": (4, 0.0), "": (25, 7.5)}
LIBRARIES = ("diffusers", "transformers")  # whose parts a pipeline may have


class Generator:
    """A text-to-image pipeline; ``.steps`` and ``.guidance`` are its defaults.

    ``.batch`` pictures are drawn together. ``.withheld`` counts those that the pipeline's safety
    checker, if it has one, replaced by black ones.
    """

    def __init__(self, pipeline, steps, guidance, made_of=None, batch=64):
        self.pipeline, self.steps, self.guidance = pipeline, steps, float(guidance)
        self.batch, self.withheld, self._made_of = batch, 0, made_of
        pipeline.set_progress_bar_config(disable=True)

    @cached_property
    def _content(self):
        parts = sorted(self.pipeline.components.items())
        weights = [halved(p.state_dict()) for _, p in parts if isinstance(p, torch.nn.Module)]
        return content_hash(*(self._made_of or weights))

    @property
    def hash(self):
        """Content hash of weights, configuration and the settings in force."""
        return content_hash([self._content, self.steps, self.guidance])

    def jobs(self, benchmark, rounds):
        """What has to be drawn for a benchmark: for each dialogue a prompt a round (str)."""
        queries = range(len(benchmark.dialogues))
        return [[benchmark.prompt(q, r) for r in range(rounds)] for q in queries]

    def cut(self, prompts):
        """Whether each prompt is longer than the text encoder reads (list of bool)."""
        check_texts(prompts)
        tokenizer = self.pipeline.tokenizer
        with quiet():
            rows = tokenizer(list(prompts))["input_ids"]
        return [len(ids) > tokenizer.model_max_length for ids in rows]

    @torch.no_grad()
    def __call__(self, prompts, seed=0, seeds=None, steps=None, guidance=None):
        """Pictures (list of ``PIL.Image``, RGB) of the prompts.

        Prompt i starts from noise drawn on the CPU from ``seeds[i]`` (``seed`` for all if not
        given), whatever else is in the batch. ``steps`` and ``guidance`` (1 or less: none) stand in
        for the defaults.
        """
        check_texts(prompts)
        seeds = [seed] * len(prompts) if seeds is None else [int(s) for s in seeds]
        if len(seeds) != len(prompts):
            raise InputError(f"{len(prompts)} prompts but {len(seeds)} seeds: give each one.")
        images = []
        for i in range(0, len(prompts), self.batch):
            with quiet():
                drawn = self.pipeline(
                    list(prompts[i : i + self.batch]),
                    generator=[torch.Generator().manual_seed(s) for s in seeds[i : i + self.batch]],
                    num_inference_steps=self.steps if steps is None else steps,
                    guidance_scale=self.guidance if guidance is None else guidance,
                )
            images += drawn.images
            self.withheld += sum(getattr(drawn, "nsfw_content_detected", None) or [])
        return images


def load_generator(name=DEFAULT, device=None):
    """The generator called ``name``: a bundled world's, a local ``diffusers`` directory, or a
    pipeline's name on the hub.

    A directory may state its steps and guidance in ``adafuse_lite.json``; else they follow from the
    pipeline's family. The device is a GPU if there is one and no other is given; pipelines without
    that file run in half precision on an NVIDIA one. Raises ``InputError`` for weights that are
    missing, damaged or pickled.
    """
    wanted = "give the path of a diffusers directory or the name of a pipeline"
    folder, device = local_folder(name, "generator", wanted), pick_device(device)
    made_of = _check(folder) if folder else None
    small = bool(folder and (folder / SETTINGS).exists())
    families = (given for word, given in FAMILIES.items() if word in str(name).lower())
    steps, guidance = _settings(folder / SETTINGS) if small else next(families)
    half = device.type == "cuda" and not small

    def load(local_files_only):
        files_of(name, folder, ["*.json"], local_files_only)
        options = {"use_safetensors": True, "local_files_only": local_files_only}
        with quiet():
            pipeline = AutoPipelineForText2Image.from_pretrained(str(folder or name), **options)
            return pipeline.to(device, torch.float16 if half else torch.float32)

    remedy = (
        "give a local text-to-image pipeline with safetensors weights, or check the name and the "
        "connection, or download it once with huggingface_hub.snapshot_download"
    )
    pipeline = load_model("diffusers", load, name, folder, remedy)
    return Generator(pipeline, steps, guidance, made_of, batch=64 if small else 8 if half else 2)


def _settings(path):
    """Steps and guidance from a pipeline's own file."""
    settings = read_json(path, "restore it, or remove it for the usual settings")
    steps, guidance = settings.get("steps"), settings.get("guidance")
    are_numbers = type(steps) is int and type(guidance) in (int, float)
    if not are_numbers or not (1 <= steps <= 1_000 and 0 <= guidance <= 1_000):
        raise InputError(f"{path}: steps are 1 to 1000, guidance is 0 to 1000; mend or remove it.")
    return steps, guidance


def _check(folder):
    """The files of the pipeline in ``folder``; ``InputError`` for missing or damaged ones."""
    parts = read_json(folder / INDEX, "restore it, or name a directory that diffusers wrote")
    files = [folder / INDEX]
    for part, source in sorted(parts.items()):
        library = source[0] if isinstance(source, list) and source else None
        if part.startswith("_") or library is None:
            continue
        if library not in LIBRARIES and not hasattr(diffusers.pipelines, str(library)):
            wanted = " or ".join(LIBRARIES)
            raise InputError(f"{folder / INDEX} has {part} from {library}: it must be of {wanted}.")
        for path in sorted((folder / part).glob("*")):
            if path.suffix == ".safetensors":
                read_tensors(path, "restore it, or save the pipeline anew")
            if path.suffix in (".json", ".txt", ".safetensors"):
                files.append(path)
    return files


@contextmanager
def quiet():
    """No progress bars and no remarks of the libraries: ``cut`` tells what they would say."""
    kits = (diffusers.utils.logging, transformers.utils.logging)
    before = [(kit, kit.get_verbosity(), kit.is_progress_bar_enabled()) for kit in kits]
    for kit in kits:
        kit.set_verbosity_error()
        kit.disable_progress_bar()
    try:
        yield
    finally:
        for kit, level, has_bar in before:
            kit.set_verbosity(level)
            if has_bar:
                kit.enable_progress_bar()
