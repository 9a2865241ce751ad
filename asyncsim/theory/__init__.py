"""Formulas for what staleness does to training: pure functions of numbers, without any simulation."""

from asyncsim.theory.best_workers import Best, best_step, best_workers, fleet_rate, most_workers
from asyncsim.theory.co_running import co_running_optimum, co_running_saving
from asyncsim.theory.constant_delay import delay_rate, delay_variance
from asyncsim.theory.gamma_delay import gamma_fastest, gamma_limit, gamma_rate
from asyncsim.theory.lambert import lambert_w
from asyncsim.theory.mean_square import stable_step, stationary_variance
from asyncsim.theory.memory_staleness import MemoryStaleness, memory_period, memory_staleness
from asyncsim.theory.memoryless_workers import memoryless_limit, memoryless_rate, memoryless_variance
from asyncsim.theory.momentum_weights import full_weights, light_weights, momentum_row
from asyncsim.theory.paths import mean_path, noise_path
from asyncsim.theory.random_delay import random_delay_limit, random_delay_rate
from asyncsim.theory.recurrences import constant_staleness_limit, critical_step, mean_limit, spectral_radius, update_rate
from asyncsim.theory.staleness_laws import gamma_staleness, memoryless_staleness
from asyncsim.theory.time_complexities import (
    Problem,
    Time,
    m_synchronous_time,
    optimal_time,
    rennala_batch,
    rennala_bound,
    rennala_round,
    synchronous_time,
)
from asyncsim.theory.turns import turns_rate
from asyncsim.theory.zcdp import zcdp_epsilon, zcdp_rho, zcdp_sigma

__all__ = [
    "Best",
    "MemoryStaleness",
    "Problem",
    "Time",
    "best_step",
    "best_workers",
    "co_running_optimum",
    "co_running_saving",
    "constant_staleness_limit",
    "critical_step",
    "delay_rate",
    "delay_variance",
    "fleet_rate",
    "full_weights",
    "gamma_fastest",
    "gamma_limit",
    "gamma_rate",
    "gamma_staleness",
    "lambert_w",
    "light_weights",
    "m_synchronous_time",
    "mean_limit",
    "mean_path",
    "memory_period",
    "memory_staleness",
    "memoryless_limit",
    "memoryless_rate",
    "memoryless_staleness",
    "memoryless_variance",
    "momentum_row",
    "most_workers",
    "noise_path",
    "optimal_time",
    "random_delay_limit",
    "random_delay_rate",
    "rennala_batch",
    "rennala_bound",
    "rennala_round",
    "spectral_radius",
    "stable_step",
    "stationary_variance",
    "synchronous_time",
    "turns_rate",
    "update_rate",
    "zcdp_epsilon",
    "zcdp_rho",
    "zcdp_sigma",
]  # fmt: skip
