//! The SQL functions of SQLite that a worker may call, and why others are refused.
//!
//! SQLite looks at the deadline between two steps of a program, never inside a function. So a
//! function is on the list only if one call takes time and memory that grow no faster than the
//! bytes of its arguments and its answer. [`StatementCost`](super::statement_cost::StatementCost)
//! bounds these together: 64 MiB for one pass through a statement's expressions, every argument
//! counted. Any other function, of a later SQLite too, is refused by its name. The app can register
//! one of its own under another name, marked `SQLITE_INNOCUOUS`.
//!
//! `tests/function_bounds.rs` calls each at its limits.

/// The functions, each group with its worst case.
const ALLOWED: [(&str, &str); 12] = [
    (
        "one pass over its arguments, which are numbers or looked at once",
        "abs acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log \
         log10 log2 mod pi pow power radians round sign sin sinh sqrt tan tanh trunc random changes \
         total_changes last_insert_rowid sqlite_version likelihood likely unlikely iif if ifnull \
         nullif coalesce typeof subtype min max",
    ),
    (
        "one pass over each argument, one over the answer",
        "char concat concat_ws hex length lower octet_length quote soundex substr substring unicode \
         unistr unistr_quote upper unhex",
    ),
    ("writes its answer once, and that is no longer than a value may be", "randomblob zeroblob"),
    (
        "one pass over the format and each argument; it ends when the answer is too long",
        "format printf",
    ),
    (
        "in `bounded_functions`: a search of linear time, and no longer answer than a value may be",
        "instr replace",
    ),
    (
        "in `bounded_functions`: a set of characters, looked up once for each of the text; the \
         deadline is looked at on the way",
        "trim ltrim rtrim",
    ),
    (
        "in `bounded_functions`: the product of pattern and text, and the deadline is looked at on \
         the way",
        "like glob",
    ),
    (
        "one pass over the text of a time and its modifiers",
        "date time datetime julianday unixepoch strftime timediff current_date current_time \
         current_timestamp",
    ),
    (
        "one pass over the document for reading it, one for each path, one for writing it; nested \
         1,000 deep at most",
        "json jsonb json_array jsonb_array json_array_length json_error_position json_extract \
         jsonb_extract json_insert jsonb_insert json_object jsonb_object json_quote json_remove \
         jsonb_remove json_replace jsonb_replace json_set jsonb_set json_type json_valid -> ->>",
    ),
    (
        "one pass over its arguments for each row, between two looks; its memory is counted",
        "avg count group_concat string_agg json_group_array jsonb_group_array json_group_object \
         jsonb_group_object sum total",
    ),
    (
        "one pass over its arguments for each row, between two looks",
        "row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value \
         nth_value",
    ),
    (
        "full text: the words of a search are few; bm25 reads the index, whose every page is a look",
        "match bm25",
    ),
];

/// Why some are missing that a worker may want.
const DENIED: [(&str, &str); 4] = [
    ("json_patch jsonb_patch", "its time grows with the product of its arguments"),
    ("json_pretty", "its answer grows with the depth of the document, for every line"),
    (
        "highlight snippet offsets matchinfo",
        "its time grows with the square of a document's matches",
    ),
    (
        "load_extension readfile writefile edit fts3_tokenizer sqlite_log sqlite_offset rtreecheck",
        "it does more than compute",
    ),
];

/// Functions that create what a path names, each step of it inside the one before. Older versions
/// of SQLite call themselves once for each step, however many there are, so a path of some
/// thousands of steps ends the process.
const NESTING: &str = "json_set jsonb_set json_insert jsonb_insert";

/// From this version on SQLite bounds the steps.
const NESTING_IS_BOUNDED: i32 = 3_053_000;

/// Whether a function, in lower case, is on the list.
pub(super) fn is_allowed(name: &str) -> bool {
    ALLOWED.iter().any(|(_, names)| has(names, name)) && !nests_without_end(name)
}

fn nests_without_end(name: &str) -> bool {
    rusqlite::version_number() < NESTING_IS_BOUNDED && has(NESTING, name)
}

/// Why a function that is not on the list is refused.
pub(super) fn why_denied(name: &str) -> &'static str {
    if nests_without_end(name) {
        return "in this version of SQLite a long path overflows the stack: link 3.53 or later";
    }
    DENIED
        .iter()
        .find(|(names, _)| has(names, name))
        .map_or("it is not among the functions whose worst case is known", |(_, why)| *why)
}

fn has(names: &str, name: &str) -> bool {
    names.split_ascii_whitespace().any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_on_one_list_at_most() {
        let mut all: Vec<&str> = ALLOWED.iter().flat_map(|(_, n)| n.split_whitespace()).collect();
        all.extend(DENIED.iter().flat_map(|(names, _)| names.split_whitespace()));
        all.sort_unstable();
        let before = all.len();
        all.dedup();
        assert_eq!(all.len(), before);
        assert!(is_allowed("->>") && !is_allowed("json_patch") && !is_allowed(""));
    }
}
