"""Small random networks as published programs store them, and slow references that read them by these programs' names.

The references are in float64, make one picture at a time, and share nothing with the package.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from checkpoint_files import tree, write_modules, write_variables

D, WIDTHS, MAPPING = 6, (5, 4, 3), 3
SIDES = (4, 8, 16)


def draw(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


# The slow references: one picture, float64.


def filtered(x, taps, gain=1.0):
    """Every channel of (C, H, W) by the outer product of taps that sum to 1, without a border."""
    k = torch.tensor(taps, dtype=x.dtype)
    k = k.outer(k) / k.sum() ** 2
    return gain * F.conv2d(x[:, None], k[None, None])[:, 0]


def stuffed(x):
    """Zeros between pixels: (C, H, W) becomes (C, 2H - 1, 2W - 1)."""
    y = x.new_zeros(len(x), 2 * x.shape[1] - 1, 2 * x.shape[2] - 1)
    y[:, ::2, ::2] = x
    return y


def doubled_colours(x):
    y = x.new_zeros(len(x), 2 * x.shape[1], 2 * x.shape[2])
    y[:, ::2, ::2] = x
    return filtered(F.pad(y, (2, 1, 2, 1)), (1, 3, 3, 1), 4)


def layer_2(x, weight, style, *, up, turned, bias, noise, clamp=math.inf):
    """One layer of StyleGAN2, by its definition.

    Arguments:
        x: Features (C, H, W).
        weight: Filters (O, C, 3, 3), of any gain.
        style: The scales (C,).
        up: Whether the sides are doubled.
        turned: Whether, if so, the filter stands in the convolution as it is; otherwise it is turned first.
        bias: The bias (O,).
        noise: Noise (S, S), times its strength.
        clamp: The largest magnitude.
    """
    w = weight * style[:, None, None]
    w = w / (w.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
    if up:
        w = w if turned else w.flip(2, 3)
        y = F.conv2d(F.pad(stuffed(x), (2, 2, 2, 2))[None], w)[0]
        y = filtered(F.pad(y, (1, 1, 1, 1)), (1, 3, 3, 1), 4)
    else:
        y = F.conv2d(F.pad(x, (1, 1, 1, 1))[None], w)[0]
    y = y + noise + bias[:, None, None]
    return (math.sqrt(2) * torch.where(y > 0, y, 0.2 * y)).clamp(-clamp, clamp)


def colours_2(x, weight, style, bias, clamp=math.inf):
    y = torch.einsum("ochw,cij->oij", weight * (style / math.sqrt(len(style)))[:, None, None], x)
    return (y + bias[:, None, None]).clamp(-clamp, clamp)


def mapped(z, layers, *, rate, inside=False):
    """The mapping network; ``inside`` puts the gain on the weights alone."""
    w = z / (z.square().mean() + 1e-8).sqrt()
    inner, outer = (math.sqrt(2), 1) if inside else (1, math.sqrt(2))
    for weight, bias in layers:
        w = weight @ w * (inner * rate / math.sqrt(len(w))) + bias * rate
        w = outer * torch.where(w > 0, w, 0.2 * w)
    return w


def affine(weight, bias, w):
    return weight @ w / math.sqrt(len(w)) + bias


# PyTorch, of the authors.


def authors_tensors():
    shapes = {}
    for i in range(MAPPING):
        shapes |= {f"mapping.fc{i}.weight": (D, D), f"mapping.fc{i}.bias": (D,)}
    shapes |= {"mapping.w_avg": (D,), "synthesis.b4.const": (WIDTHS[0], 4, 4)}
    for k, side in enumerate(SIDES):
        block = f"synthesis.b{side}"
        before = WIDTHS[max(k - 1, 0)]
        for conv, channels in [("conv0", before), ("conv1", WIDTHS[k])][k == 0 :]:
            path = f"{block}.{conv}"
            shapes |= {f"{path}.weight": (WIDTHS[k], channels, 3, 3), f"{path}.bias": (WIDTHS[k],)}
            shapes |= {f"{path}.affine.weight": (channels, D), f"{path}.affine.bias": (channels,)}
            shapes |= {f"{path}.noise_const": (side, side), f"{path}.noise_strength": ()}
        shapes |= {f"{block}.torgb.weight": (3, WIDTHS[k], 1, 1), f"{block}.torgb.bias": (3,)}
        shapes |= {f"{block}.torgb.affine.weight": (WIDTHS[k], D)}
        shapes |= {f"{block}.torgb.affine.bias": (WIDTHS[k],)}
    return draw(shapes)


BUFFERS = ("w_avg", "noise_const", "resample_filter")


def authors_file(path, tensors, *, clamp=None, rate=0.01):
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    filters = {
        f"synthesis.b{side}.{part}": taps.outer(taps) / 64
        for side in SIDES
        for part in ("resample_filter", "conv1.resample_filter")
    }
    network = tree({**tensors, **filters}, BUFFERS, kind="Generator")
    for name, module in network.named_modules():
        if name.endswith(("conv0", "conv1", "torgb")):
            module.conv_clamp = clamp
        if name.endswith(("conv0", "conv1")) or name.startswith("mapping.fc"):
            module.activation = "lrelu"
        if name.startswith("synthesis.b") and name.count(".") == 1:
            module.architecture = "skip"
        if name.startswith("mapping.fc"):
            module.bias_gain = rate
    return write_modules(network, path)


def authors_w(tensors, z, *, rate=0.01):
    t = {name: value.double() for name, value in tensors.items()}
    layers = [(t[f"mapping.fc{i}.weight"], t[f"mapping.fc{i}.bias"]) for i in range(MAPPING)]
    return mapped(z.double(), layers, rate=rate)


def authors_image(tensors, ws, *, clamp=math.inf):
    """The picture of the style vectors ws, with shape (2N, D)."""
    t = {name: value.double() for name, value in tensors.items()}
    x, image, at = t["synthesis.b4.const"], None, 0
    for side in SIDES:
        block = f"synthesis.b{side}"
        for conv in ("conv0", "conv1")[side == 4 :]:
            path = f"{block}.{conv}"
            style = affine(t[f"{path}.affine.weight"], t[f"{path}.affine.bias"], ws[at].double())
            noise = t[f"{path}.noise_const"] * t[f"{path}.noise_strength"]
            up = conv == "conv0"
            x = layer_2(
                x,
                t[f"{path}.weight"],
                style,
                up=up,
                turned=False,
                bias=t[f"{path}.bias"],
                noise=noise,
                clamp=clamp,
            )
            at += 1
        path = f"{block}.torgb"
        # Not counted: the next layer has the same style vector.
        style = affine(t[f"{path}.affine.weight"], t[f"{path}.affine.bias"], ws[at].double())
        colours = colours_2(x, t[f"{path}.weight"], style, t[f"{path}.bias"], clamp)
        image = colours if image is None else doubled_colours(image) + colours
    return image


# rosinality.


def rosinality_tensors():
    shapes = {"latent_avg": (D,), "input.input": (1, WIDTHS[0], 4, 4)}
    for i in range(1, MAPPING + 1):
        shapes |= {f"style.{i}.weight": (D, D), f"style.{i}.bias": (D,)}
    paths = [("conv1", WIDTHS[0], WIDTHS[0], 4)]
    for k in (1, 2):
        paths.append((f"convs.{2 * k - 2}", WIDTHS[k - 1], WIDTHS[k], SIDES[k]))
        paths.append((f"convs.{2 * k - 1}", WIDTHS[k], WIDTHS[k], SIDES[k]))
    for n, (path, before, after, side) in enumerate(paths):
        shapes |= {f"{path}.conv.weight": (1, after, before, 3, 3), f"{path}.noise.weight": (1,)}
        shapes |= {f"{path}.conv.modulation.weight": (before, D)}
        shapes |= {f"{path}.conv.modulation.bias": (before,), f"{path}.activate.bias": (after,)}
        shapes |= {f"noises.noise_{n}": (1, 1, side, side)}
    for k, path in enumerate(("to_rgb1", "to_rgbs.0", "to_rgbs.1")):
        shapes |= {f"{path}.conv.weight": (1, 3, WIDTHS[k], 1, 1), f"{path}.bias": (1, 3, 1, 1)}
        shapes |= {f"{path}.conv.modulation.weight": (WIDTHS[k], D)}
        shapes |= {f"{path}.conv.modulation.bias": (WIDTHS[k],)}
    return draw(shapes)


def rosinality_file(path, tensors):
    kernel = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = kernel.outer(kernel) / 16
    network = {name: value for name, value in tensors.items() if name != "latent_avg"}
    network |= {"convs.0.conv.blur.kernel": kernel, "to_rgbs.1.upsample.kernel": kernel}
    torch.save({"g_ema": network, "latent_avg": tensors["latent_avg"], "d": {}}, path)
    return path


def rosinality_image(tensors, ws):
    t = {name: value.double() for name, value in tensors.items()}

    def style(path, i):
        return affine(
            t[f"{path}.conv.modulation.weight"], t[f"{path}.conv.modulation.bias"], ws[i].double()
        )

    def layer(x, path, i, n, up):
        weight = t[f"{path}.conv.weight"][0]
        # This program scales its weights before it demodulates them.
        weight = weight / math.sqrt(weight[0].numel())
        noise = t[f"noises.noise_{n}"][0, 0] * t[f"{path}.noise.weight"]
        return layer_2(
            x,
            weight,
            style(path, i),
            up=up,
            turned=False,
            bias=t[f"{path}.activate.bias"],
            noise=noise,
        )

    def colours(x, path, i):
        return colours_2(
            x, t[f"{path}.conv.weight"][0], style(path, i), t[f"{path}.bias"].flatten()
        )

    x = layer(t["input.input"][0], "conv1", 0, 0, up=False)
    image = colours(x, "to_rgb1", 1)
    i = 1
    for pair in range(2):
        x = layer(x, f"convs.{2 * pair}", i, 2 * pair + 1, up=True)
        x = layer(x, f"convs.{2 * pair + 1}", i + 1, 2 * pair + 2, up=False)
        image = doubled_colours(image) + colours(x, f"to_rgbs.{pair}", i + 2)
        i += 2
    return image


# TensorFlow, of the authors.


def tensorflow_parts():
    mapping, synthesis = {}, {"4x4/Const/const": (1, WIDTHS[0], 4, 4)}
    for i in range(MAPPING):
        mapping |= {f"Dense{i}/weight": (D, D), f"Dense{i}/bias": (D,)}
    for n, path, before, after in tensorflow_convs():
        synthesis |= {f"{path}/weight": (3, 3, before, after), f"{path}/bias": (after,)}
        synthesis |= {f"{path}/mod_weight": (D, before), f"{path}/mod_bias": (before,)}
        side = int(path.partition("x")[0])
        synthesis |= {f"{path}/noise_strength": (), f"noise{n}": (1, 1, side, side)}
    for k, side in enumerate(SIDES):
        path = f"{side}x{side}/ToRGB"
        synthesis |= {f"{path}/weight": (1, 1, WIDTHS[k], 3), f"{path}/bias": (3,)}
        synthesis |= {f"{path}/mod_weight": (D, WIDTHS[k]), f"{path}/mod_bias": (WIDTHS[k],)}
    shapes = {"": {"dlatent_avg": (D,), "lod": ()}, "mapping": mapping, "synthesis": synthesis}
    return {
        part: {k: v.numpy() for k, v in draw(held, seed).items()}
        for seed, (part, held) in enumerate(shapes.items())
    }


def tensorflow_convs():
    yield 0, "4x4/Conv", WIDTHS[0], WIDTHS[0]
    for k in (1, 2):
        side = SIDES[k]
        yield 2 * k - 1, f"{side}x{side}/Conv0_up", WIDTHS[k - 1], WIDTHS[k]
        yield 2 * k, f"{side}x{side}/Conv1", WIDTHS[k], WIDTHS[k]


def tensorflow_image(parts, ws):
    t = {name: torch.from_numpy(value).double() for name, value in parts["synthesis"].items()}

    def style(path, i):
        return affine(t[f"{path}/mod_weight"].T, t[f"{path}/mod_bias"] + 1, ws[i].double())

    x, image = t["4x4/Const/const"][0], None
    for n, path, _, _ in tensorflow_convs():
        weight = t[f"{path}/weight"].permute(3, 2, 0, 1)
        noise = t[f"noise{n}"][0, 0] * t[f"{path}/noise_strength"]
        up = path.endswith("up")
        x = layer_2(
            x, weight, style(path, n), up=up, turned=True, bias=t[f"{path}/bias"], noise=noise
        )
        if not up:
            path = f"{path.partition('/')[0]}/ToRGB"
            weight = t[f"{path}/weight"].permute(3, 2, 0, 1)
            colours = colours_2(x, weight, style(path, n + 1), t[f"{path}/bias"])
            image = colours if image is None else doubled_colours(image) + colours
    return image


# StyleGAN, the first.


def first_tensors():
    """The tensors of the ports to PyTorch, and the same for TensorFlow."""
    shapes = {"truncation.avg_latent": (D,), "g_synthesis.torgb.weight": (3, WIDTHS[2], 1, 1)}
    shapes |= {"g_synthesis.torgb.bias": (3,), "g_synthesis.blocks.4x4.const": (1, WIDTHS[0], 4, 4)}
    for i in range(MAPPING):
        shapes |= {f"g_mapping.dense{i}.weight": (D, D), f"g_mapping.dense{i}.bias": (D,)}
    for i, (block, conv, _) in enumerate(first_layers()):
        before, C = WIDTHS[max(i - 1, 0) // 2], WIDTHS[i // 2]
        path = f"g_synthesis.blocks.{block}"
        if i:
            shapes |= {f"{path}.{conv}.weight": (C, before, 3, 3)}
        shapes |= {f"{path}.{conv}.bias".replace("..", "."): (C,)}
        epilogue = f"{path}.epi{i % 2 + 1}"
        shapes |= {
            f"{epilogue}.noise.weight": (C,),
            f"{epilogue}.style_mod.lin.bias": (2 * C,),
        }
        shapes |= {f"{epilogue}.style_mod.lin.weight": (2 * C, D)}
    return draw(shapes)


def first_layers():
    yield "4x4", "", "Const"
    yield "4x4", "conv", "Conv"
    for side in SIDES[1:]:
        yield f"{side}x{side}", "conv0_up", "Conv0_up"
        yield f"{side}x{side}", "conv1", "Conv1"


def to_variables(t, noise):
    """The tensors of the first StyleGAN by the names of TensorFlow, as its authors' program stores them."""
    part = {name: {} for name in ("", "mapping", "synthesis")}
    part[""] = {"dlatent_avg": t["truncation.avg_latent"], "lod": torch.tensor(0.0)}
    for i in range(MAPPING):
        part["mapping"] |= {f"Dense{i}/weight": t[f"g_mapping.dense{i}.weight"].T}
        part["mapping"] |= {f"Dense{i}/bias": t[f"g_mapping.dense{i}.bias"]}
    held = part["synthesis"]
    held["4x4/Const/const"] = t["g_synthesis.blocks.4x4.const"]
    for i, (block, conv, theirs) in enumerate(first_layers()):
        path, name = f"g_synthesis.blocks.{block}", f"{block}/{theirs}"
        if i:
            held[f"{name}/weight"] = t[f"{path}.{conv}.weight"].permute(2, 3, 1, 0)
        held[f"{name}/bias"] = t[f"{path}.{conv}.bias".replace("..", ".")]
        epilogue = f"{path}.epi{i % 2 + 1}"
        held[f"{name}/Noise/weight"] = t[f"{epilogue}.noise.weight"]
        held[f"{name}/StyleMod/weight"] = t[f"{epilogue}.style_mod.lin.weight"].T
        held[f"{name}/StyleMod/bias"] = t[f"{epilogue}.style_mod.lin.bias"]
        held[f"noise{i}"] = noise[i][None, None]
    held["ToRGB_lod0/weight"] = t["g_synthesis.torgb.weight"].permute(2, 3, 1, 0)
    held["ToRGB_lod0/bias"] = t["g_synthesis.torgb.bias"]
    held |= {"ToRGB_lod1/weight": torch.zeros(1, 1, 4, 3), "ToRGB_lod1/bias": torch.zeros(3)}
    return {name: {k: v.numpy() for k, v in values.items()} for name, values in part.items()}


def first_image(t, ws, noise):
    """The picture of the first StyleGAN; below a side of 128 it repeats pixels to double them."""
    t = {name: value.double() for name, value in t.items()}
    x = t["g_synthesis.blocks.4x4.const"][0]
    for i, (block, conv, _) in enumerate(first_layers()):
        path = f"g_synthesis.blocks.{block}"
        if i:
            weight = t[f"{path}.{conv}.weight"]
            weight = weight * math.sqrt(2 / weight[0].numel())
            if "up" in conv:
                x = x.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
            x = F.conv2d(x[None], weight, padding=1)[0]
            if "up" in conv:
                x = filtered(F.pad(x, (1, 1, 1, 1)), (1, 2, 1))
        bias, epilogue = t[f"{path}.{conv}.bias".replace("..", ".")], f"{path}.epi{i % 2 + 1}"
        x = x + t[f"{epilogue}.noise.weight"][:, None, None] * noise[i].double()
        x = x + bias[:, None, None]
        x = torch.where(x > 0, x, 0.2 * x)
        x = x - x.mean(dim=(1, 2), keepdim=True)
        x = x / (x.square().mean(dim=(1, 2), keepdim=True) + 1e-8).sqrt()
        style = affine(
            t[f"{epilogue}.style_mod.lin.weight"],
            t[f"{epilogue}.style_mod.lin.bias"],
            ws[i].double(),
        )
        scale, shift = style.reshape(2, -1)
        x = x * (scale[:, None, None] + 1) + shift[:, None, None]
    weight = t["g_synthesis.torgb.weight"][:, :, 0, 0]
    colours = torch.einsum("oc,cij->oij", weight / math.sqrt(weight.shape[1]), x)
    return colours + t["g_synthesis.torgb.bias"][:, None, None]


# Networks, files, references, all together.


FILES = {
    "authors": (authors_tensors, authors_file, authors_image),
    "rosinality": (rosinality_tensors, rosinality_file, rosinality_image),
    "TensorFlow": (tensorflow_parts, lambda path, parts: write_variables(parts, path), tensorflow_image),
}  # fmt: skip
