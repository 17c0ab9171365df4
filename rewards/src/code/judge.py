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


def send(value):
    global unsendable
    if isinstance(value, Remote):
        return ["ref", number_of(value)]
    name = getattr(value, "__name__", None)
    if isinstance(name, str) and getattr(builtins, name, None) is value:
        return ["python", name]
    unsendable = "a test cannot pass a %s to the program" % type(value).__name__
    raise Unsendable()


def receive(kind, content):
    if kind != "ref" or type(content) is not int:
        raise ProgramError("not a value")
    if content not in objects:
        objects[content] = Remote(content)
    return objects[content]


def ask(function, *arguments, **named):
    global asked, ended
    asked = True
    if ended:
        raise Ended()
    named = [[name, encode(argument, send)] for name, argument in named.items()]
    request = json.dumps([function, [encode(argument, send) for argument in arguments], named])
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
            for argument, changed in zip(arguments, more):
                if changed is not None:
                    change(argument, decode(changed, receive))
            return value
        error = error_of([str(name) for name in value], str(more))
    except (ValueError, TypeError, AttributeError, ArithmeticError) as wrong:
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


def error_of(names, message):
    for name in names:
        kind = getattr(builtins, name, None)
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


class Names(dict):
    def __missing__(self, name):
        if hasattr(builtins, name):
            raise KeyError(name)
        return ask(["python", "lookup"], name)


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
    try:
        exec(code, Names(__name__="test"))
    except (Ended, Unsendable):
        pass
    except AssertionError as error:
        wrong = "assertion failed: %s" % (str(error)[:200] if hasattr(error, "of_the_program") else line_of(error, source))
    except BaseException as error:
        said = "%s: %s" % (type(error).__name__, str(error)[:200])
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
