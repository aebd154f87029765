"""What the canonical form of each kind of value is: chosen by class, once per class and walk.

Order of the choice: ``__ckpt_digest__``; built-in containers; classes and functions (by name); enum members; the
table of known classes of the standard library and of array libraries; dataclasses; subclasses of built-ins; ordinary
instances (all attributes). Everything else is refused.
"""

from __future__ import annotations

import enum
import functools
import sys
import types
from collections.abc import Callable
from typing import Any

from ckpt.digests import library, tables
from ckpt.digests.canonical import LEAF_BASES, Handler, Hash, Walk, module_name, qualified_name, tag, text

_MANAGED_DICT = 1 << 4
_HEAP_TYPE = 1 << 9
_POINTER = object.__basicsize__ // 2


def handler_for(cls: type) -> Handler:
    """How instances of ``cls`` are digested; one that raises ``IdentityError`` where they cannot be."""
    if issubclass(cls, type):
        return _class
    if hasattr(cls, "__ckpt_digest__"):
        return _own
    handler = _EXACT.get(cls) or _library(cls) or _builtin_subclass(cls)
    if handler is not None:
        return handler
    if "__dataclass_fields__" in cls.__dict__:
        return _dataclass
    return _ordinary if is_ordinary(cls) else _by_name


def _library(cls: type) -> Handler | None:
    if issubclass(cls, enum.Enum):
        return _enum
    for module, name, handler, with_attributes in [*tables.TABLE, *library.TABLE]:
        base = getattr(sys.modules.get(module), name, None)
        if isinstance(base, type) and issubclass(cls, base):
            tagged = _tagged(f"{module}.{name}", handler)
            return tagged if cls is base or not with_attributes else _subclass(cls, base, tagged)
    return None


def _builtin_subclass(cls: type) -> Handler | None:
    for leaf, plain in LEAF_BASES.items():
        if issubclass(cls, leaf):
            return _subclass(cls, leaf, functools.partial(_leaf, plain))
    for base in (list, tuple, dict, set, frozenset):
        if issubclass(cls, base):
            return _subclass(cls, base, _EXACT[base])
    return None


def _leaf(plain: Callable[[Any], object], walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, plain(value))


def is_ordinary(cls: type) -> bool:
    """Whether instances hold nothing but their ``__dict__`` and ``__slots__``: no state that only C code sees."""
    if not cls.__flags__ & _HEAP_TYPE and cls.__module__ != "types":
        return False
    size = object.__basicsize__ + _POINTER * len(_slots(cls, object))
    if cls.__dictoffset__ and not cls.__flags__ & _MANAGED_DICT:
        size += _POINTER
    if cls.__weakrefoffset__ > 0:
        size += _POINTER
    return cls.__basicsize__ <= size and not cls.__itemsize__ and not issubclass(cls, types.ModuleType)


def _slots(cls: type, base: type) -> dict[str, types.MemberDescriptorType]:
    return {
        name: member
        for owner in reversed(cls.__mro__)
        if owner not in base.__mro__
        for name, member in owner.__dict__.items()
        if isinstance(member, types.MemberDescriptorType)
    }


def _attributes(value: object, base: type = object) -> dict[str, object]:
    """Slots and ``__dict__`` of ``value``, past properties; what functools.cached_property keeps does not count."""
    cls, found = type(value), {}
    for name, member in _slots(cls, base).items():
        try:
            found[name] = member.__get__(value, cls)
        except AttributeError:
            continue  # a slot that was never set is an attribute that is not there
    if cls.__dictoffset__:
        found.update(object.__getattribute__(value, "__dict__"))
    return {
        name: content
        for name, content in found.items()
        if not any(isinstance(owner.__dict__.get(name), functools.cached_property) for owner in cls.__mro__)
    }


def _tagged(name: str, handler: Handler) -> Handler:
    def feed(walk: Walk, hasher: Hash, value: Any) -> None:
        text(hasher, name)
        handler(walk, hasher, value)

    return feed


def _subclass(cls: type, base: type, handler: Handler) -> Handler:
    def feed(walk: Walk, hasher: Hash, value: Any) -> None:
        tag(hasher, "subclass")
        text(hasher, qualified_name(cls))
        handler(walk, hasher, value)
        walk.attributes(hasher, _attributes(value, base))

    return feed


def _own(walk: Walk, hasher: Hash, value: Any) -> None:
    data = value.__ckpt_digest__()
    if not isinstance(data, bytes):
        raise walk.refuse(value, f"__ckpt_digest__ returned a {type(data).__name__} and not bytes")
    tag(hasher, "own", len(data))
    text(hasher, qualified_name(type(value)))
    hasher.update(data)


def _list(walk: Walk, hasher: Hash, value: list[object]) -> None:
    tag(hasher, "list", len(value))
    for index, item in enumerate(list.__iter__(value)):
        walk.feed(hasher, item, "[{}]", index)


def _tuple(walk: Walk, hasher: Hash, value: tuple[object, ...]) -> None:
    names = getattr(type(value), "_fields", None)
    tag(hasher, "tuple", len(value))
    for index, item in enumerate(tuple.__iter__(value)):
        if isinstance(names, tuple) and index < len(names):
            walk.feed(hasher, item, ".{}", names[index])
        else:
            walk.feed(hasher, item, "[{}]", index)


def _dict(walk: Walk, hasher: Hash, value: dict[object, object]) -> None:
    tag(hasher, "dict", len(value))
    walk.pairs(hasher, dict.items(value))


def _mapping_proxy(walk: Walk, hasher: Hash, value: types.MappingProxyType[object, object]) -> None:
    tag(hasher, "mappingproxy", len(value))
    walk.pairs(hasher, value.items())


def _set(walk: Walk, hasher: Hash, value: set[object] | frozenset[object]) -> None:
    tag(hasher, "set" if isinstance(value, set) else "frozenset", len(value))
    members = set.__iter__(value) if isinstance(value, set) else frozenset.__iter__(value)
    for member in sorted(walk.alone(item, ".<member>") for item in members):
        hasher.update(member)


def _range(walk: Walk, hasher: Hash, value: range) -> None:
    tag(hasher, "range", len(value))  # as ranges compare: by what they yield
    walk.feed(hasher, (value.start, value.step)[: len(value)])


def _slice(walk: Walk, hasher: Hash, value: slice) -> None:
    tag(hasher, "slice")
    walk.feed(hasher, (value.start, value.stop, value.step))


def _memory(walk: Walk, hasher: Hash, value: memoryview) -> None:
    tag(hasher, "memoryview", value.nbytes)
    walk.feed(hasher, (value.format, value.shape))
    hasher.update(value if value.c_contiguous else value.tobytes())


def _alias(walk: Walk, hasher: Hash, value: Any) -> None:
    tag(hasher, "alias")
    walk.feed(hasher, (getattr(value, "__origin__", None), value.__args__))


def _class(walk: Walk, hasher: Hash, value: type) -> None:
    tag(hasher, "class")
    text(hasher, qualified_name(value))


def _enum(walk: Walk, hasher: Hash, value: Any) -> None:
    tag(hasher, "enum")
    text(hasher, qualified_name(type(value)))
    walk.feed(hasher, (value._name_, None if value._name_ else value._value_))


def _dataclass(walk: Walk, hasher: Hash, value: Any) -> None:
    from dataclasses import fields

    tag(hasher, "dataclass")
    text(hasher, qualified_name(type(value)))
    stored = _attributes(value)
    walk.attributes(hasher, {field.name: stored[field.name] for field in fields(value) if field.name in stored})


def _ordinary(walk: Walk, hasher: Hash, value: object) -> None:
    found = _attributes(value)
    if "__qualname__" in found and callable(value) and _is_global(value):  # a decorated function: by its name
        _by_name(walk, hasher, value)
        return
    tag(hasher, "instance")
    text(hasher, qualified_name(type(value)))
    walk.attributes(hasher, found)


def _is_global(value: Any) -> bool:
    """Whether the module that ``value`` names has this very object under its qualified name."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    found: object = sys.modules.get(module) if isinstance(module, str) else None
    if found is None or not isinstance(name, str):
        return False
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def _by_name(walk: Walk, hasher: Hash, value: Any) -> None:
    if not callable(value) or not _is_global(value):
        why = ""
        if isinstance(value, types.FunctionType):
            what = "a lambda" if value.__name__ == "<lambda>" else f"the function {value.__qualname__}"
            why = f"{what} cannot be found by name in its module, so it has no digest that is the same in every process"
        raise walk.refuse(value, why)
    tag(hasher, "function")
    text(hasher, f"{module_name(value.__module__)}.{value.__qualname__}")


def _method(walk: Walk, hasher: Hash, value: types.MethodType) -> None:
    tag(hasher, "method")
    walk.feed(hasher, value.__self__, ".{}", "__self__")
    walk.feed(hasher, value.__func__, ".{}", "__func__")


def _builtin(walk: Walk, hasher: Hash, value: Any) -> None:
    owner = value.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        _by_name(walk, hasher, value)
        return
    tag(hasher, "bound")
    text(hasher, value.__name__)
    walk.feed(hasher, owner, ".{}", "__self__")


def _descriptor(walk: Walk, hasher: Hash, value: Any) -> None:
    tag(hasher, "descriptor")
    text(hasher, f"{qualified_name(value.__objclass__)}.{value.__name__}")


def _partial(walk: Walk, hasher: Hash, value: functools.partial[object]) -> None:
    tag(hasher, "partial")
    walk.feed(hasher, value.func, ".{}", "func")
    walk.feed(hasher, value.args, ".{}", "args")
    walk.feed(hasher, value.keywords, ".{}", "keywords")


_EXACT: dict[type, Handler] = {
    list: _list,
    tuple: _tuple,
    dict: _dict,
    set: _set,
    frozenset: _set,
    range: _range,
    slice: _slice,
    memoryview: _memory,
    types.MappingProxyType: _mapping_proxy,
    types.GenericAlias: _alias,
    types.UnionType: _alias,
    types.FunctionType: _by_name,
    types.MethodType: _method,
    types.BuiltinFunctionType: _builtin,
    types.MethodDescriptorType: _descriptor,
    types.WrapperDescriptorType: _descriptor,
    functools.partial: _partial,
}
