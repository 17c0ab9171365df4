//! What chat templates write that the template engine has no syntax for, put in words that it has.
//!
//! Before: the source as a checkpoint has it. After: [`super::ChatTemplate`] parses what comes out here; lines stay where
//! they are, so that messages name the right one.
//!
//! `{% generation %}` of transformers marks what the assistant wrote, and prints what is inside of it: a block with a
//! scope of its own, which is `{% with %}`. `'…%s…' % x` is Python's formatting, which becomes a filter; the engine's own
//! `%` divides numbers, and stays where no text literal stands before it.

/// The filter that formats as Python's `%` does.
pub(super) const PERCENT: &str = "python_percent";

/// The source in the engine's own words.
pub(super) fn translate(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 64);
    let mut rest = source;
    while let Some(at) = rest.find('{') {
        let (text, tag) = rest.split_at(at);
        out.push_str(text);
        let end = match tag.as_bytes().get(1) {
            Some(b'#') => tag.find("#}").map_or(tag.len(), |end| end + 2),
            Some(b'%') => {
                let end = tag_end(tag, "%}");
                let word = block_word(&tag[..end]);
                match word {
                    Some("raw") => {
                        let close = raw_end(tag, end);
                        out.push_str(&tag[..close]);
                        rest = &tag[close..];
                        continue;
                    }
                    Some("generation") => out.push_str(&tag[..end].replacen("generation", "with", 1)),
                    Some("endgeneration") => {
                        out.push_str(&tag[..end].replacen("endgeneration", "endwith", 1));
                    }
                    _ => percent(&tag[..end], &mut out),
                }
                rest = &tag[end..];
                continue;
            }
            Some(b'{') => {
                let end = tag_end(tag, "}}");
                percent(&tag[..end], &mut out);
                rest = &tag[end..];
                continue;
            }
            _ => 1,
        };
        out.push_str(&tag[..end]);
        rest = &tag[end..];
    }
    out.push_str(rest);
    out
}

/// Where a tag that begins here ends: behind the first `close` outside of text literals and braces.
fn tag_end(tag: &str, close: &str) -> usize {
    let bytes = tag.as_bytes();
    let (mut at, mut open) = (2, 0usize);
    while at < bytes.len() {
        match bytes[at] {
            b'\'' | b'"' => at = literal_end(bytes, at),
            _ if open == 0 && tag[at..].starts_with(close) => return at + close.len(),
            b'{' | b'(' | b'[' => (open, at) = (open + 1, at + 1),
            b'}' | b')' | b']' => (open, at) = (open.saturating_sub(1), at + 1),
            _ => at += tag[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    tag.len()
}

/// Behind the quote that ends the literal which begins at `at`.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let quote = bytes[at];
    let mut end = at + 1;
    while end < bytes.len() {
        match bytes[end] {
            b'\\' => end += 2,
            byte if byte == quote => return end + 1,
            _ => end += 1,
        }
    }
    bytes.len()
}

/// The first word of `{% word … %}`.
fn block_word(tag: &str) -> Option<&str> {
    let inside = tag.get(2..)?.trim_start_matches(['-', '+']).trim_start();
    let end = inside.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(inside.len());
    Some(&inside[..end])
}

/// Behind the `{% endraw %}` of a raw block whose first tag ends at `from`.
fn raw_end(tag: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(found) = tag[at..].find("{%") {
        let begin = at + found;
        let end = tag[begin..].find("%}").map_or(tag.len(), |end| begin + end + 2);
        if block_word(&tag[begin..end]) == Some("endraw") {
            return end;
        }
        at = begin + 2;
    }
    tag.len()
}

/// A tag, with every `'…' % operand` in it as a filter.
fn percent(tag: &str, out: &mut String) {
    let bytes = tag.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !matches!(bytes[at], b'\'' | b'"') || at < 2 {
            let next = tag[at..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&tag[at..at + next]);
            at += next;
            continue;
        }
        let end = literal_end(bytes, at).min(bytes.len());
        let operator = end + spaces(&tag[end..]);
        let is_operator = bytes.get(operator) == Some(&b'%') && bytes.get(operator + 1) != Some(&b'}');
        out.push_str(&tag[at..end]);
        at = end;
        if is_operator {
            let begin = operator + 1 + spaces(&tag[operator + 1..]);
            let operand = operand_end(tag, begin);
            if operand > begin {
                out.push('|');
                out.push_str(PERCENT);
                out.push('(');
                percent_of_operand(&tag[operator + 1..operand], out);
                out.push(')');
                at = operand;
            }
        }
    }
}

/// The operand may hold such formatting again.
fn percent_of_operand(operand: &str, out: &mut String) {
    // two characters in front stand for the tag's own beginning, which is no part of an expression
    let mut inner = String::new();
    percent(&format!("  {operand}"), &mut inner);
    out.push_str(&inner[2..]);
}

fn spaces(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

/// Behind the operand of `%` that begins at `begin`: a literal, a name or brackets, with what is called, looked up or
/// filtered of it.
fn operand_end(tag: &str, begin: usize) -> usize {
    let bytes = tag.as_bytes();
    let word = |from: usize| {
        let length = tag[from..].find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'));
        from + length.unwrap_or(tag.len() - from)
    };
    let mut at = match bytes.get(begin) {
        Some(b'\'' | b'"') => literal_end(bytes, begin).min(bytes.len()),
        Some(b'(' | b'[' | b'{') => brackets_end(bytes, begin),
        Some(b'-') => word(begin + 1),
        _ => word(begin),
    };
    loop {
        match bytes.get(at) {
            Some(b'(' | b'[') => at = brackets_end(bytes, at),
            Some(b'.') => at = word(at + 1),
            _ => {
                let bar = at + spaces(&tag[at..]);
                if bytes.get(bar) != Some(&b'|') {
                    return at;
                }
                let name = bar + 1 + spaces(&tag[bar + 1..]);
                at = word(name);
                if at == name {
                    return bar;
                }
            }
        }
    }
}

/// Behind the bracket that closes the one at `at`.
fn brackets_end(bytes: &[u8], at: usize) -> usize {
    let (mut end, mut open) = (at, 0usize);
    while end < bytes.len() {
        match bytes[end] {
            b'\'' | b'"' => {
                end = literal_end(bytes, end);
                continue;
            }
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => {
                open -= 1;
                if open == 0 {
                    return end + 1;
                }
            }
            _ => {}
        }
        end += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_knows_is_left_alone() {
        for source in [
            "",
            "{",
            "100 % sure {# '%s' % x #}",
            "{% if loop.index0 % 2 == 0 %}{{ (a + 1) % b }}{% endif %}",
            "{% raw %}{% generation %}{{ '%s' % x }}{% endraw %}",
            "{{ 'a' }}%{{ \"b\" -}}",
            "{{ '{% generation %}' ~ {'a': {'b': 1}}['a'] }}",
            "{% set x = 'unfinished",
            "{{ 'é' ~ \"it's\" ~ 'a\\'b' }}",
            "{%- for m in messages -%}{{ m['content'] | trim }}{%- endfor %}",
            "{% if m['role'] == 'user'%}x{% endif %}",
        ] {
            assert_eq!(translate(source), source);
        }
    }

    #[test]
    fn generation_becomes_a_scope() {
        assert_eq!(
            translate("{%- generation -%}\n{{ x }}{% endgeneration +%}"),
            "{%- with -%}\n{{ x }}{% endwith +%}"
        );
    }

    #[test]
    fn formatting_becomes_a_filter_of_its_operand() {
        for (source, wanted) in [
            ("{{ '%s' % x }}", "{{ '%s'|python_percent( x) }}"),
            ("{{ '%s'%x.y[0].z(1) ~ 'b' }}", "{{ '%s'|python_percent(x.y[0].z(1)) ~ 'b' }}"),
            ("{{ \"%s %d\" % (a, b) }}", "{{ \"%s %d\"|python_percent( (a, b)) }}"),
            ("{%- set t = '%s' % x | upper -%}", "{%- set t = '%s'|python_percent( x | upper) -%}"),
            ("{{ '%s' % ('%d' % 3) }}", "{{ '%s'|python_percent( ('%d'|python_percent( 3))) }}"),
            ("{{ f('%s' % 'a%}b') }}", "{{ f('%s'|python_percent( 'a%}b')) }}"),
        ] {
            assert_eq!(translate(source), wanted);
        }
    }
}
