//! Datasets in the files that people have: packed, in CSV, several at once, with filters and a split.

use std::{
    fs,
    io::Write,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use data::{Columns, Dataset, Files, Filter, HeldBack, Layout, OverlapFilter, PromptTemplate, SplitPart};

/// Files of a folder of its own. An error is its text, with the folder left out.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn read(
        &self,
        paths: &[PathBuf],
        filter: Option<&Filter>,
        part: Option<(HeldBack, SplitPart)>,
    ) -> Result<Dataset, String> {
        let (columns, template) = (Columns::default(), PromptTemplate::default());
        let layout = Layout::Auto;
        let read =
            Files { paths, columns: &columns, layout, template: &template, filter, part, csv: false }.read();
        read.map_err(|error| error.to_string().replace(&format!("{}/", self.0.path().display()), ""))
    }

    fn one(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<Dataset, String> {
        self.read(&[self.write(name, bytes)], None, None)
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn rows(count: usize) -> String {
    (0..count)
        .map(|n| format!("{{\"question\": \"what is {n}+{n}\", \"answer\": \"{}\"}}\n", 2 * n))
        .collect()
}

fn ids(set: &Dataset) -> Vec<&str> {
    set.prompts().iter().map(|prompt| prompt.id.as_str()).collect()
}

#[test]
fn packed_rows_are_the_rows_whatever_the_file_is_called() {
    let folder = Folder::new();
    let wanted = folder.one("rows.jsonl", rows(300)).unwrap();
    let text = rows(300);
    let two_members = [gzip(&text.as_bytes()[..500]), gzip(&text.as_bytes()[500..])].concat();
    for (name, bytes) in [
        ("a/rows.jsonl.gz", gzip(rows(300).as_bytes())),
        ("b/rows.jsonl.gz", two_members),
        ("rows.jsonl.zst", zstandard(rows(300).as_bytes())),
        ("c/rows.jsonl", gzip(rows(300).as_bytes())),
    ] {
        assert_eq!(folder.one(name, bytes).unwrap(), wanted, "{name}");
    }
}

#[test]
fn a_packed_file_cut_short_is_refused_wherever_it_is_cut() {
    let folder = Folder::new();
    let text = rows(300);
    for (name, whole, format) in [
        ("rows.jsonl.gz", gzip(text.as_bytes()), "gzip"),
        ("rows.jsonl.zst", zstandard(text.as_bytes()), "Zstandard"),
    ] {
        for len in (6..whole.len()).step_by(whole.len() / 40).chain([whole.len() - 1]) {
            let error = folder.one(name, &whole[..len]).unwrap_err();
            let wanted = format!(
                "`{name}`: its {format} data end too early, the file is cut off; fetch or copy it again"
            );
            assert_eq!(error, wanted, "{len} of {}", whole.len());
        }
    }
    let mut damaged = gzip(text.as_bytes());
    let middle = damaged.len() / 2;
    damaged[middle..middle + 8].fill(0xff);
    let error = folder.one("rows.jsonl.gz", &damaged).unwrap_err();
    assert!(error.starts_with("`rows.jsonl.gz`"), "{error}");
}

#[test]
fn csv_has_a_header_quotes_and_a_byte_order_mark_or_not() {
    let folder = Folder::new();
    let text = "question,answer,id\r\n\"what, \"\"here\"\"\nis 1+1\",2,a\r\n\r\nplain,\"1,000\",b\r\n";
    let tabs = "question\tanswer\tid\n\"what, \"\"here\"\"\nis 1+1\"\t2\ta\nplain\t1,000\tb\n";
    let marked = format!("\u{feff}{text}");
    for (name, bytes) in [
        ("rows.csv", text.as_bytes().to_vec()),
        ("marked/rows.CSV", marked.as_bytes().to_vec()),
        ("rows.csv.gz", gzip(text.as_bytes())),
        ("rows.csv.zst", zstandard(text.as_bytes())),
        ("rows.tsv", tabs.as_bytes().to_vec()),
        ("rows.tsv.gz", gzip(tabs.as_bytes())),
    ] {
        let set = folder.one(name, bytes).unwrap();
        assert_eq!(ids(&set), ["a", "b"], "{name}");
        assert_eq!(set.get(0).unwrap().fields["question"], "what, \"here\"\nis 1+1", "{name}");
        assert_eq!(set.get(1).unwrap().reference(), Some("1,000"), "{name}");
    }
}

#[test]
fn a_malformed_table_is_named_by_its_line() {
    let folder = Folder::new();
    let header = "question,answer\n";
    for (bytes, wanted) in [
        (
            format!("{header}a,b\nc,d,e\n").into_bytes(),
            "`rows.csv`, line 3: the row has 3 cells, wanted 2 as in the header; a cell with a comma, a quote or a line break \
             in it stands in quotes",
        ),
        (
            b"question,answer,question\na,b,c\n".to_vec(),
            "`rows.csv`, line 1: the header has the column `question` twice",
        ),
        (
            b"question,answer\n\"x\ny\",b\nc,\xff\n".to_vec(),
            "`rows.csv`, line 4: byte 1 of cell 2 is not UTF-8, as datasets must be",
        ),
        (
            b"questoin,answer\na,b\n".to_vec(),
            "`rows.csv`, line 2: the row has no column `question`; the columns are `questoin`, `answer`; did you mean \
             `questoin`?",
        ),
        (header.as_bytes().to_vec(), "the dataset `rows.csv` is empty, wanted at least one row"),
        (Vec::new(), "the dataset `rows.csv` is empty, wanted at least one row"),
    ] {
        assert_eq!(folder.one("rows.csv", bytes).unwrap_err(), wanted);
    }
}

#[test]
fn several_files_are_one_dataset_in_their_order_with_ids_that_differ() {
    let folder = Folder::new();
    let row = |question: &str| format!("{{\"question\": \"{question}\", \"answer\": \"1\"}}\n");
    let paths = [
        folder.write("x/train.jsonl", row("a")),
        folder.write("y/train.jsonl.gz", gzip(row("b").as_bytes())),
        folder.write("more.csv", "question,answer\nc,1\n"),
    ];
    let set = folder.read(&paths, None, None).unwrap();
    assert_eq!(ids(&set), ["x/train:1", "y/train:1", "more:2"]);
    let named = |id: &str| format!("{{\"question\": \"q\", \"answer\": \"1\", \"id\": \"{id}\"}}\n");
    let paths = [
        folder.write("one.jsonl", named("a") + &named("b")),
        folder.write("two.jsonl", named("c") + &named("a")),
    ];
    assert_eq!(
        folder.read(&paths, None, None).unwrap_err(),
        "the id `a` stands in `one.jsonl`, line 1, and in `two.jsonl`, line 2, but ids must be unique: randomness is keyed by \
         them"
    );
}

#[test]
fn a_filter_leaves_rows_out_and_says_how_many_by_what() {
    let folder = Folder::new();
    let row = |question: &str, level: u8, kind: &str| {
        format!(
            "{{\"question\": \"{question}\", \"answer\": \"{level}\", \"meta\": {{\"level\": {level}, \"kind\": {kind}}}}}\n"
        )
    };
    let text = [
        row("short", 3, "\"x\""),
        row("a question of some length", 1, "\"x\""),
        row("a question of some length too", 4, "null"),
        row("a question that is asked in a benchmark as well", 5, "\"x\""),
        row("a question of a drawn figure", 3, "\"x\""),
        row("a question that stays", 5, "\"x\""),
    ];
    let path = folder.write("rows.jsonl", text.concat());
    let bench = folder
        .write("bench.csv", "question,answer\n\"So: a question THAT is asked in a benchmark, as well?\",1\n");
    let filter = Filter {
        min_chars: Some(6),
        keep: [("meta.level".into(), "^[345]$".into()), ("meta.kind".into(), ".".into())].into(),
        drop: [("question".into(), "figure".into())].into(),
        overlap: Some(OverlapFilter { path: bench, n: NonZeroUsize::new(5).unwrap(), share: 0.5 }),
        ..Filter::default()
    };
    let set = folder.read(std::slice::from_ref(&path), Some(&filter), None).unwrap();
    assert_eq!(ids(&set), ["rows:6"]);
    let told = set.reading().unwrap().to_string();
    let wanted = "; rows left out: 1 by drop.question, 1 by keep.meta.kind, 1 by keep.meta.level, 1 by min_chars, 1 by overlap";
    assert!(told.ends_with(wanted), "{told}");

    let refused = |filter: Filter| folder.read(std::slice::from_ref(&path), Some(&filter), None).unwrap_err();
    let error = refused(Filter { max_chars: Some(3), ..Filter::default() });
    assert_eq!(
        error,
        "nothing is left of the 6 rows of the dataset `rows.jsonl`: left out were 6 by max_chars"
    );
    let error = refused(Filter { keep: [("meta.levle".into(), "1".into())].into(), ..Filter::default() });
    assert!(
        error.starts_with("`rows.jsonl`, line 1: the row has no column `meta.levle`; the columns are "),
        "{error}"
    );
    let error = refused(Filter { drop: [("question".into(), "(".into())].into(), ..Filter::default() });
    assert!(error.starts_with("the data's filter.drop.question = \"(\" is no regular expression"), "{error}");
    let error = refused(Filter { min_chars: Some(5), max_chars: Some(4), ..Filter::default() });
    assert_eq!(error, "the data's filter.min_chars is 5, wanted at most max_chars, which is 4");
}

#[test]
fn the_parts_of_a_split_are_the_dataset_and_more_rows_move_none() {
    let folder = Folder::new();
    let (few, many) = (folder.write("a/rows.jsonl", rows(200)), folder.write("b/rows.jsonl", rows(500)));
    let split = HeldBack { fraction: 0.25, seed: 3 };
    let part = |path: &Path, part| {
        let set = folder.read(&[path.to_owned()], None, Some((split, part))).unwrap();
        ids(&set).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let (train, held) = (part(&few, SplitPart::Train), part(&few, SplitPart::HeldBack));
    assert_eq!(train.len() + held.len(), 200);
    assert!(train.iter().all(|id| !held.contains(id)));
    assert_eq!(part(&many, SplitPart::HeldBack)[..held.len()], held);
    assert_eq!(part(&many, SplitPart::Train)[..train.len()], train);

    let one = folder.write("one.jsonl", rows(1));
    let tiny = HeldBack { fraction: 1e-9, seed: 0 };
    assert_eq!(
        folder.read(&[one], None, Some((tiny, SplitPart::HeldBack))).unwrap_err(),
        "nothing is left of the 1 row of the dataset `one.jsonl` in the part `held back` of its split, where 0.000000001 of the \
         rows are held back"
    );
}

#[test]
fn a_jinja_template_that_fails_on_one_row_names_the_row() {
    let folder = Folder::new();
    let text = "{\"question\": \"a\", \"answer\": \"1\", \"n\": 4}\n{\"question\": \"b\", \"answer\": \"1\", \"n\": \"x\"}\n";
    let path = folder.write("rows.jsonl", text);
    let read = |jinja: &str| {
        let template = PromptTemplate { jinja: Some(jinja.into()), ..PromptTemplate::default() };
        Dataset::read(&path, &Columns::default(), Layout::Auto, &template).map_err(|error| error.to_string())
    };
    let set = read("{{ question }} {{ n }}").unwrap();
    assert_eq!(set.get(1).unwrap().body, data::Body::Text("b x".into()));
    let error = read("{{ n / 2 }}").unwrap_err();
    assert!(error.contains("rows.jsonl`, line 2: the prompt's `jinja` fails: "), "{error}");
}
