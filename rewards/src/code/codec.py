# Values cross between two processes as JSON in which every kind but None, bool, int, float and str has its name before it.
# What is none of these is `other`'s to say.
import builtins, json, math, os, sys

if hasattr(sys, "set_int_max_str_digits"):
    sys.set_int_max_str_digits(0)
ROWS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
WORDS = {"float": float, "complex": complex, "int": int}
# These take long to load, so they are only looked for where somebody else has loaded them.
MODULES = {"Decimal": "decimal", "Fraction": "fractions"}


def loaded(module, name):
    return getattr(sys.modules.get(module), name, ())


def encode(value, other):
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else ["int", str(int(value))]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else ["float", repr(float(value))]
    for name, row in ROWS.items():
        if isinstance(value, row):
            return [name, [encode(item, other) for item in value]]
    if isinstance(value, dict):
        return ["dict", [[encode(key, other), encode(item, other)] for key, item in value.items()]]
    if isinstance(value, (bytes, bytearray)):
        return [type(value).__name__, value.hex()]
    if isinstance(value, complex):
        return ["complex", str(value)]
    for name, module in MODULES.items():
        if isinstance(value, loaded(module, name)):
            return [name, str(value)]
    if isinstance(value, loaded("numpy", "generic")):
        return encode(value.item(), other)
    return other(value)


def decode(coded, other):
    if not isinstance(coded, list):
        return coded
    kind, content = coded
    if kind in ROWS:
        return ROWS[kind](decode(item, other) for item in content)
    if kind == "dict":
        return {decode(key, other): decode(item, other) for key, item in content}
    if kind in ("bytes", "bytearray"):
        return getattr(builtins, kind).fromhex(content)
    if kind in WORDS:
        return WORDS[kind](content)
    if kind in MODULES:
        return getattr(__import__(MODULES[kind]), kind)(content)
    return other(kind, content)


