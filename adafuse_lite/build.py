"""Building a feature bank: encode the texts and the corpus, draw the prompts, encode the drawings.

The work is cut into parts that are always the same, each stored under the hash of what makes it. So
a build that was killed goes on where it was, and gives what an unbroken one gives.
"""

import argparse
import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from pkgutil import resolve_name

import torch
from tqdm.auto import tqdm

from .bank import FeatureBank
from .checks import all_finite
from .device import pick_device
from .drawings import Drawings
from .encoders import load_encoder
from .errors import InputError
from .files import content_hash, make_folder, read_tensors, write_tensors
from .generators import load_generator
from .names import DEFAULT, bundled
from .sources import load_benchmark

TEXT_PART, PICTURE_PART = 512, 256  # items in a part; drawings: one batch of the generator
AT_A_TIME = 64  # pictures that are open


class Parts:
    """Parts of the work, kept in a folder (or, without one, nowhere).

    share: (k, n) to do each n-th part from the k-th.
    """

    def __init__(self, folder, share=(0, 1)):
        self.folder, self.share, self.used = folder, share, []
        if folder:
            make_folder(folder)

    def run(self, what, unit, items, size, depends_on, work):
        """``work(items of a part) -> dict of tensors`` for all parts, joined.

        ``depends_on``: what makes a part besides its items. None if this share lacks some parts.
        """
        pieces = [items[i : i + size] for i in range(0, len(items), size)]
        results = []
        with tqdm(total=len(items), desc=what, unit=unit) as bar:
            for k, piece in enumerate(pieces):
                path = self._path([what, depends_on, piece])
                part = self._stored(path)
                if part is None and k % self.share[1] == self.share[0]:
                    part = self._computed(work(piece), path, f"{what}, part {k}")
                results.append(part)
                bar.update(0 if part is None else len(piece))
        if None in results:
            return None
        return {name: torch.cat([part[name] for part in results]) for name in results[0]}

    def _path(self, key):
        path = self.folder and self.folder / f"{content_hash(key)}.safetensors"
        self.used += [path] if path else []
        return path

    @staticmethod
    def _stored(path):
        with suppress(InputError):  # a damaged part is made anew
            return read_tensors(path, "") if path and path.exists() else None

    @staticmethod
    def _computed(tensors, path, what):
        for name, x in tensors.items():
            if x.is_floating_point() and not all_finite(x):
                raise InputError(f"{what}: {name} holds NaN or infinity: check the weights.")
        part = {n: x.half().cpu() if x.is_floating_point() else x.cpu() for n, x in tensors.items()}
        if path:
            write_tensors(path, part)
        return part

    def remove(self):
        """Remove the stored parts, when what was made of them holds all of it."""
        for path in self.used:
            path.unlink(missing_ok=True)


def query_seed(seed, style, image):
    """The seed of a query's drawings, the same at every round and on every machine."""
    digest = hashlib.sha256(f"{seed}/{style}/{image}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def encode_pictures(benchmark, encoder, names):
    """Features [n, dim] of pictures by name. Decoding takes long, so several are read at once."""
    some = [names[i : i + AT_A_TIME] for i in range(0, len(names), AT_A_TIME)]
    with ThreadPoolExecutor(8) as pool:
        images = (list(pool.map(benchmark.picture, part)) for part in some)
        return torch.cat([encoder.encode_images(part) for part in images])


def build_bank(
    benchmark, encoder, generator, probe=None, rounds=None, seed=0, out=None, share=(0, 1)
):
    """Run encoder and generator over a benchmark -> FeatureBank; what repeats is computed once.

    ``rounds``: how many from round 0 on (all). ``out``: the folder to save the bank in; a build
    that was killed goes on there. ``share=(k, n)``: store the k-th of n shares of the work in
    ``out`` and return None, for n processes side by side; a last call without it gives the bank.
    """
    rounds = benchmark.rounds if rounds is None else rounds
    if not 1 <= rounds <= benchmark.rounds:
        raise InputError(f"rounds is {rounds}: the dialogues have 1 to {benchmark.rounds}.")
    queries = range(len(benchmark.dialogues))
    texts = [[benchmark.text(q, r) for r in range(rounds)] for q in queries]
    prompts = [[benchmark.prompt(q, r) for r in range(rounds)] for q in queries]
    jobs = generator.jobs(benchmark, rounds)  # the prompts, or the names of drawings made earlier
    seeds = [query_seed(seed, benchmark.style, dialogue.img) for dialogue in benchmark.dialogues]
    meta = _meta(benchmark, encoder, generator, probe, texts, prompts, seed)
    if (bank := _finished(out, meta)) is not None:
        return bank
    parts = Parts(Path(out, "parts") if out else None, share)
    read = _encode_texts(parts, encoder, texts, prompts)
    corpus = _encode_corpus(parts, encoder, benchmark)
    drawn = _draw(parts, encoder, generator, probe, jobs, seeds)
    if read is None or corpus is None or drawn is None:
        return None
    text, prompt = read
    bank = FeatureBank(
        text=text["features"].float(),
        prompt=prompt["features"].float(),
        generated=drawn["features"].float(),
        corpus=corpus["features"].float(),
        target=torch.tensor(list(benchmark.targets)),
        cut=text["tokens"] > encoder.limit,
        prompt_cut=(prompt["tokens"] > encoder.limit) | drawn["cut"],
        seeds=torch.tensor(seeds),
        readings=drawn.get("readings"),
        meta=meta,
    )
    if out:
        if _finished(out, meta) is None:  # else another process was quicker
            bank.save(out)
        parts.remove()
    return bank


def _meta(benchmark, encoder, generator, probe, texts, prompts, seed):
    """What makes the bank, as content hashes and settings."""
    names, codes, version = _corpus_items(benchmark)
    return {
        "benchmark": benchmark.name,
        "style": benchmark.style,
        "split": benchmark.split,
        "encoder": encoder.hash,
        "generator": generator.hash,
        "probe": probe.hash if probe else None,
        "texts": content_hash(texts),
        "prompts": content_hash(prompts),
        "corpus": content_hash([names, codes, *version]),
        "settings": {"seed": seed, "steps": generator.steps, "guidance": generator.guidance},
    }


def _corpus_items(benchmark):
    """Names of the pictures, their scenes' codes where these are known, and their version."""
    scenes = benchmark.scenes or []
    version = [benchmark.version] if benchmark.version else []
    return list(benchmark.corpus), [scene.codes() for scene in scenes], version


def _finished(out, meta):
    """The bank in ``out`` if it is whole and the very one that is asked for."""
    with suppress(InputError):
        if out and (bank := FeatureBank.load(out)).meta == meta:
            return bank
    return None


def _gather(results, keys, table):
    """Rows of ``results`` for a table [Q][R] of keys -> {name: [Q, R, ...]}."""
    row = {key: i for i, key in enumerate(keys)}
    index = torch.tensor([[row[key] for key in line] for line in table])
    return {name: x[index] for name, x in results.items()}


def _encode_texts(parts, encoder, texts, prompts):
    def work(piece):
        tokens = torch.tensor(encoder.count_tokens(piece))
        return {"features": encoder.encode_text(piece), "tokens": tokens}

    different = sorted({text for line in texts + prompts for text in line})
    read = parts.run("encode texts", "text", different, TEXT_PART, encoder.hash, work)
    return read and [_gather(read, different, table) for table in (texts, prompts)]


def _encode_corpus(parts, encoder, benchmark):
    names, codes, version = _corpus_items(benchmark)
    items = [(i, name, codes[i] if codes else None) for i, name in enumerate(names)]
    work = lambda piece: {"features": encode_pictures(benchmark, encoder, [n for _, n, _ in piece])}
    depends_on = [encoder.hash, benchmark.name, *version]
    return parts.run("encode corpus", "picture", items, PICTURE_PART, depends_on, work)


def _draw(parts, encoder, generator, probe, jobs, seeds):
    def work(piece):
        prompts = [prompt for _, prompt, _ in piece]
        images = generator(prompts, seeds=[s for *_, s in piece])
        drawn = {"features": encoder.encode_images(images)}
        drawn["cut"] = torch.tensor(generator.cut(prompts))
        return {**drawn, "readings": probe.read(images)} if probe else drawn

    # Prompts of about one length together, in an order that depends on prompts and seeds alone.
    table = [[(len(prompt), prompt, s) for prompt in line] for line, s in zip(jobs, seeds)]
    different = sorted({job for line in table for job in line})
    depends_on = [generator.hash, encoder.hash, probe.hash if probe else None]
    drawn = parts.run("draw", "picture", different, generator.batch, depends_on, work)
    return drawn and _gather(drawn, different, table)


def positive(text):
    """A whole number of 1 or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


OPTIONS = {
    "--benchmark": dict(default=DEFAULT, help="a bundled world, or what load_benchmark reads"),
    "--style": dict(default="visdial", help="the dialogue file's stem"),
    "--split": dict(default="test", help="'train', 'validation' or 'test'"),
    "--images": dict(help="the folder of the pictures, if it is another"),
    "--clean": dict(action="store_true", help="repair stray 'Answer:', blanks and newlines"),
    "--prompts": dict(help="a JSON file with prompts that were rewritten elsewhere"),
    "--drawings": dict(help="a folder with pictures drawn earlier, in place of a generator"),
    "--encoder": dict(default=DEFAULT, help="an open_clip or BLIP model or its directory"),
    "--pretrained": dict(help="the tag of the encoder's weights"),
    "--generator": dict(default=DEFAULT, help="a diffusers pipeline or its directory"),
    "--limit": dict(type=positive, help="only so many dialogues, and ten times as many pictures"),
    "--pictures": dict(type=positive, help="only so many pictures, besides the wanted ones"),
    "--rounds": dict(type=positive, help="only so many rounds"),
    "--seed": dict(type=int, default=0, help="of the drawings"),
    "--share": dict(nargs=2, type=int, metavar=("K", "N"), help="the K-th (from 0) of N shares"),
    "--out": dict(required=True, help="the folder of the bank"),
}


def main(arguments=None):
    """The command ``python -m adafuse_lite.bank``, alone or under torchrun."""
    parser = argparse.ArgumentParser("python -m adafuse_lite.bank", description="Build a bank.")
    for name, option in OPTIONS.items():
        parser.add_argument(name, **option)
    args = parser.parse_args(arguments)
    try:
        _build_from(args)
    except InputError as error:
        parser.exit(2, f"{error}\n")


def _build_from(args):
    from accelerate import PartialState

    if args.share and not 0 <= args.share[0] < args.share[1]:
        raise InputError(f"There is no share {args.share[0]} of {args.share[1]}: count from 0.")
    sources = (args.benchmark, args.style, args.split, args.images, args.prompts, args.clean)
    benchmark = load_benchmark(*sources)
    if args.limit or args.pictures:
        dialogues = args.limit or len(benchmark.dialogues)
        benchmark = benchmark.limit(dialogues, args.pictures or 10 * dialogues)
    # Without a GPU the processes must be told that they belong together, or each would do it all.
    state = PartialState(cpu=not torch.cuda.is_available())
    device = state.device if state.num_processes > 1 else pick_device()
    encoder = load_encoder(args.encoder, args.pretrained, device)
    drawings = args.drawings and Drawings(args.drawings)
    generator = drawings or load_generator(args.generator, device)
    load_probe = bundled(args.benchmark, "probe")
    probe = load_probe and resolve_name(load_probe)(device=device)
    task = (benchmark, encoder, generator, probe, args.rounds, args.seed, args.out)
    if args.share:
        build_bank(*task, share=tuple(args.share))
        return
    if state.num_processes > 1:
        build_bank(*task, share=(state.process_index, state.num_processes))
        state.wait_for_everyone()
    if state.is_main_process:
        bank = build_bank(*task)
        print(f"{args.out}: {bank}")
        print(f"texts cut at {encoder.limit} tokens: {int(bank.cut.sum())} of {bank.cut.numel()}")
        print(f"prompts cut by the encoder or the generator: {int(bank.prompt_cut.sum())}")
        print(f"pictures withheld by a safety checker: {generator.withheld}")
