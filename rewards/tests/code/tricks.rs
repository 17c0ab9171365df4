//! Programs that cheat, and tests that cannot be run.

use super::*;

/// Programs that do not solve the task but would like to look as if.
const TRICKS: &[&str] = &[
    "import os; os._exit(0)",
    "import sys; sys.exit(0)",
    "raise SystemExit",
    "def f(x):\n import os; os._exit(0)",
    "def f(x):\n import sys; sys.exit(0)",
    "def f(x): raise AssertionError",
    "class A:\n __eq__ = lambda s, o: True\n __ne__ = lambda s, o: False\n __hash__ = None\ndef f(x): return A()",
    "class A(int):\n __eq__ = lambda s, o: True\n __ne__ = lambda s, o: False\ndef f(x): return A(0)",
    "class A(list):\n __eq__ = lambda s, o: True\ndef f(x): return A()",
    "import builtins, json\nbuiltins.AssertionError = ValueError\njson.dumps = lambda *a, **k: '\"passed\"'\n\
     json.loads = lambda *a: True\ndef f(x): return 0",
    "import os\nfor n in range(64):\n try: os.write(n, b'\"passed\"\\n[\"value\", true, []]\\n')\n except OSError: pass\n\
     os._exit(0)",
    "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(x): return 0",
    "import sys\nfor frame in [sys._getframe(n) for n in range(3)]: frame.f_globals.update(encode=lambda *a: True)\n\
     def f(x): return 0",
    "import sys, types\nsys.modules['operator'].eq = lambda *a: True\ndef f(x): return 0",
    "import os\nfor name in os.listdir('.'):\n try: open(name, 'w').write('')\n except OSError: pass\ndef f(x): return 0",
    "def abs(x): return 0\ndef len(x): return 0\ndef f(x): return 0",
    "import threading, os\nthreading.Timer(.05, lambda: os._exit(0)).start()\ndef f(x):\n while True: pass",
    "def f(x): raise StopIteration",
    "def f(x): return f",
    "f = print",
    "f = 5",
];

#[test]
fn no_trick_passes_a_test() {
    let io = json!([{"input": "3", "output": "9"}]);
    let call = json!({"fn_name": "f", "inputs": [[3]], "outputs": [9]});
    let assert = json!("assert not f(3) != 9\nassert abs(f(3) - 9) < 1e-9\nassert [f(3)] == [9]");
    let check = json!("def check(candidate):\n    assert candidate(3) == 9");
    let mut rollouts = Vec::new();
    for trick in TRICKS {
        for tests in [&io, &call, &assert, &check] {
            rollouts.push(program(trick, json!({"tests": tests, "entry_point": "f"})));
        }
    }
    let verdicts = ALL.score_all(&rollouts).unwrap();
    for (rollout, verdict) in rollouts.iter().zip(verdicts) {
        assert_eq!(verdict.value, Some(0.0), "{}\n{:?}\n{verdict:?}", rollout.text, rollout.prompt.fields);
    }
}

#[test]
fn what_is_wanted_never_enters_the_programs_process() {
    let look = "import gc, sys, os\ndef f(x):\n \
        held = ' '.join(repr(o) for o in gc.get_objects() if not isinstance(o, type(sys)))\n \
        files = ' '.join(open(n).read() for n in os.listdir('.') if n != 'main.py')\n \
        return '1328-detnaw'[::-1] in held + files + str(sys.argv) + str(os.environ)";
    earns(&score(look, json!(["assert f(1) == False and 'wanted-8231'"])), 1.0, "");
    let call = json!({"fn_name": "f", "inputs": [[1]], "outputs": ["wanted-8231"]});
    earns(&score(look, call), 0.0, "wrong value: got \"false\"");
}

#[test]
fn state_does_not_leak_from_case_to_case() {
    let code = "import os\ntry: n = int(open('n').read())\nexcept OSError: n = 0\nopen('n', 'w').write(str(n + 1))\nprint(n)";
    let tests = json!([{"input": "", "output": "0"}, {"input": "", "output": "0"}]);
    earns(&score(code, tests), 1.0, "2 of 2");
}

#[test]
fn the_program_is_the_last_block_outside_of_thinking() {
    let fields = || json!({"tests": doubles()});
    for text in [
        "none",
        "",
        "<think>\n```python\nprint(2)\n```",
        "```python\nprint(int(input()) * 2)",
        "```text\na\n```",
    ] {
        earns(&ALL.score(&rollout(text, fields())), 0.0, "no code in the completion");
    }
    let two = format!("```python\n1/0\n```\nNo, rather:\n```py\n{DOUBLE}\n```\n```bash\nrm\n```");
    earns(&ALL.score(&rollout(&two, fields())), 1.0, "");
    let shown = format!("```python\n{DOUBLE}\n```\nFor 2 it prints\n```\n4\n```");
    earns(&ALL.score(&rollout(&shown, fields())), 1.0, "");
    let bare = format!("```\n1/0\n```\nNo, rather:\n```\n{DOUBLE}\n```");
    earns(&ALL.score(&rollout(&bare, fields())), 1.0, "");
    let whole = build(Code { whole: true, parallel: 1, ..Code::default() });
    earns(&whole.score(&rollout(&format!("<think>a</think>{DOUBLE}"), fields())), 1.0, "");
    let long = format!("{}\n```python\n{DOUBLE}\n# {}\n```", "word ` ".repeat(700_000), "x".repeat(5 << 20));
    earns(&ALL.score(&rollout(&long, fields())), 1.0, "");
}

#[test]
fn tests_that_cannot_be_read_fail_and_none_say_nothing() {
    assert_eq!(ALL.score(&program(DOUBLE, json!({}))), Verdict::absent());
    assert_eq!(ALL.score(&program(DOUBLE, json!({"tests": null}))), Verdict::absent());
    for (tests, why) in [
        (json!(5), "found `5`, wanted a list of"),
        (json!([]), "no tests, wanted at least one"),
        (json!([{"input": "1"}]), "a test: found `{\"input\":\"1\"}`"),
        (json!([{"input": "1", "output": "1", "type": "functional"}]), "without `fn_name`"),
        (json!({"inputs": ["1"], "outputs": []}), "found 1 inputs and 0 outputs"),
        (json!({"fn_name": "f", "inputs": ["[1"], "outputs": ["1"]}), "an argument: found `\"[1\"`"),
        (json!("assert f(1 = 2"), "case 1: the test is broken: SyntaxError"),
        (json!("pass"), "asks nothing of the program"),
        (json!("import nothing_of_that_name\nassert f(1)"), "ModuleNotFoundError"),
        (json!("assert f(lambda x: x)"), "a test cannot pass a function to the program"),
    ] {
        fails(&score("def f(x): return x", tests), why);
    }
}

#[test]
fn verdicts_come_in_the_order_of_the_rollouts() {
    let rollouts: Vec<Rollout> = (0..24)
        .map(|n| {
            let code = format!("import time; time.sleep({}); print({n})", f64::from((n * 7) % 5) / 100.0);
            program(&code, json!({"tests": [{"input": "", "output": (n - n % 2).to_string()}]}))
        })
        .collect();
    let values: Vec<_> = ALL.score_all(&rollouts).unwrap().iter().map(|verdict| verdict.value).collect();
    let wanted: Vec<_> = (0..24).map(|n| Some(if n % 2 == 0 { 1.0 } else { 0.0 })).collect();
    assert_eq!(values, wanted);
}

#[test]
fn what_cannot_start_says_why() {
    let start = |code: Code| match code.build("code") {
        Err(RewardError::Start { name, why }) if name == "code" => why,
        other => panic!("{other:?}"),
    };
    assert!(start(Code { python: "no-such-python".into(), ..Code::default() }).contains("no-such-python"));
    assert!(start(Code { python: "/bin/true".into(), ..Code::default() }).contains("no Python"));
    let sandbox = SandboxSettings { seconds: -1.0, ..SandboxSettings::default() };
    assert!(start(Code { sandbox, ..Code::default() }).contains("`seconds` is -1"));
}

#[test]
fn settings_are_read_strictly_and_sparsely() {
    let read = |text: &str| serde_json::from_str::<Code>(text);
    assert_eq!(read("{}").unwrap(), Code::default());
    let some = read(r#"{"all": false, "sandbox": {"seconds": 2.5}}"#).unwrap();
    assert_eq!((some.all, some.sandbox.seconds, some.sandbox.memory_mib), (false, 2.5, 1024));
    assert!(read(r#"{"timeout": 1}"#).unwrap_err().to_string().contains("unknown field `timeout`"));
    assert!(
        read(r#"{"sandbox": {"network": true}}"#)
            .unwrap_err()
            .to_string()
            .contains("unknown field `network`")
    );
    assert!(ALL.protections().suffice());
}

/// `cargo test -p evenkeel-rewards --test code -- --ignored` says what a case costs.
#[test]
#[ignore = "a measurement"]
fn a_case_costs_little_more_than_starting_python() {
    let cases = [
        ("input and output", DOUBLE, json!([{"input": "1", "output": "2"}])),
        ("a function", "def f(x): return x", json!({"fn_name": "f", "inputs": [[1]], "outputs": [1]})),
        ("an assertion", "def f(x): return x", json!(["assert f(1) == 1"])),
    ];
    let mut report = String::new();
    for (name, code, tests) in cases {
        let started = std::time::Instant::now();
        for _ in 0..20 {
            earns(&score(code, tests.clone()), 1.0, "");
        }
        report += &format!("{name}: {:.1} ms; ", started.elapsed().as_secs_f64() * 50.0);
    }
    let memory = vec![1_u8; 4 << 30];
    let started = std::time::Instant::now();
    for _ in 0..20 {
        earns(&score(DOUBLE, json!([{"input": "1", "output": "2"}])), 1.0, "");
    }
    let gigabytes = memory.iter().step_by(1 << 20).map(|byte| usize::from(*byte)).sum::<usize>() >> 10;
    report +=
        &format!("with {gigabytes} GiB in this process: {:.1} ms; ", started.elapsed().as_secs_f64() * 50.0);
    let started = std::time::Instant::now();
    for _ in 0..20 {
        let python = std::process::Command::new("/usr/bin/python3").args(["-I", "-c", "pass"]).status();
        assert!(python.unwrap().success());
    }
    panic!("{report}python alone: {:.1} ms", started.elapsed().as_secs_f64() * 50.0);
}

#[test]
fn node_runs_as_the_documentation_says() {
    if std::process::Command::new("node").arg("--version").output().is_err() {
        return;
    }
    let node = build(Code {
        command: vec!["node".into(), "main.js".into()],
        file: "main.js".into(),
        languages: vec!["js".into(), "javascript".into()],
        ..Code::default()
    });
    let judged =
        |code: &str| node.score(&rollout(&format!("```js\n{code}\n```"), json!({ "tests": doubles() })));
    let read = "require('fs').readFileSync(0, 'utf8')";
    earns(&judged(&format!("console.log(2 * parseInt({read}))")), 1.0, "3 of 3 cases");
    earns(&judged(&format!("console.log(parseInt({read}))")), 0.0, "wrong output");
    earns(&judged("throw new Error('no')"), 0.0, "exit code 1");
    let lines = "const l = require('readline').createInterface({input: process.stdin});\n\
                 l.on('line', n => console.log(2 * n));";
    earns(&judged(lines), 1.0, "3 of 3 cases");
}

#[test]
fn other_languages_are_tested_by_input_and_output() {
    let command = |line: &[&str], file: &str, language: &str| {
        let command = line.iter().map(|word| (*word).to_owned()).collect();
        Code { command, file: file.into(), languages: vec![language.into()], ..Code::default() }
    };
    let shell = build(command(&["sh", "main.sh"], "main.sh", "sh"));
    let judged = |text: &str| shell.score(&rollout(text, json!({ "tests": doubles() })));
    earns(&judged("```python\nprint(1)\n```\n```sh\nread n; echo $((2 * n))\n```"), 1.0, "3 of 3 cases");
    earns(&judged("```sh\nread n; echo $n\n```"), 0.0, "wrong output");
    earns(&judged("```sh\ncat /etc/passwd\n```"), 0.0, "");
    earns(&judged("```python\nprint(1)\n```"), 0.0, "no code in the completion");
    fails(
        &shell.score(&rollout("```sh\ntrue\n```", json!({ "tests": ["assert f(1) == 2"] }))),
        "wanted input and output",
    );
    for (line, file, why) in [
        (&["no-such-program"][..], "main.x", "there is no program `no-such-program`"),
        (&["sh"], "../main.sh", "wanted the name of a file"),
        (&[], "main.sh", "`command`, which is not set"),
    ] {
        let RewardError::Start { why: found, .. } = command(line, file, "x").build("code").err().unwrap()
        else {
            panic!("another error");
        };
        assert!(found.contains(why), "{found}");
    }
}
