"""auto: layers one by one against channels, on the nets that both ways make."""

import numpy as np
import pytest
from test_decompose_compress import CHAIN, net_of
from test_targets import calibration, macs

from caffe_scnn.decompose import Auto, ChannelSelection, Goal, Obs, Recipe, compress, plan, rivals
from caffe_scnn.decompose.fit import Progress, Setting
from caffe_scnn.decompose.journal import Journal
from caffe_scnn.errors import ModelError
from caffe_scnn.layers.summary import summarize


def ways(recipe, images=True):
    """Return the methods and layers of all ways to a target."""
    setting = Setting(net_of(*CHAIN), calibration() if images else None, Progress(), Journal())
    return [(way.goal_of_all.method.name, way.layers) for way in rivals.rivals(setting, recipe)]


def test_channels_stand_against_all_methods_of_auto():
    auto = Recipe(Goal(Auto()), macs=0.5)
    assert ways(auto) == [("auto", None), ("channels", None)]
    assert ways(auto, images=False) == [("auto", None)]
    assert ways(Recipe(Goal(Obs()), macs=0.5)) == [("obs", None)]


def test_only_channels_between_the_layers_that_are_named_go():
    named = Recipe(Goal(Auto()), macs=0.5, layers=("conv1", "conv2"))
    assert ways(named) == [("auto", ("conv1", "conv2")), ("channels", ("conv1",))]
    named = Recipe(Goal(Auto()), macs=0.5, layers=("conv3",))
    assert ways(named) == [("auto", ("conv3",))]


def net_with_idle_channels():
    """Return a net of which every second channel of conv1 and conv2 is a copy of another."""
    net = net_of(*CHAIN)
    for name in ("conv1", "conv2"):
        for blob in net.layer(name).blobs:
            blob[1::2] = blob[::2]
    return net


@pytest.mark.parametrize("better", ["auto", "channels"])
def test_the_net_that_loses_less_is_taken(better, monkeypatch):
    lost = rivals._lost
    seen = {}

    def weighed(setting, fitted):
        name = fitted.recipe.goal_of_all.method.name
        seen[name] = lost(setting, fitted)
        return seen[name] * (name != better)

    monkeypatch.setattr(rivals, "_lost", weighed)
    net, recipe = net_with_idle_channels(), Recipe(Goal(Auto()), macs=0.3)
    found = compress(net, recipe, calibration=calibration())
    assert set(seen) == {"auto", "channels"} and min(seen.values()) > 0
    assert found.recipe.goal_of_all.method.name == better
    again = compress(
        net_with_idle_channels(), Recipe.parse(found.recipe.text()), calibration=calibration()
    )
    assert [b.tobytes() for part in found.net for b in part.blobs] == [
        b.tobytes() for part in again.net for b in part.blobs
    ]


def test_layers_one_by_one_lose_less_than_channels_where_little_goes():
    rough = compress(net_of(*CHAIN), Recipe(Goal(Auto()), macs=0.8), calibration=calibration())
    assert rough.recipe.goal_of_all.method == Auto()


def test_a_way_that_cannot_reach_the_target_leaves_it_to_the_other(monkeypatch):
    class Search(rivals.Search):
        def run(self):
            if isinstance(self._recipe.goal_of_all.method, Auto):
                raise ModelError("the target was missed")
            return super().run()

    monkeypatch.setattr(rivals, "Search", Search)
    net = net_of(*CHAIN)
    found = compress(net, Recipe(Goal(Auto()), macs=0.8), calibration=calibration())
    assert found.recipe.goal_of_all.method == ChannelSelection()
    assert macs(found.net) <= 0.8 * macs(net)
    with pytest.raises(ModelError, match="the target was missed"):
        compress(net, Recipe(Goal(Auto()), macs=0.8))  # without images there is one way


def test_where_no_way_leads_auto_says_why(monkeypatch):
    class Search(rivals.Search):
        def run(self):
            raise ModelError(self._recipe.goal_of_all.method.name)

    monkeypatch.setattr(rivals, "Search", Search)
    with pytest.raises(ModelError, match="auto"):
        compress(net_of(*CHAIN), Recipe(Goal(Auto()), macs=0.8), calibration=calibration())


def test_within_a_drop_the_cheaper_net_is_taken():
    net = net_of(*CHAIN)

    def check(small):
        channels = any(
            new.blobs[0].shape != old.blobs[0].shape
            for new, old in zip(small, net, strict=False)
            if old.blobs
        )
        return 0.0 if channels else 100 * (1 - macs(small) / macs(net))

    recipe = Recipe(Goal(Auto()), max_drop=10.0, spare="macs")
    found = compress(net, recipe, calibration=calibration(), check=check)
    assert found.recipe.goal_of_all.method == ChannelSelection()


def test_the_plan_is_that_of_the_way_expected_to_lose_less():
    asked = Recipe(Goal(Auto()), macs=0.3)
    planned = plan(net_with_idle_channels(), asked, calibration=calibration())
    methods = {type(choice.goal.method) for choice in planned.choices if choice.goal}
    assert methods == {ChannelSelection}
    assert planned.predicted <= 0.31 * summarize(net_with_idle_channels()).total.nonzero_macs
    assert np.isfinite(sum(choice.loss for choice in planned.choices))
