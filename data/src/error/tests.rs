use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
    let found = names(&["problem", "questoin", "answer"]);
    assert_eq!(nearest("question", &found), Some("questoin"));
    assert_eq!(nearest("Answer", &found), Some("answer"));
    assert_eq!(nearest("prompt", &found), None);
    assert_eq!(nearest("a", &names(&["b", "ab"])), Some("b")); // both one edit away: the first
    assert_eq!(nearest("question", &[]), None);
}

#[test]
fn the_columns_are_listed_with_a_suggestion_only_where_there_is_one() {
    assert_eq!(the_columns("x1", &names(&["x2", "yy"])), "the columns are `x2`, `yy`; did you mean `x2`?");
    assert_eq!(the_columns("question", &names(&["yy"])), "the columns are `yy`");
    assert_eq!(the_columns("question", &[]), "there are no columns at all");
}
