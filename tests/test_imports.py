"""Who may import whom: parsed from the source, so that lazy imports count too."""

import ast
import graphlib
import importlib
import sys
from pathlib import Path

import pytest

PACKAGE = "sionna_loc"
ROOT = Path(__file__).parent.parent / PACKAGE

# Every module stands in one room: a module or a subpackage of sionna_loc. A module
# imports from its own floor and from those below it, never from one above.
FLOORS = (
    ("train", "evaluate", "prepare", "adapt", "combine", "predict", "reproduce", "cli"),
    (
        *(
            "training",
            "evaluation",
            "adaptation",
            "self_training",
            "saving",
            "plotting",
            "experiments",
        ),
        *("assembly", "recipes", "callbacks", "checkpoints", "interrupts", "progress"),
        *("optimizers", "preparation", "preset_files", "posterior_maps", "resuming"),
        "transfer",
    ),
    ("models", "losses", "metrics", "calibration", "error_bound"),
    ("layers", "features", "scenarios", "data"),
    ("places", "channels", "signals", "antennas", "geometry", "position_noise"),
    (
        "sample",
        "checks",
        "constants",
        "registry",
        "device",
        "_llvm",
        "_memory",
        "__init__",
    ),
)
CLIS, TRAINING_SIDE, *_ = FLOORS

# Third-party package -> rooms or modules that may import it; what is not listed may
# not be imported at all.
EVERYWHERE = tuple(room for floor in FLOORS for room in floor)
THIRD_PARTY = {
    "apache_beam": ("data.storage",),
    "drjit": ("places", "channels", "device"),
    "h5py": ("data.array_files", "data.measured_form"),
    "keras": tuple(room for floor in FLOORS[:-1] for room in floor),
    "matplotlib": ("plotting", "posterior_maps", "experiments.figures"),
    "mitsuba": ("places", "channels", "device"),
    "numpy": EVERYWHERE,
    "scipy": ("models", "geometry", "places", "channels", "scenarios.paris_scn2"),
    "sionna.phy": ("channels", "signals"),
    "sionna.rt": ("places", "channels"),
    "tensorflow": (
        *("data", "features", "scenarios", "places", "channels", "device"),
        *("layers.token_set", "layers.compiled", "position_noise"),
        *CLIS,
        *(r for r in TRAINING_SIDE if r not in ("plotting", "posterior_maps")),
    ),
    "tensorflow_datasets": ("data.storage",),
    "tqdm": ("progress", "preparation"),
}
# Import name -> name in setup.py, where they differ or another package brings it.
DISTRIBUTIONS = {
    "apache_beam": "apache-beam",
    "drjit": "sionna",
    "mitsuba": "sionna",
    "tensorflow_datasets": "tensorflow-datasets",
}
OWN_RECIPES = ("datasets", "tuning")
FOLDERS = (*OWN_RECIPES, "benchmarks", "tests", PACKAGE)


def read_modules() -> dict[str, ast.Module]:
    """Return dotted name below the package -> parsed source, of every module."""
    modules = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if len(parts) > 1 and parts[-1] == "__init__":
            parts = parts[:-1]
        modules[".".join(parts)] = ast.parse(path.read_text(encoding="utf-8"))
    return modules


MODULES = read_modules()


def room_of(module: str) -> str:
    return module.split(".")[0]


def floor_of(module: str) -> int:
    floors = [i for i, rooms in enumerate(FLOORS) if room_of(module) in rooms]
    if len(floors) != 1:
        pytest.fail(f"{module} stands in no room: add its room to FLOORS")
    return floors[0]


def absolute_base(module: str, node: ast.ImportFrom) -> str:
    """Return the dotted name that `node` imports from, relative dots resolved."""
    if not node.level:
        return node.module
    is_package = (ROOT / Path(*module.split(".")) / "__init__.py").exists()
    parts = [PACKAGE, *module.split(".")] + (["__init__"] if is_package else [])
    return ".".join([*parts[: -node.level], *filter(None, [node.module])])


def imported_names(module: str, tree: ast.Module) -> set[str]:
    """Return the absolute dotted names that a module imports, lazily or not."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = absolute_base(module, node)
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def own_imports(module: str) -> set[str]:
    """Return the modules of the package that `module` imports."""
    found = set()
    for name in imported_names(module, MODULES[module]):
        if name.split(".")[0] != PACKAGE:
            continue
        parts = name.split(".")[1:]
        while parts and ".".join(parts) not in MODULES:
            parts.pop()
        found.add(".".join(parts) or "__init__")
    return found - {module}


def third_party_imports(module: str) -> set[str]:
    names = imported_names(module, MODULES[module])
    known = (PACKAGE, *sys.stdlib_module_names)
    return {name for name in names if name.split(".")[0] not in known}


def allowed_rooms(name: str) -> tuple[str, ...]:
    """Return who may import `name`, by the longest entry of the table that fits."""
    parts = name.split(".")
    for size in range(len(parts), 0, -1):
        if ".".join(parts[:size]) in THIRD_PARTY:
            return THIRD_PARTY[".".join(parts[:size])]
    return ()


def test_the_source_is_found():
    assert {"checks", "signals", "features.cir_tokens", "__init__"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_from_its_floor_and_below(module):
    above = {n for n in own_imports(module) if floor_of(n) < floor_of(module)}
    assert not above, f"{module} imports from a floor above its own: {sorted(above)}"


def test_no_circles():
    graph = {module: own_imports(module) for module in MODULES}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # CycleError names it


@pytest.mark.parametrize("module", MODULES)
def test_third_party_packages_stay_in_their_rooms(module):
    for name in third_party_imports(module):
        rooms = allowed_rooms(name)
        assert rooms, f"{module} imports {name}, which no room may import"
        fits = module in rooms or room_of(module) in rooms
        assert fits, f"{module} imports {name}; only {', '.join(rooms)} may"


def test_third_party_packages_are_declared():
    setup = (ROOT.parent / "setup.py").read_text(encoding="utf-8")
    names = {
        name.split(".")[0] for module in MODULES for name in third_party_imports(module)
    }
    for name in names:
        distribution = DISTRIBUTIONS.get(name, name)
        assert f'"{distribution}>=' in setup, f"setup.py does not name {distribution}"


@pytest.mark.parametrize("module", MODULES)
def test_recipes_are_never_imported(module):
    tops = {n.split(".")[0] for n in imported_names(module, MODULES[module])}
    assert not tops & set(OWN_RECIPES)


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_imported_of_the_package_is_there(folder):
    """Inside functions, too, whose imports fail only when they run."""
    paths = sorted((ROOT.parent / folder).rglob("*.py"))
    assert paths
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or node.level:
                continue
            base, *rest = node.module.split(".")
            if base != PACKAGE:
                continue
            assert not rest or ".".join(rest) in MODULES, f"{path}: no {node.module}"
            module = importlib.import_module(node.module)
            for name in (alias.name for alias in node.names):
                known = hasattr(module, name) or ".".join([*rest, name]) in MODULES
                assert known, f"{path}: {node.module} has no {name}"


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_empty(module):
    tree = MODULES[module]
    assert ast.get_docstring(tree), f"{module} has no docstring"
    is_package = (ROOT / Path(*module.split(".")) / "__init__.py").exists()
    assert is_package or len(tree.body) > 1, f"{module} holds nothing"


def test_names_are_ascii_and_every_folder_is_a_package():
    for path in ROOT.rglob("*.py"):
        assert str(path.relative_to(ROOT)).isascii(), path
        assert (path.parent / "__init__.py").exists(), f"{path.parent} is no package"
    for folder in OWN_RECIPES:
        inits = list((ROOT.parent / folder).rglob("__init__.py"))
        assert not inits, f"{folder}/ would shadow installed packages: {inits}"
