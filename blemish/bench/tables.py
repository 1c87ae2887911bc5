r"""The tables of the paper as data: which models, which damages, and what the paper found.

Figures are those of *Blur, Noise, and Compression Robust Generative Adversarial Networks* (Kaneko &
Harada, CVPR 2021). On CIFAR-10 they are medians of three seeds, on FFHQ of one: FID of 10,000 samples to
10,000 clean test images; for restoration FID, LPIPS, PSNR and SSIM of 10,000 restored test images, which
are damaged by N whatever was trained on. A dagger marks what is told the true damage, a double dagger
what is told which images are damaged.

A row has one word for each column: the figure, ``?`` where the model is trained but its figure is not
known to us (of Table 1 some are not) or not in the paper, ``-`` where there is no such model.

References:
    | https://arxiv.org/abs/2003.07849
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

__all__ = ["TABLES", "Ordering", "Row", "Table", "model_key"]


def model_key(recipe: str, preparation: str | None) -> str:
    """Returns what stands for a model in the name of a cell.

    Arguments:
        recipe: What is trained.
        preparation: What is done to the damaged images first; None for nothing.
    """
    return f"{preparation}+{recipe}" if preparation else recipe


@dataclass(frozen=True)
class Row:
    """A model of a table.

    Attributes:
        label: How the paper calls it.
        recipe: What is trained; ``input`` stands for the damaged images themselves.
        figures: The paper's, one word a column: see this module.
        preparation: What is done to the damaged images first: ``deblur``, ``deblock`` or ``denoise``.
    """

    label: str
    recipe: str
    figures: str
    preparation: str | None = None

    @property
    def key(self) -> str:
        """What stands for the model in the name of a cell."""
        return model_key(self.recipe, self.preparation)


@dataclass(frozen=True)
class Ordering:
    """A claim of the paper: one model is better than another.

    Attributes:
        claim: The claim in words.
        better: The label of the better row.
        worse: The label of the worse one.
        settings: Where it is claimed, in letters.
    """

    claim: str
    better: str
    worse: str
    settings: str


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: What it shows.
        settings: The columns, in letters.
        rows: The models.
        orderings: What the paper stresses.
        scores: What a figure consists of; the first one decides orderings, less is better.
        preset: The preset of its runs.
        of: What the paper's figures were measured on; empty where it has none.
        seeds: The number of seeds.
        images: The number of observed images a run sees; None means the preset's.
        source: The data that are taken where none are given.
        features: The features that images are compared on.
        count: The number of images on each side of a comparison.
    """

    title: str
    settings: str
    rows: tuple[Row, ...]
    orderings: tuple[Ordering, ...] = ()
    scores: tuple[str, ...] = ("frechet",)
    preset: str = "cifar10"
    of: str = "CIFAR-10 at 32 x 32"
    seeds: int = 3
    images: int | None = None
    source: str | None = None
    features: str = "effnet-lite0"
    count: int = 10_000

    def __post_init__(self) -> None:
        """Checks that rows have a word for each column."""
        for row in self.rows:
            if len(row.figures.split()) != len(self.settings):
                raise ValueError(f"{self.title}: {row.label} needs {len(self.settings)} figures")

    def word(self, row: Row, setting: str) -> str:
        """Returns a row's word in a column."""
        return row.figures.split()[self.settings.index(setting)]

    def paper(self, row: Row, setting: str) -> tuple[float, ...] | None:
        """Returns the paper's figures, one for each score; None where they are not known."""
        word = self.word(row, setting)
        return None if word in "?-" else tuple(map(float, word.split("/")))


ROBUST = "a robust GAN beats the plain one"
MASK = "the mask helps"
CONSISTENCY = "adaptive consistency helps"
PREPARED = "learning the damage beats preparing the images"

# Not in the paper: what the same network learns from clean partners.
_BOUND = "supervised"
RESTORATION = ("frechet", "perceptual", "psnr", "ssim")


def _claims(claim: str, settings: str, *labels: str) -> tuple[Ordering, ...]:
    """Returns the claims that each of some models is better than the one that follows it."""
    return tuple(Ordering(claim, a, b, settings) for a, b in pairwise(labels))


TABLES: dict[str, Table] = {
    "table1": Table(
        "Table 1: blur (B to G) and compression (H to M) on CIFAR-10",
        "ABCDEFGHIJKLM",
        (
            Row("GAN", "gan", "18.5 ? ? 43.1 ? 27.4 ? 41.7 27.8 33.3 ? 24.7 ?"),
            Row("AmbientGAN†", "ambient-gan", "- ? ? 24.2 ? 20.7 ? 43.9 36.6 40.5 ? 22.8 ?"),
            Row("P-AmbientGAN", "p-ambient-gan", "35.7 ? ? ? ? ? ? 42.8 36.5 ? ? ? ?"),
            Row("BR-GAN", "br-gan", "17.6 ? ? 23.4 ? 20.2 ? - - - - - -"),
            Row("BR-GAN w/o mask", "br-gan-no-mask", "21.9 ? ? 26.6 ? 22.9 ? - - - - - -"),
            Row("CR-GAN", "cr-gan", "18.8 - - - - - - 34.0 25.4 26.3 20.1 22.7 24.5"),
            Row("CR-GAN w/o mask", "cr-gan-no-mask", "34.6 - - - - - - 41.0 35.9 38.6 ? 31.1 34.2"),
            Row("BNCR-GAN", "bncr-gan", "18.6 ? ? 26.8 ? ? ? 29.9 24.6 26.6 20.3 22.4 24.4"),
            Row(
                "BNCR-GAN w/o L_AC",
                "bncr-gan-no-ac",
                "20.5 ? ? 27.3 ? ? ? 36.1 30.6 33.4 22.4 24.1 30.6",
            ),
            Row("Deblur+GAN†", "gan", "- ? ? 28.0 ? ? ? - - - - - -", "deblur"),
            Row("Deblock+GAN", "gan", "- - - - - - - 39.9 28.1 33.3 21.4 ? 28.5", "deblock"),
        ),
        (
            *_claims(ROBUST, "BCDEFG", "BR-GAN", "GAN"),
            *_claims(ROBUST, "HIJKLM", "CR-GAN", "GAN"),
            *_claims(ROBUST, "BCDEFGHIJKLM", "BNCR-GAN", "GAN"),
            *_claims(MASK, "ABCDEFG", "BR-GAN", "BR-GAN w/o mask"),
            *_claims(MASK, "AHIJLM", "CR-GAN", "CR-GAN w/o mask"),
            *_claims(CONSISTENCY, "ADHIJKLM", "BNCR-GAN", "BNCR-GAN w/o L_AC"),
            *_claims(PREPARED, "BCDEFG", "BR-GAN", "Deblur+GAN†"),
            *_claims(PREPARED, "HIJKM", "CR-GAN", "Deblock+GAN"),
        ),
    ),
    "table2": Table(
        "Table 2: blur, noise and compression on CIFAR-10",
        "ANOPQ",
        (
            Row("GAN", "gan", "18.5 58.0 24.6 34.3 45.5"),
            Row("AmbientGAN†", "ambient-gan", "- 46.8 22.1 25.6 37.3"),
            Row("BR-GAN", "br-gan", "17.6 52.3 22.4 31.6 41.5"),
            Row("NR-GAN", "nr-gan", "20.0 58.1 26.1 34.6 44.3"),
            Row("CR-GAN", "cr-gan", "18.8 51.1 26.5 36.8 48.2"),
            Row("BNCR-GAN", "bncr-gan", "18.6 34.1 22.0 25.7 29.4"),
            Row("BNCR-GAN w/o L_AC", "bncr-gan-no-ac", "20.5 41.0 25.3 28.6 34.6"),
        ),
        (
            *_claims(ROBUST, "NOPQ", "BNCR-GAN", "GAN"),
            *_claims("all three beat one alone", "NOPQ", "BNCR-GAN", "BR-GAN"),
            *_claims("all three beat one alone", "NOPQ", "BNCR-GAN", "NR-GAN"),
            *_claims("all three beat one alone", "NOPQ", "BNCR-GAN", "CR-GAN"),
            *_claims(CONSISTENCY, "ANOPQ", "BNCR-GAN", "BNCR-GAN w/o L_AC"),
        ),
    ),
    "table3": Table(
        "Table 3: FFHQ at 128 x 128",
        "DJP",
        (
            Row("GAN", "gan", "34.1 45.5 34.9"),
            Row("AmbientGAN†", "ambient-gan", "27.7 27.0 24.5"),
            Row("BR-GAN", "br-gan", "25.3 - -"),
            Row("CR-GAN", "cr-gan", "- 25.7 -"),
            Row("BNCR-GAN", "bncr-gan", "- - 24.2"),
            Row("Deblur+GAN†", "gan", "32.9 - -", "deblur"),
            Row("Deblock+GAN", "gan", "- 50.0 -", "deblock"),
        ),
        (
            *_claims(ROBUST, "D", "BR-GAN", "GAN"),
            *_claims(ROBUST, "J", "CR-GAN", "GAN"),
            *_claims(ROBUST, "P", "BNCR-GAN", "GAN"),
            *_claims(PREPARED, "D", "BR-GAN", "Deblur+GAN†"),
            *_claims(PREPARED, "J", "CR-GAN", "Deblock+GAN"),
        ),
        preset="ffhq128",
        of="FFHQ at 128 x 128",
        seeds=1,
    ),
    "table4": Table(
        "Table 4: restoration on CIFAR-10",
        "OP",
        (
            Row("damaged", "input", "43.3/.0383/26.2/.862 43.3/.0383/26.2/.862"),
            Row("UNIR†", "unir", "28.4/.0204/26.8/.882 22.4/.0155/27.0/.888"),
            Row("BNCR-GAN+UNIR", "bncr-unir", "27.7/.0184/26.3/.877 21.5/.0172/25.7/.870"),
            Row("CycleGAN‡", "cyclegan", "30.2/.0226/26.7/.877 27.1/.0177/26.5/.879"),
            Row(_BOUND, "supervised", "? ?"),
        ),
        _claims("restoring without labels beats CycleGAN", "OP", "BNCR-GAN+UNIR", "CycleGAN‡"),
        scores=RESTORATION,
    ),
    "table5": Table(
        "Table 5: noise on CIFAR-10",
        "AR",
        (
            Row("GAN", "gan", "18.5 47.4"),
            Row("AmbientGAN†", "ambient-gan", "- 20.0"),
            Row("NR-GAN", "nr-gan", "20.0 20.3"),
            Row("BNCR-GAN", "bncr-gan", "18.6 20.5"),
            Row("BNCR-GAN w/o L_AC", "bncr-gan-no-ac", "20.5 23.0"),
            Row("Denoise+GAN†", "gan", "- 21.4", "denoise"),
        ),
        (
            *_claims(ROBUST, "R", "NR-GAN", "GAN"),
            *_claims(ROBUST, "R", "BNCR-GAN", "GAN"),
            *_claims(CONSISTENCY, "AR", "BNCR-GAN", "BNCR-GAN w/o L_AC"),
            *_claims(PREPARED, "R", "NR-GAN", "Denoise+GAN†"),
        ),
    ),
    "table6": Table(
        "Table 6: adaptive consistency on CIFAR-10",
        "ADRJNP",
        (
            Row("BNCR-GAN", "bncr-gan", "18.6 26.8 20.5 26.6 34.1 25.7"),
            Row("w/o L_AC", "bncr-gan-no-ac", "20.5 27.3 23.0 33.4 41.0 28.6"),
            Row("w/o L_AC^comp", "bncr-gan-ac-blur", "18.6 27.3 21.5 29.7 38.1 25.7"),
            Row("w/o L_AC^blur", "bncr-gan-ac-comp", "20.0 25.7 21.3 30.7 38.1 26.4"),
            Row("w/ L_C", "bncr-gan-constant-c", "19.3 31.1 20.5 27.9 41.2 27.7"),
        ),
        (
            *_claims(CONSISTENCY, "ADRJNP", "BNCR-GAN", "w/o L_AC"),
            *_claims("adaptive weights beat constant ones", "ADJNP", "BNCR-GAN", "w/ L_C"),
        ),
    ),
    "table7": Table(
        "Table 7: severe compression on CIFAR-10",
        "STHIA",
        (
            Row("GAN", "gan", "68.1 53.7 41.7 27.8 18.5"),
            Row("AmbientGAN†", "ambient-gan", "40.9 35.2 43.9 36.6 -"),
            Row("P-AmbientGAN", "p-ambient-gan", "41.7 39.0 42.8 36.5 35.7"),
            Row("CR-GAN", "cr-gan", "40.5 34.3 34.0 25.4 18.8"),
            Row("CR-GAN w/o mask", "cr-gan-no-mask", "41.4 35.1 41.0 35.9 34.6"),
            Row("BNCR-GAN", "bncr-gan", "38.6 34.7 29.9 24.6 18.6"),
            Row("BNCR-GAN w/o L_AC", "bncr-gan-no-ac", "41.5 36.8 36.1 30.6 20.5"),
            Row("Deblock+GAN", "gan", "59.9 49.2 39.9 28.1 -", "deblock"),
        ),
        (
            *_claims(ROBUST, "STHI", "CR-GAN", "GAN"),
            *_claims(MASK, "STHIA", "CR-GAN", "CR-GAN w/o mask"),
            *_claims(CONSISTENCY, "STHIA", "BNCR-GAN", "BNCR-GAN w/o L_AC"),
            *_claims(PREPARED, "STHI", "CR-GAN", "Deblock+GAN"),
        ),
    ),
    "table8": Table(
        "Table 8: CR-GAN with adaptive consistency on CIFAR-10",
        "STHIJKLMA",
        (
            Row("CR-GAN", "cr-gan", "40.5 34.3 34.0 25.4 26.3 20.1 22.7 24.5 18.8"),
            Row("CR-GAN w/ L_AC^comp", "cr-gan-ac", "39.6 33.4 29.0 24.5 26.6 20.2 22.5 24.4 18.5"),
            Row("BNCR-GAN", "bncr-gan", "38.6 34.7 29.9 24.6 26.6 20.3 22.4 24.4 18.6"),
            Row(
                "BNCR-GAN w/o L_AC",
                "bncr-gan-no-ac",
                "41.5 36.8 36.1 30.6 33.4 22.4 24.1 30.6 20.5",
            ),
        ),
        (
            *_claims(CONSISTENCY, "STHILMA", "CR-GAN w/ L_AC^comp", "CR-GAN"),
            *_claims(CONSISTENCY, "STHIJKLMA", "BNCR-GAN", "BNCR-GAN w/o L_AC"),
        ),
    ),
    "table9": Table(
        "Table 9: FFHQ at 128 x 128",
        "ADRJNP",
        (
            Row("GAN", "gan", "15.2 34.1 33.4 45.5 70.2 34.9"),
            Row("AmbientGAN†", "ambient-gan", "- 27.7 18.4 27.0 57.7 24.5"),
            Row("BR-GAN", "br-gan", "16.3 25.3 - - - -"),
            Row("NR-GAN", "nr-gan", "17.7 - 19.8 - - -"),
            Row("CR-GAN", "cr-gan", "15.4 - - 25.7 - -"),
            Row("BNCR-GAN", "bncr-gan", "18.9 26.8 20.0 26.2 51.6 24.2"),
            Row("Deblur+GAN†", "gan", "- 32.9 - - - -", "deblur"),
            Row("Denoise+GAN†", "gan", "- - 22.8 - - -", "denoise"),
            Row("Deblock+GAN", "gan", "- - - 50.0 - -", "deblock"),
        ),
        (
            *_claims(ROBUST, "D", "BR-GAN", "GAN"),
            *_claims(ROBUST, "R", "NR-GAN", "GAN"),
            *_claims(ROBUST, "J", "CR-GAN", "GAN"),
            *_claims(ROBUST, "DRJNP", "BNCR-GAN", "GAN"),
        ),
        preset="ffhq128",
        of="FFHQ at 128 x 128",
        seeds=1,
    ),
    "table10": Table(
        "Table 10: restoration on CIFAR-10",
        "OPQN",
        (
            Row("damaged", "input", " ".join(["43.3/.0383/26.2/.862"] * 4)),
            Row(
                "UNIR†",
                "unir",
                "28.4/.0204/26.8/.882 22.4/.0155/27.0/.888 21.0/.0137/27.0/.890 24.8/.0146/26.6/.883",
            ),
            Row(
                "BNCR-GAN+UNIR",
                "bncr-unir",
                "27.7/.0184/26.3/.877 21.5/.0172/25.7/.870 20.4/.0152/26.5/.888 24.8/.0206/26.5/.885",
            ),
            Row(
                "CycleGAN‡",
                "cyclegan",
                "30.2/.0226/26.7/.877 27.1/.0177/26.5/.879 33.7/.0259/24.0/.835 -",
            ),
            Row(_BOUND, "supervised", "? ? ? ?"),
        ),
        _claims("restoring without labels beats CycleGAN", "OPQ", "BNCR-GAN+UNIR", "CycleGAN‡"),
        scores=RESTORATION,
    ),
    # The columns and rows of Tables 1, 2 and 5 that tell most, small enough for a CPU.
    "family": Table(
        "The family at 16 x 16 pixels, beside Tables 1, 2 and 5",
        "DRJN",
        (
            Row("GAN", "gan", "43.1 47.4 33.3 58.0"),
            Row("AmbientGAN†", "ambient-gan", "24.2 20.0 40.5 46.8"),
            Row("BR-GAN", "br-gan", "23.4 - - -"),
            Row("BR-GAN w/o mask", "br-gan-no-mask", "26.6 - - -"),
            Row("NR-GAN", "nr-gan", "- 20.3 - -"),
            Row("CR-GAN", "cr-gan", "- - 26.3 -"),
            Row("CR-GAN w/o mask", "cr-gan-no-mask", "- - 38.6 -"),
            Row("BNCR-GAN", "bncr-gan", "- 20.5 - 34.1"),
            Row("BNCR-GAN w/o L_AC", "bncr-gan-no-ac", "- - - 41.0"),
        ),
        (
            *_claims(ROBUST, "D", "BR-GAN", "GAN"),
            *_claims(ROBUST, "R", "NR-GAN", "GAN"),
            *_claims(ROBUST, "R", "BNCR-GAN", "GAN"),
            *_claims(ROBUST, "J", "CR-GAN", "GAN"),
            *_claims(ROBUST, "N", "BNCR-GAN", "GAN"),
            *_claims(MASK, "D", "BR-GAN", "BR-GAN w/o mask"),
            *_claims(MASK, "J", "CR-GAN", "CR-GAN w/o mask"),
            *_claims(CONSISTENCY, "N", "BNCR-GAN", "BNCR-GAN w/o L_AC"),
        ),
        preset="small16",
        seeds=2,
        images=300_800,
        features="effnet-lite0@96",
        count=3000,
    ),
    # Minutes on glyphs: shows that the machinery works, and little else.
    "smoke": Table(
        "Smoke test: a fifth of the demo's training on glyphs",
        "BR",
        (
            Row("GAN", "gan", "? ?"),
            Row("AmbientGAN†", "ambient-gan", "? ?"),
            Row("BR-GAN", "br-gan", "? -"),
            Row("NR-GAN", "nr-gan", "- ?"),
            Row("Deblur+GAN†", "gan", "? -", "deblur"),
            Row("Denoise+GAN†", "gan", "- ?", "denoise"),
        ),
        (
            *_claims(ROBUST, "B", "BR-GAN", "GAN"),
            *_claims(ROBUST, "R", "NR-GAN", "GAN"),
        ),
        preset="demo",
        of="",
        seeds=1,
        images=8960,
        source="glyphs",
        features="effnet-lite0@48",
        count=1000,
    ),
}
"""The tables by name."""
