"""What a CUDA card gives: images a second, the share of its matrix products, and what limits it from JPEG files.

    python benchmarks/gpu.py --model DIR_OR_NAME [--batch 64,256] [--dtype bfloat16] [--pictures 4096] [--files DIR]

Side by side, in turns, medians: vit from pictures in the host's memory to logits in the host's memory, compiled and
not; vit and transformers, eager and compiled, on pixels that already lie on the card (transformers' normalised before);
the best product of two matrices. Then a folder of JPEG files end to end, and which stage was the slowest.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice

import numpy as np
import torch

from vitcli import checkpoints, hub, sources, streaming
from vitcli.bench import machine, material
from vitcli.bench.contenders import Contender, Row, matrix_products
from vitcli.checkpoints import Checkpoint
from vitcli.classifier import Classifier
from vitcli.errors import NotDownloaded
from vitcli.network import backend, hardware
from vitcli.network.accelerator import OnCard
from vitcli.network.model import ViT
from vitcli.pictures import images
from vitcli.sources import Input
from vitcli.verify import Reference

FLYING = 8  # batches in one turn, submitted on the heels of one another


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="google/vit-base-patch16-224")
    parser.add_argument("--batch", default="64,256")
    parser.add_argument("--dtype", default="bfloat16", choices=hardware.DTYPES)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--pictures", type=int, default=4096, help="for the run from files")
    parser.add_argument("--files", help="a folder of pictures; without it, some are made up")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("No CUDA card here.")
    try:
        checkpoint = checkpoints.load(hub.resolve(given.model)[1])
    except NotDownloaded:
        print(f"{given.model} is not here: random weights of ViT-B/16.")
        checkpoint = material.random_checkpoint("B/16")
    card = torch.cuda.get_device_properties("cuda")
    print(f"{card.name}, {card.total_memory / 2**30:.0f} GiB; torch {torch.__version__}, CUDA {torch.version.cuda}; "
          f"{machine.processor()}, {hardware.processors()} cores; "
          f"{checkpoint.config.name}, {given.dtype}\n")  # fmt: skip
    for batch in map(int, given.batch.split(",")):
        forward(checkpoint, batch, given.dtype, given.repeats)
    files = material.readable(sources.inputs([given.files])) if given.files else material.made_up()
    end_to_end(checkpoint, files, int(given.batch.split(",")[-1]), given.dtype, given.pictures)


def forward(checkpoint: Checkpoint, batch: int, dtype: str, repeats: int) -> None:
    """The network alone, at one batch size."""
    kind, flops = getattr(torch, dtype), checkpoint.config.flops
    pixels = material.prepared(checkpoint, material.made_up(), batch)
    on_card = torch.from_numpy(pixels).cuda()
    normalised = torch.from_numpy(checkpoint.preprocess.normalised(pixels)).to("cuda", kind)
    contenders: list[Contender] = []

    def contender(name: str, run: Callable[[], object], pictures: int) -> None:
        def waited() -> None:
            with torch.inference_mode():
                run()
            torch.cuda.synchronize()

        start = time.perf_counter()
        for _ in range(3):
            waited()
        print(f"  {name}: ready after {time.perf_counter() - start:.1f} s", file=sys.stderr)
        contenders.append(Contender(Row("forward", name, dtype, batch, 0, flops), waited, pictures))

    for mode in ("on", "off"):
        network = backend.load(
            checkpoint, engine="torch", device="cuda", dtype=dtype, pictures=None, compile=backend_mode(mode)
        )

        def whole(network: backend.Backend = network) -> None:
            waits = [network.submit(pixels) for _ in range(FLYING)]
            for wait in waits:
                wait()

        label = "compiled" if mode == "on" else "eager"
        contender(f"vit {label}, host to host", whole, FLYING * batch)
        plain = ViT.from_tensors(checkpoint.config, checkpoint.tensors).lower(kind).to("cuda")
        card = OnCard(plain, checkpoint.preprocess, compiled=mode == "on")
        contender(f"vit {label}, on the card", lambda card=card: card.forward(on_card), batch)  # type: ignore[misc]
    reference = Reference(checkpoint).model.to("cuda", kind)
    contender("transformers eager, on the card", lambda: reference(normalised).logits, batch)
    compiled = torch.compile(copy.deepcopy(reference), dynamic=False)
    contender("transformers compiled, on the card", lambda: compiled(normalised).logits, batch)
    products = matrix_products(checkpoint.config, "cuda", dtype, batch)
    for _ in range(repeats):
        for each in (*products, *contenders):
            each.turn()
    ceiling = max((each.row.flops or 0) / each.seconds for each in products)
    expected = ViT.from_tensors(checkpoint.config, checkpoint.tensors)
    few = torch.from_numpy(checkpoint.preprocess.normalised(pixels[:8]))
    with torch.inference_mode():
        apart = np.abs(network.logits(pixels)[:8] - expected(few).numpy()).max()
    print(f"batch {batch}; the card multiplies matrices at {ceiling / 1e12:.0f} TFLOP/s; logits differ from float32 on "
          f"the CPU by at most {apart:.1e}")  # fmt: skip
    print(f"{'':36}{'img/s':>9}{'ms/batch':>10}{'TFLOP/s':>9}{'share':>7}")
    for each in contenders:
        rate = 1 / each.seconds
        print(f"{each.row.engine:36}{rate:9.0f}{each.seconds * batch * 1e3:10.2f}{rate * flops / 1e12:9.1f}"
              f"{rate * flops / ceiling:7.0%}")  # fmt: skip
    print()


def backend_mode(mode: str) -> backend.Compile:
    """A word of --compile."""
    return "on" if mode == "on" else "off"


def end_to_end(checkpoint: Checkpoint, files: list[bytes], batch: int, dtype: str, pictures: int) -> None:
    """JPEG files to labels, as `vit classify` does it, and each stage alone."""
    network = backend.load(checkpoint, engine="torch", device="cuda", dtype=dtype, pictures=None)
    classifier = Classifier("", None, checkpoint, network)
    workers = os.cpu_count() or 1

    def timed(run: Callable[[], object], count: int) -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return count / statistics.median(times)

    def read(data: bytes) -> object:
        return checkpoint.preprocess.resized(images.load(data).image)

    pixels = material.prepared(checkpoint, files, batch)
    network.logits(pixels)  # compiled now, not on the clock
    many = list(islice(cycle(files), pictures))
    given = [Input(f"{i}.jpg", data=data) for i, data in enumerate(many)]

    def flying() -> None:
        for wait in [network.submit(pixels) for _ in range(FLYING)]:
            wait()

    rates = {
        f"decode and resize, {workers} threads": timed(
            lambda: list(streaming.look_ahead(read, many, workers, 2 * batch)), pictures
        ),
        "network": timed(flying, FLYING * batch),
    }
    whole = timed(lambda: list(streaming.stream(classifier, given, batch=batch)), pictures)
    print(f"from {pictures} JPEG files: {whole:.0f} img/s end to end")
    for stage, rate in rates.items():
        print(f"  {stage} alone: {rate:.0f} img/s")
    print(f"  what limits: {min(rates, key=lambda stage: rates[stage])}")


if __name__ == "__main__":
    main()
