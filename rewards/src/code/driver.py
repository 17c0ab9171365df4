# Runs the program and calls its functions for whoever writes to standard input. The program can do to this process what
# it likes: all that comes out of it is the value of a function, and it is compared elsewhere.
import operator


def main():
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)
    module = type(sys)("main")
    sys.modules["main"] = module
    objects, numbers = [], {}

    def lookup(name):
        if name in module.__dict__:
            return module.__dict__[name]
        solution = module.__dict__.get("Solution")
        if isinstance(solution, type) and hasattr(solution, name):
            return getattr(solution(), name)
        raise NameError("the program has no `%s`" % name)

    def refer(value):
        if id(value) not in numbers:
            numbers[id(value)] = len(objects)
            objects.append(value)
        return ["ref", numbers[id(value)]]

    def resolve(kind, content):
        if kind == "ref":
            return objects[content]
        if kind == "name":
            return lookup(content)
        if content == "lookup":
            return lookup
        return getattr(builtins, content, None) or getattr(operator, content)

    try:
        with open("main.py", encoding="utf-8") as file:
            source = file.read()
        exec(compile(source, "main.py", "exec"), module.__dict__)
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    for request in requests:
        try:
            function, arguments, named = json.loads(request)
            function = decode(function, resolve)
            arguments = [decode(argument, resolve) for argument in arguments]
            named = {name: decode(argument, resolve) for name, argument in named}
            value = encode(function(*arguments, **named), refer)
            changed = [
                encode(argument, refer) if isinstance(argument, (list, dict, set, bytearray)) else None
                for argument in arguments
            ]
            reply = json.dumps(["value", value, changed])
        except BaseException as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            try:
                said = str(error)[:1000]
            except BaseException:
                said = "an error that cannot be shown"
            reply = json.dumps(["error", kinds, said])
        replies.write(reply + "\n")
        replies.flush()
    os._exit(0)


main()
