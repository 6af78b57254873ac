"""Text-to-image diffusion models: prompts and seeds to pictures, the same whatever the batch.

The bundled generator is a ``diffusers`` StableDiffusionPipeline in a local directory, so any other text-to-image pipeline of
``diffusers`` is one name away. Pictures that were drawn earlier can take its place (``Drawings``).
"""

import hashlib
from contextlib import contextmanager
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import AutoPipelineForText2Image
from PIL import Image

from .checks import check_texts, first_line
from .device import pick_device
from .errors import InputError
from .files import content_hash, halved, open_picture, read_json, read_tensors
from .names import DEFAULT, bundled, local_first, local_folder, looks_like_a_path

INDEX, SETTINGS = "model_index.json", "adafuse_lite.json"
# Steps and guidance of pipelines without settings of their own: the first family whose name occurs in the pipeline's.
FAMILIES = {
    "turbo": {"steps": 1, "guidance": 0.0},
    "lightning": {"steps": 4, "guidance": 0.0},
    "": {"steps": 25, "guidance": 7.5},
}


class Generator:
    """A text-to-image pipeline. ``.steps`` and ``.guidance`` are its defaults; ``.batch`` pictures are drawn together.

    ``.withheld`` counts the pictures that the pipeline's safety checker, if it has one, replaced by black ones.
    """

    def __init__(self, pipeline, settings, made_of=None, batch=64):
        self.pipeline, self.batch, self._made_of, self._files, self.withheld = (
            pipeline,
            batch,
            made_of,
            None,
            0,
        )
        self.steps, self.guidance = int(settings["steps"]), float(settings["guidance"])
        pipeline.set_progress_bar_config(disable=True)

    @property
    def hash(self):
        """Content hash of weights, configuration and the settings in force."""
        if self._files is None:
            modules = {
                n: m for n, m in self.pipeline.components.items() if isinstance(m, torch.nn.Module)
            }
            self._files = content_hash(
                *(self._made_of or [halved(m.state_dict()) for _, m in sorted(modules.items())])
            )
        return content_hash([self._files, self.steps, self.guidance])

    def jobs(self, benchmark, rounds):
        """What has to be drawn for a benchmark: for each dialogue a prompt a round (list of lists of str)."""
        return [
            [benchmark.prompt(q, r) for r in range(rounds)] for q in range(len(benchmark.dialogues))
        ]

    def cut(self, prompts):
        """Whether each prompt is longer than the text encoder reads (list of bool; its sum counts them)."""
        check_texts(prompts)
        tokenizer = self.pipeline.tokenizer
        with quiet():
            return [
                len(ids) > tokenizer.model_max_length
                for ids in tokenizer(list(prompts))["input_ids"]
            ]

    @torch.no_grad()
    def __call__(self, prompts, seed=0, seeds=None, steps=None, guidance=None):
        """Pictures (list of ``PIL.Image``, RGB) of the prompts.

        Prompt i starts from noise drawn on the CPU from ``seeds[i]`` (``seed`` for all if not given), whatever else is in
        the batch. ``steps`` and ``guidance`` (1 or less: none) stand in for the defaults.
        """
        check_texts(prompts)
        seeds = [seed] * len(prompts) if seeds is None else [int(s) for s in seeds]
        if len(seeds) != len(prompts):
            raise InputError(
                f"There are {len(prompts)} prompts but {len(seeds)} seeds: give one seed a prompt."
            )
        images = []
        for i in range(0, len(prompts), self.batch):
            noise = [torch.Generator().manual_seed(s) for s in seeds[i : i + self.batch]]
            with quiet():
                drawn = self.pipeline(
                    list(prompts[i : i + self.batch]),
                    generator=noise,
                    num_inference_steps=self.steps if steps is None else steps,
                    guidance_scale=self.guidance if guidance is None else guidance,
                )
            images += drawn.images
            self.withheld += sum(getattr(drawn, "nsfw_content_detected", None) or [])
        return images


class Drawings:
    """Pictures that were drawn earlier, in the place of a generator: ``build_bank(benchmark, encoder, Drawings(folder))``.

    pictures: a mapping from (dialogue's number, round) to a path or ``PIL.Image``, or a folder in DAR's layout
    (``3_10.jpg``: dialogue 3, round 10) or in that of ADaFuSE's training pictures (``round10/train-STEM_10.jpg``, with the
    stem of the target's name). A picture that is missing or does not decode ends in InputError.
    """

    steps, guidance, batch, withheld = 0, 0.0, 64, 0

    def __init__(self, pictures):
        self.pictures = pictures if isinstance(pictures, dict) else Path(pictures)
        if isinstance(self.pictures, Path) and not self.pictures.is_dir():
            raise InputError(
                f"{pictures} is no folder: give the folder of the drawings, or a mapping."
            )
        self._used, self.hash = {}, None

    def jobs(self, benchmark, rounds):
        """The names of the pictures, for each dialogue one a round; from then on ``hash`` tells what they hold."""
        found = [
            [self._find(q, r, Path(d.img).stem) for r in range(rounds)]
            for q, d in enumerate(benchmark.dialogues)
        ]
        digest = hashlib.sha256()
        for name in sorted({name for row in found for name in row}):
            held = self._used[name]
            digest.update(
                name.encode()
                + (held.tobytes() if isinstance(held, Image.Image) else Path(held).read_bytes())
            )
        self.hash = digest.hexdigest()[:16]
        return found

    def _find(self, query, round, stem):
        if isinstance(self.pictures, dict):
            if (query, round) not in self.pictures:
                raise InputError(
                    f"The drawings hold no picture for dialogue {query}, round {round}: add one under ({query}, {round})."
                )
            self._used[name := f"{query}_{round}"] = self.pictures[query, round]
            return name
        names = (
            f"{query}_{round}.jpg",
            f"{query}_{round}.png",
            f"round{round}/train-{stem}_{round}.jpg",
        )
        for name in names:
            if (self.pictures / name).exists():
                self._used[name] = self.pictures / name
                return name
        raise InputError(
            f"{self.pictures} holds no drawing for dialogue {query}, round {round}: neither {', '.join(names[:-1])} "
            f"nor {names[-1]} is there."
        )

    def cut(self, names):
        """Nobody knows any more whether a prompt was cut: False for all."""
        return [False] * len(names)

    def __call__(self, names, seeds=None):
        held = [self._used[name] for name in names]
        return [x if isinstance(x, Image.Image) else open_picture(x) for x in held]


def load_generator(name=DEFAULT, device=None):
    """The generator called ``name``: "postcards", a local ``diffusers`` directory, or a pipeline's name on the hub.

    A directory may state its steps and guidance in ``adafuse_lite.json``; else they follow from the pipeline's family. The
    device is a GPU if there is one and no other is given; pipelines without such a file run in half precision on an NVIDIA one. Raises ``InputError`` for weights that are
    missing, damaged or pickled.
    """
    folder, own = local_folder(name, "generator"), bundled(name, "generator")
    if folder is None and looks_like_a_path(name):
        raise InputError(
            f"{name} is no folder: give the path of a diffusers directory or the name of a pipeline."
        )
    device = pick_device(device)
    settings = next(s for family, s in FAMILIES.items() if family in str(name).lower())
    files = _check(folder) if folder else None
    if folder and (folder / SETTINGS).exists():
        settings = read_json(folder / SETTINGS, "restore it, or remove it for the usual settings")
        steps, guidance = settings.get("steps"), settings.get("guidance")
        if (
            type(steps) is not int
            or not 1 <= steps <= 1_000
            or type(guidance) not in (int, float)
            or not 0 <= guidance <= 1_000
        ):
            raise InputError(
                f'{folder / SETTINGS}: it must hold "steps" and "guidance", numbers of 1 and 0 or more; mend or remove it.'
            )
    small = bool(own or folder and (folder / SETTINGS).exists())
    half = device.type == "cuda" and not small
    try:
        with quiet():
            pipeline = AutoPipelineForText2Image.from_pretrained(
                str(folder or name), use_safetensors=True
            )
            pipeline = pipeline.to(device, torch.float16 if half else torch.float32)
    except Exception as error:
        raise InputError(
            f"{name}: diffusers cannot load it ({first_line(error)}); give a local text-to-image pipeline with "
            "safetensors weights, or check the name and the connection, or download it once with "
            "huggingface_hub.snapshot_download."
        ) from error
    return Generator(pipeline, settings, files, batch=64 if small else 8 if half else 2)


def _check(folder):
    """The files that make the pipeline in ``folder``; raises ``InputError`` for what is missing or damaged."""
    parts = read_json(folder / INDEX, "restore it, or name a directory that diffusers wrote")
    files = [folder / INDEX]
    for part, source in sorted(parts.items()):
        if part.startswith("_") or not isinstance(source, list) or not source or source[0] is None:
            continue
        if source[0] not in ("diffusers", "transformers") and not hasattr(
            diffusers.pipelines, str(source[0])
        ):
            raise InputError(
                f"{folder / INDEX} wants {part} from {source[0]}: only parts of diffusers and transformers are loaded."
            )
        found = sorted(
            p for p in (folder / part).glob("*") if p.suffix in (".json", ".txt", ".safetensors")
        )
        if not found:
            raise InputError(
                f"{folder / part} is missing: restore it, or save the pipeline as safetensors."
            )
        for path in found:
            if path.suffix == ".safetensors":
                read_tensors(path, "restore it, or save the pipeline anew")
        files += found
    return files


@contextmanager
def quiet():
    """No progress bars and no remarks of the libraries: ``cut`` tells what they would say."""
    kits = (diffusers.utils.logging, transformers.utils.logging)
    levels, bars = (
        [kit.get_verbosity() for kit in kits],
        [kit.is_progress_bar_enabled() for kit in kits],
    )
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
