# Runs a test in a process that the program is not in. What the test does not define itself it takes from the program:
# a call goes to the program's process and its value comes back. So the program sees arguments but neither the test
# nor the wanted values, and an object of its own is never equal to a value of the test.
class Ended(BaseException):
    """The program's process is gone."""


class Unsendable(BaseException):
    """The test passes something that cannot leave this process."""


class ProgramError(Exception):
    """An error of the program whose kind is not one of Python's own."""


requests = os.fdopen(os.dup(1), "w", encoding="utf-8")
replies = os.fdopen(os.dup(0), "r", encoding="utf-8")
verdict = os.fdopen(os.dup(2), "w", encoding="utf-8")
null = os.open(os.devnull, os.O_RDWR)
for standard in range(3):
    os.dup2(null, standard)
asked, ended, unsendable = False, False, None
objects = {}
# What the test itself names of the program, objects of its classes, and what these have; and what else came from it.
named, returned = {}, set()


def send(value):
    if isinstance(value, Remote):
        return ["ref", number_of(value)]
    name = getattr(value, "__name__", None)
    if isinstance(name, str) and getattr(builtins, name, None) is value:
        return ["python", name]
    raise Unsendable("a test cannot pass a %s to the program" % type(value).__name__)


# Whether the test chose what it calls, rather than the program by what it returned.
def is_chosen(function, arguments):
    subject = arguments[0] if arguments and isinstance(arguments[0], Remote) else None
    number = function[1] if function[0] == "ref" else None if subject is None else number_of(subject)
    return number in named and number not in returned


# Remembers where an object of the program came from. Classes are told by their names, which the test wrote down: what the
# program says of itself is no reason to call a test broken.
def note(value, function, arguments):
    if not isinstance(value, Remote):
        return
    if function == ["python", "lookup"]:
        named[number_of(value)] = arguments[0]
    elif is_chosen(function, arguments):
        name = named[function[1]] if function[0] == "ref" else ""
        if name[:1].isupper() or function == ["python", "getattr"]:
            named.setdefault(number_of(value), "")
        else:
            returned.add(number_of(value))
    else:
        returned.add(number_of(value))


def receive(kind, content):
    if kind != "ref" or type(content) is not int:
        raise ProgramError("not a value")
    if content not in objects:
        objects[content] = Remote(content)
    return objects[content]


def ask(function, *arguments, **keywords):
    global asked, ended, unsendable
    asked = True
    if ended:
        raise Ended()
    try:
        keywords = [[name, encode(argument, send)] for name, argument in keywords.items()]
        request = json.dumps([function, [encode(argument, send) for argument in arguments], keywords])
    except Unsendable as error:
        if is_chosen(function, arguments):
            unsendable = str(error)
            raise
        error = ProgramError("the program returned an object where the test needs a plain value")
        error.of_the_program = True
        raise error from None
    try:
        requests.write(request + "\n")
        requests.flush()
        reply = replies.readline()
    except OSError:
        reply = ""
    if not reply.endswith("\n"):
        ended = True
        raise Ended()
    try:
        kind, value, more = json.loads(reply)
        if kind == "value":
            value = decode(value, receive)
            note(value, function, arguments)
            for argument, changed in zip(arguments, more):
                if changed is not None:
                    change(argument, decode(changed, receive))
            return value
        error = error_of([str(name) for name in value], str(more), function == ["python", "next"])
    except Exception as wrong:
        error = ProgramError("the program's process gave no value: %s" % wrong)
    error.of_the_program = True
    raise error


def change(argument, to):
    if type(argument) is type(to):
        if isinstance(argument, (list, bytearray)):
            argument[:] = to
        elif isinstance(argument, (dict, set)):
            argument.clear()
            argument.update(to)


# `map`, `zip` and `iter` take a StopIteration for the end of what they read, so only an iterator may raise it here; elsewhere it
# is an error, as it is inside of a generator.
def error_of(names, message, iterates):
    for name in names:
        kind = getattr(builtins, name, None)
        if not iterates and kind in (StopIteration, StopAsyncIteration):
            break
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                return kind(message)
            except TypeError:
                pass
    return ProgramError("%s: %s" % (names[0] if names else "error", message))


def number_of(remote):
    return object.__getattribute__(remote, "_number")


class Remote:
    """A function, class or object of the program."""

    def __init__(self, number):
        object.__setattr__(self, "_number", number)

    def __call__(self, *arguments, **named):
        return ask(["ref", number_of(self)], *arguments, **named)

    def __getattr__(self, name):
        return ask(["python", "getattr"], self, name)

    def __setattr__(self, name, value):
        ask(["python", "setattr"], self, name, value)

    __hash__ = object.__hash__


def forward(name, function, result=None):
    def method(self, *arguments):
        value = ask(["python", function], self, *arguments)
        if result is not None and not isinstance(value, result):
            raise TypeError("%s of an object of the program is no %s" % (function, result.__name__))
        return value

    setattr(Remote, name, method)


def compare(name):
    def method(self, other):
        if not isinstance(other, Remote):
            return NotImplemented
        return ask(["python", name], self, other) is True

    setattr(Remote, "__%s__" % name, method)


for name, result in {"len": int, "str": str, "repr": str, "bool": bool, "iter": None, "next": None}.items():
    forward("__%s__" % name, name, result)
for name in ("getitem", "setitem", "delitem", "contains"):
    forward("__%s__" % name, name)
for name in ("eq", "ne", "lt", "le", "gt", "ge"):
    compare(name)


# A name of the program. What its lookup raises must not look like a name that is nowhere.
def program(name):
    try:
        return ask(["python", "lookup"], name)
    except LookupError as error:
        wrong = ProgramError("%s: %s" % (type(error).__name__, error))
        wrong.of_the_program = True
        raise wrong from None


class Names(dict):
    # Names of Python that are the program's here.
    taken = ()

    def __missing__(self, name):
        if hasattr(builtins, name) and name not in self.taken:
            raise KeyError(name)
        return program(name)


def nodes(tree):
    found = [tree]
    for node in found:
        for field in node._fields:
            value = getattr(node, field, None)
            found += [item for item in (value if isinstance(value, list) else [value]) if hasattr(item, "_fields")]
    return found


# What tests do with a result before they compare it.
WRAPPERS = """abs bool bytes dict enumerate float frozenset getattr hasattr int isinstance issubclass iter len list next print range repr
reversed round set sorted str tuple type zip map""".split()
FINDERS = ["all", "any", "max", "min", "sum"]


# The task may be to write a function that Python has too, such as `pow`. A test that names nothing else of the program means
# the program's; which of several names it is, is only said where it is plain.
def taken_names(source):
    tree = nodes(compile(source, "test.py", "exec", 0x400))  # only parsed
    loaded, bound = {}, {"__program__", "__name__"}
    called = [id(node.func) for node in tree if type(node).__name__ == "Call"]
    for node in tree:
        kind = type(node).__name__
        if kind == "Name" and type(node.ctx).__name__ == "Load":
            loaded[node.id] = loaded.get(node.id, False) or id(node) in called
        elif kind == "Name":
            bound.add(node.id)
        elif kind in ("FunctionDef", "AsyncFunctionDef", "ClassDef"):
            bound.add(node.name)
        elif kind == "arg":
            bound.add(node.arg)
        elif kind == "alias":
            bound.add((node.asname or node.name).split(".")[0])
        elif kind == "ExceptHandler" and node.name:
            bound.add(node.name)
    free = [name for name in loaded if name not in bound]
    if "__program__" in loaded or any(not hasattr(builtins, name) for name in free):
        return []
    errors = [name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)]
    called = [name for name in free if loaded[name] and name not in errors]
    for ignored in ([], WRAPPERS, WRAPPERS + FINDERS):
        left = [name for name in called if name not in ignored]
        if len(left) == 1:
            return left
    return []


def said_by(error):
    try:
        return str(error)[:200]
    except Exception:
        return "an error that cannot be shown"


def line_of(error, source):
    import traceback

    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "test.py"]
    lines = [source.splitlines()[line - 1].strip() for line in lines if 0 < line <= len(source.splitlines())]
    return lines[-1][:200] if lines else "the test"


def run():
    with open("test.py", encoding="utf-8") as file:
        source = file.read()
    try:
        code = compile(source, "test.py", "exec")
    except (SyntaxError, ValueError) as error:
        return {"broken": "%s: %s" % (type(error).__name__, error)}
    if "import " in source:
        # This process is started without packages: to look for them takes longer than most tests.
        import site

        site.main()
    wrong = None
    names = Names(__name__="test", __program__=program)
    names.taken = taken_names(source)
    try:
        exec(code, names)
    except (Ended, Unsendable):
        pass
    except AssertionError as error:
        wrong = "assertion failed: %s" % (said_by(error) if hasattr(error, "of_the_program") else line_of(error, source))
    except BaseException as error:
        said = "%s: %s" % (type(error).__name__, said_by(error))
        if not hasattr(error, "of_the_program") and (not asked or isinstance(error, ImportError)):
            return {"broken": said}
        wrong = "%s at %s" % (said, line_of(error, source))
    if unsendable:
        return {"broken": unsendable}
    if ended:
        return "ended"
    if wrong:
        return {"wrong": wrong}
    return "passed" if asked else {"broken": "the test asks nothing of the program"}


verdict.write(json.dumps(run()))
verdict.flush()
os._exit(0)
