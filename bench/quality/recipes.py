"""The training recipes that `candidates` compares: a row each. Adding one is adding a row."""
import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Sizes:
    """A preset's sizes, as src/qtf/model/config.cc has them."""
    width: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int

    def dense(self, width=None, feed_forward=None):
        """Parameters of the dense model, tied and of the Llama family, at another width too."""
        d = width or self.width
        f = feed_forward or self.feed_forward
        block = 2 * d * d + 2 * d * self.kv_heads * d // self.heads + 3 * d * f
        return self.vocabulary * d + self.layers * block + (2 * self.layers + 1) * d


PRESETS = {
    "nano": Sizes(32, 3, 4, 2, 88, 512),
    "tiny": Sizes(128, 4, 4, 2, 344, 4096),
    "small": Sizes(256, 5, 8, 4, 684, 4096),
    "medium": Sizes(320, 8, 8, 4, 856, 8192),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    name: str
    what: str
    flags: tuple = ()
    epochs: float = 1.0  # share of the run's length; the rest was spent on the models it begins with
    uses: tuple = ()  # recipes whose best models it needs: "{name}" in flags is such a model's folder


def narrower(sizes, parameters):
    """Width and feed-forward width of the dense model of at most, and nearly, so many parameters."""
    unit = 2 * sizes.heads
    proportion = sizes.feed_forward / sizes.width
    fitting = [d for d in range(unit, sizes.width + 1, unit) if sizes.dense(d, round(proportion * d)) <= parameters]
    if not fitting:
        raise ValueError(f"no dense model of {parameters} parameters with {sizes.layers} blocks")
    width = fitting[-1]
    per_unit = sizes.dense(width, 2) - sizes.dense(width, 1)
    feed_forward = 1 + (parameters - sizes.dense(width, 1)) // per_unit
    return width, feed_forward


def wider(sizes, ratio):
    """A width about a quarter larger, its feed-forward width, and the ratio that brings it to the same size."""
    unit = 2 * sizes.heads
    width = unit * round(1.25 * sizes.width / unit)
    feed_forward = 4 * round(sizes.feed_forward * width / sizes.width / 4)
    target = sizes.dense() / ratio
    return width, feed_forward, math.ceil(1000 * sizes.dense(width, feed_forward) / target) / 1000


def recipes(preset, ratio):
    """Every candidate at a whole-model ratio; the first one is what the others are compared with."""
    sizes = PRESETS[preset]
    narrow, narrow_ff = narrower(sizes, int(sizes.dense() / ratio))
    wide, wide_ff, wide_ratio = wider(sizes, ratio)
    small = ("--width", str(narrow), "--feed-forward", str(narrow_ff))
    chain = ("--ratio", f"{ratio:g}", "--dense-first", "0")
    taught = ("--teacher", "{dense}")
    widened = ("--width", str(wide), "--feed-forward", str(wide_ff), "--ratio", f"{wide_ratio:g}", "--dense-first",
               "0")
    average = ("--ema", "0.999")
    guided = ("--guided", "0.33")
    from_dense = ("--from", "{dense}")
    return [
        Recipe("dense", "the parent"),
        Recipe("dense-small", "dense, the chain's parameter count", small),
        Recipe("chain", "chain from random weights", chain),
        Recipe("dense-first", "the default: half the run dense, compressed, the other half taught by it",
               ("--ratio", f"{ratio:g}")),
        Recipe("dense-first-0.7", "… dense for 0.7 of the run", ("--ratio", f"{ratio:g}", "--dense-first", "0.7")),
        Recipe("wide-dense-first", "wide, dense first", widened[:-2]),
        Recipe("btt", "btt from random weights", chain + ("--ratio-shape", "btt")),
        Recipe("mpo", "mpo from random weights", chain + ("--ratio-shape", "mpo")),
        Recipe("wide", "chain, wider with the saved parameters", widened),
        Recipe("rich-embedding", "chain, the embedding's share 1.5 times the others'",
               chain + ("--richness", "embedding=1.5")),
        Recipe("poor-embedding", "chain, the embedding's share 0.7 times the others'",
               chain + ("--richness", "embedding=0.7")),
        Recipe("rich-attention", "chain, the attention's share 1.5 times the others'",
               chain + ("--richness", "attention=1.5")),
        Recipe("guided", "chain, dense matrices beside it for a third of the run", chain + guided),
        Recipe("dense-average", "dense, averaged weights", average),
        Recipe("chain-average", "chain, averaged weights", chain + average),
        Recipe("small-taught", "dense-small, distilled from dense", small + taught, uses=("dense",)),
        Recipe("taught", "chain, distilled from dense", chain + taught, uses=("dense",)),
        Recipe("taught-soft", "… at temperature 2", chain + taught + ("--teacher-temperature", "2"), uses=("dense",)),
        Recipe("taught-only", "… without the text's own loss", chain + taught + ("--teacher-weight", "1"),
               uses=("dense",)),
        Recipe("from-dense", "dense first, decomposed, trained again", from_dense + chain, uses=("dense",)),
        Recipe("half-dense", "dense for half the run (for from-half)", epochs=0.5),
        Recipe("from-half", "half the run dense, decomposed, then the other half", ("--from", "{half-dense}") + chain,
               epochs=0.5, uses=("half-dense",)),
        Recipe("from-dense-taught", "from-dense, distilled from dense", from_dense + chain + taught, uses=("dense",)),
        Recipe("from-dense-btt", "from-dense as btt", from_dense + chain + ("--ratio-shape", "btt"), uses=("dense",)),
        Recipe("from-dense-guided", "from-dense, its matrices beside it for a third of the run",
               from_dense + chain + guided, uses=("dense",)),
        Recipe("wide-taught", "wide, distilled from dense", widened + taught, uses=("dense",)),
    ]
