"""House rules that a test can check. Each failure says what to do."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "videollama2"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES, MAX_FUNCTION_LINES, CLONE = 400, 80, 10
# Modules that may be longer, with the reason.
LONGER: dict[str, str] = {}

# Verbs and plain nouns that several files give a function, with what it is of in each.
SEVERAL = {
    "clean": "a reply; a run's folder",
    "describe": "a model; a type",
    "evaluate": "a benchmark; the loss",
    "find": "a device; a release",
    "interval": "in words; in numbers",
    "join": "streams of time stamps; processes",
    "load": "an engine; a model of any kind of folder",
    "page": "of the doctor; of a benchmark",
    "read_config": "of DeepSpeed; of a checkpoint",
    "read_json": "of a checkpoint, an object; of a benchmark, anything",
    "sketch": "a drawing; a curve as text",
    "spread": "records over steps; a limited choice of values",
    "summary": "of numbers; of a report; of a configuration",
}

# Layers, by the first part of a module's name. A layer may import itself and the layers above it in this list.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    (
        "lean_imports",
        "json_lines",
        "bounded_http",
        "protocols",
        "hub",
        "linear",
        "recompute",
        "device",
        "receipt",
        "progress",
        "storage",
        "jobs",
        "remote",
        "text_encodings",
        "subtitle_formats",
        "subtitles",
    ),
    ("media", "phases"),
    (
        "stc",
        "audio",
        "beats_config",
        "beats",
        "vision",
        "colours",
        "efficientnet_lite",
        "yamnet",
        "fusion",
        "outputs",
    ),
    ("names", "paired_vision", "sound_names", "paired_audio"),
    ("media_features", "media_generation"),
    ("configuration",),
    ("modeling", "text"),
    ("call_options", "image_settings", "processor_attributes", "processor_calls", "processing"),
    ("processor_parts",),
    ("encoded_media",),
    ("media_cache",),
    ("weights", "data"),
    ("shared_media",),
    ("generation", "engine"),
    ("loading", "registration"),
    ("released_api", "train", "evals", "live", "serve", "ui", "backends"),
    ("preflight",),
    ("cli",),
    ("__main__",),
)
# Imports against that direction, inside functions only, with the reason.
LATE = {
    ("modeling", "weights"): "from_pretrained is a method of the class that weights loads",
    ("processor_attributes", "processor_parts"): "a part is made when it is first asked for",
    ("configuration", "weights"): "from_pretrained reads the original's config.json, too",
    ("loading", "backends"): "another engine, imported when it is chosen",
}
NEVER = {
    "torchvision",
    "torchaudio",
    "timm",
    "decord",
    "librosa",
    "torchcodec",
    "flash_attn",
    "pickle",
    "marshal",
    "shelve",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def dotted(path: Path) -> str:
    """`videollama2.media.clip`; a package by the name of its folder."""
    return ".".join(("videollama2", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


NAMES = {dotted(path) for path in MODULES}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def nodes() -> tuple[tuple[str, ast.AST], ...]:
    """Every node of the package, with its file and line."""
    return tuple(
        (f"{name_of(path)}:{getattr(node, 'lineno', 0)}", node) for path in MODULES for node in ast.walk(tree(path))
    )


def called(node: ast.AST) -> str:
    """Name of the called function or method: `print`, `.cuda`."""
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Attribute):
        return f".{node.func.attr}"
    return node.func.id if isinstance(node.func, ast.Name) else ""


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_long(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES or name_of(path) in LONGER, f"{lines} lines: split it, or give a reason in LONGER"


def test_contributing_names_the_limits() -> None:
    text = (PACKAGE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"A file has at most {MAX_LINES} lines, a function at most {MAX_FUNCTION_LINES}." in text


def test_no_function_is_long() -> None:
    long = [
        f"{where} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for where, node in nodes()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert not long, "split it into functions, one per step"


def test_only_the_command_line_prints() -> None:
    found = [where for where, node in nodes() if called(node) == "print" and not where.startswith("cli/")]
    assert not found, "use a module logger"


def test_no_place_is_hard_wired() -> None:
    assert not [where for where, node in nodes() if called(node) == ".cuda"], "use the device of the tensors at hand"
    asked = {id(part) for _, node in nodes() if isinstance(node, ast.Compare) for part in ast.walk(node)}
    literal = [
        where
        for where, node in nodes()
        if isinstance(node, ast.Constant) and node.value == "cuda" and id(node) not in asked
    ]
    assert all(where.startswith("device.py") for where in literal), literal


def test_no_code_from_data() -> None:
    assert not [where for where, node in nodes() if called(node) in ("eval", "exec", "compile", "__import__")]
    loads = [where for where, node in nodes() if called(node) == ".load" and "torch.load" in ast.unparse(node)]
    assert all(where.startswith("weights/pickles.py") for where in loads), "tensors come from safetensors"
    trusted = [
        where
        for where, node in nodes()
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and ast.unparse(node.value) != "False"
    ]
    assert not trusted, "code from a checkpoint must never run"


def test_errors_are_named_when_caught() -> None:
    bare = [where for where, node in nodes() if isinstance(node, ast.ExceptHandler) and node.type is None]
    assert not bare, "name the exception"


def test_no_star_and_no_path_tricks() -> None:
    stars = [where for where, node in nodes() if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    paths = [where for where, node in nodes() if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"]
    assert not stars + paths


def imports(path: Path, *, late: bool) -> Iterator[tuple[str, int]]:
    """Full names of the modules that a file imports, with the line; `late`: also those inside functions."""
    here = ("videollama2", *path.relative_to(PACKAGE).with_suffix("").parts)
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Import | ast.ImportFrom) or (not late and node.lineno in inside(path)):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif node.level == 0:
            yield node.module or "", node.lineno
        else:
            parent = ".".join([*here[: len(here) - node.level], *([node.module] if node.module else [])])
            for alias in node.names:  # a name in a module, or a module in a package
                module = f"{parent}.{alias.name}"
                yield (module if module in NAMES or not node.module else parent), node.lineno


@cache
def inside(path: Path) -> frozenset[int]:
    """Lines that do not run on import: bodies of functions, and blocks under TYPE_CHECKING."""
    lines: set[int] = set()
    for node in ast.walk(tree(path)):
        checking = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or checking:
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return frozenset(lines)


def layer(module: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if module in names)


def test_every_module_has_its_layer() -> None:
    found = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in MODULES} - {"__init__"}
    assert found == {name for names in LAYERS for name in names}, "give a new module its place in LAYERS"


def test_imports_go_one_way() -> None:
    """No layer imports a later one, except inside functions, as listed in LATE."""
    wrong = []
    for path in MODULES:
        own = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if own == "__init__":
            continue
        for late in (False, True):
            for module, line in imports(path, late=late):
                other = module.split(".")[1] if module.startswith("videollama2.") else ""
                known = any(other in names for names in LAYERS)
                against = known and layer(other) > layer(own) and not is_for_types(path, line)
                if against and not (late and (own, other) in LATE):
                    wrong.append(f"{name_of(path)}:{line} imports {module}")
    assert not wrong, "invert the dependency, or pass the object in"


def test_no_import_circles() -> None:
    """Neither inside a folder, nor under TYPE_CHECKING, nor by imports inside functions, except those in LATE."""

    def needed(path: Path) -> set[str]:
        own, at_import = dotted(path).split(".")[1:2], set(imports(path, late=False))
        found = [
            (module, (module, line) in at_import or is_for_types(path, line))
            for module, line in imports(path, late=True)
        ]
        return {module for module, always in found if always or (*own, *module.split(".")[1:2]) not in LATE}

    graph = {dotted(path): needed(path) & NAMES - {dotted(path)} for path in MODULES}
    while ends := {name for name in graph if not graph[name] or not any(name in needs for needs in graph.values())}:
        graph = {name: needs - ends for name, needs in graph.items() if name not in ends}
    assert not graph, "move what both files need into a third, or pass it in"


def test_names_are_unique() -> None:
    """A class, or a public function outside the command line, can be found by its name alone."""
    places: dict[str, set[str]] = {}
    for where, node in nodes():
        if isinstance(node, ast.ClassDef):
            places.setdefault(node.name, set()).add(where)
    for path in MODULES:
        for node in tree(path).body:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if function and not node.name.startswith("_") and path.parent.name != "cli":
                places.setdefault(node.name, set()).add(name_of(path))
    several = {name: sorted(files) for name, files in places.items() if len(files) > 1}
    assert not {name: files for name, files in several.items() if name not in SEVERAL}, (
        "say in the name what distinguishes it"
    )
    assert set(SEVERAL) <= set(several), "remove from SEVERAL what is unique by now"


def test_little_is_written_twice() -> None:
    """At most 1 % of the lines belong to blocks of ten or more that occur elsewhere as well."""
    copied, count, seen = set(), 0, {}
    for path in MODULES:
        text = path.read_text(encoding="utf-8").splitlines()
        lines = [
            (i, line.strip()) for i, line in enumerate(text, 1) if line.strip() and not line.strip().startswith("#")
        ]
        count += len(lines)
        for k in range(len(lines) - CLONE + 1):
            window = lines[k : k + CLONE]
            first = seen.setdefault(tuple(line for _, line in window), (path, k))
            if first != (path, k):
                copied |= {(path, number) for number, _ in window}
    assert len(copied) <= 0.01 * count, sorted(f"{name_of(path)}:{number}" for path, number in copied)


def is_for_types(path: Path, line: int) -> bool:
    checked = [n for n in ast.walk(tree(path)) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    return any(node.lineno <= line <= (node.end_lineno or 0) for node in checked)


def test_what_is_never_imported() -> None:
    found = [
        f"{name_of(path)}:{line} {module}"
        for path in MODULES
        for module, line in imports(path, late=True)
        if module.partition(".")[0] in NEVER
    ]
    assert not [f for f in found if not f.startswith("weights/pickles.py")], "the package must work without it"


def test_optional_packages_are_imported_where_they_are_used() -> None:
    optional = {"peft", "accelerate", "bitsandbytes", "deepspeed", "sentencepiece", "google", "pyarrow", "matplotlib"}
    optional |= {"openpyxl", "pysubs2"}
    found = [
        f"{name_of(path)}:{line} {module}"
        for path in MODULES
        for module, line in imports(path, late=False)
        if module.partition(".")[0] in optional
    ]
    assert not found, "import it in the function that uses it, through the check that raises MissingExtra"


def test_public_things_are_documented() -> None:
    missing = [
        f"{where} {node.name}"
        for path in MODULES
        for where, node in ((name_of(path), n) for n in tree(path).body)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]
    assert not missing
    assert not [name_of(p) for p in MODULES if p.stat().st_size and ast.get_docstring(tree(p)) is None]


def test_no_path_of_a_development_machine() -> None:
    """Neither code nor documents name a path on somebody's machine."""
    root, own = PACKAGE.parents[1], Path(__file__)
    files = [p for folder in ("src", "tests", "docs", "benchmarks", "recipes") for p in (root / folder).rglob("*")]
    read = [p for p in files if p.suffix in (".py", ".md", ".toml", ".txt", ".yaml") and p != own]
    personal = re.compile(r"(?<![\w./])/(work|tmp|home|root)/")
    assert not [str(p.relative_to(root)) for p in read if personal.search(p.read_text(encoding="utf-8"))]


def test_the_readme_matches_ci_and_the_tree() -> None:
    root = PACKAGE.parents[1]
    readme = (root / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python3 -m venv .*$", readme, re.MULTILINE)
    assert len(commands) == 2, "the README has two commands: one to run, one to test"
    assert commands[1] in (root / ".ci" / "run").read_text().splitlines(), ".ci/run must run the README's test command"
    named = re.findall(r"[├└]── ([a-z_0-9]+(?:\.py|/))", readme) + re.findall(r"\]\(([^)#:]+)\)", readme)
    missing = [n for n in named if not (PACKAGE / n).exists() and not (root / n).exists()]
    assert not missing, f"the README names files that do not exist: {missing}"


def test_the_architecture_page_names_what_exists() -> None:
    """Its paths, and the functions, classes and tables that it says stand in a file."""
    root = PACKAGE.parents[1]
    page = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = re.findall(r"`([a-z_0-9/]+(?:\.py|/))`", page)
    missing = [p for p in paths if not (PACKAGE / p).exists() and not (root / p).exists()]
    assert len(paths) > 60 and not missing, f"docs/architecture.md names what is not there: {missing}"
    listed = re.findall(r"`([a-z_0-9/]+\.py)`: ((?:`[\w.]+`(?:, )?)+)", page)
    placed = [(file, name) for file, names in listed for name in re.findall(r"`([\w.]+)`", names)]
    placed += [(file, name) for name, file in re.findall(r"`(\w+)` \(`([a-z_0-9/]+\.py)`\)", page)]
    wrong = [
        f"{file}: {name}"
        for file, name in placed
        if not re.search(
            rf"^\s*(?:def|class) {name.split('.')[-1]}\b|^{name}\b.*=",
            (PACKAGE / file).read_text("utf-8"),
            re.MULTILINE,
        )
    ]
    assert len(placed) > 15 and not wrong, f"docs/architecture.md places names where they are not: {wrong}"
