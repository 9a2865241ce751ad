"""The scenario that ``asyncsim init`` writes."""

STARTER = """\
# A scenario of asyncsim: one run, or several (variants x seeds).
#   asyncsim validate FILE     check it
#   asyncsim plan FILE         the timeline alone: throughput, staleness, utilisation
#   asyncsim run FILE          train; `--set cluster.workers=32` overrides a field
#   asyncsim sweep FILE --grid cluster.workers=1,4,16     every variant with several worker counts
# `asyncsim list` names everything that may stand after `kind:`; `asyncsim schema` is for your editor.

task:
  kind: digits                 # scikit-learn's 1,797 images of 8 x 8 pixels
  model: {kind: mlp, hidden: [64]}
  batch: 32                    # samples per gradient

cluster:
  workers: 16
  compute: {kind: gamma, mean: 100ms, cv: 0.1}   # duration of one gradient; a plain `100ms` is constant
  # uplink: {latency: 2ms, bandwidth: 1Gbit/s}   # and `downlink`; by default messages take no time
  # faults: {up: {kind: exponential, mean: 10min}, down: 30s}

optimizer: {kind: sgd, lr: 0.1, momentum: 0.9, weight_decay: 5e-4}
schedule: {kind: multistep, milestones: [0.5, 0.75], warmup: 0.05}   # fractions of the run

run:
  updates: 2000                # or samples, or time (virtual); whichever is met first
  target: {metric: test_accuracy, at_least: 0.9, stop: false}

variants:                      # each is a set of changes to the above
  synchronous: {method: bsp}
  asgd: {method: asgd}
  staleness_aware: {method: staleness_aware}
  gap_aware: {method: gap_aware}

seeds: 1
"""
