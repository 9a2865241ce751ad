"""Fully decoupled training with delayed gradients: in every tick each stage forwards a batch and backwards an older one::

    tick t, stage k of K:  forward batch t-k+1,  backward batch t-2K+k+1    (stage K: both passes of one batch)
    u_k(b) = u_k(b-1) - lr * grad_k f_b(u_1(b-1-tau_1), ..., u_K(b-1-tau_K))
    tau_k  = max(0, 2(K-k) - 1)  update first         2(K-k)  forward first
    an error signal is multiplied by beta on its way into a stage: the gradient of stage k carries beta^(K-k)

H. Zhuang et al., "Fully Decoupled Neural Network Learning Using Delayed Gradients", TNNLS (arXiv 1906.09108). The full text was
not at hand: schedule, order inside a tick and shrinking are from the authors' public code and its figures.

Order inside a tick: backward, update, forward (``update_first``, the code's and our default), or forward first (the figures).
Differs from the code: it changes parameters in place under a living graph, so a late backward pass has old activations and new
weights (``backward_weights: current``). By default the parameters of the forward pass are stashed, and the recurrence above
holds.
"""

from __future__ import annotations

from asyncsim.methods.method import methods
from asyncsim.methods.pipelines import TicksMethod


@methods.register("fdg")
class Fdg(TicksMethod):
    """Fully decoupled training with delayed gradients, Zhuang et al. 2019 (arXiv 1906.09108)."""
