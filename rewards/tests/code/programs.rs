//! Programs, functions and asserts that are tested.

use super::*;

#[test]
fn output_is_compared_line_by_line() {
    earns(&score(DOUBLE, doubles()), 1.0, "3 of 3 cases");
    earns(
        &score("print(min(int(input()) * 2, 4))", doubles()),
        0.0,
        "2 of 3 cases; case 3: wrong output: got \"4\", wanted \"10\"",
    );
    earns(
        &score("print(2); 1 / 0", doubles()),
        0.0,
        "0 of 3 cases; case 1: exit code 1, \"ZeroDivisionError",
    );
    earns(&score("print(2", doubles()), 0.0, "SyntaxError");
    earns(&score("print(int(input()) * 2, end=' ')\nprint()", doubles()), 1.0, "");
    let share = SHARE.score(&program("print(min(int(input()) * 2, 4))", json!({"tests": doubles()})));
    assert_eq!(share.value, Some(2.0 / 3.0));
    let packed = json!({"inputs": ["1\n", ["2"]], "outputs": ["2\n", ["4"]]}).to_string();
    earns(&score(DOUBLE, json!(packed)), 1.0, "2 of 2");
}

#[test]
fn the_limits_are_reported() {
    let limited = |seconds, cpu_seconds, code: &str, tests| {
        let sandbox = SandboxSettings { seconds, cpu_seconds, ..SandboxSettings::default() };
        let reward = Code { sandbox, ..Code::default() }.build("code").unwrap();
        reward.score(&program(code, json!({ "tests": tests })))
    };
    let sleep = "import time; time.sleep(1000)";
    earns(&limited(0.5, 5, sleep, doubles()), 0.0, "case 1: stopped after 0.5 s (time limit)");
    let (busy, calls) = ("def f(x):\n while True: pass\nf(1)", json!(["assert f(1) == 1"]));
    earns(&limited(20.0, 1, busy, doubles()), 0.0, "stopped after 1 s of processor time");
    earns(
        &limited(20.0, 1, &busy[..busy.len() - 5], calls.clone()),
        0.0,
        "stopped after 1 s of processor time",
    );
    earns(
        &limited(0.5, 5, &format!("{sleep}\ndef f(x): pass"), calls),
        0.0,
        "stopped after 0.5 s (time limit)",
    );
    earns(&score("while True: print('x' * 999)", doubles()), 0.0, "stopped after 1024 KiB of output");
    earns(&score("a = [0] * 10**12", doubles()), 0.0, "exit code 1, \"MemoryError");
    earns(&score("import os; os.kill(os.getpid(), 9)", doubles()), 0.0, "killed by signal 9");
}

#[test]
fn functions_are_called_with_json_and_their_values_compared() {
    let tests = json!({"fn_name": "f", "inputs": [[[3, 1, 2]], [[]]], "outputs": [[1, 2, 3], [[]]]});
    earns(&score("def f(x): return sorted(x)", tests.clone()), 1.0, "2 of 2");
    earns(&score("class Solution:\n def f(self, x): return tuple(sorted(x))", tests.clone()), 1.0, "2 of 2");
    earns(
        &score("def f(x): return x", tests.clone()),
        0.0,
        "case 1: wrong value: got \"[3, 1, 2]\", wanted \"[1,2,3]\"",
    );
    earns(&score("def f(x): print('noise', x); return sorted(x)", tests.clone()), 1.0, "");
    earns(&score("def g(x): return sorted(x)", tests.clone()), 0.0, "NameError: \"the program has no `f`\"");
    earns(&score("def f(x): raise KeyError(x[9])", tests.clone()), 0.0, "IndexError");
    earns(&score("if __name__ == '__main__': 1 / 0\ndef f(x): return sorted(x)", tests), 1.0, "");
    let lines = json!([{"input": "[1, 2]\n3", "output": "{\"a\": [1, 2, 3]}", "fn_name": "f", "testtype": "functional"}]);
    earns(&score("def f(a, b): return {'a': a + [b]}", lines), 1.0, "1 of 1");
}

#[test]
fn asserts_call_the_program_in_its_own_process() {
    let mbpp = json!([
        "assert add(1, 2) == 3",
        "assert set(add([1], [2])) == set([1, 2])",
        "assert add('a', 'b') == 'ab'"
    ]);
    earns(&score("def add(a, b): return a + b", mbpp.clone()), 1.0, "3 of 3");
    earns(&score("def add(a, b): return 3", mbpp), 0.0, "1 of 3 cases; case 2: TypeError");
    let wrong = json!(["assert add(1, 2) == 4"]);
    earns(&score("def add(a, b): return a + b", wrong), 0.0, "assertion failed: assert add(1, 2) == 4");
    let check =
        "def check(candidate):\n    assert candidate(2) == 4\n    assert abs(candidate(0.5) - 0.25) < 1e-6\n";
    let human = |code| ALL.score(&program(code, json!({"tests": check, "entry_point": "square"})));
    earns(&human("def square(x): return x * x"), 1.0, "1 of 1");
    earns(&human("def square(x): return x + x"), 0.0, "assertion failed: assert abs(");
    earns(&human("def sq(x): return x * x"), 0.0, "NameError: the program has no `square`");
    let every = "import math\nimport collections\n\
        assert f((1, 2.5, None, True)) == (1, 2.5, None, True)\n\
        assert f({'a': {1, 2}, 3: b'x'}) == {'a': {1, 2}, 3: b'x'}\n\
        assert f(10**40) == 10**40 and math.isnan(f(float('nan'))) and f(1j) == 1j\n\
        assert type(f(())) is tuple and f(collections.Counter('aa')) == {'a': 2}\n\
        assert f(x='\\ud800') == '\\ud800'\n";
    earns(&score("def f(x): return x", json!(every)), 1.0, "");
    let numbers = "from decimal import Decimal\nfrom fractions import Fraction\n\
        assert tenth() == Decimal('0.1') and third() == Fraction(1, 3) and twice(Decimal(2)) == Decimal(4)\n";
    let code = "from decimal import Decimal\nfrom fractions import Fraction\ndef tenth(): return Decimal('0.1')\n\
        def third(): return Fraction(1, 3)\ndef twice(x): return x * 2";
    earns(&score(code, json!(numbers)), 1.0, "");
    let objects = "s = Stack(); s.push(1); s.push([2]); assert len(s) == 2 and s.pop() == [2] and s.items == [1]\n\
        assert list(count(3)) == [0, 1, 2] and Stack() != s and s == s and repr(s) == 'S'\n\
        try:\n s.pop(); s.pop(); assert False\nexcept IndexError: pass\n\
        x = [3, 1]; sort(x); assert x == [1, 3]\n\
        assert apply(str, 5) == '5' and LIMIT == 7\n";
    let code = "class Stack:\n def __init__(self): self.items = []\n def push(self, x): self.items.append(x)\n \
        def pop(self): return self.items.pop()\n def __len__(self): return len(self.items)\n \
        def __repr__(self): return 'S'\n\
        def count(n):\n for i in range(n): yield i\n\
        def sort(x): x.sort()\ndef apply(f, x): return f(x)\nLIMIT = 7";
    earns(&score(code, json!(objects)), 1.0, "");
    let setup = json!({"tests": ["assert f(two) == math.sqrt(2)"], "test_imports": ["import math"], "test_setup_code": "two = 2"});
    earns(&ALL.score(&program("def f(x): return x ** .5", setup)), 1.0, "");
}

#[test]
fn integers_of_any_length_are_compared_to_the_last_digit() {
    let tests = r#"{"fn_name": "f", "inputs": [[25], [3]], "outputs": [15511210043330985984000000, 6]}"#;
    let factorial = "def f(n):\n p = 1\n for k in range(2, n + 1): p *= k\n return p";
    earns(&score(factorial, json!(tests)), 1.0, "2 of 2");
    earns(
        &score(&format!("{factorial} + (10**9 if n > 9 else 0)"), json!(tests)),
        0.0,
        "case 1: wrong value: got \"15511210043330986984000000\", wanted \"15511210043330985984000000\"",
    );
    earns(&score(&format!("{factorial} * 1.0"), json!(tests)), 0.0, "case 1: wrong value");
    let lines = json!([{"input": "100000000000000000000000\n[1]", "output": "[100000000000000000000001]", "fn_name": "f"}]);
    earns(&score("def f(a, b): return [a + b[0]]", lines.clone()), 1.0, "");
    earns(&score("def f(a, b): return [a]", lines), 0.0, "wrong value");
    let long = "7".repeat(9000);
    let call = format!(r#"{{"fn_name": "f", "inputs": [[9000]], "outputs": [{long}]}}"#);
    earns(&score("def f(n): return (10**n - 1) // 9 * 7", json!(call)), 1.0, "");
    earns(&score("def f(n): return (10**n - 1) // 9 * 7 + 1", json!(call)), 0.0, "");
    let printed = json!([{"input": "9000", "output": long}]);
    earns(&score("print((10**int(input()) - 1) // 9 * 7)", printed), 1.0, "");
    let nan = r#"{"fn_name": "f", "inputs": [[NaN, -Infinity]], "outputs": [[NaN, -Infinity]]}"#;
    earns(&score("def f(a, b): return [a, b]", json!(nan)), 1.0, "");
    earns(&score("def f(a, b): return [0, b]", json!(nan)), 0.0, "");
}

#[test]
fn printed_and_returned_numbers_may_be_off_by_the_tolerance() {
    let (printed, returned) = (
        json!([{"input": "", "output": "0.3 1"}]),
        json!({"fn_name": "f", "inputs": [[]], "outputs": [[0.3]]}),
    );
    earns(&score("print(0.1 + 0.2, 1)", printed.clone()), 1.0, "");
    earns(&score("print(0.1 + 0.2, 1.0)", printed.clone()), 1.0, "");
    earns(&score("print(0.30001, 1)", printed.clone()), 0.0, "wrong output");
    earns(&score("def f(): return [0.1 + 0.2]", returned.clone()), 1.0, "");
    earns(&score("def f(): return [0.30001]", returned.clone()), 0.0, "wrong value");
    let exact = build(Code { float_tolerance: 0.0, ..Code::default() });
    let judged = |code, tests: &Value| exact.score(&program(code, json!({ "tests": tests })));
    earns(&judged("print(0.1 + 0.2, 1)", &printed), 0.0, "wrong output");
    earns(&judged("print('0.30 1')", &printed), 1.0, "");
    earns(&judged("def f(): return [0.1 + 0.2]", &returned), 0.0, "wrong value");
    for tolerance in [-1.0, 1.0, f64::NAN] {
        let error = Code { float_tolerance: tolerance, ..Code::default() }.build("code").err().unwrap();
        assert!(error.to_string().contains("float_tolerance is"), "{error}");
    }
}

#[test]
fn common_names_need_no_import() {
    let call = json!({"fn_name": "f", "inputs": [[[4, 9]]], "outputs": [[2, 3]]});
    let code = "class Solution:\n def f(self, x: List[int]) -> Optional[List[int]]:\n  return [int(math.sqrt(n)) for n in deque(x)]";
    earns(&score(code, call.clone()), 1.0, "");
    let asserts = json!(["assert f([4, 9]) == [2, 3]"]);
    earns(&score(code, asserts), 1.0, "");
    earns(
        &score(
            "print(reduce(lambda a, b: a * b, map(int, sys.stdin.read().split())))",
            json!([{"input": "2 3", "output": "6"}]),
        ),
        1.0,
        "",
    );
    earns(
        &score("from __future__ import annotations\nprint(gcd(4, 6))", json!([{"input": "", "output": "2"}])),
        1.0,
        "",
    );
    earns(&score("print(nothing_of_that_name(4))", json!([{"input": "", "output": "2"}])), 0.0, "NameError");
}

#[test]
fn what_a_program_returns_or_raises_makes_no_test_broken() {
    let sorting = json!(["x = f(3); x.sort(key=lambda v: -v); assert x == [2, 1]"]);
    earns(&score("def f(x): return [1, 2]", sorting.clone()), 1.0, "");
    let object = "class A:\n def __getattr__(s, n): return lambda *a, **k: s\n __eq__ = lambda s, o: True\n";
    earns(
        &score(&format!("{object}def f(x): return A()"), sorting.clone()),
        0.0,
        "an object where the test needs a plain value",
    );
    earns(&score(&format!("def f(x): return f\n{object}f.sort = A()"), sorting), 0.0, "");
    let shows = json!(["assert f(3) == 9, f(3)"]);
    for code in [
        "class A:\n def __str__(s): raise ValueError\n __repr__ = __str__\ndef f(x): return A()",
        "class A:\n __class__ = property(lambda s: 1 / 0)\ndef f(x): return A()",
        "class E(Exception):\n def __str__(s): raise ValueError\ndef f(x): raise E()",
        "class L(list):\n def __iter__(s): raise ValueError\ndef f(x): return L([9])",
        "class D(dict):\n def items(s): raise ImportError\ndef f(x): return D()",
        "def f(x):\n a = []\n a.append(a)\n return a",
        "def f(x):\n import decimal\n decimal.Decimal.__str__ = lambda s: 'x'\n return decimal.Decimal(9)",
        "def f(x): raise ImportError",
        "def f(x): raise KeyError",
        "def f(x): raise SystemExit",
        "def f(x): raise KeyboardInterrupt",
        "def f(x): raise GeneratorExit",
        "def f(x): raise StopAsyncIteration",
        "def f(x): return f(x)",
        "def f(x): return iter([9])",
        "def f(x): return lambda: 9",
        "import sys\ndef f(x): return sys.modules",
        "def __getattr__(n): raise KeyError(n)",
    ] {
        earns(&score(code, shows.clone()), 0.0, "0 of 1");
        earns(&score(code, json!({"fn_name": "f", "inputs": [[3]], "outputs": [9]})), 0.0, "0 of 1");
    }
    // what the test does with the program's own classes and functions is the test's
    fails(
        &score("class Bag:\n def each(s, f): pass", json!(["b = Bag(); b.each(lambda x: x); assert True"])),
        "cannot pass a function",
    );
    fails(&score("def f(x): return x", json!(["assert f(x=lambda: 1)"])), "cannot pass a function");
}

#[test]
fn a_program_cannot_end_a_loop_of_the_test_by_an_exception() {
    for test in [
        "assert all(map(f, [1, 2]))",
        "assert all(a == b for a, b in zip(map(f, [1, 2]), [2, 4]))",
        "for got, wanted in zip(map(f, [1, 2]), [2, 4]): assert got == wanted",
        "for got in iter(lambda: f(1), 5): assert got == 2",
        "assert not [x for x in map(f, [1]) if x != 2]",
        "assert all(x == 2 for x in (f(1) for _ in range(2)))",
    ] {
        for kind in ["StopIteration", "StopAsyncIteration", "GeneratorExit", "IndexError", "Exception"] {
            let code = format!("def f(x): raise {kind}");
            earns(&score(&code, json!([test])), 0.0, "");
            let code = format!("class E({kind}): pass\ndef f(x): raise E");
            earns(&score(&code, json!([test])), 0.0, "");
        }
    }
    let generator = json!(["g = f(2); assert next(g) == 0 and list(g) == [1] and next(g, 7) == 7"]);
    earns(&score("def f(n): yield from range(n)", generator), 1.0, "");
}

#[test]
fn a_function_may_be_named_as_one_of_pythons() {
    for (code, test) in [
        ("def sum(a, b): return a + b", "assert sum(1, 2) == 3"),
        ("def filter(x): return [n for n in x if n > 1]", "assert list(filter([1, 2])) == [2]"),
        ("def pow(a, b): return a ** b", "assert abs(pow(2, 3) - 8) < 1e-9"),
        ("def max(a): return sorted(a)[-1]", "assert max(list(range(5))) == 4"),
        ("def sorted(a): return 'own'", "assert sorted([2, 1]) == 'own'"),
        ("def hash(a): return 7", "x = 3\nassert hash(x) == 7"),
    ] {
        earns(&score(code, json!([test])), 1.0, "1 of 1");
        earns(&score("def other(): pass", json!([test])), 0.0, "has no");
    }
    let check = "def check(candidate):\n    assert candidate([1, 2]) == sum([1, 2]) + 1\n";
    let fields = json!({"tests": check, "entry_point": "sum"});
    earns(&ALL.score(&program("def sum(x): return x[0] + x[1] + 1", fields)), 1.0, "");
    let fields = json!({"tests": ["assert sorted(max([2, 1])) == [1, 2]"], "entry_point": "max"});
    earns(&ALL.score(&program("def max(x): return x", fields)), 1.0, "");
    // where the test names a function of the program, Python's are Python's
    earns(&score("def abs(x): return 0\ndef f(x): return 1", json!(["assert abs(f(3) - 9) < 1"])), 0.0, "");
}
