r"""Table 1 of the universal degradation model's technical report as data: restoration by inversion, figure by figure.

Five methods on 31 tasks, on faces of StyleGAN. Three of them know the damage, and *blind* and *universal* do not:

==========  ============================================================================================
pulse       PULSE: a search on the sphere of Z
l-brgm      L-BRGM; figures alone, blemish has no such method
non-blind   RSG: phases W, W+, W++
blind       RSG without the damage
universal   RSG with the universal model in the place of the damage
==========  ============================================================================================

*Accuracy* is LPIPS to the true image, *fidelity* LPIPS between the restored image, damaged again, and the damaged one,
*realism* FID of patches. Less is better everywhere. The report warns that the blind method can lead in accuracy and
fidelity with images full of artefacts, which realism tells.

References:
    | Towards a Universal Image Degradation Model via Content-Degradation Disentanglement (Yang et al., 2025),
    | technical report, Table 1, https://arxiv.org/abs/2505.12860
"""

from __future__ import annotations

__all__ = ["FIGURES", "PUBLISHED", "SCORES", "figure"]

SCORES = ("accuracy", "fidelity", "realism")
"""What the report measures."""

PUBLISHED = ("pulse", "l-brgm", "non-blind", "blind", "universal")
"""The report's methods, by blemish's names where it has them."""

# Accuracy / fidelity / realism, each of all methods.
_ROWS = {
    "U-XS": ".493 .407 .414 .378 .433 / .432 .295 .313 .258 .356 / 44.5 23.6 17.0 12.8 20.8",
    "U-S": ".492 .412 .449 .413 .448 / .353 .140 .239 .178 .279 / 34.3 25.5 22.0 22.5 16.9",
    "U-M": ".495 .458 .472 .451 .459 / .261 .124 .172 .109 .202 / 29.3 35.4 22.3 42.0 28.8",
    "U-L": ".501 .487 .490 .487 .477 / .185 .129 .127 .073 .121 / 21.9 26.0 20.9 45.5 41.0",
    "U-XL": ".512 .506 .514 .524 .512 / .083 .095 .090 .070 .065 / 24.9 21.3 21.3 31.4 66.0",
    "N-XS": ".501 .440 .425 .616 .452 / .275 .152 .156 .292 .186 / 56.1 27.2 18.5 169.1 17.0",
    "N-S": ".499 .450 .434 .658 .484 / .252 .138 .140 .306 .172 / 53.7 28.6 19.1 201.3 19.2",
    "N-M": ".500 .465 .446 .697 .482 / .224 .155 .130 .307 .168 / 54.5 22.1 19.8 235.6 19.8",
    "N-L": ".501 .481 .457 .729 .504 / .185 .138 .110 .325 .152 / 56.4 24.6 19.2 274.1 20.4",
    "N-XL": ".504 .511 .474 .742 .549 / .134 .110 .084 .401 .127 / 49.4 25.1 17.9 318.6 25.2",
    "A-XS": ".498 .442 .432 .424 .442 / .404 .341 .349 .340 .366 / 52.3 26.3 14.8 25.7 16.4",
    "A-S": ".497 .448 .437 .436 .449 / .398 .352 .350 .345 .369 / 49.6 22.4 15.4 32.3 16.6",
    "A-M": ".498 .461 .445 .451 .457 / .413 .357 .357 .352 .377 / 33.2 24.1 15.4 41.7 16.9",
    "A-L": ".500 .475 .460 .472 .470 / .395 .367 .374 .361 .389 / 46.9 25.2 16.0 57.5 18.6",
    "A-XL": ".508 .503 .490 .501 .495 / .427 .418 .412 .385 .414 / 30.8 22.1 18.7 81.0 22.8",
    "P-XS": ".498 .409 .378 .345 .423 / .464 .374 .348 .314 .391 / 46.9 24.4 12.9 10.9 17.2",
    "P-S": ".501 .425 .387 .386 .422 / .356 .287 .264 .254 .295 / 42.3 27.2 14.2 15.0 17.5",
    "P-M": ".509 .438 .396 .425 .427 / .283 .227 .206 .207 .231 / 38.5 30.1 14.5 22.0 17.4",
    "P-L": ".513 .452 .409 .464 .439 / .231 .184 .163 .176 .183 / 32.6 33.1 15.3 29.8 18.2",
    "P-XL": ".524 .460 .422 .496 .446 / .187 .157 .132 .152 .151 / 36.2 25.2 15.9 39.0 18.6",
    "UN": ".501 .519 .511 .700 .564 / .178 .149 .153 .273 .177 / 33.4 26.2 21.1 211.2 41.4",
    "UA": ".510 .518 .508 .519 .512 / .307 .348 .287 .274 .275 / 23.7 20.5 19.7 47.8 30.0",
    "UP": ".510 .478 .485 .541 .478 / .140 .061 .089 .130 .097 / 23.9 35.3 20.7 57.7 38.8",
    "NA": ".517 .485 .459 .680 .513 / .328 .301 .290 .424 .334 / 43.4 24.2 17.3 228.8 28.1",
    "NP": ".511 .480 .458 .713 .485 / .125 .079 .062 .187 .081 / 47.0 20.9 19.2 221.9 20.6",
    "AP": ".511 .478 .457 .506 .463 / .270 .231 .204 .232 .219 / 29.7 17.6 17.0 45.1 16.9",
    "UNA": ".521 .535 .533 .669 .569 / .265 .310 .290 .407 .298 / 26.2 20.7 22.8 175.5 34.5",
    "UNP": ".510 .526 .507 .715 .590 / .086 .062 .051 .156 .082 / 28.5 22.1 20.1 215.6 60.9",
    "UAP": ".525 .523 .513 .588 .526 / .205 .154 .119 .169 .115 / 23.0 18.4 20.5 80.5 34.8",
    "NAP": ".526 .502 .470 .686 .508 / .210 .197 .160 .282 .182 / 38.7 18.4 18.5 213.7 25.3",
    "UNAP": ".533 .546 .525 .666 .560 / .192 .177 .131 .251 .141 / 25.5 21.1 21.8 147.4 31.7",
}


def _parsed(row: str) -> dict[tuple[str, str], float]:
    parts = zip(SCORES, row.split("/"), strict=True)
    return {
        (score, method): float(word)
        for score, part in parts
        for method, word in zip(PUBLISHED, part.split(), strict=True)
    }


FIGURES: dict[str, dict[tuple[str, str], float]] = {
    name: _parsed(row) for name, row in _ROWS.items()
}
"""The figures of each task by score and method."""


def figure(task: str, method: str, score: str) -> float | None:
    """Returns a figure of the report; None where it has none.

    Arguments:
        task: A task, as ``U-XS`` or ``UNAP``.
        method: A method, of :data:`PUBLISHED` or another one.
        score: A score, of :data:`SCORES` or another one.
    """
    return FIGURES.get(task, {}).get((score, method))
