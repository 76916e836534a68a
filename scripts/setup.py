#!/usr/bin/env python3
"""Puts the pinned ONNX Runtime library into .onnxruntime/, once.

The library comes out of the `onnxruntime` wheel, fetched by pip (so pip's index, proxy and cache settings hold) and
checked against a hash. Nothing is installed, and a second run returns at once.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile

# Measured against 1.28.0 and 1.32.0 (bundled int8 model, one thread, AVX2, best of 2 runs, ms for 8 / 64 / 256 tokens):
# 1.24.4 1.7 / 10.8 / 52, 1.28.0 1.7 / 10.9 / 55, 1.32.0 1.8 / 12.1 / 57; four sessions +160 / +160 / +155 MB RSS.
# No gain, so the smallest (22, 24, 35 MB) that runs on the oldest systems (glibc 2.27, the others 2.28) and that the
# `ort` crate accepts (>= 1.24).
VERSION = "1.24.4"

# (system, machine) -> pip's platform tag, SHA-256 of the wheel, library inside it, name that the binary looks for.
WHEELS = {
    ("Linux", "x86_64"): (
        "manylinux_2_27_x86_64",
        "0d640eb9f3782689b55cfa715094474cd5662f2f137be6a6f847a594b6e9705c",
        "onnxruntime/capi/libonnxruntime.so." + VERSION,
        "libonnxruntime.so",
    ),
    ("Linux", "aarch64"): (
        "manylinux_2_27_aarch64",
        "1a5c5a544b22f90859c88617ecb30e161ee3349fcc73878854f43d77f00558b5",
        "onnxruntime/capi/libonnxruntime.so." + VERSION,
        "libonnxruntime.so",
    ),
    ("Darwin", "arm64"): (
        "macosx_14_0_arm64",
        "cad1c2b3f455c55678ab2a8caa51fb420c25e6e3cf10f4c23653cdabedc8de78",
        "onnxruntime/capi/libonnxruntime.%s.dylib" % VERSION,
        "libonnxruntime.dylib",
    ),
}
NOTICES = ("LICENSE", "ThirdPartyNotices.txt")
FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), ".onnxruntime")


def main():
    if os.environ.get("ORT_DYLIB_PATH"):
        print("setup: ORT_DYLIB_PATH is set, so nothing is fetched")
        return
    platform_tag, sha256, member, library = wheel_for_this_machine()
    if installed(library, sha256):
        return
    print("setup: fetching ONNX Runtime %s for %s with pip" % (VERSION, platform_tag))
    # Beside the target, so that the rename is atomic: no half-written library is ever found.
    with tempfile.TemporaryDirectory(prefix=".onnxruntime-", dir=os.path.dirname(FOLDER)) as scratch:
        wheel = download(platform_tag, scratch)
        check(wheel, sha256)
        ready = os.path.join(scratch, "ready")
        unpack(wheel, member, library, ready)
        write(os.path.join(ready, "wheel.sha256"), sha256)
        replace(ready, os.path.join(scratch, "old"))
    print("setup: .onnxruntime/%s is ready" % library)


def wheel_for_this_machine():
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine())
    if platform.system() == "Darwin" and machine == "aarch64":
        machine = "arm64"
    wheel = WHEELS.get((platform.system(), machine))
    if wheel is None:
        fail(
            "no pinned ONNX Runtime for %s %s" % (platform.system(), platform.machine()),
            "install ONNX Runtime 1.24 or later yourself and set ORT_DYLIB_PATH to its shared library",
        )
    return wheel


def installed(library, sha256):
    """The marker is written before the rename, so a folder that carries it is whole."""
    try:
        with open(os.path.join(FOLDER, "wheel.sha256"), encoding="ascii") as marker:
            return marker.read().strip() == sha256 and os.path.isfile(os.path.join(FOLDER, library))
    except OSError:
        return False


def download(platform_tag, folder):
    # The wheel's Python version is fixed, whatever runs this script: only the library inside is used.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"]
    command += ["--platform", platform_tag, "--dest", folder, "onnxruntime==" + VERSION]
    if subprocess.call([sys.executable, "-m", "pip", "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        fail("%s has no pip" % sys.executable, "install it (Debian: apt-get install python3-pip) and run this again")
    if subprocess.call(command):
        fail(
            "pip could not download onnxruntime %s (see above)" % VERSION,
            "check the network or pip's index settings, or set ORT_DYLIB_PATH to an ONNX Runtime library >= 1.24",
        )
    wheels = [name for name in os.listdir(folder) if name.endswith(".whl")]
    if len(wheels) != 1:
        fail("pip left %d wheels, not one" % len(wheels), "update pip (python3 -m pip install --upgrade pip)")
    return os.path.join(folder, wheels[0])


def check(wheel, sha256):
    digest = hashlib.sha256()
    with open(wheel, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    if digest.hexdigest() != sha256:
        fail(
            "the wheel's SHA-256 is %s, not the pinned %s" % (digest.hexdigest(), sha256),
            "do not use it: find out why the package index serves another file",
        )


def unpack(wheel, member, library, folder):
    os.mkdir(folder)
    with zipfile.ZipFile(wheel) as archive:
        extract(archive, member, os.path.join(folder, library))
        for notice in NOTICES:
            extract(archive, "onnxruntime/" + notice, os.path.join(folder, notice))


def extract(archive, member, path):
    with archive.open(member) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target)


def replace(ready, old):
    if os.path.lexists(FOLDER):
        os.rename(FOLDER, old)
    try:
        os.rename(ready, FOLDER)
    except OSError:
        # Another run of this script may have come first; its folder is as good.
        if not os.path.isdir(FOLDER):
            raise


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text + "\n")


def fail(message, advice):
    sys.exit("setup: %s\n  → %s" % (message, advice))


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        fail("could not write %s: %s" % (FOLDER, error), "check the folder's permissions and free space")
