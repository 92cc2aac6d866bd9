"""Names of what the library offers -> `"module:attribute"`, imported on first use.

A new scenario or model is one new file and one line here; streaming, training,
evaluation, command line and contract tests then know it. Nothing heavy is
imported by reading a table, so that `--help` can list the names at once.
"""

import importlib
from typing import Any

from sionna_loc.checks import check_known

SCENARIOS = {
    "cities": "sionna_loc.scenarios.cities:Cities",
    "inf_dh": "sionna_loc.scenarios.inf_dh:IndoorFactoryDH",
    "madrid": "sionna_loc.scenarios.madrid:Madrid",
    "paris_scn1": "sionna_loc.scenarios.paris_scn1:ParisScenario1",
    "paris_scn2": "sionna_loc.scenarios.paris_scn2:ParisScenario2",
}
FROM_FILES = {"measured": "sionna_loc.scenarios.measured:Measured"}
"""What stands in the place of a scenario: `--measurements` of the command lines."""
MODELS = {
    "backprojection": "sionna_loc.models.backprojection:BackProjectionLocalizer",
    "hyploc": "sionna_loc.models.hyploc:HypLoc",
    "hyploc_set": "sionna_loc.models.hyploc_set:HypLocSet",
    "mlp": "sionna_loc.models.mlp:Mlp",
    "multilateration": "sionna_loc.models.multilateration:Multilateration",
    "nearest_neighbours": "sionna_loc.models.nearest_neighbours:NearestNeighbours",
    "pdp_transformer": "sionna_loc.models.pdp_transformer:PdpTransformer",
    "recurrent": "sionna_loc.models.recurrent:Recurrent",
    "resnet_fingerprint": "sionna_loc.models.resnet_fingerprint:ResNetFingerprint",
    "vinloc": "sionna_loc.models.vinloc:VInLoc",
    "vinloc_links": "sionna_loc.models.vinloc_links:VInLocLinks",
}
FROM_RUNS = {
    "product_of_experts": "sionna_loc.models.product_of_experts:ProductOfExperts",
}
"""What is made of the models of other runs and not trained: `combine`."""


def lookup(kind: str, name: str, table: dict[str, str]) -> Any:
    """Import and return the object that `name` stands for.

    Args:
        kind: what the table lists, for the message, e.g. `"scenario"`.
        name: key of `table`.
        table: name -> `"module:attribute"`.

    Raises: UserError if the name is unknown, with the known ones.
    """
    check_known(kind, name, table)
    module, attribute = table[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def get_scenario(name: str, **options: Any) -> Any:
    """Return the scenario called `name`, built with `options`."""
    return lookup("scenario", name, SCENARIOS)(**options)


def get_model_class(name: str) -> type:
    """Return the `Localizer` class called `name`."""
    return lookup("model", name, MODELS | FROM_RUNS)


def get_model_name(class_name: str) -> str | None:
    """Return what the `Localizer` of a class of that name is called here, if any."""
    names = {entry.split(":")[1]: name for name, entry in (MODELS | FROM_RUNS).items()}
    return names.get(class_name)
