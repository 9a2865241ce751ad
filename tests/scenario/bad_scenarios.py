"""Wrong scenarios, each with what its message must say. ``# HERE`` marks the line that the message must name.

A text without ``task`` or ``run`` gets a good one behind it, so that one mistake is one mistake.
"""

from __future__ import annotations

from typing import NamedTuple


class Bad(NamedTuple):
    """``words`` must all be in the message. ``text`` is None where there is no file."""

    id: str
    text: str | bytes | None
    words: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    file: str = "bad.yaml"
    line: int | None = None  # where no comment can mark it
    problems: int = 1

    @property
    def content(self) -> bytes | None:
        if self.text is None or isinstance(self.text, bytes):
            return self.text
        text = self.text
        if self.file.endswith(".yaml") and not self.id.startswith("file-"):
            text += "" if "task:" in text or self.id == "no-task" else "\ntask: quadratic"
            text += "" if "\nrun:" in "\n" + text or self.id == "no-run" else "\nrun: {updates: 20}\n"
        return text.encode()

    @property
    def marked(self) -> int | None:
        """The line (from 1) that the message must name, if any."""
        if isinstance(self.text, str) and "# HERE" in self.text:
            return next(number for number, row in enumerate(self.text.splitlines(), 1) if "# HERE" in row)
        return self.line


def bad(
    id: str,
    text: str | bytes | None,
    *words: str,
    set: tuple[str, ...] = (),
    arguments: tuple[str, ...] = (),
    file: str = "bad.yaml",
    line: int | None = None,
    problems: int = 1,
) -> Bad:
    return Bad(
        id, text, words, (*arguments, *(part for change in set for part in ("--set", change))), file, line, problems
    )  # fmt: skip


DIGITS = "task: {kind: digits, model: softmax}\nrun: {updates: 20}\n"
STAGED = "task: {kind: digits, batch: 24, model: {kind: mlp, hidden: [8, 8]}}\nrun: {updates: 20}\n"
NEST = "a: " + "[" * 3000 + "]" * 3000

BAD = [
    # Keys that nobody knows, at every level.
    bad("key-top", "clutser: {workers: 2}  # HERE", "clutser", "unknown field", "did you mean `cluster`"),
    bad("key-cluster", "cluster:\n  worker: 2  # HERE", "cluster.worker:", "did you mean `workers`", "groups"),
    bad("key-task", "task: {kind: quadratic, dims: 2}  # HERE", "task.dims", "did you mean `dim`"),
    bad("key-model", "task:\n  kind: digits\n  model: {kind: mlp, hiden: [2]}  # HERE", "task.model.hiden", "`hidden`"),
    bad(
        "key-delay",
        "cluster:\n  compute:\n    kind: gamma\n    mean: 1s\n    cvv: 1  # HERE\n    cv: 1",
        "cluster.compute.cvv",
        "`cv`",
    ),
    bad("key-shorthand-delay", "cluster: {compute: {maen: 1s}}  # HERE", "cluster.compute.maen", "did you mean `mean`"),
    bad("key-link", "cluster:\n  uplink:\n    latncy: 1ms  # HERE", "cluster.uplink.latncy", "`latency`", "bandwidth"),
    bad(
        "key-group",
        "cluster:\n  groups:\n    - {name: a, workers: 1}\n    - name: b\n      worker: 1  # HERE\n      workers: 1",
        "cluster.groups.1.worker:",
        "`workers`",
    ),
    bad(
        "key-event",
        "cluster:\n  events:\n    - at: 1s\n      workers: [0]\n      stopp: true  # HERE\n      stop: true",
        "cluster.events.0.stopp",
        "`stop`",
    ),
    bad("key-override", "cluster:\n  overrides:\n    1: {compte: 2s}  # HERE", "cluster.overrides.1.compte", "`compute`"),
    bad("key-method", "method: {kind: ssp, bund: 1}  # HERE", "method.bund", "`bound`"),
    bad("key-optimizer", "optimizer: {kind: sgd, learning_rate: 1}  # HERE", "optimizer.learning_rate", "lr", "momentum"),
    bad("key-schedule", "schedule: {kind: cosine, fianl: 0}  # HERE", "schedule.fianl", "`final`"),
    bad(
        "key-policy",
        "method:\n  kind: custom\n  policy:\n    - {kind: clip, maxnorm: 1}  # HERE",
        "method.policy.0.maxnorm",
        "`max_norm`",
    ),
    bad("key-run", "run: {update: 3}  # HERE", "run.update:", "`updates`"),
    bad("key-target", "run:\n  updates: 3\n  target: {metric: test_loss, atmost: 1}  # HERE", "run.target.atmost", "`at_most`"),
    bad("key-evaluate", "evaluate: {every: 3}  # HERE", "evaluate.every", "updates, samples, time, splits"),
    bad("key-records", "records: {event: true}  # HERE", "records.event:", "`events`"),
    bad(
        "key-partition", "task: {kind: digits, partition: {kind: dirichlet, alhpa: 1}}  # HERE", "task.partition.alhpa", "`alpha`"
    ),
    # Kinds that nobody knows: every registry.
    bad("kind-task", "task: digit  # HERE", "task:", "unknown task 'digit'", "did you mean `digits`", "quadratic"),
    bad("kind-model", "task: {kind: digits, model: resnet9}  # HERE", "task.model", "unknown model 'resnet9'", "`resnet"),
    bad("kind-partition", "task: {kind: digits, partition: dirichlett}  # HERE", "task.partition", "`dirichlet`"),
    bad("kind-method", "method: gap_awear  # HERE", "method:", "unknown method 'gap_awear'", "did you mean `gap_aware`", "ssp"),
    bad("kind-method-mapping", "method:\n  kind: gap_awear  # HERE", "method.kind", "did you mean `gap_aware`"),
    bad("kind-optimizer", "optimizer: {kind: sdg}  # HERE", "optimizer.kind", "unknown optimizer 'sdg'", "`sgd`"),
    bad("kind-schedule", "schedule: cosin  # HERE", "schedule:", "`cosine`"),
    bad("kind-delay", "cluster: {compute: {kind: gama, mean: 1s, cv: 1}}  # HERE", "cluster.compute.kind", "`gamma`"),
    bad("kind-delay-bare", "cluster: {compute: gamma_homogenous}  # HERE", "cluster.compute", "did you mean `gamma_homogeneous`"),
    bad("kind-policy", "method: {kind: custom, policy: [clipp]}  # HERE", "method.policy.0", "`clip`"),
    bad("kind-consistency", "method: {kind: asgd, consistency: sspp}  # HERE", "method.consistency", "`ssp`"),
    bad("kind-program", "method: {kind: asgd, program: local_sdg}  # HERE", "method.program", "`local_sgd`"),
    bad("kind-missing", "method: {bound: 2}  # HERE", "method.kind", "missing", "ssp"),
    bad("kind-missing-task", "task: {batch: 2}  # HERE", "task.kind", "missing", "digits"),
    bad("kind-number", "method: 3  # HERE", "method:", "it is 3", "a name", "kind"),
    bad("kind-list", "method: [asgd]  # HERE", "method:", "a name", "kind"),
    bad("kind-null", "method:   # HERE", "method:", "kind"),
    bad("kind-not-a-word", "method: {kind: [asgd]}  # HERE", "method.kind", "asgd"),
    # Wrong types.
    bad("type-workers-text", "cluster: {workers: many}  # HERE", "cluster.workers", "'many'", "whole number from 1"),
    bad("type-workers-half", "cluster: {workers: 2.5}  # HERE", "cluster.workers", "2.5", "whole number"),
    bad("type-workers-bool", "cluster: {workers: true}  # HERE", "cluster.workers", "number"),
    bad("type-workers-list", "cluster: {workers: [1]}  # HERE", "cluster.workers", "whole number"),
    bad("type-cluster-number", "cluster: 8  # HERE", "cluster:", "mapping", "workers", "it is 8"),
    bad("type-cluster-list", "cluster: [8]  # HERE", "cluster:", "mapping", "workers"),
    bad("type-run-number", "run: 100  # HERE", "run:", "mapping", "updates", "it is 100"),
    bad("type-groups-mapping", "cluster:\n  groups: {a: 3}  # HERE", "cluster.groups", "list"),
    bad("type-overrides-list", "cluster:\n  overrides: [1]  # HERE", "cluster.overrides", "mapping"),
    bad("type-events-text", "cluster: {events: none}  # HERE", "cluster.events", "list"),
    bad("type-lr-text", "optimizer: {kind: sgd, lr: fast}  # HERE", "optimizer.lr", "'fast'", "number"),
    bad("type-lr-bool", "optimizer: {kind: sgd, lr: true}  # HERE", "optimizer.lr", "number, not true or false"),
    bad("type-updates-bool", "run: {updates: true}  # HERE", "run.updates", "number, not true or false"),
    bad("type-updates-half", "run: {updates: 2.5}  # HERE", "run.updates", "2.5", "whole number"),
    bad("type-updates-text", "run: {updates: 2k}  # HERE", "run.updates", "'2k'", "whole number"),
    bad(
        "type-nesterov",
        "optimizer: {kind: sgd, momentum: 0.5, nesterov: perhaps}  # HERE",
        "optimizer.nesterov",
        "true or false",
        "'perhaps'",
    ),
    bad("type-hidden", "task: {kind: digits, model: {kind: mlp, hidden: 64}}  # HERE", "task.model.hidden", "list", "64"),
    bad("type-name", "name: [1]  # HERE", "name:", "text"),
    bad("type-dtype", "dtype: float16  # HERE", "dtype", "float16", "float32", "float64"),
    bad("type-splits", "task: digits\nevaluate: {splits: test}  # HERE", "evaluate.splits", "list", "'test'"),
    bad("type-split-name", "evaluate: {splits: [tset]}  # HERE", "evaluate.splits.0", "'tset'", "test", "validation"),
    bad("type-null-run", "run:   # HERE", "run:", "mapping", "updates"),
    # Numbers out of range.
    bad("range-workers-zero", "cluster: {workers: 0}  # HERE", "cluster.workers", "1", "it is 0"),
    bad("range-workers-negative", "cluster: {workers: -3}  # HERE", "cluster.workers", "1", "it is -3"),
    bad("range-workers-huge", f"cluster: {{workers: {10**30}}}  # HERE", "cluster.workers", "1000000"),
    bad("range-updates-zero", "run: {updates: 0}  # HERE", "run.updates", "1", "it is 0"),
    bad("range-time-zero", "run: {time: 0s}  # HERE", "run.time", "above 0"),
    bad("range-time-negative", "run: {time: -1s}  # HERE", "run.time", "above 0", "'-1s'"),
    bad("range-compute-zero", "cluster: {compute: 0s}  # HERE", "cluster.compute", "above 0"),
    bad("range-compute-negative", "cluster: {compute: -5ms}  # HERE", "cluster.compute", "'-5ms'", "0"),
    bad("range-latency-negative", "cluster: {uplink: -1ms}  # HERE", "cluster.uplink", "'-1ms'", "0"),
    bad(
        "range-event-negative",
        "cluster:\n  events:\n    - {at: -1, workers: [0], stop: true}  # HERE",
        "cluster.events.0.at",
        "it is -1",
    ),
    bad(
        "range-slowdown-zero",
        "cluster:\n  events:\n    - {at: 1, workers: [0], slowdown: 0}  # HERE",
        "cluster.events.0.slowdown",
        "above 0",
    ),
    bad("range-nan", "optimizer: {kind: sgd, lr: .nan}  # HERE", "optimizer.lr", "finite number", "nan"),
    bad("range-inf", "optimizer: {kind: sgd, lr: .inf}  # HERE", "optimizer.lr", "finite number", "inf"),
    bad("range-overflow", "optimizer: {kind: sgd, lr: 1e400}  # HERE", "optimizer.lr", "finite number"),
    bad("range-compute-nan", "cluster: {compute: .nan}  # HERE", "cluster.compute", "finite"),
    bad("range-compute-overflow", "cluster: {compute: 1e400}  # HERE", "cluster.compute", "finite"),
    bad("range-compute-long", "cluster: {compute: 1e300}  # HERE", "cluster.compute", "9000000000"),
    bad("range-lr-negative", "optimizer: {kind: sgd, lr: -0.1}  # HERE", "optimizer.lr", "at least 0", "-0.1"),
    bad("range-momentum", "optimizer: {kind: sgd, momentum: 1.0}  # HERE", "optimizer.momentum", "below 1", "1.0"),
    bad("range-batch", "task: {kind: digits, batch: 0}  # HERE", "task.batch", "1", "it is 0"),
    bad("range-ssp", "method: {kind: ssp, bound: -1}  # HERE", "method.bound", "0", "-1"),
    bad("range-gamma-cv", "cluster: {compute: {kind: gamma, mean: 1s, cv: -1}}  # HERE", "cluster.compute.cv", "0", "-1"),
    bad("range-validation", "task: {kind: digits, validation: 1}  # HERE", "task.validation", "below 1"),
    bad("range-threads", "threads: 0  # HERE", "threads", "1", "0"),
    bad("range-seed-negative", "seed: -1  # HERE", "seed", "0", "-1"),
    bad("range-seed-huge", f"seed: {2**63}  # HERE", "seed", "9223372036854775808"),
    bad("range-seed-text", "seed: lucky  # HERE", "seed", "whole number", "'lucky'"),
    bad("range-bandwidth-zero", "cluster: {uplink: {bandwidth: 0}}  # HERE", "cluster.uplink.bandwidth", "above 0"),
    bad("range-milestones", "schedule: {kind: multistep, milestones: [0.9, 0.1]}  # HERE", "schedule", "ascending"),
    bad("range-warmup", "schedule: {kind: cosine, warmup: 5}  # HERE", "schedule", "fraction", "unit: updates"),
    # Units.
    bad("unit-parsecs", "cluster: {compute: 5 parsecs}  # HERE", "cluster.compute", "'5 parsecs'", "ms", "min"),
    bad("unit-bandwidth", "cluster: {uplink: {bandwidth: 10Gbps}}  # HERE", "cluster.uplink.bandwidth", "'10Gbps'", "Gbit/s"),
    bad("unit-size", "message: 4 megabytes  # HERE", "message", "'4 megabytes'", "MB"),
    bad("unit-run-time", "run: {time: soon}  # HERE", "run.time", "'soon'", "50ms"),
    # Things that do not fit together.
    bad("fit-no-length", "run: {}  # HERE", "run", "updates, samples, time"),
    bad("fit-target-only", "run: {target: {metric: test_loss, at_most: 1}}  # HERE", "run", "updates, samples, time"),
    bad("fit-cadences", "evaluate: {updates: 2, time: 1s}  # HERE", "evaluate", "at most one of", "updates, samples, time"),
    bad("fit-k-sync", "cluster: {workers: 4}\nmethod: {kind: k_sync, k: 5}  # HERE", "method", "k <= workers (4)", "5"),
    bad("fit-k-sync-no-k", "method: k_sync  # HERE", "method", "k", "missing"),
    bad("fit-softsync", "cluster: {workers: 4}\nmethod: {kind: softsync, n: 5}  # HERE", "method", "n <= workers (4)", "5"),
    bad(
        "fit-backups",
        "cluster: {workers: 4}\nmethod: {kind: backup_workers, backups: 4}  # HERE",
        "method",
        "fewer than the workers (4)",
    ),
    bad("fit-nesterov", "optimizer: {kind: sgd, nesterov: true}  # HERE", "optimizer", "nesterov needs a momentum above 0"),
    bad("fit-dana-adam", "method: dana  # HERE\noptimizer: adam", "method", "needs the optimizer sgd, not adam"),
    bad(
        "fit-target-metric",
        "run:\n  updates: 3\n  target:\n    metric: test_accuracy  # HERE\n    at_least: 0.5",
        "run.target.metric",
        "test_accuracy",
        "test_loss",
    ),
    bad(
        "fit-target-default",
        DIGITS.replace("20}", "20, target: {metric: validation_accuracy, at_least: 0.5}}  # HERE"),
        "run.target.metric",
        "validation_accuracy",
        "test_accuracy",
    ),
    bad(
        "fit-target-level",
        "run:\n  updates: 3\n  target: {metric: test_loss}  # HERE",
        "run.target",
        "exactly one of at_least, at_most",
    ),
    bad(
        "fit-target-levels",
        "run:\n  updates: 3\n  target: {metric: test_loss, at_least: 1, at_most: 2}  # HERE",
        "run.target",
        "exactly one of",
    ),
    bad(
        "fit-validation",
        "task: {kind: digits, model: softmax, validation: 0}\nrun: {updates: 2}\nevaluate: {splits: [validation]}  # HERE",
        "evaluate.splits",
        "validation",
        "task.validation",
    ),
    bad("fit-model", "task: {kind: digits, model: char_mlp}  # HERE", "task", "char_mlp", "image inputs", "softmax"),
    bad("fit-model-text", "task: {kind: pydoc_lm, model: mlp}  # HERE", "task", "mlp", "text inputs", "char_mlp"),
    bad(
        "fit-workers-and-groups",
        "cluster:\n  workers: 3  # HERE\n  groups: [{name: a, workers: 2}]",
        "cluster.workers",
        "not both",
    ),
    bad(
        "fit-groups-same-name",
        "cluster:\n  groups:\n    - {name: a, workers: 2}\n    - {name: a, workers: 2}  # HERE",
        "cluster.groups.1.name",
        "'a'",
    ),
    bad(
        "fit-event-both",
        "cluster:\n  events:\n    - {at: 1, workers: [0], slowdown: 2, stop: true}  # HERE",
        "cluster.events.0",
        "given slowdown, stop",
    ),
    bad("fit-event-neither", "cluster:\n  events:\n    - {at: 1, workers: [0]}  # HERE", "cluster.events.0", "none of them"),
    bad(
        "fit-event-absent",
        "cluster:\n  workers: 4\n  events:\n    - at: 1\n      workers: [4]  # HERE\n      stop: true",
        "cluster.events.0.workers.0",
        "no worker 4",
        "0 to 3",
    ),
    bad(
        "fit-override-absent",
        "cluster:\n  workers: 4\n  overrides:\n    9: {compute: 1s}  # HERE",
        "cluster.overrides.9",
        "0 to 3",
    ),
    bad("fit-faults-half", "cluster:\n  faults: {up: 1h}  # HERE", "cluster.faults.down", "both `up` and `down`"),
    bad(
        "fit-lognormal",
        "cluster: {compute: {kind: lognormal, mean: 1s, sigma: 1}}  # HERE",
        "cluster.compute",
        "`median` and `sigma`",
    ),
    bad("fit-uniform", "cluster: {compute: {kind: uniform, low: 2s, high: 1s}}  # HERE", "cluster.compute.high", "below `low`"),
    bad("fit-gamma-no-cv", "cluster: {compute: {kind: gamma, mean: 1s}}  # HERE", "cluster.compute.cv", "missing"),
    bad("fit-curvature", "task: {kind: quadratic, dim: 3, curvature: [1, 2]}  # HERE", "task", "curvature", "2 entries for 3"),
    bad("fit-custom-text", "method: {kind: custom, policy: clip}  # HERE", "method.policy", "list"),
    # What is missing.
    bad("no-task", "run: {updates: 3}", "task", "missing"),
    bad("no-run", "task: quadratic", "run", "missing"),
    # Variants, seeds, baseline, names.
    bad("study-variants-list", "variants: [asgd]  # HERE", "variants", "mapping", "it is ['asgd']"),
    bad("study-variants-empty", "variants: {}  # HERE", "variants", "mapping"),
    bad("study-variant-text", "variants:\n  a: asgd  # HERE", "variants.a", "mapping of changes", "'asgd'"),
    bad(
        "study-variant-key",
        "variants:\n  a: {method: asgd}\n  b:\n    cluster:\n      wokers: 2  # HERE",
        "cluster.wokers",
        "`workers`",
    ),
    bad("study-variant-dotted", "variants:\n  a: {cluster.wokers: 2}  # HERE", "cluster.wokers", "`workers`"),
    bad("study-variant-value", "variants:\n  a: {}\n  b: {optimizer: {kind: sgd, lr: -1}}  # HERE", "optimizer.lr", "-1"),
    bad("study-variant-inside", "seed: 3\nvariants:\n  a: {seed.x: 2}  # HERE", "seed", "value 3", "nothing inside"),
    bad("study-variant-name", "variants:\n  a/b: {method: asgd}  # HERE", "a/b", "letters, digits"),
    bad("study-baseline", "variants: {sync: {method: bsp}}\nbaseline: snyc  # HERE", "baseline", "'snyc'", "`sync`"),
    bad("study-baseline-alone", "baseline: asgd  # HERE", "baseline", "variants"),
    bad("study-baseline-list", "variants: {a: {}}\nbaseline: [a]  # HERE", "baseline", "variants"),
    bad("study-seeds-zero", "seeds: 0  # HERE", "seeds", "from 1 to 10,000", "it is 0"),
    bad("study-seeds-text", "seeds: several  # HERE", "seeds", "'several'"),
    bad("study-seeds-twice", "seeds: [1, 1]  # HERE", "seeds", "different"),
    bad("study-seeds-member", "seeds: [0, x]  # HERE", "seed", "whole number", "'x'"),
    bad("study-seeds-negative", "seeds: [-1]  # HERE", "seed", "-1"),
    bad("study-seeds-huge", f"seeds: {10**12}  # HERE", "seeds", "1000000000000"),
    bad("study-seed-bad-with-seeds", "seed: x  # HERE\nseeds: 2", "seed", "'x'"),
    bad("study-name-slash", "name: a/b  # HERE", "name", "'a/b'", "letters, digits"),
    bad("study-name-dots", "name: ..  # HERE", "name", "'..'", "starts with a letter or digit"),
    bad("study-name-empty", "name: ''  # HERE", "name", "''"),
    bad("study-name-number", "name: 3  # HERE", "name", "text", "it is 3"),
    bad("study-name-long", f"name: {'x' * 101}  # HERE", "name", "100"),
    bad("study-name-dots-variants", "name: ../..  # HERE\nvariants: {a: {}}", "name", "'../..", "letters, digits"),
    # Devices.
    bad("device-name", "device: gpu  # HERE", "device", "'gpu'", "cuda:<index>"),
    bad("device-number", "device: 0  # HERE", "device", "0"),
    bad("device-argument", "", "override: device", "'gpu'", "cpu", arguments=("--device", "gpu")),
    bad("device-cuda", "device: cuda", "device", "'cuda'", "not available here"),
    bad(
        "device-cuda-variants",
        "device: cuda\nvariants: {a: {method: asgd}, b: {method: bsp}}",
        "'cuda'",
        "not available here",
        arguments=("--processes", "1"),
    ),
    # Data.
    bad("data-cifar", "task: cifar10", "CIFAR-10", "not found", "task.data_dir", "ASYNCSIM_DATA"),
    bad("data-idx", "task: {kind: idx, dataset: mnist, data_dir: /nowhere/at/all}", "/nowhere/at/all", "not found", "mnist5k"),
    bad(
        "data-npz",
        "task: {kind: npz, file: none.npz, shape: [4], classes: 2, model: softmax}",
        "none.npz",
        "not found",
        "x_train",
    ),
    bad("data-batch", "task: {kind: digits, model: softmax, batch: 5000}  # HERE", "task.batch", "5000", "1293"),
    bad(
        "data-dirichlet",
        "task: {kind: digits, model: softmax, batch: 100, partition: {kind: dirichlet, alpha: 0.01}}  # HERE",
        "task.partition.alpha",
        "raise `alpha`",
    ),
    bad("data-idx-shape", "task: {kind: idx, shape: [3, 2, 2]}  # HERE", "task", "one channel"),
    bad("csv-missing", "cluster: {compute: {kind: empirical, file: none.csv}}  # HERE", "cluster.compute.file", "none.csv"),
    bad(
        "csv-empty",
        "cluster: {compute: {kind: empirical, file: empty.csv}}  # HERE",
        "cluster.compute.column",
        "no column 'seconds'",
    ),
    bad(
        "csv-negative",
        "cluster: {compute: {kind: empirical, file: negative.csv}}  # HERE",
        "cluster.compute.file",
        "line 3",
        "'-2'",
    ),
    bad(
        "csv-column",
        "cluster: {compute: {kind: empirical, file: negative.csv, column: second}}  # HERE",
        "cluster.compute.column",
        "`seconds`",
    ),
    # Overrides on the command line.
    bad("set-no-equals", "", "--set cluster.workers", "field=value", set=("cluster.workers",)),
    bad("set-no-field", "", "--set =3", "field=value", set=("=3",)),
    bad("set-dots", "", "--set a..b=3", "field=value", set=("a..b=3",)),
    bad("set-unknown", "", "override: cluster.wokers", "`workers`", set=("cluster.wokers=3",)),
    bad("set-unknown-top", "", "override: clutser", "`cluster`", set=("clutser.workers=3",)),
    bad("set-scalar", "seed: 1", "override: seed.x", "value 1", set=("seed.x=3",)),
    bad("set-value", "", "override: cluster.workers", "'many'", "whole number", set=("cluster.workers=many",)),
    bad(
        "set-index",
        "cluster:\n  groups: [{name: a, workers: 1}]",
        "override: cluster.groups.3.workers",
        "list of 1",
        set=("cluster.groups.3.workers=1",),
    ),
    bad("set-kind", "", "override: method", "`gap_aware`", set=("method=gap_awear",)),
    bad(
        "set-absent-worker",
        "",
        "override: cluster.overrides.5",
        "0 to 1",
        set=("cluster.workers=2", "cluster.overrides.5.compute=1s"),
    ),
    bad("set-seeds-list", "", "override: seeds", "it is -1", set=("seeds=-1",)),
    bad("set-variants", "", "override: variants", "mapping", set=("variants=3",)),
    bad("set-duplicate-yaml", "", "override: method", set=("method={a: 1, a: 2}",)),
    bad("seed-argument", "", "override: seed", "-1", arguments=("--seed", "-1")),
    bad("seed-argument-huge", "", "override: seed", str(10**30), arguments=("--seed", str(10**30))),
    # Files that are no scenarios.
    bad("file-missing", None, "no such file"),
    bad("file-folder", None, "folder", file="folder.yaml"),
    bad("file-ending", "task: quadratic\n", ".yaml", ".toml", ".json", "this one in .txt", file="bad.txt"),
    bad("file-no-ending", "task: quadratic\n", ".yaml", file="bad"),
    bad("file-empty", "", "empty", "asyncsim init"),
    bad("file-only-comment", "# nothing\n", "empty"),
    bad("file-null", "~\n", "empty"),
    bad("file-list", "- task: quadratic\n", "mapping", "a list", line=1),
    bad("file-text", "quadratic\n", "mapping", "'quadratic'", line=1),
    bad("file-binary", bytes(range(256)), "UTF-8"),
    bad("file-nul", b"task: quadratic\nrun: {updates: 3}\nname: a\0b\n", "U+0000", line=3),
    bad("file-utf16", "task: quadratic\n".encode("utf-16"), "UTF-8"),
    bad("file-nested-yaml", NEST, "nested too deeply"),
    bad("file-nested-json", '{"a": ' + "[" * 100000 + "]" * 100000 + "}", "nested too deeply", file="bad.json"),
    bad("file-nested-toml", "a = " + "[" * 100000 + "]" * 100000, "nested too deeply", file="bad.toml"),
    bad("file-yaml-syntax", "task: quadratic\nrun: {updates: 3\ncluster:\n", "YAML"),
    bad("file-yaml-tab", "task: quadratic\nrun:\n\tupdates: 3  # HERE\n", "tab"),
    bad("file-yaml-duplicate", "task: quadratic\nrun: {updates: 3}\ntask: digits  # HERE\n", "duplicate key", "task"),
    bad("file-yaml-duplicate-inner", "task: quadratic\nrun:\n  updates: 3\n  updates: 4  # HERE\n", "duplicate key", "updates"),
    bad("file-yaml-anchor", "task: *nothing  # HERE\n", "nothing"),
    bad("file-yaml-tag", "task: !!python/object:os.system quadratic  # HERE\n", "tag"),
    bad("file-yaml-two", "task: quadratic\nrun: {updates: 1}\n---  # HERE\ntask: digits\n", "single document"),
    bad("file-yaml-unhashable", "? [a]\n: 3\n", "bad.yaml"),
    bad("file-yaml-recursive", "task: &a {kind: quadratic, start: *a}\nrun: {updates: 1}\n", "bad.yaml"),
    bad("file-json-syntax", '{"task": "quadratic",\n "run": {"updates": 3},\n}\n', "JSON", file="bad.json", line=3),
    bad(
        "file-json-duplicate",
        '{"task": "quadratic",\n "run": {"updates": 3},\n "task": "digits"}\n',
        "duplicate key",
        "task",
        file="bad.json",
        line=3,
    ),
    bad("file-json-value", '{"task": "quadratic",\n "run": {\n  "updates": -3}}\n', "run.updates", "-3", file="bad.json", line=3),
    bad(
        "file-json-infinity",
        '{"task": "quadratic", "run": {"updates": 1},\n "optimizer": {"kind": "sgd", "lr": Infinity}}\n',
        "optimizer.lr",
        "finite",
        file="bad.json",
        line=2,
    ),
    bad("file-json-empty", "", "empty", file="bad.json"),
    bad("file-toml-syntax", "task = \n", "TOML", file="bad.toml", line=1),
    bad("file-toml-duplicate", 'task = "quadratic"\ntask = "digits"\n', "TOML", file="bad.toml", line=2),
    bad("file-toml-empty", "", "empty", file="bad.toml"),
    bad("file-toml-value", 'task = "quadratic"\n[run]\nupdates = -3  # HERE\n', "run.updates", "-3", file="bad.toml"),
    bad("file-toml-inline", 'task = "quadratic"\nrun = {updates = -3}  # HERE\n', "run.updates", "-3", file="bad.toml"),
    bad(
        "file-toml-array",
        'task = "quadratic"\nrun = {updates = 3}\n[[cluster.groups]]\nname = "a"\nworkers = 1\n'
        '[[cluster.groups]]\nname = "b"\nworkers = 0  # HERE\n',
        "cluster.groups.1.workers",
        "it is 0",
        file="bad.toml",
    ),
    bad(
        "file-toml-date",
        'task = "quadratic"\nrun = {updates = 2026-01-01}  # HERE\n',
        "run.updates",
        "whole number",
        file="bad.toml",
    ),
    bad("file-yaml-date", "task: quadratic\nname: 2026-01-01  # HERE\nrun: {updates: 3}\n", "name", "text", "2026-01-01"),
    # Models in stages.
    bad("stages-too-many", STAGED + "cluster: {workers: 4}\nmethod: fdg\nstages: 4  # HERE", "stages", "4 layers", "has 3"),
    bad("stages-workers", STAGED + "cluster: {workers: 4}\nmethod: fdg\nstages: 3  # HERE", "a multiple of 3 workers", "has 4"),
    bad(
        "stages-split-length",
        STAGED + "cluster: {workers: 3}\nmethod: fdg\nstages: {count: 3, split: [1, 4]}  # HERE",
        "`stages.split` has 2 entries for 3 stages",
    ),
    bad(
        "stages-split-sum",
        STAGED + "cluster: {workers: 3}\nmethod: fdg\nstages: {count: 3, split: [1, 1, 1]}  # HERE",
        "`stages.split` places 3 layers, model `mlp` has 6",
    ),
    bad(
        "stages-weights",
        STAGED + "cluster: {workers: 3}\nmethod: fdg\nstages: {count: 3, time: [1, 0, 1]}  # HERE",
        "stages.time.1",
        "above 0",
    ),
    bad("stages-quadratic", "cluster: {workers: 2}\nmethod: fdg\nstages: 2  # HERE", "task `quadratic` has no layers"),
    bad("stages-asgd", STAGED + "cluster: {workers: 2}\nmethod: asgd  # HERE\nstages: 2", "`asgd` computes whole models", "fdg"),
    bad(
        "stages-engine",
        STAGED + "cluster: {workers: 2}\nmethod: fdg\nstages: 2\nengine: batched  # HERE",
        "a model in stages takes the engine serial",
    ),
    bad(
        "stages-micro-batches",
        STAGED.replace("\n", "  # HERE\n", 1) + "cluster: {workers: 2}\nmethod: {kind: gpipe, micro_batches: 5}\nstages: 2",
        "task.batch",
        "5 equal micro-batches",
    ),
    bad(
        "stages-two-buffers",
        STAGED + "cluster: {workers: 3}\nmethod: {kind: pipedream_2bw, micro_batches: 2}  # HERE\nstages: 3",
        "as many micro-batches as stages at least (3), not 2",
    ),
    bad(
        "stages-queue",
        STAGED + "cluster: {workers: 2}\nmethod: {kind: custom, program: {kind: stage, queue: 1}}  # HERE\nstages: 2",
        "method.program.queue",
        "at least 2",
    ),
    bad(
        "stages-hypercube",
        STAGED + "cluster: {workers: 6}\nmethod: {kind: fdg, gossip: hypercube}  # HERE\nstages: 2",
        "a hypercube needs 1, 2, 4, 8, ... groups, not 3",
    ),
    # Several mistakes are reported together, each once.
    bad(
        "several",
        "clutser: {}\noptimizer: {kind: sgd, lr: -1}\nseed: -1\nrun: {updates: 0}\n",
        "clutser",
        "did you mean `cluster`",
    ),
]
