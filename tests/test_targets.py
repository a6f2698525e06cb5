"""Targets of the whole net: searched, measured, met, interrupted and gone on with."""

from dataclasses import replace

import numpy as np
import pytest
from test_decompose_compress import CHAIN, net_of
from test_obs import images

from caffe_scnn.calibrate import Calibration, Images
from caffe_scnn.decompose import Auto, Goal, Journal, LowRank, Obs, Recipe, compress, plan
from caffe_scnn.decompose.allocate import Curve, allocate
from caffe_scnn.decompose.costs import RESOURCES, Cost, Meter, packed_bytes
from caffe_scnn.decompose.curves import LEAST_LOSS, MOST_LOSS, Law, Probe, _curve
from caffe_scnn.decompose.recipe import bytes_of
from caffe_scnn.decompose.search import _next_budget
from caffe_scnn.decompose.select import Target
from caffe_scnn.errors import CaffeScnnError, ModelError
from caffe_scnn.layers.summary import summarize

LAYERS = ("conv1", "conv2", "conv3")


def calibration():
    return Calibration(Images(images()), threads=1)


def asked(method=None, **target):
    return Recipe(Goal(method or Obs()), layers=LAYERS, **target)


def weights(net):
    return [blob.tobytes() for part in net for blob in part.blobs]


def macs(net):
    return summarize(net).total.nonzero_macs


def test_a_size_in_bytes_is_met_and_nearly_used_up():
    net = net_of(*CHAIN)
    size = round(0.6 * packed_bytes(net))
    small = compress(net, asked(size=size), calibration=calibration()).net
    assert 0.9 * size < packed_bytes(small) <= size


def test_a_drop_is_kept_by_the_cheapest_net_that_was_tried():
    net = net_of(*CHAIN)
    tried = []

    def check(small):
        tried.append((macs(small), 100 * (1 - macs(small) / macs(net))))
        return tried[-1][1]

    recipe = asked(max_drop=40.0, spare="macs")
    found = compress(net, recipe, calibration=calibration(), check=check)
    kept = [macs for macs, drop in tried if drop <= 40.0]
    assert macs(found.net) == min(kept)
    assert macs(found.net) == pytest.approx(0.6 * macs(net), rel=0.03)
    assert found.recipe.max_drop is None and not found.recipe.searched


def test_a_drop_out_of_reach_and_one_without_images_are_refused():
    net = net_of(*CHAIN)
    with pytest.raises(ModelError, match=r"no net within a drop of 1 points .* lost 50"):
        compress(net, asked(max_drop=1.0, spare="macs"), check=lambda _: 50.0)
    with pytest.raises(ModelError, match="needs images to check on"):
        compress(net, asked(max_drop=1.0))


class Clock:
    """A layer takes 10 ns for a multiply-accumulate, and half as much again within a net."""

    def __init__(self, net, resource, threads=None):
        self._meter = Meter(net, timed=False)

    def of_chains(self, chains):
        cost = self._meter.of_chains(chains)
        return replace(cost, time=0.01 * cost.macs)

    def of_net(self, net):
        return Cost(macs(net), 0.015 * macs(net))

    def speedup(self, before, after):
        return macs(before) / macs(after)


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr("caffe_scnn.decompose.search.Meter", Clock)


def test_a_speed_that_was_predicted_wrongly_is_corrected(clock):
    """Layers alone take two thirds of what they take in the net, so the first net is too slow."""
    net = net_of(*CHAIN)
    found = compress(net, asked(speedup=2.0), calibration=calibration())
    assert 2.0 <= macs(net) / macs(found.net) < 2.0 * 1.04
    again = compress(net, Recipe.parse(found.recipe.text()), calibration=calibration())
    assert weights(found.net) == weights(again.net)


def test_time_is_really_measured():
    net = net_of(*CHAIN)
    meter = Meter(net, timed=True, threads=1)
    conv = net.layer("conv3")
    cost = meter.of_chains([(conv, [conv])])
    whole = meter.of_net(net)
    assert 0 < cost.time < whole.time
    assert 0 < cost.size < whole.size
    assert cost.macs < whole.macs == macs(net)
    assert 0.2 < meter.speedup(net, net) < 5


def test_packed_bytes_are_those_of_the_cheaper_form_and_shared_blobs_count_once():
    dense, sparse = np.ones(100, np.float32), np.zeros(100, np.float32)
    sparse[:10] = 1
    a, b = net_of(*CHAIN).layers[1], net_of(*CHAIN).layers[3]
    a.blobs, b.blobs = [dense, sparse], [sparse]
    assert packed_bytes([a, b]) == 400 + (40 + 13)


def test_a_plan_is_made_without_a_net():
    net = net_of(*CHAIN)
    found = plan(net, asked(macs=0.5), calibration=calibration())
    assert [choice.layer for choice in found.choices] == list(LAYERS)
    assert found.predicted <= 0.5 * found.whole
    assert all(choice.after < choice.before for choice in found.choices if choice.goal)
    done = compress(net, found.recipe, calibration=calibration())
    assert macs(done.net) == pytest.approx(found.predicted, rel=0.02)


def test_a_net_that_is_there_already_is_refused():
    with pytest.raises(ModelError, match="there already"):
        compress(net_of(*CHAIN), asked(macs=1.0), calibration=calibration())


def test_auto_takes_for_every_layer_what_loses_less():
    net = net_of(*CHAIN)
    left, values, right = np.linalg.svd(net.layer("conv3").blobs[0].reshape(32, -1), False)
    few = (left * values * (np.arange(32) < 4)) @ right
    net.layer("conv3").blobs[0] = few.reshape(32, 24, 3, 3).astype(np.float32)
    found = compress(net, asked(Auto(), macs=0.35), calibration=calibration())
    methods = {report.layer: report.method for report in found.reports}
    assert methods["conv3"] == "low-rank"  # its weights have rank 4
    assert methods["conv1"] == "obs"  # eight outputs of full rank
    again = compress(net, Recipe.parse(found.recipe.text()), calibration=calibration())
    assert weights(found.net) == weights(again.net)


def measured(sizes, whole, errors=(), losses=(), cost=1.0):
    """What the journal holds of a method: its error is what is missing of the layer's size."""
    points = [
        {"fraction": size, "error": 1 - size, **dict.fromkeys(RESOURCES, cost * size)}
        for size in sizes
    ]
    return {"at": 0, "points": points, "whole": whole, "errors": errors, "losses": losses}


def curve_of(*methods):
    """Join the methods of a layer that takes 1 as it is."""
    net = net_of(*CHAIN)
    target = Target((net.layer("conv3"),), Goal(Auto()))
    methods = [{**method, "at": at} for at, method in enumerate(methods)]
    as_is = {"macs": 1.0, "time": 1.0, "size": 1.0}
    return _curve(target, [Obs(), LowRank()], {"methods": methods, "as_is": as_is})


def chosen(*methods):
    """Return which methods are taken at some price or other, the layer left as it is aside."""
    curve = curve_of(*methods)
    points = {curve.at_price(price, "time") for price in np.geomspace(0.01, 10, 50)}
    return {int(curve.which[point]) for point in points - {len(curve.which) - 1}}


def test_what_an_error_costs_is_probed_for_every_method():
    """The same errors cost a classifier of low rank ten times what they cost a pruned one."""
    pruned = measured((0.2, 0.6), True, [0.8, 0.4], [0.64, 0.16])
    assert 1 in chosen(pruned, measured((0.2, 0.6), False, [0.4], [0.16], cost=0.7))
    assert chosen(pruned, measured((0.2, 0.6), False, [0.4], [1.6], cost=0.7)) == {0}
    cheap = curve_of(pruned, measured((0.2, 0.6), False, [0.4], [0.016]))  # not believed
    assert cheap.losses[cheap.which == 1][0] == pytest.approx(0.64)
    blind = curve_of(pruned, measured((0.2, 0.6), False, [1e-6], [1e-9]))  # tells nothing
    assert blind.losses[blind.which == 1][0] == pytest.approx(0.64)


def test_several_layers_do_not_grow_into_the_one_they_replace():
    assert curve_of(measured((0.2, 0.6), True)).densities[-2] > 0.99
    decomposed = curve_of(measured((0.2, 0.6), False))
    assert decomposed.densities[-2] <= 0.6 and decomposed.densities[-1] == 1
    assert decomposed.losses[-1] == 0


def test_auto_needs_a_target():
    with pytest.raises(ModelError, match="give it a target"):
        compress(net_of(*CHAIN), Recipe(Goal(Auto(), 0.5)), calibration=calibration())


class Stopped(Exception):
    """As if Ctrl-C was pressed."""


@pytest.mark.parametrize("method", [Obs(), LowRank()], ids=str)
@pytest.mark.parametrize("after", [1, 4, 5])
def test_what_was_interrupted_goes_on_and_gives_the_same_bytes(method, after, tmp_path):
    net = net_of(*CHAIN)
    whole = compress(net, asked(method, macs=0.6), calibration=calibration())

    def stop(at, total, name):
        if at == after:
            raise Stopped

    folder = tmp_path / "state"
    with pytest.raises(Stopped):
        compress(
            net,
            asked(method, macs=0.6),
            calibration=calibration(),
            on_layer=stop,
            journal=Journal(folder, "same"),
        )
    told = []
    kept = Journal(folder, "same")
    assert kept.pieces >= after
    again = compress(
        net,
        asked(method, macs=0.6),
        calibration=calibration(),
        on_layer=lambda *step: told.append(step),
        journal=kept,
    )
    assert weights(again.net) == weights(whole.net)
    assert again.net.text() == whole.net.text()
    assert again.recipe.text() == whole.recipe.text()
    kept.discard()
    assert not folder.exists()


def test_pieces_of_something_else_are_thrown_away(tmp_path):
    Journal(tmp_path / "state", "one").keep_numbers("key", {"x": 0.1})
    assert Journal(tmp_path / "state", "one").numbers("key") == {"x": 0.1}
    assert Journal(tmp_path / "state", "two").numbers("key") is None
    assert not (tmp_path / "state").exists()


def test_pieces_of_something_else_are_not_touched_by_a_journal_without_a_folder():
    journal = Journal()
    journal.keep_numbers("key", {"x": 1})
    assert journal.numbers("key") is None and journal.pieces == 0


def test_the_law_of_losses_goes_through_both_probes():
    law = Law.through([0.4, 0.1], [0.32, 0.02])
    np.testing.assert_allclose(law(np.array([0.4, 0.2, 0.1])), [0.32, 0.08, 0.02])
    assert Law.through([], [])(np.array([0.5])) == pytest.approx(0.25)
    assert Law.through([0.2, 0.1], [1.0, 1e-9]).power == 4.0


def test_errors_that_are_rounding_say_nothing_about_larger_ones():
    assert Law.through([1e-6, 1e-8], [1e-3, 1e-9]) == Law()
    one = Law.through([0.1, 1e-8], [0.03, 1e-9])  # the square through the one that tells
    assert one(np.array([0.2])) == pytest.approx(0.12)


def test_answers_that_are_no_numbers_are_worse_than_all_others(monkeypatch):
    net, given = net_of(*CHAIN), calibration()
    probe = Probe(net, given)
    finite = probe.of(net)
    assert finite == LEAST_LOSS
    net.layer("conv1").blobs[0][:] = np.inf
    with np.errstate(all="ignore"):
        assert probe.of(net) == MOST_LOSS


def test_losses_that_are_no_numbers_end_the_search():
    def curve(losses):
        costs = {"macs": np.array([1.0, 2.0, 3.0])}
        which = np.array([0, 1, 1])
        return Curve((Obs(), LowRank()), which, np.array([0.3, 0.6, 1]), losses, costs)

    odd, plain = curve(np.full(3, np.nan)), curve(np.array([2.0, 1.0, 0.0]))
    assert len(allocate([odd, plain], 5.0)) == 2


def test_curves_of_several_methods_share_their_end():
    def curve(method, losses):
        costs = {"macs": np.array([1.0, 2.0, 3.0])}
        return Curve((method,), np.zeros(3, np.int64), np.array([0.3, 0.6, 1]), losses, costs)

    joined = Curve.joined(
        [curve(Obs(), np.array([4.0, 1, 0])), curve(LowRank(), np.array([3.0, 2, 0]))]
    )
    assert joined.losses.tolist() == [4, 1, 3, 2, 0]
    assert joined.goal(1) == Goal(Obs(), 0.6) and joined.goal(2) == Goal(LowRank(), 0.3)
    assert joined.goal(4) is None
    assert joined.at_price(2.5, "macs") == 2 and joined.at_price(1.5, "macs") == 1


def test_what_a_price_leaves_of_a_budget_is_spent():
    """No price takes the middle of either curve, which lies above the line between its ends."""

    def curve(losses, *methods):
        costs = {"macs": np.array([1.0, 6.0, 10.0])}
        return Curve(
            methods or (Obs(), LowRank()),
            np.array([0, 1, 0]),
            np.array([0.1, 0.6, 1]),
            losses,
            costs,
        )

    curves = [curve(np.array([3.0, 2.5, 0])), curve(np.array([5.0, 3.0, 0]))]
    assert allocate(curves, 8.0) == [0, 1]  # the second layer gains more by five
    assert allocate(curves, 12.5) == [0, 2]
    assert allocate(curves, 16.5) == [1, 2]
    assert allocate(curves, 2.0) == [0, 0] and allocate(curves, 20.0) == [2, 2]
    alone = curve(np.array([5.0, 3.0, 0]), Obs())  # of one method: a price it is
    assert allocate([curves[0], alone], 8.0) == [1, 0]


@pytest.mark.parametrize(
    ("text", "wanted"), [("10MB", 10**7), ("1.5 kB", 1500), ("17", 17), ("2gb", 2 * 10**9)]
)
def test_sizes_are_read(text, wanted):
    assert bytes_of(text) == wanted


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("macs = 0.5\nspeedup = 2.0", "one target for the whole net, not macs and speedup"),
        ("speedup = 1.0", "speedup must be above 1"),
        ('size = "ten"', "a size is a number and B, kB, MB or GB"),
        ("size = 0", "size must be positive"),
        ("max_drop = 100", "max_drop must be in"),
        ('max_drop = 1.0\nspare = "money"', "spare"),
        ("speedup = 2.0\ndensity = 0.5", "or a density or error of layers, not both"),
        ("size = 5\n[layer.conv1]\ndensity = 0.5", "layers have no tables of their own"),
    ],
)
def test_targets_that_cannot_be_are_refused(text, phrase):
    with pytest.raises(CaffeScnnError, match=phrase):
        Recipe.parse(text)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(speedup=3.0),
        Recipe(size=10**7),
        Recipe(max_drop=1.5, spare="size"),
        Recipe(Goal(Auto()), macs=0.25),
    ],
)
def test_targets_survive_the_file(recipe):
    assert Recipe.parse(recipe.text()) == recipe


def test_the_next_budget_lies_between_those_that_missed_and_met():
    tried = [(10.0, 100.0), (5.0, 60.0)]
    assert _next_budget(tried, 50.0, 1.0) == pytest.approx(5 - (60 - 50 * 0.985) / 8)
    flat = [(10.0, 100.0), (5.0, 60.0), (4.9, 59.99)]
    assert _next_budget(flat, 50.0, 1.0) == pytest.approx((4.9 + 1.0) / 2)
    rising = [(10.0, 100.0), (5.0, 60.0), (4.0, 70.0)]
    assert 2.5 <= _next_budget(rising, 50.0, 1.0) < 4.0
    met = [(10.0, 100.0), (5.0, 60.0), (2.0, 20.0)]
    assert _next_budget(met, 50.0, 1.0) == pytest.approx(2 + (50 * 0.985 - 20) * 3 / 40)
    level = [(10.0, 100.0), (2.0, 20.0), (5.0, 20.01)]
    assert 5.0 < _next_budget(level, 50.0, 1.0) < 10.0
    far = [(7000.0, 7100.0), (670.0, 680.0)]
    assert _next_budget(far, 711.0, 1.0) < 711.0
