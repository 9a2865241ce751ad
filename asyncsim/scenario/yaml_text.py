"""Read YAML 1.2 text as plain data, with the line of every place in it, within bounds on size that hold for aliases and merges,
too."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, MaxDepthExceededError
from ruamel.yaml.constructor import ConstructorError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from asyncsim.errors import UserError
from asyncsim.userfiles import MOST_DEPTH, number_problem

Location = tuple[str | int, ...]
MOST_NODES = 50_000
"""The largest number of keys and values in one text, with those that merges (``<<``) repeat. Reading so many takes about five
seconds."""
_MERGE = "tag:yaml.org,2002:merge"


class _Bounded(Composer):
    """Counts nodes while it composes them, so that a text which is too large is never composed."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False
        self.count = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.count += 1
        if self.count > MOST_NODES:
            mark = self.parser.peek_event().start_mark
            raise MarkedYAMLError(problem=f"more than {MOST_NODES:,} keys and values", problem_mark=mark)
        return super().compose_node(parent, index)


def read_yaml(text: str, source: str) -> tuple[Any, dict[Location, int]]:
    """The data, and the line (from 1) of every key and entry. Raises ``UserError``, naming ``source`` and the line."""
    node = compose(text, source)
    if node is None:
        return None, {}
    yaml = YAML(typ="safe", pure=True)
    try:
        _check_merges(node)
        data = yaml.constructor.construct_document(node)
    except MarkedYAMLError as error:
        raise _problem(error, source) from None
    except (YAMLError, ValueError) as error:
        raise UserError(f"{source}: not valid YAML: {' '.join(number_problem(error).split())}") from None
    except (AssertionError, AttributeError, LookupError, TypeError, RecursionError):  # such as `!!bool x`, or `!!int ""`
        raise UserError(f"{source}: not valid YAML: a tag (`!!...`) or an alias (`*...`) stands where it cannot") from None
    return data, lines_of(node)


def compose(text: str, source: str) -> Node | None:
    """The text as nodes. Raises ``UserError``."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Bounded
    yaml.max_depth = MOST_DEPTH
    try:
        return yaml.compose(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{source}:{line}: not valid YAML: the character U+{error.character:04X} is not allowed") from None
    except MarkedYAMLError as error:
        raise _problem(error, source) from None
    except (YAMLError, ValueError) as error:
        raise UserError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    except (AssertionError, AttributeError, LookupError, TypeError, RecursionError):
        raise UserError(f"{source}: not valid YAML: it cannot be read") from None


def lines_of(root: Node) -> dict[Location, int]:
    """The line of every place; what an alias repeats has the line of the alias."""
    lines: dict[Location, int] = {}
    _mark(root, (), lines, set())
    return lines


def _check_merges(root: Node) -> None:
    """Raises ``MarkedYAMLError`` if merging would make too much of the text, or never end."""
    pairs: dict[int, int] = {}  # node -> its keys after merging, or its entries
    above: set[int] = set()
    total = 0

    def weigh(node: Node) -> int:
        nonlocal total
        if isinstance(node, ScalarNode):
            return 0
        if id(node) in above:
            raise MarkedYAMLError(problem="an alias stands inside what it names", problem_mark=node.start_mark)
        if id(node) in pairs:
            return pairs[id(node)]
        above.add(id(node))
        count = 0
        for key, value in node.value if isinstance(node, MappingNode) else [(None, item) for item in node.value]:
            count += 1
            weight = weigh(value)
            if key is not None:
                weigh(key)
                if key.tag == _MERGE:
                    count += sum(map(weigh, value.value)) if isinstance(value, SequenceNode) else weight
        above.remove(id(node))
        pairs[id(node)] = count
        total += count
        if total > MOST_NODES:
            raise MarkedYAMLError(problem=f"merges (`<<`) make more than {MOST_NODES:,} keys of it", problem_mark=node.start_mark)
        return count

    weigh(root)


def _problem(error: MarkedYAMLError, source: str) -> UserError:
    mark = error.problem_mark or error.context_mark
    return UserError(f"{source}:{mark.line + 1 if mark else 1}: not valid YAML: {_said(error)}")


def _said(error: MarkedYAMLError) -> str:
    problem = " ".join((error.problem or error.context or "it cannot be read").split())
    problem = problem if len(problem) <= 200 else f"{problem[:197]}..."
    if isinstance(error, MaxDepthExceededError):
        return f"nested too deeply, more than {MOST_DEPTH} levels"
    if isinstance(error, ConstructorError) and "recursive" in problem:
        return "an alias stands inside what it names"
    if problem.startswith("but ") and error.context:
        return f"{error.context}, {problem}"
    if "'\\t'" in problem:
        return "a tab where the line should be indented with spaces"
    return problem


def _mark(node: Node, location: Location, lines: dict[Location, int], seen: set[int]) -> None:
    if id(node) in seen:  # an alias: its line is that of where it stands
        return
    seen.add(id(node))
    if isinstance(node, MappingNode):
        for key, value in node.value:
            place = (*location, str(key.value))
            lines[place] = key.start_mark.line + 1
            _mark(value, place, lines, seen)
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            place = (*location, str(index))
            lines[place] = value.start_mark.line + 1
            _mark(value, place, lines, seen)
