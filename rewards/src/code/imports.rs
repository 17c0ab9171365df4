//! The imports that a program forgot and that the public judges make for it.
//!
//! Before: [`super::extract`] found the program. After: it has one more line where it uses a common name, such as `List` of
//! LeetCode's signatures or `math`, that it binds nowhere. LiveCodeBench, APPS and TACO put dozens of imports in front of every
//! program; here only what is used is imported, as an import costs a case its time.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Modules that are used as `math.sqrt`.
const MODULES: &str = "array bisect calendar cmath collections copy datetime decimal enum fractions functools heapq io itertools \
                       json math operator os queue random re statistics string sys time typing";

/// Names that are used by themselves, by module.
const NAMES: &[(&str, &str)] = &[
    (
        "typing",
        "Any Callable DefaultDict Deque Dict FrozenSet Generator Iterable Iterator List Mapping NamedTuple Optional Sequence Set \
         Tuple Type TypeVar Union",
    ),
    ("collections", "ChainMap Counter OrderedDict defaultdict deque namedtuple"),
    (
        "itertools",
        "accumulate chain combinations combinations_with_replacement count cycle groupby islice pairwise permutations product \
         starmap takewhile zip_longest",
    ),
    ("functools", "cache cmp_to_key lru_cache partial reduce total_ordering"),
    ("heapq", "heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest"),
    ("bisect", "bisect bisect_left bisect_right insort insort_left insort_right"),
    (
        "math",
        "acos asin atan atan2 ceil comb cos degrees dist exp fabs factorial floor fmod gcd hypot inf isclose isinf isnan isqrt lcm \
         log log10 log2 perm pi prod radians sin sqrt tan trunc",
    ),
    ("copy", "copy deepcopy"),
    ("decimal", "Decimal getcontext"),
    ("fractions", "Fraction"),
    ("dataclasses", "dataclass field"),
    ("enum", "Enum IntEnum"),
    ("random", "randint shuffle"),
    ("string", "ascii_letters ascii_lowercase ascii_uppercase"),
    ("datetime", "timedelta"),
    ("operator", "itemgetter"),
    ("sys", "setrecursionlimit stdin"),
];

static MODULE_OF: LazyLock<BTreeMap<&str, &str>> = LazyLock::new(|| {
    NAMES.iter().flat_map(|(module, names)| names.split_whitespace().map(|name| (name, *module))).collect()
});

/// The program, with a line of imports before it if it uses common names that it neither imports nor defines.
pub(super) fn complete(code: &str) -> String {
    let missing = missing(code);
    if missing.is_empty() {
        return code.to_owned();
    }
    let mut line: Vec<String> = vec![];
    for (name, module) in missing {
        line.push(match module {
            // the alias that everybody uses; it may not be installed
            "numpy" => "import numpy as np".into(),
            "" => format!("import {name}"),
            module => format!("from {module} import {name}"),
        });
    }
    let line = line.join("; ") + "\n";
    // imports from the future have to come first, and with them whatever stands before
    let at = after_future(code);
    format!("{}{line}{}", &code[..at], &code[at..])
}

/// Names that are used as those of a library are, with their modules: none for a module itself.
fn missing(code: &str) -> BTreeMap<&str, &'static str> {
    let (mut used, mut bound) = (BTreeMap::new(), std::collections::BTreeSet::new());
    let (mut before, mut importing) = ("", false);
    for (word, gap, after) in words(code) {
        // an attribute, or a part of an import, whose names are bound
        let attribute = gap.ends_with('.');
        if gap.contains('\n') && !gap.contains('(') && !gap.trim_start().starts_with(',') {
            importing = false;
        }
        importing |=
            matches!(word, "import") || (word == "from" && (gap.contains('\n') || before.is_empty()));
        let assigned = after.starts_with('=') && !after.starts_with("==");
        if importing || matches!(before, "def" | "class" | "as" | "for") || (assigned && !attribute) {
            bound.insert(word);
        } else if !attribute {
            match MODULE_OF.get(word) {
                Some(module) if is_used(word, gap, after) => drop(used.insert(word, *module)),
                _ if after.starts_with('.') && word == "np" => drop(used.insert(word, "numpy")),
                _ if after.starts_with('.') && MODULES.split_whitespace().any(|name| name == word) => {
                    used.insert(word, "");
                }
                _ => {}
            }
        }
        before = word;
    }
    // `from math import *` may bind anything, and so may a comma before `=`: what is bound twice is the program's in the end
    used.retain(|word, _| !bound.contains(word));
    used
}

/// Whether a name that is also a common word stands where the library's would.
fn is_used(word: &str, gap: &str, after: &str) -> bool {
    let kind = word.starts_with(|c: char| c.is_ascii_uppercase());
    let constant = matches!(word, "inf" | "pi" | "stdin") || word.starts_with("ascii_");
    kind || constant || after.starts_with(['(', '[']) || gap.ends_with('@') || gap.ends_with(['(', ','])
}

/// Each word outside of comments and plain strings, what stands between it and the word before, and what follows it on its line.
fn words(code: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut at = 0;
    let mut gap = 0;
    std::iter::from_fn(move || {
        while at < code.len() {
            let rest = &code[at..];
            let first = rest.chars().next()?;
            if first == '#' {
                at += rest.find('\n').unwrap_or(rest.len());
                gap = at;
            } else if first == '"' || first == '\'' {
                at += string_len(rest);
                gap = at;
            } else if first.is_alphabetic() || first == '_' {
                let len = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                let (word, between) = (&rest[..len], code[gap..at].trim_matches(' '));
                at += len;
                gap = at;
                let after = code[at..].trim_start_matches(' ');
                // the prefix of a string, whose content may be code: that of an f-string
                if after.starts_with(['"', '\'']) && len <= 2 {
                    let text = string_len(&code[at..]);
                    let formatted = word.to_ascii_lowercase().contains('f');
                    at += if formatted { 1 } else { text };
                    gap = at;
                    continue;
                }
                return Some((word, between, after));
            } else if first.is_numeric() {
                at += rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            } else {
                at += first.len_utf8();
            }
        }
        None
    })
}

/// How far a string reaches that begins here.
fn string_len(text: &str) -> usize {
    let quote = &text[..1];
    let triple = quote.repeat(3);
    let (open, close) = if text.starts_with(&triple) { (3, triple.as_str()) } else { (1, quote) };
    let mut at = open;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with(close) {
            return at + close.len();
        }
        let c = rest.chars().next().unwrap_or(' ');
        if c == '\n' && open == 1 {
            return at;
        }
        at += c.len_utf8();
        if c == '\\' {
            at += text[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    text.len()
}

/// Behind the last line that imports from `__future__`.
fn after_future(code: &str) -> usize {
    let mut end = 0;
    let mut at = 0;
    for line in code.split_inclusive('\n') {
        at += line.len();
        if line.starts_with("from __future__ ") && line.ends_with('\n') {
            end = at;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::complete;

    #[test]
    fn what_is_used_and_bound_nowhere_is_imported() {
        for (code, line) in [
            (
                "class Solution:\n def f(self, x: List[int]) -> Optional[int]: pass",
                "from typing import List; from typing import Optional",
            ),
            ("print(math.sqrt(2))", "import math"),
            ("print(math.sqrt(2), gcd(4, 6))", "from math import gcd; import math"),
            ("d = defaultdict(list)", "from collections import defaultdict"),
            ("@lru_cache(None)\ndef f(n): return n", "from functools import lru_cache"),
            ("@cache\ndef f(n): return n", "from functools import cache"),
            ("print(reduce(lambda a, b: a * b, range(1, 5)))", "from functools import reduce"),
            ("x = float(1)\nbest = inf", "from math import inf"),
            ("print(f\"{math.pi}\")", "import math"),
            ("print(list(map(sqrt, x)))", "from math import sqrt"),
            ("print(sys.stdin.read())", "import sys"),
            ("a = np.array([1])", "import numpy as np"),
            ("heapq.heappush(h, 1)", "import heapq"),
        ] {
            assert_eq!(complete(code), format!("{line}\n{code}"));
        }
    }

    #[test]
    fn what_a_program_binds_itself_or_does_not_use_is_left_alone() {
        for code in [
            "import math\nprint(math.sqrt(2))",
            "import math, sys\nprint(math.sqrt(2), sys.argv)",
            "from math import (\n gcd,\n sqrt,\n)\nprint(gcd(4, 6), sqrt(4))",
            "from typing import List\ndef f(x: List[int]): pass",
            "import numpy as np\nnp.array([1])",
            "import collections as math\nmath.deque()",
            "def gcd(a, b): return a\nprint(gcd(4, 6))",
            "class List: pass\nprint(List())",
            "count = 0\ncount += 1\nprint(count)",
            "product = 1\nfor x in y: product *= x",
            "x.sqrt(2); s.count('a'); self.math.x",
            "# math.sqrt(2)\nprint('math.sqrt', \"\"\"deque(1)\n'\"\"\")",
            "time = 3\nprint(time)",
            "print(1)",
            "",
            "'unclosed",
            "\"\"\"unclosed math.x",
            "\\",
        ] {
            assert_eq!(complete(code), code);
        }
    }

    #[test]
    fn imports_from_the_future_stay_first() {
        let code = "# x\nfrom __future__ import annotations\nprint(math.pi)";
        assert_eq!(complete(code), "# x\nfrom __future__ import annotations\nimport math\nprint(math.pi)");
    }

    #[test]
    fn programs_of_any_bytes_are_read_in_linear_time() {
        for piece in ["'", "\"", "f'", "a.", "é", "\\", "from ", "import (", "#", "\"\"\"", "0x", "@"] {
            let code = piece.repeat(200_000);
            assert!(complete(&code).ends_with(&code[code.len() / 2..]), "{piece}");
        }
    }
}
