"""Secondary attention sinks (Wong et al., arXiv 2512.22213): who is one, where it begins, how long it lasts.

The paper's body could not be read; the rules are re-derived from the authors' repository (no licence, commit 11eefcc).
Layers count from 0: row l is the output of layer l, the last one before the final norm. Norms and cosines with
the primary sink's state are (L, T).
"""

from collections import Counter
from dataclasses import dataclass

from torch import Tensor

from claimbook.errors import ClaimbookError
from claimbook.lm import block_outputs, proof

COSINE = 0.9  # above it a state counts as aligned with the primary's
LONG, SHORT = 15, 4  # the repository's labels: layers that a primary may lack, layers that noise lasts at most
SHALLOWEST = 28  # layers of the shallowest model for which the repository's constants were made
NOISE, PRIMARY_LIKE = 0.1, 0.9  # our labels for models of any depth: shares of the primary's own lifetime


@dataclass(frozen=True)
class Sink:
    """One token that is a sink after some layers, in order and mostly on end."""

    token: int
    layers: tuple[int, ...]

    @property
    def start(self) -> int:
        """The first layer after which it is one."""
        return self.layers[0]

    @property
    def lifetime(self) -> int:
        """Layers after which it is one, on end or not, as the repository counts."""
        return len(self.layers)

    @property
    def attended(self) -> list[int]:
        """The layers whose attention meets the sink: those that read its state, one after those that wrote it."""
        return [layer + 1 for layer in self.layers]

    @property
    def level(self) -> tuple[int, int]:
        """The paper's sink level: start and lifetime."""
        return self.start, self.lifetime


def prove(model) -> None:
    """Refuse, with ClaimbookError, a model whose attention cannot be seen or whose layers' outputs do not add up.

    One layer is refused too: where a sink starts and ends is told by what changes from layer to layer.
    """
    if model.config.get_text_config().num_hidden_layers < 2:
        raise ClaimbookError("it has fewer than two layers: a sink's life is told by what changes from layer to layer")
    proof.attention(model)
    block_outputs.writers(model)


def primary(norms: Tensor, candidates: int = 2) -> int:
    """The primary sink: the one of the first ``candidates`` tokens whose norm, mean over layers, is largest.

    The repository takes 2, and 3 behind a chat template.
    """
    return int(norms[:, :candidates].mean(dim=0).argmax())


def clipper(norms: Tensor) -> tuple[int, int]:
    """Layers ``start … end - 1`` in which the primary, of norms (L,), is massive: steepest rise to steepest fall.

    The fall is looked for after the rise. Where the rise comes last of all, there is none, and end is L.
    """
    steps = norms[1:] - norms[:-1]
    start = int(steps.argmax()) + 1
    if start >= len(steps):
        return start, len(norms)
    return start, start + 1 + int(steps[start:].argmin())


def official(norms: Tensor, cosines: Tensor, at: int, cosine: float = COSINE) -> Tensor:
    """The repository's detector, bool (L, T): aligned with the primary, either way round, while that is massive.

    Tokens up to the primary at ``at`` are none. It has no test of the norm: where all states are alike it flags
    everything, where other sinks come before the massive primary it flags nothing.
    """
    start, end = clipper(norms[:, at])
    flags = cosines.abs() > cosine
    flags[:start] = flags[end:] = False
    return _after(flags, at)


def by_norm(norms: Tensor, cosines: Tensor, at: int, times: float, cosine: float = COSINE) -> Tensor:
    """Our own detector, bool (L, T): aligned with the primary, and longer than ``times`` the median of its layer."""
    return _after((cosines > cosine) & long(norms, times), at)


def long(norms: Tensor, times: float) -> Tensor:
    """bool (L, T): states longer than ``times`` the median of their layer."""
    return norms > times * norms.median(dim=1, keepdim=True).values


def _after(flags: Tensor, at: int) -> Tensor:
    flags = flags.clone()
    flags[:, : at + 1] = False
    return flags


def aligned_for(cosines: Tensor, start: int, cosine: float = COSINE) -> int:
    """In how many layers from ``start`` on a state, cosines (L,), is aligned; on end or not, as lifetimes are counted.

    The last layer does not count: no attention reads what it leaves.
    """
    return int((cosines[start:-1] > cosine).sum())


def aligned_on_end(cosines: Tensor, start: int, cosine: float = COSINE) -> int:
    """For how many layers from ``start`` on, without a gap, a state, cosines (L,), is aligned."""
    return int((cosines[start:-1] > cosine).int().cumprod(dim=0).sum())


def sinks(flags: Tensor) -> list[Sink]:
    """Every flagged token of flags (L, T), with its layers."""
    flagged = flags.any(dim=0).nonzero()[:, 0].tolist()
    return [Sink(token, tuple(flags[:, token].nonzero()[:, 0].tolist())) for token in flagged]


def label(lifetime: int, layers: int) -> str:
    """The repository's label: "secondary", "primary-like" or "noise". Its constants suit models of 28 to 64 layers."""
    if lifetime >= layers - LONG:
        return "primary-like"
    return "secondary" if lifetime > SHORT else "noise"


def rescaled_label(lifetime: int, primary_lifetime: int) -> str:
    """The same for models of any depth: primary-like from 0.9 of the primary's own lifetime on, noise up to a tenth."""
    if lifetime >= PRIMARY_LIKE * primary_lifetime:
        return "primary-like"
    return "secondary" if lifetime > NOISE * primary_lifetime else "noise"


def official_label(lifetime: int, layers: int, primary_lifetime: int) -> str:
    """The repository's label, or for models too shallow for its constants the rescaled one."""
    return label(lifetime, layers) if layers >= SHALLOWEST else rescaled_label(lifetime, primary_lifetime)


def levels(found: list[Sink], least: float = 0.05) -> dict[tuple[int, int], int]:
    """Sink levels with their counts: pairs of equal start and neighbouring lifetimes are one level, named by its mode.

    Levels with fewer than ``least`` of all tokens are left out. What the paper merges is not known: our rule.
    """
    counts = Counter(sink.level for sink in found)
    merged: dict[tuple[int, int], int] = {}
    group: list[tuple[int, int]] = []
    for pair in [*sorted(counts), None]:
        if group and (pair is None or pair[0] != group[-1][0] or pair[1] > group[-1][1] + 1):
            total = sum(counts[one] for one in group)
            merged[max(group, key=lambda one: (counts[one], one))] = total
            group = []
        if pair is not None:
            group.append(pair)
    return {level: count for level, count in merged.items() if count >= least * len(found)}
