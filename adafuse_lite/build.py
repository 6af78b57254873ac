"""Building a feature bank: encode the texts and the corpus, draw the prompts, encode and read the drawings.

The work is cut into parts that are always the same, each stored under the hash of what makes it. So a build that was
killed goes on where it was, and gives what an unbroken one gives.
"""

import argparse
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from tqdm.auto import tqdm

from .errors import InputError
from .files import content_hash, make_folder, read_tensors, write_tensors

TEXTS, PICTURES = 512, 256  # in a part; drawings: one batch of the generator
OPEN = 64  # pictures in memory at a time


class Parts:
    """Parts of the work, kept in a folder (or nowhere, if ``folder`` is None); ``share`` = (k, n): do each n-th from the k-th."""

    def __init__(self, folder, share):
        self.folder, self.share, self.used = folder, share, []
        if folder:
            make_folder(folder)

    def run(self, what, unit, items, size, made_by, work):
        """``work(items of a part) -> dict of tensors``, of all the parts, joined. None if this share lacks some."""
        pieces = [items[i : i + size] for i in range(0, len(items), size)]
        paths = [
            self.folder / f"{content_hash([what, made_by, piece])}.safetensors"
            if self.folder
            else None
            for piece in pieces
        ]
        self.used += [p for p in paths if p]
        done = sum(len(piece) for piece, path in zip(pieces, paths) if path and path.exists())
        found = []
        with tqdm(total=len(items), initial=done, desc=what, unit=unit) as bar:
            for k, (piece, path) in enumerate(zip(pieces, paths)):
                part = self._stored(path)
                if part is None and k % self.share[1] == self.share[0]:
                    part = {
                        n: t.half().cpu() if t.is_floating_point() else t.cpu()
                        for n, t in work(piece).items()
                    }
                    for name, tensor in part.items():
                        if tensor.is_floating_point() and not tensor.isfinite().all():
                            raise InputError(
                                f"{what}, part {k}: {name} holds NaN or infinite numbers; check the model's weights."
                            )
                    if path:
                        write_tensors(path, part)
                    bar.update(len(piece))
                found.append(part)
        if None in found:
            return None
        return {name: torch.cat([part[name] for part in found]) for name in found[0]}

    @staticmethod
    def _stored(path):
        try:
            return read_tensors(path, "") if path and path.exists() else None
        except InputError:  # a damaged part is made anew
            return None


def query_seed(seed, style, image):
    """The seed of a query's drawings, the same at every round and on every machine."""
    return (
        int.from_bytes(hashlib.sha256(f"{seed}/{style}/{image}".encode()).digest()[:8], "big") >> 1
    )


def encode_pictures(benchmark, encoder, names):
    """Features [n, dim] of pictures by name. Few are open at a time: photographs are large, and decoding them is what takes long."""
    with ThreadPoolExecutor(8) as pool:
        return torch.cat(
            [
                encoder.encode_images(list(pool.map(benchmark.picture, names[i : i + OPEN])))
                for i in range(0, len(names), OPEN)
            ]
        )


def build_bank(
    benchmark, encoder, generator, probe=None, rounds=None, seed=0, out=None, share=(0, 1)
):
    """Run encoder and generator over a benchmark; equal texts are encoded once, equal prompts with equal seeds drawn once.

    ``rounds``: how many rounds from round 0 on (all). ``out``: the folder to save the bank in; a build that was killed goes
    on from what is there. ``share=(k, n)``: store the k-th of n shares of the work in ``out`` and return None, for n
    processes side by side, after which a call without ``share`` gives the bank.
    """
    from .bank import FeatureBank

    rounds = benchmark.rounds if rounds is None else rounds
    if not 1 <= rounds <= benchmark.rounds:
        raise InputError(f"rounds is {rounds}: the dialogues have 1 to {benchmark.rounds}.")
    queries = range(len(benchmark.dialogues))
    texts = [[benchmark.text(q, r) for r in range(rounds)] for q in queries]
    prompts = [[benchmark.prompt(q, r) for r in range(rounds)] for q in queries]
    drawn_from = generator.jobs(
        benchmark, rounds
    )  # the prompts, or the names of drawings made earlier
    seeds = [query_seed(seed, benchmark.style, dialogue.img) for dialogue in benchmark.dialogues]
    names, scenes = list(benchmark.corpus), getattr(benchmark, "scenes", None)
    shown = [scene.codes() for scene in scenes] if scenes is not None else []
    pictures = [benchmark.version] if benchmark.version else []
    meta = {
        "benchmark": benchmark.name,
        "style": benchmark.style,
        "split": benchmark.split,
        "encoder": encoder.hash,
        "generator": generator.hash,
        "probe": probe.hash if probe else None,
        "texts": content_hash(texts),
        "prompts": content_hash(prompts),
        "corpus": content_hash([names, shown, *pictures]),
        "settings": {"seed": seed, "steps": generator.steps, "guidance": generator.guidance},
    }
    bank = _finished(FeatureBank, out, meta)
    if bank is not None:
        return bank
    parts = Parts(Path(out, "parts") if out else None, share)

    different = sorted({t for row in texts + prompts for t in row})
    encode = lambda piece: {
        "features": encoder.encode_text(piece),
        "tokens": torch.tensor(encoder.count_tokens(piece)),
    }
    read = parts.run("encode texts", "text", different, TEXTS, encoder.hash, encode)

    look = lambda piece: {
        "features": encode_pictures(benchmark, encoder, [name for _, name, _ in piece])
    }
    places = [(i, name, shown[i] if shown else None) for i, name in enumerate(names)]
    corpus = parts.run(
        "encode corpus",
        "picture",
        places,
        PICTURES,
        [encoder.hash, benchmark.name, *pictures],
        look,
    )

    # Prompts of about one length together, in an order that depends on nothing but the prompts and seeds.
    jobs = sorted({(len(p), p, s) for row, s in zip(drawn_from, seeds) for p in row})

    def draw(piece):
        images = generator([p for _, p, _ in piece], seeds=[s for *_, s in piece])
        drawn = {
            "features": encoder.encode_images(images),
            "cut": torch.tensor(generator.cut([p for _, p, _ in piece])),
        }
        return {**drawn, "readings": probe.read(images)} if probe else drawn

    drawn = parts.run(
        "draw",
        "picture",
        jobs,
        generator.batch,
        [generator.hash, encoder.hash, meta["probe"]],
        draw,
    )
    if read is None or corpus is None or drawn is None:
        return None

    row_of = {text: i for i, text in enumerate(different)}
    text_rows, prompt_rows = (
        torch.tensor([[row_of[t] for t in row] for row in rows]) for rows in (texts, prompts)
    )
    job_of = {(p, s): i for i, (_, p, s) in enumerate(jobs)}
    job_rows = torch.tensor([[job_of[p, s] for p in row] for row, s in zip(drawn_from, seeds)])
    long = read["tokens"] > encoder.limit
    features = {
        "text": read["features"][text_rows],
        "prompt": read["features"][prompt_rows],
        "generated": drawn["features"][job_rows],
        "corpus": corpus["features"],
    }
    bank = FeatureBank(
        **{name: tensor.float() for name, tensor in features.items()},
        meta=meta,
        target=torch.tensor(list(benchmark.targets)),
        cut=long[text_rows],
        prompt_cut=long[prompt_rows] | drawn["cut"][job_rows],
        seeds=torch.tensor(seeds),
        readings=drawn["readings"][job_rows] if probe else None,
    )
    if out:
        if _finished(FeatureBank, out, meta) is None:  # else another process was quicker
            bank.save(out)
        for path in parts.used:  # the bank holds all of them now
            path.unlink(missing_ok=True)
    return bank


def _finished(kind, out, meta):
    """The bank in ``out`` if it is whole and the very one that is asked for."""
    if out and Path(out, "bank.json").exists():
        try:
            bank = kind.load(out)
        except InputError:
            return None
        return bank if bank.meta == meta else None


def main(arguments=None):
    from accelerate import PartialState

    from .benchmark import load_benchmark
    from .encoders import load_encoder
    from .generators import Drawings, load_generator
    from .probe import load_probe

    parser = argparse.ArgumentParser(
        prog="python -m adafuse_lite.bank", description="Build a feature bank."
    )
    parser.add_argument(
        "--benchmark",
        default="postcards",
        help="'postcards', or what load_benchmark reads: a folder in ChatIR's "
        "layout, a saved dataset, VisDial's training file",
    )
    parser.add_argument("--style", default="visdial", help="the dialogue file's stem")
    parser.add_argument("--split", default="test", help="'train', 'validation' or 'test'")
    parser.add_argument("--images", help="the folder of the pictures, if it is another")
    parser.add_argument(
        "--clean", action="store_true", help="repair stray 'Answer:', blanks and newlines"
    )
    parser.add_argument("--prompts", help="a JSON file with prompts that were rewritten elsewhere")
    parser.add_argument(
        "--drawings", help="a folder with pictures drawn earlier, in place of a generator"
    )
    parser.add_argument(
        "--encoder",
        default="postcards",
        help="'postcards', an open_clip or BLIP model or its directory",
    )
    parser.add_argument("--pretrained", help="the tag of the encoder's weights")
    parser.add_argument(
        "--generator",
        default="postcards",
        help="'postcards', a diffusers pipeline or its directory",
    )
    parser.add_argument("--limit", type=int, help="only so many dialogues")
    parser.add_argument(
        "--pictures", type=int, help="only so many pictures of the corpus, besides the wanted ones"
    )
    parser.add_argument("--rounds", type=int, help="only so many rounds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--share",
        nargs=2,
        type=int,
        metavar=("K", "N"),
        help="only the K-th (from 0) of N shares of the work, for N "
        "machines with one disk; a last call without it puts the bank together",
    )
    parser.add_argument("--out", required=True, help="the folder of the bank")
    a = parser.parse_args(arguments)
    try:
        benchmark = load_benchmark(a.benchmark, a.style, a.split, a.images, a.prompts, a.clean)
        if a.limit or a.pictures is not None:
            benchmark = benchmark.limit(a.limit or len(benchmark.dialogues), a.pictures)
        # Without a GPU the processes must be told that they belong together, or each would do all of the work.
        state = PartialState(cpu=not torch.cuda.is_available())
        encoder = load_encoder(a.encoder, a.pretrained, state.device)
        generator = (
            Drawings(a.drawings) if a.drawings else load_generator(a.generator, state.device)
        )
        probe = load_probe(device=state.device) if benchmark.scenes is not None else None
        build = lambda **more: build_bank(
            benchmark, encoder, generator, probe, rounds=a.rounds, seed=a.seed, out=a.out, **more
        )
        if a.share:
            build(share=tuple(a.share))
            return
        if state.num_processes > 1:
            build(share=(state.process_index, state.num_processes))
            state.wait_for_everyone()
        if state.is_main_process:
            bank = build()
            q, r, d = bank.text.shape
            print(f"{a.out}: {q} dialogues, {r} rounds, {d} numbers a feature")
            print(
                f"cut at {encoder.limit} tokens: {int(bank.cut.sum())} of {q * r} texts; prompts cut by the encoder or the "
                f"generator: {int(bank.prompt_cut.sum())}; pictures withheld by a safety checker: {generator.withheld}"
            )
    except InputError as error:
        parser.exit(2, f"{error}\n")
