"""How often a run renews its target network: R, the sum of 1 - decay over the steps.

The target network is a moving average of the trained network. R counts how often a run replaces it
in all, so it compares runs of different lengths, which the decay does not: a decay that rises from
0.99 to 1 gives R = 195 in 39,000 steps, and R = 4 in 800.

Published recipes of BYOL: R = 156 to 626 (the authors' presets for 40 to 1000 epochs on ImageNet),
74 (theirs for 1000 epochs on Imagenette), 780 (lightly, CIFAR-10, 200 epochs), 977 (solo-learn,
CIFAR-10, 1000 epochs). In the paper's table 5a
(300 epochs on ImageNet) R = 47, 469 and 4692 gave 69.8, 72.5 and 68.4 %.
"""

from ssl_zoo.method import Method

PUBLISHED = (74, 977)
# Outside of LEAST to MOST a run is far from all published recipes.
LEAST = 70
MOST = 2000

AUTOMATIC = 125  # R of base_ema='auto'
# The lowest decay of 'auto': no lower one was tried. Below 625 steps R is therefore smaller.
LOWEST_BASE_EMA = 0.6

POINTS = 1000  # number of progress values at which the decay of a long run is evaluated


def target_renewals(method: Method, steps: int) -> float | None:
    """Compute R, the sum of 1 - decay over the steps k = 0, 1, ..., K - 1 of a run.

    Above POINTS steps the sum is the integral by the trapezoidal rule plus half the difference of
    the ends, which is exact for half a cosine and for a constant decay.

    Args:
        method: the method of the run.
        steps: K.

    Returns:
        R; None if the method has no target network.
    """
    if method.decay is None:
        return None
    n = min(steps, POINTS)
    shares = [_share(method, i / n) for i in range(n + 1)]
    half_ends = (shares[0] - shares[-1]) / 2
    return steps / n * (sum(shares[:-1]) - half_ends) + half_ends


def _share(method: Method, progress: float) -> float:
    """Return 1 - decay, the share of the trained network in an update of the target network."""
    before = method.progress
    method.progress = progress
    share = 1 - method.decay
    method.progress = before
    return share


def automatic_base_ema(steps: int) -> float:
    """Return the decay at the first step of a run for which R is AUTOMATIC.

    The decay rises to 1 on half a cosine: it is 1 - (1 - base_ema)(cos(pi k/K) + 1)/2 at step k of
    K. The cosines of k = 0, 1, ..., K - 1 sum to 1, so R = (1 - base_ema)(K + 1)/2.
    """
    return max(1 - 2 * AUTOMATIC / (steps + 1), LOWEST_BASE_EMA)


def describe_renewals(method: Method, steps: int) -> list[str]:
    """Describe decay and R in one line, and in a second one if R is far from published recipes.

    Returns:
        The lines; none if the method has no target network.
    """
    renewals = target_renewals(method, steps)
    if renewals is None:
        return []
    start, end = (1 - _share(method, progress) for progress in (0.0, 1.0))
    decay = f'decay {start:.6g}' if start == end else f'decay {start:.6g} -> {end:.6g}'
    least, most = PUBLISHED
    lines = [
        f'{decay}, renewed {renewals:,.1f} times (the sum of 1 - decay over the steps; '
        f'{least} to {most} in published recipes of BYOL)'
    ]
    if renewals < LEAST:
        lines.append(f'that is far less often: {_remedy(method, "lower")}')
    elif renewals > MOST:
        lines.append(f'that is far more often: {_remedy(method, "higher")}')
    return lines


def _remedy(method: Method, direction: str) -> str:
    if hasattr(method, 'base_ema'):
        return f"method.base_ema='auto' sets a {direction} decay from the number of steps"
    return f'choose a {direction} decay'
