"""The way of real models, photographs and benchmarks,
walked with tiny stand-ins that the tests make themselves."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
import torch
from notebook_kit import ROOT
from PIL import Image

from adafuse_lite import (
    AdaFuSE,
    Benchmark,
    Dialogue,
    Drawings,
    FeatureBank,
    InputError,
    PictureIndex,
    build_bank,
    index_pictures,
    load_benchmark,
    load_encoder,
    load_generator,
    ranks,
    sources,
    top,
    write_benchmark,
)
from adafuse_lite.postcards import render, world

CHATIR = ROOT.parent / "shared" / "chatir"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny_models.write_encoder(folder / "clip")
    tiny_models.write_generator(folder / "diffusion")
    tiny_models.write_blip(folder / "blip")
    return folder


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """A folder of photographs as people have them."""
    folder = tmp_path_factory.mktemp("album")
    for i, scene in enumerate(world.scenes("models", 6)):
        kind = ("jpg", "png", "webp")[i % 3]
        path = folder / ("holiday" if i > 3 else ".") / f"{i}.{kind}"
        path.parent.mkdir(exist_ok=True)
        render.draw(scene).save(path)
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "half.jpg").write_bytes(
        (folder / "3.jpg").read_bytes()[:700]
    )  # a download that broke off
    (folder / "phone.heic").write_bytes(b"another kind")
    (folder / "notes.txt").write_text("not looked at")
    turned = Image.new("RGB", (40, 20), "red")
    exif = turned.getexif()
    exif[0x0112] = 6  # the camera was held upright
    turned.save(folder / "upright.jpg", exif=exif)
    return folder


# --- encoders -------------------------------------------------------------------------------------
def test_blip_gives_its_projected_features(models):
    encoder = load_encoder(str(models / "blip"), device="cpu")
    assert (encoder.dim, encoder.limit) == (16, 40)
    pictures = [render.draw(s) for s in world.scenes("models", 3)]
    texts = ["a red barn", "the tree is on the left , what color ?", "blue"]
    assert encoder.encode_text(texts).norm(dim=1) == pytest.approx(torch.ones(3))
    model = encoder.model
    tokens = encoder.tokenizer(texts, padding=True, return_tensors="pt")
    pixels = encoder.preprocess(pictures, return_tensors="pt")
    with torch.no_grad():
        theirs = model(
            **tokens, **pixels, use_itm_head=False
        ).itm_score  # what transformers itself scores
    ours = encoder.encode_images(pictures) @ encoder.encode_text(texts).T
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-4)


def test_padding_and_batches_change_nothing(models):
    encoder = load_encoder(str(models / "blip"), device="cpu")
    texts = ["a red barn", "the tree is on the left , what color is the barn ?"]
    alone = torch.cat([encoder.encode_text([t]) for t in texts])
    torch.testing.assert_close(encoder.encode_text(texts), alone, atol=1e-5, rtol=1e-4)


def test_a_long_text_is_cut_and_counted(models):
    encoder = load_encoder(str(models / "blip"), device="cpu")
    long = "red " * 60
    assert encoder.cut([long, "red barn"]) == [True, False]
    torch.testing.assert_close(encoder.encode_text([long]), encoder.encode_text(["red " * 100]))


def test_blip_hash_tells_models_apart(models, tmp_path):
    first = load_encoder(str(models / "blip"), device="cpu").hash
    assert (
        load_encoder(str(models / "blip"), device="cpu").hash
        == first
        != load_encoder(str(models / "clip"), device="cpu").hash
    )


def test_blip_refuses_what_is_damaged(models, tmp_path):
    import shutil

    folder = Path(shutil.copytree(models / "blip", tmp_path / "blip"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="truncated"):
        load_encoder(str(folder))
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="model.safetensors is missing.*pickled"):
        load_encoder(str(folder))
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(InputError, match="type gpt2"):
        load_encoder(str(folder))


def test_quickgelu_mismatch_is_told(models, tmp_path):
    """OpenAI's weights want QuickGELU;
    with the plain model they give wrong features and no error."""
    import open_clip

    with pytest.raises(InputError, match="quickgelu"):
        import warnings

        from adafuse_lite import encoders

        def mismatched(*args, **kwargs):
            warnings.warn(
                "QuickGELU mismatch between final model config (quick_gelu=False) "
                "and pretrained tag 'openai' (quick_gelu=True).",
                stacklevel=2,
            )

        patch = pytest.MonkeyPatch()
        patch.setattr(open_clip, "create_model_and_transforms", mismatched)
        patch.setattr(encoders, "_refuse_pickles", lambda *a: None)
        try:
            load_encoder("ViT-B-32", "openai")
        finally:
            patch.undo()


WITHOUT_NETWORK = """
import socket, sys, time
def refuse(*a, **k): raise OSError("no network here")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from adafuse_lite import AdaFuSE, InputError, load_encoder, load_generator
start = time.time()
for load in (
    lambda: load_encoder("ViT-B-32-quickgelu", "openai"),
    lambda: load_encoder("Salesforce/blip-itm-base-coco"),
    lambda: load_generator("stabilityai/sd-turbo"),
    lambda: AdaFuSE.from_pretrained("somebody/some-head"),
):
    try:
        load()
    except InputError as error:
        print(str(error).replace(chr(10), " "))
print("seconds", round(time.time() - start))
"""


def test_offline_each_download_is_named_in_seconds(tmp_path):
    env = {k: v for k, v in os.environ.items() if "HF_" not in k and "proxy" not in k.lower()} | {
        "HF_HOME": str(tmp_path)
    }
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    *told, seconds = run.stdout.strip().splitlines()
    assert len(told) == 4, run.stdout + run.stderr[-2000:]
    for line, name in zip(
        told, ("ViT-B-32", "Salesforce/blip", "stabilityai/sd-turbo", "somebody/some-head")
    ):
        assert line.startswith(name) and len(line) < 600
    assert int(seconds.split()[1]) <= 30, seconds
    assert "Retrying" not in run.stderr


# --- generators and drawings ----------------------------------------------------------------------
def test_families_have_sensible_settings(models, tmp_path):
    import shutil

    for name, wanted in (
        ("sd-turbo", (1, 0.0)),
        ("sdxl-lightning", (4, 0.0)),
        ("stable-diffusion-v1-5", (25, 7.5)),
    ):
        folder = Path(shutil.copytree(models / "diffusion", tmp_path / name))
        (folder / "adafuse_lite.json").unlink()
        generator = load_generator(str(folder), device="cpu")
        assert (generator.steps, generator.guidance) == wanted


def test_withheld_pictures_are_counted(models):
    generator = load_generator(str(models / "diffusion"), device="cpu")
    whole = generator.pipeline.__class__.__call__

    def checked(self, *args, **kwargs):
        drawn = whole(self, *args, **kwargs)
        drawn.nsfw_content_detected = [True, False]
        return drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator.pipeline.__class__, "__call__", checked)
        assert len(generator(["a", "b"])) == 2 and generator.withheld == 1


@pytest.fixture(scope="module")
def few():
    return load_benchmark("postcards", split="validation").limit(3, 8)


def test_drawings_made_earlier_take_the_generators_place(models, few, tmp_path):
    encoder, generator = (
        load_encoder(str(models / "clip"), device="cpu"),
        load_generator(str(models / "diffusion"), device="cpu"),
    )
    wanted = build_bank(few, encoder, generator, rounds=2)
    made = {
        (q, r): generator([few.prompt(q, r)], seeds=[int(wanted.seeds[q])])[0]
        for q in range(3)
        for r in range(2)
    }
    bank = build_bank(few, encoder, Drawings(made), rounds=2)
    torch.testing.assert_close(bank.generated, wanted.generated, atol=2e-3, rtol=0)
    dar, training = tmp_path / "dar", tmp_path / "adafuse"
    for (q, r), picture in made.items():
        stem = Path(few.dialogues[q].img).stem
        for path in (dar / f"{q}_{r}.png", training / f"round{r}" / f"train-{stem}_{r}.jpg"):
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, quality=95)
    torch.testing.assert_close(
        build_bank(few, encoder, Drawings(dar), rounds=2).generated,
        wanted.generated,
        atol=2e-3,
        rtol=0,
    )
    lossy = build_bank(few, encoder, Drawings(training), rounds=2)
    assert (lossy.generated * wanted.generated).sum(-1).min() > 0.8
    assert lossy.meta["generator"] != bank.meta["generator"]


def test_drawings_that_lack_something_are_refused(few, tmp_path):
    with pytest.raises(InputError, match="no folder"):
        Drawings(tmp_path / "nowhere")
    with pytest.raises(InputError, match="dialogue 0, round 0"):
        Drawings(tmp_path).jobs(few, 1)
    with pytest.raises(InputError, match=r"under \(0, 0\)"):
        Drawings({}).jobs(few, 1)
    (tmp_path / "0_0.jpg").write_bytes(b"no picture")
    drawings = Drawings(tmp_path)
    ((name,),) = drawings.jobs(few.limit(1), 1)
    with pytest.raises(InputError, match="0_0.jpg does not decode"):
        drawings([name])


# --- photographs ----------------------------------------------------------------------------------
def test_photographs_are_indexed_once_and_found(models, album, tmp_path):
    encoder = load_encoder(str(models / "clip"), device="cpu")
    mine = sources.photos(album, progress=False)
    assert (
        len(mine.corpus) == 7
        and mine.skipped == ("broken.jpg", "half.jpg", "phone.heic")
        and mine.report["unreadable pictures left out"] == 3
    )
    assert mine.picture("upright.jpg").size == (20, 40)
    index = index_pictures(mine, encoder, tmp_path / "index")
    names, scores = index.search(encoder.encode_images([mine.picture("holiday/4.png")]), k=3)
    assert names[0][0] == "holiday/4.png" and scores[0, 0] > 0.999
    encoder.encode_images = None  # a second time nothing is encoded
    again = index_pictures(mine, encoder, tmp_path / "index")
    assert again.names == index.names
    again.check(encoder)
    with pytest.raises(InputError, match="another encoder"):
        again.check(load_encoder(str(models / "blip"), device="cpu"))


def test_an_index_that_was_damaged_or_killed_is_made_anew(models, album, tmp_path):
    encoder = load_encoder(str(models / "clip"), device="cpu")
    mine = sources.photos(album, progress=False)
    first = index_pictures(mine, encoder, tmp_path)
    path = tmp_path / "features.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="truncated"):
        PictureIndex.load(tmp_path)
    assert torch.equal(
        index_pictures(mine, encoder, tmp_path).features.half(), first.features.half()
    )


def test_looking_at_photographs_shows_a_bar_unless_told_not_to(album, capfd):
    captions = dict.fromkeys(sources.photos(album, progress=False).corpus, "a red barn")
    sources.pairs(captions, album, progress=False)
    assert "look at photographs" not in capfd.readouterr().err
    sources.photos(album)
    assert "look at photographs" in capfd.readouterr().err
    sources.pairs(captions, album)
    assert "look at photographs" in capfd.readouterr().err


def test_a_folder_without_photographs_is_refused(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        sources.photos(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no picture"):
        sources.photos(tmp_path, progress=False)


def test_top_is_the_sorted_top_in_any_chunks(monkeypatch):
    from adafuse_lite import search

    monkeypatch.setattr(search, "CHUNK", 7)
    torch.manual_seed(0)
    query, corpus = torch.randn(4, 8), torch.randn(50, 8)
    scores, places = top(query, corpus, 10)
    wanted = (query @ corpus.T).sort(dim=1, descending=True)
    assert torch.equal(places, wanted.indices[:, :10])
    torch.testing.assert_close(scores, wanted.values[:, :10])
    assert torch.equal(ranks(query, corpus, places[:, 3]), torch.full((4,), 3))
    assert top(query, corpus, 99)[1].shape == (4, 50)


# --- benchmarks of one's own ----------------------------------------------------------------------
def test_a_head_is_trained_on_captions(models, album):
    from adafuse_lite import fit

    captions = {
        name: f"a red barn {i}"
        for i, name in enumerate(sources.photos(album, progress=False).corpus)
    }
    mine = sources.pairs(captions, album, progress=False)
    encoder, generator = (
        load_encoder(str(models / "clip"), device="cpu"),
        load_generator(str(models / "diffusion"), device="cpu"),
    )
    bank = build_bank(mine, encoder, generator)
    assert bank.text.shape == (7, 1, 16)
    head = AdaFuSE(16, 8, 8, encoder_hash=encoder.hash)
    fit(head, bank, bank, epochs=1, batch_size=4, progress=False)
    with pytest.raises(InputError, match="load that encoder or train a head"):
        head.check_encoder(load_encoder(str(models / "blip"), device="cpu").hash)
    with pytest.raises(InputError, match="no readable picture"):
        sources.pairs({"nobody.jpg": "a"}, album, progress=False)
    with pytest.raises(InputError, match="empty"):
        sources.pairs({"0.jpg": " "}, album, progress=False)


@pytest.fixture
def visdial_file(tmp_path):
    talk = {
        "image_id": 42,
        "caption": "a barn",
        "dialog": [{"question": 1, "answer": 0}, {"question": 0, "answer": 1}],
    }
    held = {
        "version": "1.0",
        "data": {
            "questions": ["is it red", "any trees"],
            "answers": ["no", "yes"],
            "dialogs": [talk],
        },
    }
    path = tmp_path / "visdial_1.0_train.json"
    path.write_text(json.dumps(held))
    return path


def test_visdials_own_file_loads(visdial_file, tmp_path):
    made = load_benchmark(str(visdial_file))
    assert made.text(0, 2) == "a barn, any trees? no, is it red? yes"
    assert (made.rounds, made.corpus) == (3, ["COCO_train2014_000000000042.jpg"])
    pictures = (
        tmp_path / "coco"
    )  # as COCO is unpacked: in folders, with the year and the split in the names
    (pictures / "val2014").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(pictures / "val2014" / "COCO_val2014_000000000042.jpg")
    made = load_benchmark(visdial_file, images=pictures)
    assert made.corpus == ["val2014/COCO_val2014_000000000042.jpg"] and made.picture(
        made.corpus[0]
    ).size == (8, 8)
    held = json.loads(visdial_file.read_text())
    del held["data"]["dialogs"][0]["dialog"][1]
    visdial_file.write_text(json.dumps(held))
    assert load_benchmark(visdial_file).rounds == 2  # a caption and one answer
    del held["data"]["dialogs"][0]["dialog"][0]
    visdial_file.write_text(json.dumps(held))
    with pytest.raises(InputError, match="no dialogue with an answer"):
        load_benchmark(visdial_file)


def test_a_malformed_visdial_file_is_told(visdial_file):
    held = json.loads(visdial_file.read_text())
    held["data"]["dialogs"][0]["dialog"][1]["answer"] = 99
    visdial_file.write_text(json.dumps(held))
    with pytest.raises(InputError, match="dialogue 0.*VisDial's form"):
        load_benchmark(visdial_file)
    visdial_file.write_text("[]")
    with pytest.raises(InputError, match="no JSON object"):
        load_benchmark(visdial_file)


def test_a_saved_dataset_loads(tmp_path):
    import datasets

    scenes = world.scenes("models", 4)
    rows = {
        "name": list("abcd"),
        "image": [render.draw(s) for s in scenes],
        "dialog": [["a barn", "is it red? yes"], [], ["a car", "red? no"], []],
    }
    datasets.Dataset.from_dict(
        rows,
        features=datasets.Features(
            {
                "name": datasets.Value("string"),
                "image": datasets.Image(),
                "dialog": datasets.List(datasets.Value("string")),
            }
        ),
    ).save_to_disk(tmp_path / "mine")
    made = load_benchmark(tmp_path / "mine")
    assert (made.rounds, made.corpus, made.targets) == (2, list("abcd"), [0, 2])
    assert list(
        made.picture("c").get_flattened_data()
        if hasattr(made.picture("c"), "get_flattened_data")
        else made.picture("c").getdata()
    ) == list(
        render.draw(scenes[2]).get_flattened_data()
        if hasattr(Image.Image, "get_flattened_data")
        else render.draw(scenes[2]).getdata()
    )
    (tmp_path / "mine" / "state.json").write_text("{}")
    with pytest.raises(InputError, match="no dataset that datasets can load"):
        load_benchmark(tmp_path / "mine")


def saved(folder, dialogs, images=None, columns=None):
    """A dataset in ``folder``, saved by ``datasets``:
    a row for each dialogue, with pictures of the world."""
    import datasets

    scenes = world.scenes("models", len(dialogs) + 3)
    rows = {"image": images or [render.draw(s) for s in scenes[: len(dialogs)]], "dialog": dialogs}
    kinds = {
        "image": datasets.Image(),
        "dialog": datasets.List(datasets.Value("string")),
        **(columns or {}),
    }
    # Without a number of shards datasets 4.0 divides by zero where there is no row.
    datasets.Dataset.from_dict(rows, features=datasets.Features(kinds)).save_to_disk(
        folder, num_shards=1
    )
    return folder


@pytest.mark.parametrize(
    ("dialogs", "said"),
    [
        ([], "holds no dialogue|no dataset that datasets can load"),
        ([[], None], "holds no dialogue"),
        ([["a barn"], ["a car", "red? no"]], "row 0: its dialogue needs 2 texts"),
        ([["a barn", ""]], "row 0: its dialogue needs 2 texts"),
        ([["a barn", None]], "row 0: its dialogue needs 2 texts"),
    ],
)
def test_a_dataset_without_fit_dialogues_is_told(tmp_path, dialogs, said):
    with pytest.raises(InputError, match=said):
        load_benchmark(saved(tmp_path / "mine", dialogs))


def test_a_dataset_may_have_rows_without_dialogue_and_splits(tmp_path):
    import datasets

    made = load_benchmark(saved(tmp_path / "mine", [["a barn", "red? yes"], None]))
    assert (len(made.dialogues), len(made.corpus), made.rounds) == (1, 2, 2)
    both = datasets.DatasetDict({"test": datasets.load_from_disk(str(tmp_path / "mine"))})
    both.save_to_disk(str(tmp_path / "both"))
    assert load_benchmark(tmp_path / "both", split="test").corpus == made.corpus
    with pytest.raises(InputError, match="no split 'train'; there are: test"):
        load_benchmark(tmp_path / "both", split="train")


def test_a_dataset_of_texts_or_of_other_columns_is_told(tmp_path):
    import datasets

    text = saved(tmp_path / "text", ["a barn"], columns={"dialog": datasets.Value("string")})
    with pytest.raises(InputError, match="row 0: its dialogue needs"):
        load_benchmark(text)
    datasets.Dataset.from_dict({"picture": [1]}).save_to_disk(str(tmp_path / "other"))
    with pytest.raises(InputError, match="lacks the column dialog and image; it has picture"):
        load_benchmark(tmp_path / "other")
    made = load_benchmark(saved(tmp_path / "none", [["a barn"]], images=[None]))
    with pytest.raises(InputError, match="row 0: holds no picture that can be read"):
        made.picture(made.corpus[0])


def test_datasets_of_equal_names_do_not_share_features(tmp_path):
    """An index, and the parts of a build, belong to the pictures: those of another dataset have the
    names 000000, ... as well."""
    encoder, scenes = load_encoder("postcards", device="cpu"), world.scenes("models", 6)
    one, other = (
        load_benchmark(
            saved(tmp_path / name / "mine", [["a"]] * 3, images=[render.draw(s) for s in part])
        )
        for name, part in (("one", scenes[:3]), ("other", scenes[3:]))
    )
    assert one.corpus == other.corpus
    first = index_pictures(one, encoder, tmp_path / "index")
    assert torch.equal(
        index_pictures(one, encoder, tmp_path / "index").features, first.features.half().float()
    ), "the same one is loaded"
    second = index_pictures(other, encoder, tmp_path / "index")
    assert (first.features - second.features).abs().max() > 0.05
    assert torch.allclose(
        second.features,
        encoder.encode_images([render.draw(s) for s in scenes[3:]]).cpu(),
        atol=2e-3,
    )


def test_a_name_cannot_lead_out_of_the_folder(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "in").mkdir()
    made = Benchmark(
        "b",
        "s",
        "t",
        [Dialogue("../secret.png", ("a",) * 11)],
        ["../secret.png"],
        root=tmp_path / "in",
    )
    with pytest.raises(InputError, match="leads out"):
        made.picture("../secret.png")


@pytest.mark.skipif(not CHATIR.is_dir(), reason="the real ChatIR files are not here")
@pytest.mark.parametrize("style", ["VisDial_v1.0_queries_val", "FLAN_ALPACA_XXL_BLIP2"])
def test_the_real_dialogues_load(style):
    raw = json.loads((CHATIR / f"{style}.json").read_text(encoding="utf-8"))
    made = load_benchmark(CHATIR, style=style)
    assert (
        len(made.dialogues) == 2_064
        and len(made.corpus) == 50_000
        and len(set(made.targets)) == 2_064
    )
    for q in (0, 7, 2_063):
        for r in range(11):
            assert made.text(q, r) == ", ".join(raw[q]["dialog"][: r + 1])
    assert made.report["missing pictures"] == 50_000 and len(made.report["first missing"]) == 3
    if style.startswith("FLAN"):
        assert (
            made.report["without '?'"] == 55 and 13_400 <= made.report["stray 'Answer:'"] <= 13_600
        )
        tidy = load_benchmark(CHATIR, style=style, clean=True)
        assert tidy.report["stray 'Answer:'"] == 0


# --- more than one process ------------------------------------------------------------------------
def test_two_processes_and_a_killed_one_give_the_same_bank(models, few, tmp_path):
    write_benchmark(few, tmp_path / "world")
    own = [
        "--benchmark",
        str(tmp_path / "world"),
        "--encoder",
        str(models / "clip"),
        "--generator",
        str(models / "diffusion"),
        "--rounds",
        "4",
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    alone = [sys.executable, "-m", "adafuse_lite.bank", *own, "--out", str(tmp_path / "alone")]
    assert (
        "cut at 77 tokens"
        in subprocess.run(alone, env=env, check=True, capture_output=True, text=True).stdout
    )
    run = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "adafuse_lite.bank",
        *own,
    ]
    killed = subprocess.Popen(
        [*run, "--out", str(tmp_path / "killed")],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    start = time.time()
    while (
        not list(tmp_path.glob("killed/parts/*.safetensors"))
        and killed.poll() is None
        and time.time() - start < 90
    ):
        time.sleep(0.05)
    killed.kill()
    subprocess.run(["pkill", "-9", "-f", str(tmp_path / "killed")], check=False)
    killed.wait()
    subprocess.run(
        [*run, "--out", str(tmp_path / "killed")], env=env, check=True, capture_output=True
    )
    one, two = (FeatureBank.load(tmp_path / name) for name in ("alone", "killed"))
    assert one.meta == two.meta
    for name in ("text", "prompt", "generated", "corpus", "target", "cut"):
        torch.testing.assert_close(getattr(one, name), getattr(two, name), atol=1e-3, rtol=0)


def test_shares_by_hand_give_the_same_bank(models, tmp_path, monkeypatch):
    from adafuse_lite import build
    from adafuse_lite.build import main

    monkeypatch.setattr(build, "TEXTS", 3)  # so that there is more than one part to share
    monkeypatch.setattr(build, "PICTURES", 3)
    own = [
        "--encoder",
        str(models / "clip"),
        "--generator",
        str(models / "diffusion"),
        "--split",
        "validation",
        "--limit",
        "3",
        "--pictures",
        "8",
        "--rounds",
        "2",
        "--out",
    ]
    main([*own, str(tmp_path / "alone")])
    main([*own, str(tmp_path / "shared"), "--share", "0", "2"])
    assert not (tmp_path / "shared" / "bank.json").exists()
    main([*own, str(tmp_path / "shared"), "--share", "1", "2"])
    main([*own, str(tmp_path / "shared")])
    one, two = (FeatureBank.load(tmp_path / name) for name in ("alone", "shared"))
    assert one.meta == two.meta and torch.equal(one.generated, two.generated)


# --- the head -------------------------------------------------------------------------------------
def test_the_card_says_what_a_head_was_trained_on(tmp_path):
    head = AdaFuSE(16, 8, 8, encoder_hash="abc", trained_on="3 dialogues about barns")
    head.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "3 dialogues about barns" in card and "| abc |" in card and "adafuse-lite" in card
    again = AdaFuSE.from_pretrained(tmp_path)
    assert (again.trained_on, again.encoder_hash) == ("3 dialogues about barns", "abc")
    again.trained_on = "something else"
    again.save_pretrained(tmp_path)
    assert "something else" in (tmp_path / "README.md").read_text()


def test_the_published_sizes():
    with torch.device("meta"):
        assert sum(p.numel() for p in AdaFuSE(256).parameters()) == 11_812_614


def test_prompts_written_elsewhere_are_drawn(few):
    own = [[f"prompt {q} {r}" for r in range(11)] for q in range(3)]
    made = replace(few, prompts=own)
    assert made.prompt(2, 5) == "prompt 2 5"
