//! Models and runs that are compared.

use serde_json::Value;

use crate::evaluate::{json, with};
use crate::{fail, succeed};

#[test]
fn two_models_are_compared_on_the_same_questions_and_a_model_with_itself_shows_no_difference() {
    let folder = tempfile::tempdir().expect("folder");
    let train = [
        "train",
        "tiny",
        "--set",
        "rl.steps=40",
        "--set",
        "rl.prompts_per_step=16",
        "--set",
        "eval.every=40",
        "--set",
        "eval.prompts=60",
        "--out",
        "run",
    ];
    succeed(folder.path(), &train);
    let call = ["eval", "tiny", "again=tiny", "run", "-b", "arithmetic", "--limit", "200", "--out", "e"];
    let shown = succeed(folder.path(), &call);
    let results = json(&folder.path().join("e/evaluation.json"));
    let comparisons = results["comparisons"].as_array().expect("comparisons");
    assert_eq!(comparisons.len(), 2);
    assert_eq!(comparisons[0]["paired"]["equal"], 200, "a model is as good as itself");
    assert!(comparisons[1]["paired"]["interval"]["low"].as_f64() > Some(0.0), "{}", comparisons[1]);
    assert!(shown.to_lowercase().contains("no difference"), "{shown}");
    // the same from two folders
    succeed(folder.path(), &["eval", "tiny", "-b", "arithmetic", "--limit", "200", "--out", "one"]);
    succeed(folder.path(), &["eval", "run", "-b", "arithmetic", "--limit", "200", "--out", "two"]);
    let shown = succeed(folder.path(), &["compare", "one", "two", "--json"]);
    let found: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(found[0]["paired"]["difference"], comparisons[1]["paired"]["difference"]);
    // the same numbers computed otherwise are another protocol, and what is only recorded is not
    let call = ["eval", "tiny", "-b", "arithmetic", "--limit", "200", "--set", "sampling.entropy=true"];
    succeed(folder.path(), &with(&call, &["--set", "sampling.top_k=7", "--out", "recorded"]));
    succeed(folder.path(), &["compare", "one", "recorded"]);
    let error = fail(folder.path(), &["compare", "one", "one"], 2);
    assert!(error.contains("is there twice"), "{error}");
    let error = fail(folder.path(), &["eval", "tiny", "again=tiny", "-b", "arithmetic", "--replicas"], 2);
    assert!(error.contains("no second run of itself"), "{error}");
    // other questions are another protocol
    succeed(folder.path(), &["eval", "run", "-b", "arithmetic", "--limit", "199", "--out", "three"]);
    let error = fail(folder.path(), &["compare", "one", "three"], 2);
    assert!(error.contains("questions.count: 200 and 199") && error.contains("--force"), "{error}");
    let shown = succeed(folder.path(), &["compare", "one", "three", "--force"]);
    assert!(shown.contains("not measured in the same way: questions.count"), "{shown}");
}

#[test]
fn runs_are_compared_at_equal_budgets_and_runs_of_one_recipe_together() {
    let folder = tempfile::tempdir().expect("folder");
    let train = |out: &str, sets: &[&str]| {
        let mut call = vec!["train", "tiny", "--out", out];
        let small = [
            "rl.prompts_per_step=12",
            "rl.group_size=4",
            "eval.prompts=100",
            "eval.every=4",
            "save.every=12",
        ];
        for set in ["rl.steps=12"].iter().chain(&small).chain(sets) {
            call.extend(["--set", set]);
        }
        succeed(folder.path(), &call);
    };
    train("a", &[]);
    train("b", &["seed=1"]);
    train("c", &["rl.schedule.learning_rate=1e-9"]);
    let shown = succeed(folder.path(), &["compare", "a", "c", "--html", "page.html"]);
    assert!(
        shown.contains("steps at") && shown.contains("rollouts at") && shown.contains("tokens at"),
        "{shown}"
    );
    assert!(shown.contains("A single run says nothing"), "{shown}");
    assert!(shown.contains("These runs only, by question"), "{shown}");
    assert!(shown.contains("with all else that the machine did meanwhile"), "{shown}");
    let page = std::fs::read_to_string(folder.path().join("page.html")).expect("page");
    assert_eq!(page.matches("<svg").count(), 4);
    let shown = succeed(folder.path(), &["compare", "a", "b", "c", "--json"]);
    let found: Value = serde_json::from_str(&shown).expect("JSON");
    let groups = found["groups"].as_array().expect("groups");
    assert_eq!((groups.len(), groups[0]["runs"].as_array().map(Vec::len)), (2, Some(2)));
    assert_eq!(found["spread"][0]["variance"]["runs"], 2, "runs of one recipe meet the same questions");
    assert_eq!(found["by_question"][0]["paired"]["questions"], 100);
    let values = &found["aligned"][0]["values"];
    assert!(values[0][3].as_f64() > values[1][3].as_f64(), "learning beats not learning: {values}");
    // with two runs of each recipe the test over runs leads
    train("d", &["rl.schedule.learning_rate=1e-9", "seed=1"]);
    let shown = succeed(folder.path(), &["compare", "a", "b", "c", "d"]);
    let places = ["By run, at each run's end", "These runs only"].map(|text| shown.find(text).expect(text));
    assert!(places[0] < places[1], "{shown}");
    let found: Value =
        serde_json::from_str(&succeed(folder.path(), &["compare", "a", "b", "c", "d", "--json"]))
            .expect("JSON");
    let interval = &found["by_run"][0]["difference"]["interval"];
    assert!(interval["high"].as_f64() > interval["low"].as_f64(), "{interval}");
    // a run is no second run of itself, by whatever path and however often it is computed
    train("again", &[]);
    for same in ["./a", "again"] {
        let error = fail(folder.path(), &["compare", "a", same, "c"], 2);
        assert!(error.contains("are the same run"), "{error}");
    }
    let error = fail(folder.path(), &["compare", "a", "c", "--metric", "nothing"], 2);
    assert!(error.contains("has no metric `nothing`"), "{error}");
    let error = fail(folder.path(), &["compare", "a", "."], 2);
    assert!(error.contains("neither a run nor an evaluation"), "{error}");
}
