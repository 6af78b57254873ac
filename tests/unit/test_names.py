"""What a name stands for: without network each download is named at once."""

import os
import subprocess
import sys

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
