"""Recipes: what a file may say, what is refused, and that text and value agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_scnn.decompose import Goal, Magnitude, Recipe, Scnn
from caffe_scnn.errors import CaffeScnnError, FormatError

FULL = """
method = "scnn"
bases = "dictionary"
alpha = 1
energy = 0.9
density = 0.25
global = true
layers = ["conv*", "fire?/expand"]
seed = 7

[layer."fire2/expand"]
q = 3

[layer.fc6]
method = "magnitude"
scaled = false
error = 0.1
"""


def test_a_file_becomes_goals():
    recipe = Recipe.parse(FULL)
    scnn = Scnn(bases="dictionary", alpha=1.0, energy=0.9)
    assert recipe.goal("conv1") == Goal(scnn, density=0.25)
    assert recipe.goal("fire2/expand") == Goal(
        Scnn(bases="dictionary", alpha=1.0, energy=0.9, q=3), density=0.25
    )
    assert recipe.goal("fc6") == Goal(Magnitude(scaled=False), error=0.1)
    assert recipe.across_layers
    assert recipe.layers == ("conv*", "fire?/expand")
    assert recipe.seed == 7


def test_an_empty_file_is_the_default():
    assert Recipe.parse("") == Recipe()


def test_done_is_ignored():
    assert Recipe.parse('[done."conv2"]\nanything = 1\n') == Recipe()


names = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=8)
methods = st.one_of(
    st.builds(Magnitude, scaled=st.booleans()),
    st.builds(
        Scnn,
        bases=st.sampled_from(["pca", "dictionary"]),
        p=st.sampled_from(["pca", "identity"]),
        q=st.just("energy") | st.integers(1, 100),
        energy=st.floats(1e-6, 1),
        scaled=st.booleans(),
        alpha=st.floats(1e-9, 1e9),
    ),
)
densities = st.floats(1e-9, 1)


@given(
    st.builds(
        Recipe,
        goal_of_all=st.builds(Goal, methods, density=densities),
        across_layers=st.booleans(),
        layers=st.none() | st.lists(names, min_size=1, max_size=3).map(tuple),
        seed=st.integers(0, 2**32 - 1),
        overrides=st.dictionaries(
            names,
            st.builds(Goal, methods, density=densities)
            | st.builds(Goal, methods, error=st.floats(0, 0.9)),
            max_size=3,
        ),
    )
)
def test_text_reads_back_as_the_same_recipe(recipe):
    assert Recipe.parse(recipe.text()) == recipe


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("densty = 0.1", 'unknown key "densty" for method "scnn"; did you mean "density"?'),
        ('method = "magnitude"\nq = 3', 'unknown key "q" for method "magnitude"'),
        ('method = "magnitud"', 'unknown method "magnitud"; did you mean "magnitude"?'),
        ("density = 0", "density must be in (0, 1], not 0"),
        ("density = 1.5", "density must be in (0, 1], not 1.5"),
        ("density = 0.5\nerror = 0.1", "density or error, not both"),
        ("error = -0.5", "error must be in [0, 1), not -0.5"),
        ('density = "10 %"', 'density = "10 %": a number is wanted'),
        ("density = true", "density = true: a number is wanted"),
        ("seed = 1.5", "seed = 1.5: an integer is wanted"),
        ("seed = -1", "seed must be in [0, 2^32), not -1"),
        ("global = true", "a global budget needs a density"),
        ('global = "yes"', 'global = "yes": true or false is wanted'),
        ("layers = []", "the list of layers is empty"),
        ('layers = "conv1"', 'layers = "conv1": a list of strings is wanted'),
        ('bases = "svd"', 'bases = "svd": "pca" or "dictionary" is wanted'),
        ('q = "all"', 'q = "all": an integer or "energy" is wanted'),
        ("q = 0", "q must be at least 1, not 0"),
        ("energy = 1.1", "energy must be in (0, 1], not 1.1"),
        ("[layer.conv2]\nerorr = 1", '[layer."conv2"]: unknown key "erorr"'),
        ("layer = 3", "layer = 3: a table is wanted"),
        ("density 0.1", "not a TOML file"),
    ],
)
def test_a_bad_recipe_is_refused_with_the_cause_and_the_file(text, phrase, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(FormatError) as refusal:
        Recipe.read(path)
    assert phrase in str(refusal.value)
    assert str(refusal.value).startswith(str(path))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FormatError, match="cannot read the recipe"):
        Recipe.read(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "values", [{"bases": "ica"}, {"p": "svd"}, {"alpha": 0}, {"iterations": 0}]
)
def test_a_method_refuses_values_out_of_range(values):
    with pytest.raises(CaffeScnnError, match=next(iter(values))):
        Scnn(**values)


def test_a_dense_layer_stays_dense_beside_a_density_for_all():
    recipe = Recipe(Goal(density=0.5), overrides={"conv2": Goal(Magnitude())})
    assert Recipe.parse(recipe.text()).goal("conv2").dense


def test_writing_and_reading_a_file_gives_the_same_recipe(tmp_path):
    recipe = Recipe.parse(FULL)
    recipe.write(tmp_path / "recipe.toml")
    assert Recipe.read(tmp_path / "recipe.toml") == recipe
