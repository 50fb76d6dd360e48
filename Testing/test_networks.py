"""Networks and losses do what their documentation says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from CardiacSegLib.augmentation import Augmenter
from CardiacSegLib.losses import SegmentationLoss, log_dice_loss, weighted_cross_entropy
from CardiacSegLib.networks.config import NetworkConfig
from CardiacSegLib.networks.unet import ConvBlock, build_network, standardise
from CardiacSegLib.networks.widening import is_widened, widen
from CardiacSegLib.training.config import AugmentationConfig, LossConfig
from CardiacSegLib.training.presets import AUGMENTATIONS, PRESETS, get_preset

SMALL = (4, 8, 8)


@pytest.mark.parametrize("upsampling", ["transposed", "subpixel"])
@pytest.mark.parametrize("in_slices", [1, 3, 5])
def test_a_2d_network_gives_logits_on_the_grid_of_its_middle_slice(in_slices, upsampling):
    network = build_network(NetworkConfig(features=SMALL, in_slices=in_slices, upsampling=upsampling))
    assert network(torch.rand(2, in_slices, 16, 24)).shape == (2, 4, 16, 24)


@pytest.mark.parametrize("upsampling", ["transposed", "subpixel"])
@pytest.mark.parametrize("depth", [1, 2, 7, 13])
def test_a_3d_network_takes_any_number_of_slices(depth, upsampling):
    config = NetworkConfig(dims=3, in_slices=1, features=SMALL, upsampling=upsampling)
    assert build_network(config)(torch.rand(1, 1, depth, 16, 24)).shape == (1, 4, depth, 16, 24)


@pytest.mark.parametrize("dims", [2, 3])
def test_any_size_of_grid_and_any_number_of_levels_go_together(dims):
    config = NetworkConfig(dims=dims, in_slices=1, features=(2, 2, 2, 2, 2, 2))
    for height, width in ((136, 144), (33, 70)):
        shape = (1, 1, height, width) if dims == 2 else (1, 1, 2, height, width)
        assert build_network(config)(torch.rand(shape)).shape == (1, 4, *shape[2:])


@pytest.mark.parametrize("dims", [2, 3])
def test_a_block_makes_of_two_inputs_what_it_makes_of_both_joined(dims):
    torch.manual_seed(0)
    block = ConvBlock(dims, 5, 4, 2).double().eval()
    grid = (4, 9, 8)[-dims:]
    x, y = torch.randn(2, 3, *grid, dtype=torch.float64), torch.randn(2, 2, *grid, dtype=torch.float64)
    joined = block(torch.cat([x, y], dim=1))
    torch.testing.assert_close(block.joined(x, y), joined)
    block[0].bias = torch.nn.Parameter(torch.randn(4, dtype=torch.float64))  # as after folding the batch norm into it
    torch.testing.assert_close(block.joined(x, y), block(torch.cat([x, y], dim=1)))


def test_the_papers_networks_have_the_papers_widths():
    two, three = get_preset("paper-2d-dice").network, get_preset("paper-3d-dice").network
    assert two.features[0] == 32 and two.in_slices == 3 and two.dropout == (0.5, 0.3)
    assert max(three.features) == 256 and three.dropout == (0.5, 0.3)
    network = build_network(two)
    assert network.head.in_channels == 32  # "maps the 32 feature channels to 4 classes"
    rates = [getattr(d, "p", 0.0) for d in network.drop]
    assert rates == [0.0, 0.0, 0.0, 0.3, 0.5]


def test_every_preset_builds_its_network():
    for preset in PRESETS.values():
        parameters = sum(p.numel() for p in build_network(preset.network).parameters())
        assert parameters * 2 < 16 * 2**20, preset.name  # half precision fits a model file


def test_a_standardised_network_does_not_see_brightness_or_contrast():
    torch.manual_seed(0)
    network = build_network(NetworkConfig(features=SMALL, in_slices=1, standardise=True)).eval()
    x = torch.rand(1, 1, 32, 32) + 0.1
    torch.testing.assert_close(network(x), network(3.0 * x + 2.0), rtol=1e-3, atol=1e-3)


def test_bright_and_flat_inputs_are_standardised_too():
    x = 0.9 + 0.006 * torch.randn(2, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    x[..., :100] = 0.0  # padding, which does not count
    inside = standardise(x)[..., 100:].double()
    exact = x[..., 100:].double()
    sd = (exact.var(dim=(1, 2, 3), unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(
        inside.std(dim=(1, 2, 3), unbiased=False), exact.std(dim=(1, 2, 3)) / sd, rtol=1e-2, atol=0
    )
    assert inside.mean(dim=(1, 2, 3)).abs().max() < 1e-2


@pytest.mark.parametrize("kwargs", [{"dims": 4}, {"in_slices": 2}, {"dims": 3, "in_slices": 3}, {"upsampling": "x"}])
def test_a_network_that_cannot_be_is_refused(kwargs):
    with pytest.raises(ValueError, match="."):
        NetworkConfig(**kwargs)


def logits_for(target: torch.Tensor, sharpness: float = 40.0) -> torch.Tensor:
    return torch.nn.functional.one_hot(target, 4).permute(0, 3, 1, 2).double() * sharpness


def test_the_dice_loss_is_zero_when_perfect_and_log_2_when_all_is_wrong():
    target = torch.arange(4).repeat(2, 64, 4)
    assert float(log_dice_loss(logits_for(target), target)) == pytest.approx(0.0, abs=1e-9)
    wrong = (target + 1) % 4
    assert float(log_dice_loss(logits_for(wrong), target)) == pytest.approx(4 * math.log(2), rel=1e-2)


def test_the_printed_form_lies_between_log_1_5_and_log_2():
    """The paper prints equation 4 without the factor 2: [0.405, 0.693] a class, 0 for one absent and not predicted."""
    target = torch.arange(4).repeat(2, 64, 4)
    perfect = float(log_dice_loss(logits_for(target), target, literal=True, smooth=1e-9))
    assert perfect == pytest.approx(4 * math.log(1.5), rel=1e-6)
    only_background = torch.zeros(1, 8, 8, dtype=torch.long)
    absent = torch.tensor([0.0, 1.0, 1.0, 1.0])
    assert float(log_dice_loss(logits_for(only_background), only_background, absent, literal=True)) < 1e-6


def test_an_absent_class_gives_a_finite_loss_and_gradient_in_half_precision():
    target = torch.zeros(2, 32, 32, dtype=torch.long)
    for kind in (torch.bfloat16, torch.float16):
        logits = torch.randn(2, 4, 32, 32, dtype=kind, requires_grad=True)
        loss = SegmentationLoss(LossConfig("dice-ce"), 4)(logits, target)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    extreme = torch.full((1, 4, 256, 256), -6e4, dtype=torch.float16)
    extreme[:, 1] = 6e4
    wrong = torch.zeros(1, 256, 256, dtype=torch.long)
    assert torch.isfinite(SegmentationLoss(LossConfig("dice-ce"), 4)(extreme, wrong))


@pytest.mark.parametrize("kind", ["ce", "dice", "dice-ce"])
@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("per_sample", [False, True])
def test_gradients_are_those_of_the_formula(kind, literal, per_sample):
    config = LossConfig(kind, (0.3, 1.0, 2.0, 1.5), (0.1, 1.0, 1.0, 1.0), 0.7, 1.3, literal, 1e-3, per_sample)
    loss = SegmentationLoss(config, 4).double()
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 3, 3, dtype=torch.double, requires_grad=True)
    target = torch.randint(0, 3, (2, 3, 3))  # class 3 is absent
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)


def test_cross_entropy_is_torchs_but_divided_by_the_number_of_pixels():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 8, 8), torch.randint(0, 4, (2, 8, 8))
    plain = torch.nn.functional.cross_entropy(logits, target)
    torch.testing.assert_close(weighted_cross_entropy(logits, target), plain)
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    by_hand = (-torch.log_softmax(logits, 1).gather(1, target[:, None])[:, 0] * weights[target]).sum()
    torch.testing.assert_close(weighted_cross_entropy(logits, target, weights, reduction="sum"), by_hand)
    torch.testing.assert_close(weighted_cross_entropy(logits, target, weights), by_hand / target.numel())


def test_the_combined_loss_is_the_weighted_sum_of_equation_5():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 8, 8), torch.randint(0, 4, (2, 8, 8))
    both = SegmentationLoss(LossConfig("dice-ce", lambda_ce=0.3, lambda_dice=2.0), 4)(logits, target)
    ce, dice = (SegmentationLoss(LossConfig(kind), 4)(logits, target) for kind in ("ce", "dice"))
    torch.testing.assert_close(both, 0.3 * ce + 2.0 * dice)


def test_rare_classes_weigh_more_by_the_inverse_root_of_their_frequency():
    loss = SegmentationLoss(LossConfig("ce", ce_weights="inverse-sqrt"), 4, (0.81, 0.01, 0.09, 0.09))
    weights = loss.ce_weights
    assert float(weights[1] / weights[0]) == pytest.approx(9.0, rel=1e-4)
    with pytest.raises(ValueError, match="frequencies"):
        SegmentationLoss(LossConfig("ce", ce_weights="inverse"), 4)


def block_image() -> tuple[torch.Tensor, torch.Tensor]:
    """A bright square off centre, labelled; three equal slices."""
    image = torch.full((1, 3, 64, 64), 0.2)
    image[..., 24:44, 30:50] = 0.9
    return image, (image[:, 1:2] > 0.5).to(torch.uint8) * 3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from(["light", "heavy"]))
def test_labels_move_with_the_image(seed, name):
    config = AUGMENTATIONS[name]
    spatial = AugmentationConfig(
        config.rotation_deg, config.any_rotation, config.scale, config.shear, config.translation, config.flip,
        config.elastic_px, config.elastic_share,
    )  # fmt: skip
    image, label = block_image()
    moved, target = Augmenter(spatial, None, torch.Generator().manual_seed(seed))(
        image, label, torch.tensor([[31.5, 31.5]])
    )
    bright, labelled = moved[0, 1] > 0.55, target[0, 0] == 3
    union = (bright | labelled).sum()
    assert union == 0 or float((bright & labelled).sum() / union) > 0.85


def test_without_changes_the_crop_is_a_plain_cut():
    image, label = block_image()
    still = AUGMENTATIONS["none"]
    moved, target = Augmenter(still, 32, torch.Generator().manual_seed(0))(image, label, torch.tensor([[33.5, 39.5]]))
    torch.testing.assert_close(moved, image[..., 18:50, 24:56])
    assert torch.equal(target, label[..., 18:50, 24:56].long())


def test_padding_stays_exactly_zero_under_every_grey_value_change():
    image, label = block_image()
    augment = Augmenter(AUGMENTATIONS["strangers"], 96, torch.Generator().manual_seed(1))
    moved, _ = augment(image.repeat(8, 1, 1, 1), label.repeat(8, 1, 1, 1), torch.full((8, 2), 31.5))
    assert torch.isfinite(moved).all()
    assert (moved[:, :, 0, 0] == 0).float().mean() > 0.5


def test_augmentation_repeats_for_the_same_seed_and_differs_for_another():
    image, label = block_image()
    runs = [
        Augmenter(AUGMENTATIONS["strangers"], 48, torch.Generator().manual_seed(seed))(
            image, label, torch.tensor([[32.0, 32.0]])
        )
        for seed in (5, 5, 6)
    ]
    assert torch.equal(runs[0][0], runs[1][0]) and torch.equal(runs[0][1], runs[1][1])
    assert not torch.equal(runs[0][0], runs[2][0])


def heart_image(cavity: float, wall: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A slightly oval heart off centre, in pixels: bright cavity, dark wall, grey around; three equal slices."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    radius = torch.hypot((y - 44.0) / 1.1, x - 52.0)
    label = torch.zeros(1, 1, 96, 96, dtype=torch.uint8)
    label[0, 0][radius < cavity + wall] = 2
    label[0, 0][radius < cavity] = 3
    return torch.tensor([0.4, 0.0, 0.1, 0.9])[label.long()].repeat(1, 3, 1, 1), label


def test_a_reversed_stack_takes_its_labels_along_and_a_slice_keeps_its_own():
    reversing = replace(AUGMENTATIONS["none"], slice_flip=1.0)
    slices = torch.arange(1.0, 4.0)[None, :, None, None]
    images, centre = (slices / 4.0).expand(1, 3, 16, 16).contiguous(), torch.tensor([[7.5, 7.5]])
    augment = Augmenter(reversing, None, torch.Generator().manual_seed(0))

    stack, labels = augment(images, slices.expand(1, 3, 16, 16).to(torch.uint8).contiguous(), centre)
    assert stack[0, :, 8, 8].tolist() == [0.75, 0.5, 0.25] and labels[0, :, 8, 8].tolist() == [3, 2, 1]

    neighbours, label = augment(images, torch.full((1, 1, 16, 16), 2, dtype=torch.uint8), centre)
    assert neighbours[0, :, 8, 8].tolist() == [0.75, 0.5, 0.25] and label[0, 0, 8, 8] == 2


def test_only_the_neighbours_of_a_slice_are_shifted_against_its_label():
    shifting = replace(AUGMENTATIONS["none"], slice_jitter_px=2.0)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    label, centres = torch.zeros(4, 1, 32, 32, dtype=torch.uint8), torch.full((4, 2), 15.5)

    moved, _ = Augmenter(shifting, None, torch.Generator().manual_seed(0))(images, label, centres)

    torch.testing.assert_close(moved[:, 1], images[:, 1])
    assert all(not torch.allclose(moved[:, side], images[:, side], atol=0.05) for side in (0, 2))


def test_any_rotation_turns_some_samples_to_every_side_and_the_others_not_at_all():
    turning = replace(AUGMENTATIONS["none"], any_rotation=0.5)
    image, label = block_image()
    many = [v.repeat(400, 1, 1, 1) for v in (image, label)]
    _, target = Augmenter(turning, None, torch.Generator().manual_seed(0))(*many, torch.full((400, 2), 31.5))
    here = torch.stack([(one[0] == 3).nonzero().float().mean(0) - 31.5 for one in target])
    before = (label[0, 0] == 3).nonzero().float().mean(0) - 31.5
    turned = (here - before).norm(dim=1) > 0.5
    assert 0.4 < float(turned.float().mean()) < 0.6
    quarter = torch.atan2(here[turned, 0], here[turned, 1]).div(math.pi / 2).floor()
    assert all(int((quarter == q).sum()) > 30 for q in (-2, -1, 0, 1))


def test_a_bias_field_is_smooth_multiplies_the_greys_and_leaves_the_mask():
    shaded = replace(AUGMENTATIONS["none"], bias=0.3)
    image, label = block_image()
    many = [v.repeat(64, 1, 1, 1) for v in (image, label)]
    moved, target = Augmenter(shaded, None, torch.Generator().manual_seed(0))(*many, torch.full((64, 2), 31.5))
    assert torch.equal(target, many[1].long())
    field = torch.log(moved / many[0])
    torch.testing.assert_close(field[:, 0], field[:, 2])  # one coil for all slices
    assert float(field[..., 1:, :].sub(field[..., :-1, :]).abs().max()) < 0.1
    assert 0.2 < float(field.std()) < 0.35 and abs(float(field.mean())) < 0.1


def test_a_lower_resolution_blurs_some_samples_and_moves_none():
    blurring = replace(AUGMENTATIONS["none"], low_resolution=0.5)
    image, label = block_image()
    many = [v.repeat(200, 1, 1, 1) for v in (image, label)]
    moved, target = Augmenter(blurring, None, torch.Generator().manual_seed(0))(*many, torch.full((200, 2), 31.5))
    assert torch.equal(target, many[1].long())
    slope = (moved[..., 1:] - moved[..., :-1]).abs().amax((1, 2, 3))
    blurred = slope < 0.65  # of a step of 0.7
    assert 0.4 < float(blurred.float().mean()) < 0.6 and 0.2 < float(slope.min()) < 0.5
    centre = (moved[:, 1] - 0.2).sum(1) @ torch.arange(64.0) / (moved[:, 1] - 0.2).sum((1, 2))
    assert float((centre - 39.5).abs().max()) < 0.2


CONTRACTING = replace(AUGMENTATIONS["none"], contraction=0.3, contraction_share=1.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.floats(8.0, 18.0), st.floats(6.0, 12.0))
def test_a_contracted_cavity_is_smaller_in_image_and_mask_and_the_heart_stays_as_large(seed, cavity, wall):
    image, label = heart_image(cavity, wall)
    augment = Augmenter(CONTRACTING, 80, torch.Generator().manual_seed(seed))
    moved, target = augment(image, label, torch.tensor([[47.5, 47.5]]))
    before, after = ([int((m == i).sum()) for i in (0, 2, 3)] for m in (label[..., 8:88, 8:88], target))
    assert 0.05 * before[2] < after[2] <= 1.02 * before[2] and after[1] >= 0.98 * before[1]
    assert sum(after[1:]) == pytest.approx(sum(before[1:]), rel=0.02)
    bright, labelled = moved[0, 1] > 0.45, target[0, 0] == 3
    # Half a pixel apart, or little more.
    assert int((bright ^ labelled).sum()) < 0.75 * 2.0 * math.sqrt(math.pi * after[2])


def test_how_far_cavities_contract_is_drawn_anew_and_the_smallest_size_is_kept_to():
    image, label = heart_image(14.0, 10.0)
    many = [v.repeat(64, 1, 1, 1) for v in (image, label)]
    _, target = Augmenter(CONTRACTING, 80, torch.Generator().manual_seed(0))(*many, torch.full((64, 2), 47.5))
    sizes = ((target == 3).sum((1, 2, 3)) / (label == 3).sum()).sqrt()
    assert 0.27 < float(sizes.min()) < 0.45 and float(sizes.max()) > 0.8
    assert float((target[:, 0] == 2).sum((1, 2)).float().std()) > 50


@pytest.mark.parametrize(
    "cavity, wall, slices",
    [(20.0, 1.5, 1), (2.0, 8.0, 1), (0.0, 0.0, 1), (14.0, 10.0, 3)],
    ids=["a wall too thin to stretch", "next to no cavity", "no heart", "a whole stack"],
)
def test_where_there_is_nothing_to_contract_nothing_changes(cavity, wall, slices):
    image, label = heart_image(cavity, wall)
    label = label.repeat(1, slices, 1, 1)
    moved, target = Augmenter(CONTRACTING, None, torch.Generator().manual_seed(0))(
        image, label, torch.tensor([[47.5, 47.5]])
    )
    torch.testing.assert_close(moved, image)
    assert torch.equal(target, label.long())


@pytest.mark.parametrize("upsampling", ["transposed", "subpixel"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_widened_network_computes_what_the_narrow_one_did_and_can_learn_more(dims, upsampling):
    narrow = NetworkConfig(dims=dims, in_slices=1, features=SMALL, upsampling=upsampling, dropout=())
    wide = replace(narrow, features=(6, 8, 13))
    torch.manual_seed(1)
    old, new = build_network(narrow), build_network(wide)
    x = torch.rand(2, *(1,) * (dims - 1), 16, 24)
    old(x)  # statistics of its own
    widen(new, old.state_dict())
    torch.testing.assert_close(new.eval()(x), old.eval()(x), atol=1e-5, rtol=1e-5)
    new.train()(x).square().mean().backward()
    head = new.head.weight.grad.abs().flatten(1).sum(0)
    assert len(head) == 6 and (head > 0).all()  # also of what nothing reads yet
    # In a step or two every kernel has learned something.
    optimiser = torch.optim.SGD(new.parameters(), 1e-3)
    optimiser.step()
    for _ in range(3):
        new.zero_grad()
        new(x).square().mean().backward()
        optimiser.step()
    assert all((p.grad != 0).flatten(1).any(1).float().mean() > 0.7 for p in new.parameters() if p.ndim > 1)


def test_only_a_network_that_has_more_channels_and_nothing_else_is_a_widened_one():
    narrow = NetworkConfig(features=SMALL)
    assert is_widened(replace(narrow, features=(4, 9, 8)), narrow)
    for other in (
        narrow,
        replace(narrow, features=(6, 7, 13)),
        replace(narrow, features=(*SMALL, 8)),
        replace(narrow, features=(6, 8, 13), in_slices=5),
    ):
        assert not is_widened(other, narrow)
