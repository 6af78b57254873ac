"""What the hard tests share: what a refusal must look like, and ways to damage a file."""

import hashlib
import json
import random
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from adafuse_lite import InputError

REFUSED = object()


def attempt(load):
    """What ``load()`` gives,
    or REFUSED after checking that the refusal is one InputError of one sentence."""
    try:
        return load()
    except InputError as error:
        said = str(error)
        assert "\n" not in said and said.endswith(".") and len(said) < 1000, said
        assert not said.startswith("Traceback"), said
        return REFUSED


# --- damage ---------------------------------------------------------------------------------------
def deep(levels):
    value = 0
    for _ in range(levels):
        value = [value]
    return value


ODD = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    0.5,
    10**30,
    -(10**30),
    1e308,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\n",
    "\ud800",
    "\x00",
    "a\nb",
    "../../etc/passwd",
    "/",
    "é" * 3,
    "x" * 5000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    deep(200),
]


def places(value, path=()):
    """Paths to everything inside a JSON value."""
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield from places(inner, (*path, key))


def changed(value, rng):
    """A copy of a JSON value with one part dropped,
    doubled, renamed or replaced by something odd."""
    value = json.loads(json.dumps(value))
    path = rng.choice(list(places(value)))
    if not path:
        return rng.choice(ODD)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    key, what = path[-1], rng.random()
    if what < 0.2:
        del inner[key]
    elif what < 0.3 and isinstance(inner, list):
        inner.insert(key, inner[key])
    elif what < 0.4 and isinstance(inner, dict):
        inner[f"{key}s"] = inner.pop(key)
    else:
        inner[key] = rng.choice(ODD)
    return value


def broken(data, rng):
    """A copy of bytes with a bit flipped, a byte replaced,
    a piece lost or doubled, or another encoding."""
    at, what = rng.randrange(len(data)), rng.randrange(9)
    if what == 0:
        return data[:at]
    if what in (1, 2, 3):
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if what == 4:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if what == 5:
        return data[:at] + data[at + rng.randrange(1, 30) :]
    if what == 6:
        return data[:at] + data[max(0, at - rng.randrange(1, 30)) :]
    if what == 7:
        return b"\xef\xbb\xbf" + data
    return rng.choice(
        [
            b"",
            b"\x00" * 9,
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"1" * 10_000,
            b"1e999",
            b"NaN",
            data + b"\x00",
            data * 2,
            data.decode("utf-8", "replace").encode("utf-16"),
        ]
    )


def mutations(value, count, seed):
    """The JSON text (bytes) of a value and then damaged ones, ``count`` in all: six of ten of
    another content, the others damaged bytes."""
    rng, data = random.Random(seed), json.dumps(value).encode()
    yield data
    for _ in range(count - 1):
        if rng.random() < 0.6:
            value_now = value
            for _ in range(rng.choice((1, 1, 1, 2, 3))):
                value_now = changed(value_now, rng)
            yield json.dumps(value_now).encode()
        else:
            yield broken(data, rng)


def flipped(data, rng, start=0):
    """A copy of bytes with one bit another, at ``start`` or after it."""
    at = rng.randrange(start, len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def data_start(data):
    """Where the numbers of a safetensors file begin."""
    return 8 + int.from_bytes(data[:8], "little")


# --- stand-ins that cost nothing ------------------------------------------------------------------
def numbers(key, width=16):
    """A unit vector that depends on a text alone."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big")
    return F.normalize(torch.randn(width, generator=torch.Generator().manual_seed(seed)), dim=0)


class FakeEncoder:
    """Features that depend on the text or the picture's name; ``tick`` is called for each batch."""

    hash, dim, limit = "fake-encoder", 16, 9

    def __init__(self, tick=lambda what: None):
        self.tick = tick

    def encode_text(self, texts):
        self.tick("text")
        return torch.stack([numbers(t) for t in texts])

    def encode_images(self, images):
        return torch.stack([numbers(x) for x in images])

    def count_tokens(self, texts):
        return [len(t.split()) for t in texts]


class FakeGenerator:
    """A "picture" is the text of its prompt and seed."""

    hash, steps, guidance, batch, withheld = "fake-generator", 3, 1.0, 4, 0

    def __init__(self, tick=lambda what: None):
        self.tick = tick

    def jobs(self, benchmark, rounds):
        return [
            [benchmark.prompt(q, r) for r in range(rounds)] for q in range(len(benchmark.dialogues))
        ]

    def cut(self, prompts):
        return [len(p) > 30 for p in prompts]

    def __call__(self, prompts, seeds=None):
        self.tick("draw")
        return [f"{p}/{s}" for p, s in zip(prompts, seeds)]


def fake_benchmark(queries=6, rounds=3, pictures=40):
    """Enough of a benchmark to build a bank from."""
    return SimpleNamespace(
        name="fake",
        style="visdial",
        split="test",
        rounds=rounds,
        version=None,
        scenes=None,
        corpus=[f"{i}.png" for i in range(pictures)],
        targets=list(range(queries)),
        picture=lambda name: name,
        dialogues=[SimpleNamespace(img=f"{q}.png") for q in range(queries)],
        text=lambda q, r: f"dialogue {q} " + "word " * 4 * r,
        prompt=lambda q, r: f"prompt {q} " + "word " * r,
    )


def content(bank):
    """A hash of all that a bank holds."""
    digest = hashlib.sha256(json.dumps(bank.meta, sort_keys=True).encode())
    for name, tensor in sorted(bank._tensors().items()):
        digest.update(
            name.encode() + str(tensor.shape).encode() + tensor.contiguous().numpy().tobytes()
        )
    return digest.hexdigest()


def weights(model):
    """A hash of all that a model holds."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(
            name.encode() + str(tensor.shape).encode() + tensor.contiguous().numpy().tobytes()
        )
    return digest.hexdigest()
