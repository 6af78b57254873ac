"""Run the notebooks with papermill as a stranger would: the installed package, another folder, no
network. Exit code 0 when all of them pass.

    python tests/tools/run_notebooks.py                     every notebook, smallest parameters
    python tests/tools/run_notebooks.py 04_train            some
    python tests/tools/run_notebooks.py --defaults          with the parameters as they stand
    python tests/tools/run_notebooks.py --cuda              do not hide the GPU
"""

import argparse
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from notebook_kit import KERNEL_ENV, notebooks, read, smallest_parameters

INSIDE = "ADAFUSE_LITE_WITHOUT_NETWORK"
NOWHERE = "http://127.0.0.1:9"


def environment(cuda=False):
    """What the notebooks' processes see: offline, and only the package as it is installed."""
    env = os.environ | KERNEL_ENV
    if cuda:
        env["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    env.pop("PYTHONPATH", None)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):  # where nobody answers
        env[name] = env[name.lower()] = NOWHERE
    env["NO_PROXY"] = env["no_proxy"] = "localhost,127.0.0.1"
    return env


def cut_network():
    """Go on in a network namespace of our own where the system allows it; True when inside."""
    if INSIDE in os.environ:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:  # kernels talk over loopback
            import fcntl

            up = struct.pack("16sh14x", b"lo", 1)  # interface name, flag IFF_UP
            fcntl.ioctl(s, 0x8914, up)  # SIOCSIFFLAGS
        return [name for _, name in socket.if_nameindex()] == ["lo"]
    apart = ["unshare", "--net", "--map-root-user"]
    if not shutil.which("unshare"):
        return False
    if subprocess.run([*apart, "true"], capture_output=True).returncode != 0:
        return False  # containers and hardened systems forbid it
    os.environ[INSIDE] = "1"
    os.execvp(apart[0], [*apart, sys.executable, *sys.argv])


def papermill(notebook, output, parameters, cwd, env, timeout):
    """Run one notebook; the finished process, its output one text."""
    command = [sys.executable, "-m", "papermill", str(notebook), str(output), "--no-progress-bar"]
    if parameters:
        command += ["-y", json.dumps(parameters)]  # JSON is YAML, and keeps the types
    return subprocess.run(
        command,
        cwd=cwd,
        env=env,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def largest_process():
    """Gigabytes of the largest process that has run so far, where the system tells."""
    try:
        import resource
    except ImportError:
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e9
    return f", largest process {peak:.1f} GB"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="notebooks, such as 04_train (default: all)")
    parser.add_argument("--defaults", action="store_true", help="parameters as they stand")
    parser.add_argument("--cuda", action="store_true", help="do not hide the GPU")
    parser.add_argument("--out", type=Path, help="keep the executed notebooks in this folder")
    parser.add_argument("--timeout", type=int, default=900, help="seconds a notebook")
    args = parser.parse_args()

    chosen = [p for p in notebooks() if not args.names or p.stem in args.names]
    if len(chosen) < len(args.names) or not chosen:
        raise SystemExit("no such notebook; there are: " + " ".join(p.stem for p in notebooks()))
    if find_spec("adafuse_lite") is None:
        raise SystemExit("adafuse_lite is not installed for this Python: pip install -e . first")
    cut = cut_network()
    print("network:", "cut off" if cut else "there, but told to stay offline", flush=True)

    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        out = args.out.resolve() if args.out else Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        for path in chosen:
            parameters = {} if args.defaults else smallest_parameters(read(path))
            start = time.perf_counter()
            try:
                run = papermill(
                    path, out / path.name, parameters, folder, environment(args.cuda), args.timeout
                )
                code, said = run.returncode, run.stdout
            except subprocess.TimeoutExpired as late:
                code, said = 1, (late.stdout or b"").decode(errors="replace") + "\ntimed out"
            seconds = time.perf_counter() - start
            verdict = "failed" if code else "passed"
            print(f"{path.stem}: {verdict} ({seconds:.0f} s) {parameters or ''}", flush=True)
            if code:
                failed += 1
                print(*said.splitlines()[-40:], sep="\n", flush=True)
    print(f"papermill: {len(chosen) - failed} passed, {failed} failed")
    print(f"papermill ran from another folder{largest_process()}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
