"""The section "Published figures"."""

from __future__ import annotations

import numpy as np

from validation import figures, published
from validation.markdown import FIGURES, Section, picture, table
from validation.published import DGS_COMMUNICATION, DGS_WORKERS, Contention, Ratio, Staleness

THROUGHPUT_HEAD = [
    "times", "workers", "reference", "simulated", "closed form, same fleets", "smallest - largest fleet",
    "closed form, a mean of 8 other fleets",
]  # fmt: skip
CLAIMS = {1: "0, 1 or 2", 15: "mean about 15", 30: "mean about 30"}


def literature() -> Section:
    """Simulate the settings of the literature. Nothing here passes or fails."""
    ratios = published.ratios()
    print("  throughput", flush=True)
    softsync = published.softsync()
    print("  staleness", flush=True)
    network = published.fitted_contention()
    print("  contention", flush=True)
    figures.ratios(ratios, FIGURES / "published_ratios.png")
    figures.contention(network, FIGURES / "published_contention.png")
    return [*_throughput(ratios), *_staleness(softsync), *_contention(network)], True


def _throughput(ratios: list[Ratio]) -> list[str]:
    rows = [
        [row.setting, str(row.workers), f"{row.reference:g}", f"{row.simulated.mean():.3f}",
         f"{row.expected[: len(row.simulated)].mean():.3f}", f"{row.simulated.min():.2f} - {row.simulated.max():.2f}",
         f"{row.expected.mean():.2f} ± {row.expected.std() / 8**0.5:.2f}"]
        for row in ratios
    ]  # fmt: skip
    return [
        "### Asynchronous over synchronous throughput", "",
        "The setting of the Gap-Aware and DANA papers, without communication. The reference is an independent NumPy computation",
        "of that setting (8 fleets of 200 rounds), not a figure printed in the papers, which were not available. Ours: 16 fleets",
        "of 200 rounds (the last half round, 0.25 %, is lost in the asynchronous runs). The closed form for a fleet with mean",
        "times p is `E[max t] mean(1 / p)`. Fleets differ much where machines do; the last column tells what to expect of 8.", "",
        *table(THROUGHPUT_HEAD, rows),
        *picture("published_ratios", "Asynchronous over synchronous throughput against the number of workers"),
    ]  # fmt: skip


def _staleness(found: list[Staleness]) -> list[str]:
    rows = [
        [str(row.n), CLAIMS.get(row.n, ""), f"{29 / (30 // row.n):.2f}", f"{row.mean:.2f}", str(row.most), f"{row.above:.1g}"]
        for row in found
    ]
    shares = ", ".join(f"{share:.3f}" for share in found[0].shares)
    return [
        "### Staleness of n-softsync, 30 workers", "",
        "Claims of Zhang et al. 2016 (arXiv 1511.05950), as a transcription of the paper gives them: 1-softsync has staleness",
        "0, 1 or 2; the mean is about n; more than 2n has a probability below 0.0001. Simulated with gamma times of CV 0.1,",
        f"120,000 pushes each; for n = 1 the shares of 0, 1 and 2 are {shares}.", "",
        *table(["n", "claimed", "`(N - 1) / floor(N / n)`", "simulated mean", "largest", "share above 2n"], rows), "",
    ]  # fmt: skip


def _contention(found: Contention) -> list[str]:
    rows, misses = [], []
    for bits, sources in DGS_COMMUNICATION.items():
        for workers, source, simulated in zip(DGS_WORKERS, sources, found.seconds[bits], strict=True):
            misses.append(abs(simulated / source - 1))
            rows.append(
                [f"{bits / 1e9:g} Gbit/s", str(workers), f"{source:g}", f"{simulated:.3f}", f"{simulated / source - 1:+.0%}"]
            )
    return [
        "### Contention at a parameter server", "",
        "Communication time of an iteration of dense asynchronous SGD, 24 MB each way, from the notebook in the code of DGS",
        "(github.com/yanring/GradientServer): times of one set-up, not figures of the paper. The model has one fair ingress, one",
        "fair egress and one queue, and two parameters that are fitted to all ten times (least squares of logarithms): messages",
        f"get {found.efficiency:.2f} of the nominal bandwidth, and the server works {1000 * found.service:.0f} ms on a push.",
        "Compute times are the notebook's; their CV of 0.1 is our choice.", "",
        *table(["network", "workers", "source, s", "simulated, s", "off by"], rows), "",
        f"Off by {np.median(misses):.0%} in the median and {max(misses):.0%} at most. Two parameters describe ten figures; that",
        "is no prediction, as both were chosen on them.",
        *picture("published_contention", "Communication time against the number of workers"),
    ]  # fmt: skip
