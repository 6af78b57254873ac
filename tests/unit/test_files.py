"""Files: hashes of content, tensors and JSON written whole or not at all, with usual rights."""

import os
import stat

import pytest
import torch

from adafuse_lite import AdaFuSE, InputError
from adafuse_lite.files import (
    content_hash,
    halved,
    read_all,
    read_tensors,
    write_json,
    write_tensors,
)


def rights(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(os.name == "nt", reason="rights are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_what_is_stored_has_the_rights_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        (tmp_path / "any.txt").write_text("")
        write_tensors(tmp_path / "x.safetensors", {"x": torch.ones(2)})
        write_json(tmp_path / "x.json", {})
        AdaFuSE(12, 8, 16).save_pretrained(tmp_path / "head")
    finally:
        os.umask(before)
    wanted = rights(tmp_path / "any.txt")
    stored = ("x.safetensors", "x.json", "head/model.safetensors", "head/config.json")
    assert {name: rights(tmp_path / name) for name in stored} == dict.fromkeys(stored, wanted)


def test_tensors_and_metadata_come_back(tmp_path):
    path, tensors = tmp_path / "x.safetensors", {"x": torch.arange(6).view(2, 3).T}
    checksum = write_tensors(path, tensors, {"note": "words"})
    held, metadata = read_all(path, "mend it")
    assert torch.equal(held["x"], tensors["x"]) and metadata == {"note": "words"}
    assert torch.equal(read_tensors(path, "mend it", checksum)["x"], tensors["x"])
    with pytest.raises(InputError, match="another checksum.: mend it"):
        read_tensors(path, "mend it", "0123")
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]  # nothing half written


def test_hashes_tell_content_apart():
    x = torch.tensor([1.0, 2.0])
    assert content_hash({"x": x}) == content_hash({"x": x.clone()})
    others = ({"y": x}, {"x": x.double()}, {"x": x.view(1, 2)}, {"x": -x}, [1.0, 2.0])
    assert len({content_hash(other) for other in others} | {content_hash({"x": x})}) == 6


def test_halves_keep_the_range_of_running_statistics():
    held = {
        "weight": torch.ones(2),
        "running_var": torch.full((2,), 1e6),
        "count": torch.ones(1).int(),
    }
    kinds = {name: x.dtype for name, x in halved(held).items()}
    assert kinds == {"weight": torch.float16, "running_var": torch.float32, "count": torch.int32}
