"""Plugins: classes with a name, whose fields are their settings in a scenario, and one registry for each role.

A plugin is a frozen pydantic model with behaviour. Once it is decorated, a scenario may name it::

    from asyncsim.policies import Transform
    from asyncsim.registries import policies

    @policies.register("halve_when_late")
    class HalveWhenLate(Transform):
        after: int = 4

        def update(self, push, state, server):
            if push.staleness > self.after:
                push.penalise(2.0)
            return push

A package brings its plugins by an entry point. The group ``asyncsim.plugins`` names modules, whose plugins register themselves as
above, as many and of as many kinds as a module has. The group named in a registry (for example ``asyncsim.policy``) names single
classes, each by the name that a scenario writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from itertools import zip_longest
from typing import Any, ClassVar, Generic, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from asyncsim.errors import UserError, nearest

T = TypeVar("T", bound="type[Spec]")
S = TypeVar("S", bound="Spec")

_MARK = "x-registry"
_MOST_HINTS = 20  # of many unknown keys the others are not compared with every field
_registries: dict[str, Registry[Any]] = {}
PLUGINS = "asyncsim.plugins"
"""Entry points of this group are modules that register what they define."""
PAPERS = "asyncsim.methods"
"""The project's own folder of methods. A file in it may bring parts of any kind with it; the registries of parts import it by
this name, as they import the modules of other packages, and know nothing else of it."""


class Spec(BaseModel):
    """Validated settings: frozen, without unknown keys and without NaN. The base class of every section of a scenario and of
    every plugin."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, strict=False, protected_namespaces=(), validate_default=True
    )
    kind: ClassVar[str] = ""
    shorthand: ClassVar[str | None] = None
    """The field for which a bare value stands: with ``shorthand = "mean"``, ``2s`` means ``{mean: 2s}``."""

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if cls.shorthand and not isinstance(data, Mapping | BaseModel):
            data = {cls.shorthand: data}
        if not isinstance(data, Mapping):
            return data
        written = {info.alias or name: info for name, info in cls.model_fields.items()}
        fields = list(written)
        for key, value in data.items():
            if isinstance(value, bool) and key in fields and _takes_numbers(written[key]):
                raise located(cls.__name__, [((str(key),), value, "must be a number, not true or false")])
        unknown = [key for key in data if key not in fields]
        if not unknown:
            return data
        raise located(cls.__name__, [
            ((str(key),), data[key], f"unknown field{hint}; allowed here: {', '.join(fields) or 'nothing'}")
            for key, hint in zip_longest(unknown, (nearest(str(key), fields) for key in unknown[:_MOST_HINTS]), fillvalue="")
        ])  # fmt: skip

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A section that has a ``shorthand`` may be a bare value; a registry says that of its plugins itself."""
        described = handler(schema)
        if cls.shorthand and not cls.kind:
            body = handler.resolve_ref_schema(described)
            fields = dict(body)
            body.clear()
            body["anyOf"] = [{"type": ["number", "string"], "description": f"shorthand for {cls.shorthand}"}, fields]
        return described

    def settings(self) -> dict[str, Any]:
        """The fields as plain data, with ``kind`` first where the class is a plugin."""
        return ({"kind": self.kind} if self.kind else {}) | self.model_dump(mode="json", by_alias=True)


class Registry(Generic[S]):
    """The plugins of one role by name; ``S`` is their base class. As an annotation, ``Annotated[Delay, delays]``, it is a union
    over their kinds."""

    def __init__(self, what: str, default: str | None = None, home: str | None = None) -> None:
        self.what = what
        self.home = home
        """A package whose modules register plugins here; it is imported when the registry is first asked."""
        self.group = f"asyncsim.{what.replace(' ', '_')}"
        self.default = default
        """The ``kind`` that is meant by a mapping without ``kind``, and by a bare value if that kind has a ``shorthand``."""
        self._classes: dict[str, type[S]] = {}
        self._loaded = False
        _registries[what] = self

    def register(self, name: str) -> Callable[[T], T]:
        """Class decorator that registers a plugin under a name.

        A second class of the same name is refused, unless it redefines the first (a notebook cell that is run again).
        """

        def add(cls: Any) -> Any:
            known = self._classes.get(name)
            if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise UserError(f"{self.what} {name!r} is already defined by {known.__module__}.{known.__qualname__}")
            cls.kind = name
            self._classes[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        self._load()
        return sorted(self._classes)

    def __iter__(self) -> Iterator[tuple[str, type[S]]]:
        return ((name, self._classes[name]) for name in self.names())

    def __contains__(self, name: object) -> bool:
        """Is there a plugin of this name? What has not been loaded yet is loaded only if that may change the answer: defaults of
        the project's own settings are made while its modules are imported, before any plugin can be."""
        if name not in self._classes:
            self._load()
        return name in self._classes

    def __getitem__(self, name: str) -> type[S]:
        if name not in self:
            raise KeyError(f"unknown {self.what} {name!r}{nearest(name, self._classes)}; known: {', '.join(self.names())}")
        return self._classes[name]

    def parse(self, value: Any, context: Any = None) -> S:
        """The plugin that a value of a scenario describes: a registered instance, a name, a bare value (for the default kind),
        or a mapping with a ``kind``."""
        if isinstance(value, Spec) and value.kind in self and isinstance(value, self[value.kind]):
            return value
        if isinstance(value, Mapping):
            fields = {str(key): item for key, item in value.items()}
            kind = fields.pop("kind", self.default)
            if kind is None:
                known = ", ".join(self.names())
                raise located(self.what, [(("kind",), None, f"is missing; a mapping for {self.what} needs one of: {known}")])
            return self._class(kind, ("kind",)).model_validate(fields, context=context)
        if isinstance(value, str) and (
            value in self or self.default is None or not self[self.default].shorthand or value.isidentifier()
        ):
            return self._class(value, ()).model_validate({}, context=context)
        if self.default is not None and self[self.default].shorthand:
            return self[self.default].model_validate(value, context=context)
        raise PydanticCustomError("plugin", f"must be a name, or a mapping with a `kind`, of: {', '.join(self.names())}")

    def _class(self, kind: Any, where: tuple[str, ...]) -> type[S]:
        try:
            return self[str(kind)]
        except KeyError as error:
            message = str(error.args[0])
        if where:
            raise located(self.what, [(where, kind, message)])
        raise PydanticCustomError("plugin", message)

    def _load(self) -> None:
        """Import what registers itself, once. A plugin that is asked for meanwhile is found if its module has been imported."""
        if self._loaded:
            return
        self._loaded = True
        try:
            if self.home is not None:
                import_module(self.home)
            for point in entry_points(group=PLUGINS):
                _loaded_point(point)
            for point in entry_points(group=self.group):
                _loaded_point(point, self)
        except BaseException:
            self._loaded = False  # the next who asks is told as well
            raise

    # Pydantic reads these two when the registry annotates a field.
    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        dump = core_schema.plain_serializer_function_ser_schema(lambda plugin: plugin.settings())
        return core_schema.with_info_plain_validator_function(
            lambda value, info: self.parse(value, info.context), serialization=dump
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {_MARK: self.what}

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of what a scenario may write here: a bare name, a bare value of the default kind, or a mapping by
        ``kind``."""
        options: list[dict[str, Any]] = [{"enum": [name for name, cls in self if not _required(cls)]}]
        if self.default is not None and self[self.default].shorthand:
            options.append({"type": ["number", "string"], "description": f"shorthand for kind {self.default}"})
        for name, cls in self:
            body = cls.model_json_schema()
            body["properties"] = {"kind": {"const": name}, **body.get("properties", {})}
            body["required"] = sorted({*body.get("required", []), *([] if name == self.default else ["kind"])})
            options.append(body)
        return {"anyOf": options, "description": f"{self.what}, by kind"}


def _loaded_point(point: EntryPoint, registry: Registry[Any] | None = None) -> None:
    """Load an entry point, and register what it names in ``registry`` (None: it has registered itself)."""
    try:
        loaded = point.load()
        if registry is not None:
            registry.register(point.name)(loaded)
    except Exception as error:  # a broken package must be named, whatever it raises
        raise UserError(f"entry point {point.group}:{point.name} ({point.value}) cannot be loaded: {error}") from error


def json_schema(model: type[Spec]) -> dict[str, Any]:
    """The JSON Schema of ``model`` with every registry it reaches spelled out once under ``$defs``."""
    definitions: dict[str, Any] = {}

    def resolve(value: Any) -> Any:
        if isinstance(value, list):
            return [resolve(item) for item in value]
        if not isinstance(value, dict):
            return value
        if _MARK in value:
            name = value[_MARK]
            if name not in definitions:
                definitions[name] = {}  # a plugin may hold plugins of its own room
                definitions[name] = resolve(_hoisted(_registries[name].json_schema(), definitions, resolve))
            return {"$ref": f"#/$defs/{name}"}
        return {key: resolve(item) for key, item in value.items()}

    top = resolve(_hoisted(model.model_json_schema(), definitions, resolve))
    return {**top, "$defs": dict(sorted(definitions.items()))}


def _hoisted(schema: dict[str, Any], definitions: dict[str, Any], resolve: Callable[[Any], Any]) -> dict[str, Any]:
    """``schema`` without nested ``$defs``: pydantic's references are all relative to the root."""
    for body in [schema, *schema.get("anyOf", [])]:
        for name, nested in body.pop("$defs", {}).items():
            definitions.setdefault(name, {})
            definitions[name] = resolve(nested)
    return schema


def _takes_numbers(field: FieldInfo) -> bool:
    """Pydantic would take ``true`` for 1 here, and nobody means that."""
    parsed = any(isinstance(item, BeforeValidator) for item in field.metadata)
    kinds = {field.annotation, *get_args(field.annotation)}
    return not parsed and bool(kinds & {int, float}) and bool not in kinds


def _required(cls: type[Spec]) -> bool:
    return any(field.is_required() for field in cls.model_fields.values())


Problem = tuple[tuple[str | int, ...], Any, str]
"""Where a problem is (below the model that complains), the value, and the message."""


def located(title: str, problems: list[Problem]) -> ValidationError:
    """One validation error for several fields, for checks that look at more than one of them."""
    return ValidationError.from_exception_data(title, [
        InitErrorDetails(type=PydanticCustomError("located", message), loc=where, input=value)
        for where, value, message in problems
    ])  # fmt: skip
