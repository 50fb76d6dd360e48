"""Study in, label maps out: with the shipped weights, on patients."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.inference import (
    Segmenter,
    choose_device,
    compiled_for,
    network_inputs,
    predict_volume,
    predict_with_flips,
)
from CardiacSegLib.metrics.overlap import dice
from CardiacSegLib.models import TrainedModel, load_model
from CardiacSegLib.networks.packed import PackedConv, packed
from CardiacSegLib.networks.unet import build_network
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.postprocessing import labels_from_probabilities, largest_components
from CardiacSegLib.preprocessing import NetworkGrid, prepare
from CardiacSegLib.readers.acdc import read_acdc_folder, read_acdc_truth
from CardiacSegLib.study import STRUCTURES, Label
from CardiacSegLib.training.presets import get_preset

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def fast() -> TrainedModel:
    return load_model("fast")


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomConfig(frames=3, slices=6, size=(150, 140), ed_index=1))


@pytest.fixture(scope="module")
def validation_patients(acdc_root):
    """Of the patients that the first network of the cross-validation, ``best-1``, was not trained on."""
    return [acdc_root / f"patient{n:03d}" for n in (5, 18, 44, 61, 90)]


def test_a_shipped_model_reads_patients_it_never_saw(validation_patients):
    segmenter = Segmenter("best-1", "cpu")
    scores = []
    for folder in validation_patients:
        study, truths = read_acdc_folder(folder), read_acdc_truth(folder)
        found = segmenter.segment(study)
        for index, labels in found.labels.items():
            assert labels.geometry == study.geometry
            truth = truths[study.frame_numbers[index]]
            scores += [dice(labels.mask(label), truth.mask(label)) for label in STRUCTURES]
    assert np.mean(scores) > 0.85


def test_the_labels_are_the_same_in_bfloat16_and_in_float32(fast, validation_patients):
    """Folded batch norms, channels last and bfloat16, where the processor has it, against the plain eager network."""
    plain, agreement, change = fast.build(), [], []
    for folder in validation_patients[:3]:
        study, truths = read_acdc_folder(folder), read_acdc_truth(folder)
        for index, number in enumerate(study.frame_numbers):
            volume = torch.from_numpy(prepare(study.frame(index), study.spacing, fast.preset.preprocessing).volume)
            grid = prepare(study.frame(index), study.spacing, fast.preset.preprocessing).grid
            labels = []
            for network in (plain, compiled_for(plain, CPU)):
                native = grid.probabilities_to_native(predict_volume(network, volume, CPU).numpy())
                labels.append(native.argmax(0))
            agreement.append((labels[0] == labels[1]).mean())
            for label in STRUCTURES:
                old, new = (dice(found == int(label), truths[number].mask(label)) for found in labels)
                change.append(new - old)
    assert np.mean(agreement) >= 0.999
    assert abs(np.mean(change)) <= 0.0005


def test_folding_batch_norms_changes_nothing_in_float32(fast):
    plain = fast.build()
    folded = compiled_for(plain, CPU, reduced_precision=False)
    x = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), plain(x), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("kind", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_a_packed_convolution_gives_what_the_convolution_and_relu_give(dims, kind, error):
    conv = (torch.nn.Conv2d if dims == 2 else torch.nn.Conv3d)(3, 5, 3, padding=1).to(kind)
    together = packed(conv)
    assert together is not None  # the PyTorch of the tests can
    for size in ((2, 3, 6, 16, 11), (1, 3, 9, 64, 48)):
        x = torch.randn(*size[:2], *size[-dims:]).to(kind)
        with torch.inference_mode():
            torch.testing.assert_close(together(x), conv(x).relu(), atol=error, rtol=error)


def test_convolutions_are_left_alone_where_onednn_is_switched_off():
    conv = torch.nn.Conv2d(3, 5, 3, padding=1)
    with torch.backends.mkldnn.flags(enabled=False):
        assert packed(conv) is None
    assert packed(conv) is not None


def test_one_slice_in_a_3d_network_gives_the_same_every_time_and_as_in_float32():
    """oneDNN's bfloat16 convolutions of a single slice read memory that nobody has written."""
    torch.manual_seed(0)
    network = build_network(get_preset("default-3d").network).eval()
    volume = torch.rand(1, 64, 64)
    exact = predict_volume(compiled_for(network, CPU, reduced_precision=False), volume, CPU)
    assert exact.shape == (4, 1, 64, 64)
    for _ in range(3):
        found = predict_volume(compiled_for(network, CPU), volume, CPU)
        torch.testing.assert_close(found, exact, atol=0.1, rtol=0)


def test_a_segmenter_can_be_sent_to_another_process(fast, phantom):
    segmenter = Segmenter(fast, "cpu")
    sent = pickle.loads(pickle.dumps(segmenter))
    for labels in (s.segment(phantom.study, [0]).labels[0].data for s in (sent, copy.deepcopy(segmenter))):
        np.testing.assert_array_equal(labels, segmenter.segment(phantom.study, [0]).labels[0].data)


@pytest.mark.parametrize("why", ["no such operator", "other arguments", "another result"])
def test_where_pytorch_cannot_pack_convolutions_a_network_runs_as_it_is(fast, monkeypatch, why):
    x = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        wanted = compiled_for(fast.build(), CPU)(x)

    def operator(*arguments):
        if why != "another result":
            raise AttributeError(why) if why == "no such operator" else RuntimeError(why)
        return torch.ones(())

    monkeypatch.setattr(PackedConv, "forward", operator)
    plain = compiled_for(fast.build(), CPU)
    assert not any(isinstance(module, PackedConv) for module in plain.modules())
    with torch.inference_mode():
        torch.testing.assert_close(plain(x), wanted, atol=0.05, rtol=0.05)


def test_a_study_gives_the_same_labels_every_time_and_frame_by_frame(fast, phantom):
    segmenter = Segmenter(fast, "cpu")
    whole, again = segmenter.segment(phantom.study), segmenter.segment(phantom.study)
    for index in range(3):
        alone = segmenter.segment(phantom.study, [index])
        assert list(alone.labels) == [index]
        np.testing.assert_array_equal(alone.labels[index].data, whole.labels[index].data)
        np.testing.assert_array_equal(again.labels[index].data, whole.labels[index].data)


def test_probabilities_lie_on_the_studys_grid_and_sum_to_one(fast, phantom):
    result = Segmenter(fast, "cpu", largest_component=False).segment(phantom.study, [0], keep_probabilities=True)
    p = result.probabilities[0]
    assert p.shape == (4, *phantom.study.geometry.shape)
    np.testing.assert_allclose(p.sum(0), 1.0, atol=1e-4)
    np.testing.assert_array_equal(p.argmax(0), result.labels[0].data)


def test_an_ensemble_averages_the_probabilities_of_its_models(fast, phantom):
    torch.manual_seed(0)
    # What an untrained network draws would turn the picture anyhow.
    preset = fast.preset.prepared_with(upright=False)
    fast = replace(fast, preset=preset)
    other = TrainedModel("other", preset, build_network(preset.network).state_dict())
    frame = {}
    for name, models in (("fast", fast), ("other", other), ("both", [fast, other])):
        segmenter = Segmenter(models, "cpu")
        frame[name] = segmenter.segment(phantom.study, [0], keep_probabilities=True).probabilities[0]
    np.testing.assert_allclose(frame["both"], (frame["fast"] + frame["other"]) / 2, atol=1e-5)


def test_models_with_different_preprocessing_average_on_the_patients_grid(fast, phantom):
    paper = get_preset("paper-2d")
    torch.manual_seed(0)
    other = TrainedModel("paper", paper, build_network(paper.network).state_dict())
    p = Segmenter([fast, other], "cpu").segment(phantom.study, [0], keep_probabilities=True).probabilities[0]
    assert p.shape == (4, *phantom.study.geometry.shape)
    np.testing.assert_allclose(p.sum(0), 1.0, atol=1e-4)


def test_networks_that_were_trained_on_other_pixels_but_read_the_same_share_a_frame(fast, phantom, monkeypatch):
    images = fast.preset.preprocessing
    finer = [replace(images, read_pixel_mm=1.4), replace(images, pixel_mm=1.4, train_size=288)]
    models = [replace(fast, preset=replace(fast.preset, preprocessing=one)) for one in finer]
    prepared = []
    whole = NetworkGrid.greys_to_network
    monkeypatch.setattr(
        NetworkGrid, "greys_to_network", lambda grid, x: prepared.append(grid.axes[1]) or whole(grid, x)
    )
    one = Segmenter(models[0], "cpu", region=False).segment(phantom.study, [0])
    assert len(prepared) == 1 and prepared[0].out_step == 1.4
    both = Segmenter(models, "cpu", region=False).segment(phantom.study, [0])
    assert len(prepared) == 2
    np.testing.assert_array_equal(both.labels[0].data, one.labels[0].data)


def test_flips_are_the_mean_over_the_four_mirrorings(fast):
    torch.manual_seed(0)
    network, volume = compiled_for(fast.build(), CPU, reduced_precision=False), torch.rand(2, 64, 64)
    by_hand = sum(
        predict_volume(network, volume.flip(axes), CPU).flip(axes) for axes in ((0, 0)[:0], (-1,), (-2,), (-2, -1))
    )
    torch.testing.assert_close(predict_with_flips(network, volume, CPU), by_hand / 4)
    mirrored = predict_with_flips(network, volume.flip(-1), CPU).flip(-1)
    torch.testing.assert_close(mirrored, predict_with_flips(network, volume, CPU), atol=1e-4, rtol=1e-4)


def test_the_end_slice_is_repeated_beyond_the_ends_of_the_stack():
    volume = torch.arange(4.0)[:, None, None].expand(4, 2, 2)
    config = get_preset("paper-2d").network
    assert network_inputs(volume, config)[:, :, 0, 0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]


def test_a_full_gpu_falls_back_to_the_cpu_with_a_warning_and_the_same_labels(fast, phantom, monkeypatch):
    expected = Segmenter(fast, "cpu").segment(phantom.study, [0]).labels[0]
    segmenter = Segmenter(fast, "cpu")
    segmenter.device = torch.device("cuda")  # what a machine with a GPU would have chosen
    calls = []

    def full(network, volume, device, *args, **kwargs):
        calls.append(device.type)
        if device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return predict_volume(network, volume, device)

    monkeypatch.setattr("CardiacSegLib.inference.predict_volume", full)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    with pytest.warns(UserWarning, match="ran out of memory"):
        result = segmenter.segment(phantom.study, [0])
    assert calls == ["cuda", "cpu", "cpu"] and result.device == "cpu"
    assert "CPU" in result.warnings[0]
    np.testing.assert_array_equal(result.labels[0].data, expected.data)


def test_a_gpu_that_is_full_before_the_first_frame_falls_back_too(fast, phantom, monkeypatch):
    compile_ = Segmenter._compile

    def full(self, device):
        if device.type == "cuda":
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return compile_(self, device)

    monkeypatch.setattr(Segmenter, "_compile", full)
    monkeypatch.setattr("CardiacSegLib.inference.choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    with pytest.warns(UserWarning, match="ran out of memory"):
        segmenter = Segmenter(fast)
    result = segmenter.segment(phantom.study, [0])
    assert result.device == "cpu" and "CPU" in result.warnings[0] and result.labels[0].data.any()


def test_a_device_that_is_not_there_is_refused_in_words():
    for name in ("tpu", "cuda:x"):
        with pytest.raises(CardiacSegError, match="no device"):
            choose_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(CardiacSegError, match="Choose 'auto' or 'cpu'"):
            choose_device("cuda")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")


def test_segmenting_can_be_stopped_between_frames(fast, phantom):
    done: list[int] = []
    result = Segmenter(fast, "cpu").segment(
        phantom.study, on_progress=lambda n, total: done.append(n), should_stop=lambda: len(done) >= 1
    )
    assert list(result.labels) == [0]


def test_a_false_ventricle_far_from_the_heart_is_dropped_even_where_it_is_the_larger():
    labels = np.zeros((6, 40, 40), np.uint8)
    labels[1:5, 5:15, 5:15], labels[2:4, 8:12, 8:12], labels[2:4, 15:18, 5:9] = 2, 3, 1
    labels[1:5, 30:38, 30:35] = 1
    kept = largest_components(labels)
    assert not kept[:, 25:].any()
    np.testing.assert_array_equal(kept[:, :25], labels[:, :25])


def test_holes_of_a_section_become_what_is_likelier_and_nothing_else_changes():
    p = np.zeros((4, 1, 20, 20), np.float32)
    p[0] = 0.4
    p[2, 0, 4:14, 2:12] = 0.5  # wall
    p[3, 0, 6:12, 4:10] = 0.6  # around a cavity
    p[:, 0, 8, 6], p[:, 0, 5, 3] = (0.5, 0.0, 0.2, 0.3), (0.5, 0.0, 0.3, 0.2)  # a hole in each
    p[1, 0, 4:12, 12:17], p[:, 0, 7, 14] = 0.7, (0.9, 0.1, 0.0, 0.0)  # RV with a hole
    with_holes = largest_components(p.argmax(0).astype(np.uint8))
    assert with_holes[0, 8, 6] == with_holes[0, 5, 3] == with_holes[0, 7, 14] == 0
    labels = labels_from_probabilities(p, True)
    assert (labels[0, 8, 6], labels[0, 5, 3], labels[0, 7, 14]) == (Label.LV, Label.MYO, Label.RV)
    assert np.count_nonzero(labels != with_holes) == 3
    assert (labels_from_probabilities(p, False) == p.argmax(0)).all()


def test_only_the_largest_piece_of_each_structure_is_kept():
    from skimage.measure import label as skimage_label

    rng = np.random.default_rng(0)
    for _ in range(10):
        noise = (rng.random((6, 20, 20)) > 0.6) * rng.integers(1, 4, (6, 20, 20))
        noise[2:4, 5:12, 5:12] = int(Label.LV)
        kept = largest_components(noise)
        assert set(np.unique(kept - 0)) <= {0, 1, 2, 3} and ((kept == noise) | (kept == 0)).all()
        pieces = skimage_label(noise > 0, connectivity=3)
        heart = noise * (pieces == np.bincount(pieces.ravel())[1:].argmax() + 1)
        for structure in STRUCTURES:
            pieces = skimage_label(heart == int(structure), connectivity=3)
            sizes = np.bincount(pieces.ravel())[1:]
            assert (kept == int(structure)).sum() == sizes.max()
            assert skimage_label(kept == int(structure), connectivity=3).max() == 1
