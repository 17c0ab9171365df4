//! One page of HTML that needs nothing else: no network, no fonts, no library.
//!
//! Before: a [`Report`]. After: a file that opens from a disk, prints, and fits a phone. Figures and tables are plain HTML and
//! SVG; only the reader of samples needs the script. All that models or data wrote is text to the browser: escaped here, or
//! JSON that the script shows as text. Should that ever fail, the page's policy forbids any other script and any request.

use sha2::{Digest, Sha256};

use super::words::{count, distinct, escaped};
use super::{Report, appendix, breakdown, figures, samples};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Sections that the page may have, as its table of contents calls them.
const CONTENTS: [(&str, &str); 11] = [
    ("accuracy", "Accuracy"),
    ("comparisons", "Comparisons"),
    ("runs", "Runs"),
    ("parts", "Levels and subjects"),
    ("at-k", "Several samples"),
    ("lengths", "Lengths"),
    ("intervals", "Intervals"),
    ("protocol", "Protocol"),
    ("models", "Models"),
    ("problems", "Problems"),
    ("reader", "Samples to read"),
];

/// The report as one page of HTML. The same report gives the same bytes.
pub fn page(report: &Report<'_>) -> String {
    let sections = [
        figures::accuracy(report),
        figures::comparisons(report),
        figures::runs(report),
        breakdown::parts(report),
        breakdown::at_k(report),
        breakdown::lengths(report),
        appendix::intervals(),
        appendix::protocol(report),
        appendix::models(report),
        appendix::problems(report),
        samples::section(report),
    ];
    let contents = CONTENTS.iter().zip(&sections).filter(|(_, section)| !section.is_empty());
    let links: String =
        contents.map(|((id, name), _)| format!("<li><a href=\"#{id}\">{name}</a></li>\n")).collect();
    let title = escaped(report.title);
    let script = samples_script(report);
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{}'; base-uri 'none'; \
         form-action 'none'",
        base64(&Sha256::digest(SCRIPT))
    );
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"{policy}\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta \
         name=\"generator\" content=\"evenkeel\">\n<link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n{}<nav aria-label=\"Contents\">\
         <ul>\n{links}</ul></nav>\n</header>\n<main>\n{}</main>\n{script}</body>\n</html>\n",
        about(report),
        sections.concat(),
    )
}

/// What was measured, in a line: "3 models on 2 benchmarks, judged by grader 5f0c…, seed 7".
fn about(report: &Report<'_>) -> String {
    let all = report.evaluations;
    if all.is_empty() {
        return "<p>Nothing was measured.</p>\n".into();
    }
    let models = distinct(all.iter().map(|e| e.model.name.as_str()));
    let benchmarks = distinct(all.iter().map(|e| e.protocol.benchmark.as_str()));
    let graders = distinct(all.iter().map(|e| e.protocol.grader.as_str()));
    let seeds = distinct(all.iter().map(|e| e.seed.to_string()));
    let named = |names: &[&str], noun: &str| match names {
        [name] => format!("<b>{}</b>", escaped(name)),
        names => count(names.len(), noun),
    };
    format!(
        "<p>{} on {}. Judged by grader {}; {} {}.</p>\n",
        named(&models, "model"),
        named(&benchmarks, "benchmark"),
        escaped(&graders.join(", ")),
        if seeds.len() == 1 { "seed" } else { "seeds" },
        seeds.join(", ")
    )
}

/// The script, if there is something to read.
fn samples_script(report: &Report<'_>) -> String {
    match report.readings.iter().any(|readings| !readings.samples.is_empty()) {
        true => format!("<script>{SCRIPT}</script>\n"),
        false => String::new(),
    }
}

/// How a policy writes a hash.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS[bits >> (18 - 6 * place) & 63];
            text.push(if place <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::{Readings, markdown};
    use super::*;
    use crate::protocol::{Protocol, Questions, Samples, Shots};
    use crate::record::{Question, Sample, SampleText};
    use crate::result::{Comparison, Cost, Evaluation, Model, Problems};
    use crate::summary::Summary;

    const HOSTILE: &str = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\u{2028}<!--";

    /// Questions with samples each, of which the first of every second question is right.
    pub(crate) fn evaluation(model: &str, benchmark: &str, questions: usize, samples: usize) -> Evaluation {
        let sample = |question: usize, place: usize| Sample {
            right: Some(question.is_multiple_of(2) && place == 0),
            formed: None,
            truncated: question % 5 == 1,
            tokens: Some(10 + 3 * question + place),
            vote: Some(place),
            unreadable: false,
        };
        let question = |question: usize| Question {
            id: format!("q{question}"),
            level: Some((question % 3).to_string()),
            subject: None,
            samples: (0..samples).map(|place| sample(question, place)).collect(),
            rounds: Vec::new(),
            adapted: None,
            interval: None,
            skipped: None,
        };
        let questions: Vec<Question> = (0..questions).map(question).collect();
        let protocol = Protocol {
            benchmark: benchmark.into(),
            questions: Questions { count: questions.len(), sha256: "aa".into() },
            prompt: data::PromptTemplate::default(),
            shots: Shots::default(),
            enable_thinking: None,
            rewards: serde_json::json!({ "math": {} }),
            deciding: "math".into(),
            grader: "0123456789ab".into(),
            numerics: None,
            at_k: Default::default(),
            sampling: rollout::Sampling::default(),
            samples: Samples::Each(samples),
        };
        let name = model.to_owned();
        Evaluation {
            model: Model { name: name.clone(), source: name, computed: "f32".into(), sha256: None },
            protocol_hash: protocol.hash(),
            seed: 1,
            cost: Cost::default(),
            summary: Summary::of(&questions, &protocol).unwrap(),
            problems: Problems::default(),
            questions,
            protocol,
        }
    }

    fn reading(id: &str, text: &str) -> SampleText {
        SampleText {
            id: id.into(),
            place: 0,
            prompt: text.into(),
            reference: Some(text.into()),
            text: text.into(),
            answer: Some(text.into()),
            right: Some(false),
            reason: Some(text.into()),
            truncated: false,
            tokens: Some(3),
        }
    }

    fn report<'a>(evaluations: &'a [Evaluation], readings: &'a [Readings<'a>]) -> Report<'a> {
        Report { title: "A report", evaluations, comparisons: &[], runs: &[], readings }
    }

    #[test]
    fn what_models_and_data_wrote_is_never_markup() {
        let mut one = evaluation(HOSTILE, HOSTILE, 4, 2);
        one.problems.unreadable.push((HOSTILE.into(), HOSTILE.into()));
        one.questions[0].skipped = Some(HOSTILE.into());
        one.summary.by_level[0].name = HOSTILE.into();
        let two = Evaluation { model: Model { name: "b".into(), ..one.model.clone() }, ..one.clone() };
        let mut comparison = Comparison::of(&one, &two).unwrap();
        comparison.differences.push(HOSTILE.into());
        let samples = [reading(HOSTILE, HOSTILE)];
        let readings = [Readings { model: HOSTILE, benchmark: HOSTILE, samples: &samples, all: 1 }];
        let (evaluations, comparisons) = ([one, two], [comparison]);
        let report = Report { title: HOSTILE, comparisons: &comparisons, ..report(&evaluations, &readings) };
        let html = page(&report);
        assert_eq!(html.matches("<script").count(), 2, "the data and the page's own");
        assert_eq!(html.matches("</script").count(), 2);
        assert!(!html.contains("<img") && !html.contains("<!--") && !html.contains('\u{2028}'));
        let markdown = markdown(&report);
        let code = |line: &str| line.contains('`');
        for line in markdown.lines().filter(|line| !code(line)) {
            assert!(!line.replace("\\<", "").contains('<'), "{line}");
        }
    }

    #[test]
    fn the_page_asks_the_network_for_nothing_and_its_policy_knows_its_script() {
        let evaluations = [evaluation("a", "x", 6, 4)];
        let samples = [reading("q0", "text")];
        let html = page(&report(
            &evaluations,
            &[Readings { model: "a", benchmark: "x", samples: &samples, all: 9 }],
        ));
        for word in ["http:", "https:", "url(", "@import", " src="] {
            assert!(!html.contains(word), "{word}");
        }
        let own = html.rsplit_once("<script>").unwrap().1.split_once("</script>").unwrap().0;
        assert!(html.contains(&format!("script-src 'sha256-{}'", base64(&Sha256::digest(own)))));
        assert!(html.contains("1 of 9 samples are here"));
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        let found = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(found, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }

    #[test]
    fn whatever_is_missing_the_page_says_no_nonsense() {
        let mut unjudged = evaluation("a", "x", 3, 1);
        for sample in unjudged.questions.iter_mut().flat_map(|question| &mut question.samples) {
            (sample.right, sample.tokens) = (None, None);
        }
        unjudged.summary = Summary::of(&unjudged.questions, &unjudged.protocol).unwrap();
        let cases =
            [vec![], vec![evaluation("a", "x", 1, 1)], vec![evaluation("a", "x", 0, 1)], vec![unjudged]];
        for evaluations in cases {
            let report = report(&evaluations, &[]);
            for page in [page(&report), markdown(&report)] {
                let words = page.replace(STYLE, "");
                assert!(!["NaN", "inf ", ">None<", "Some("].iter().any(|odd| words.contains(odd)), "{words}");
            }
        }
    }

    #[test]
    fn the_script_is_there_only_if_there_is_something_to_read() {
        assert!(!page(&report(&[evaluation("a", "x", 2, 1)], &[])).contains("<script"));
    }

    #[test]
    fn a_page_with_too_many_samples_stays_below_five_megabytes_and_says_what_is_left_out() {
        let long = "a<b ".repeat(1000);
        let samples: Vec<SampleText> = (0..1500).map(|n| reading(&format!("q{n}"), &long)).collect();
        let evaluations = [evaluation("a", "x", 6, 1)];
        let html = page(&report(
            &evaluations,
            &[Readings { model: "a", benchmark: "x", samples: &samples, all: 1500 }],
        ));
        assert!(html.len() < 5_000_000, "{} bytes", html.len());
        assert!(html.contains("more questions were left out, as the page would be too large"));
    }

    #[test]
    fn models_that_were_measured_differently_are_not_shown_as_alike() {
        let (one, mut two) = (evaluation("a", "x", 4, 1), evaluation("b", "x", 4, 1));
        two.protocol.sampling.max_tokens += 1;
        two.protocol_hash = two.protocol.hash();
        two.seed += 1;
        let evaluations = [one, two];
        let report = report(&evaluations, &[]);
        let html = page(&report);
        assert!(html.contains("measured by 2 different") && html.contains("did not meet the same luck"));
        assert!(markdown(&report).contains("was measured by 2 protocols"));
    }
}
