//! What a statement orders by, by the server's tree of it.

use super::node_tree::{Node, Value};

/// `JoinType` of the server.
const INNER: u32 = 0;
const LEFT: u32 = 1;
const FULL: u32 = 2;
const RIGHT: u32 = 3;

/// One of the things that a statement orders by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    /// The column of a table, where it is nothing else.
    pub(super) column: Option<Column>,
    /// The number of the operator by which it is sorted.
    pub(super) operator: u32,
    pub(super) nulls_first: bool,
}

/// A column, and what the statement says of its NULLs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    /// Number of the table, and of the column in it.
    pub(super) table: u32,
    pub(super) number: i16,
    /// An outer join has NULL where it has no row.
    pub(super) may_be_missing: bool,
    /// A condition says that it is not NULL.
    pub(super) is_not_null: bool,
    /// Functions of conditions that take the column. A strict one lets no NULL through.
    pub(super) conditions: Vec<u32>,
}

/// All that a statement orders by: its rows, those of its subqueries, its windows and aggregates.
pub(super) fn keys(tree: &Value<'_>) -> Vec<Key> {
    let mut keys = Vec::new();
    walk(tree, None, &mut keys);
    keys
}

fn walk<'t>(value: &'t Value<'t>, query: Option<&'t Node<'t>>, keys: &mut Vec<Key>) {
    let node = match value {
        Value::Word(_) => return,
        Value::List(list) => return list.iter().for_each(|value| walk(value, query, keys)),
        Value::Node(node) => node,
    };
    let query = if node.name == "QUERY" { Some(node) } else { query };
    let mut add = |of: &'t Node<'t>, clauses: &str, targets: &'t Node<'t>, list: &str| {
        for clause in of.nodes(clauses) {
            let (Some(operator), Some(nulls)) =
                (clause.number("sortop"), clause.word("nulls_first"))
            else {
                continue;
            };
            let place = clause.word("tleSortGroupRef");
            let target = targets.nodes(list).find(|target| target.word("ressortgroupref") == place);
            let column =
                query.zip(target).and_then(|(query, target)| column(query, target.node("expr")?));
            keys.push(Key { column, operator, nulls_first: nulls == "true" });
        }
    };
    match node.name {
        "QUERY" => {
            add(node, "sortClause", node, "targetList");
            // One that refers to another has its order a second time.
            for window in node.nodes("windowClause") {
                if window.word("copiedOrder") != Some("true") {
                    add(window, "orderClause", node, "targetList");
                }
            }
        }
        "AGGREF" => add(node, "aggorder", node, "args"),
        _ => {}
    }
    node.fields.iter().for_each(|(_, value)| walk(value, query, keys));
}

/// The column of a table that an expression is, through subqueries in FROM.
fn column(query: &Node<'_>, expression: &Node<'_>) -> Option<Column> {
    // Of a UNION, the first part is not all.
    if expression.name != "VAR"
        || expression.word("varlevelsup") != Some("0")
        || query.node("setOperations").is_some()
    {
        return None;
    }
    let source: usize = expression.number("varno")?;
    let number: i16 = expression.number("varattno")?;
    let from = query.nodes("rtable").nth(source.checked_sub(1)?)?;
    let mut column = match from.word("rtekind")? {
        "0" if matches!(from.word("relkind"), Some("r" | "p" | "f")) && number > 0 => Column {
            table: from.number("relid")?,
            number,
            may_be_missing: false,
            is_not_null: false,
            conditions: Vec::new(),
        },
        "1" => {
            let inner = from.node("subquery")?;
            let mut targets = inner.nodes("targetList");
            let target = targets.find(|target| target.number("resno") == Some(number))?;
            self::column(inner, target.node("expr")?)?
        }
        _ => return None,
    };
    let join = query.node("jointree")?;
    column.may_be_missing |= may_be_missing(join, source);
    conditions(join, &mut |condition| {
        let is_it = |node: Option<&Node<'_>>| {
            node.is_some_and(|node| {
                (node.number("varno"), node.number("varattno"), node.word("varlevelsup"))
                    == (Some(source), Some(number), Some("0"))
            })
        };
        match condition.name {
            "NULLTEST" => {
                column.is_not_null |=
                    condition.word("nulltesttype") == Some("1") && is_it(condition.node("arg"));
            }
            "OPEXPR" | "SCALARARRAYOPEXPR" => {
                let mut args = condition.nodes("args");
                let is_any = condition.word("useOr") != Some("false");
                if is_any && args.any(|arg| is_it(Some(arg)) || is_it(arg.node("arg"))) {
                    column.conditions.extend(condition.number::<u32>("opfuncid"));
                }
            }
            _ => {}
        }
    });
    Some(column)
}

/// Whether a table of FROM stands on the side of an outer join that may have no row.
fn may_be_missing(from: &Node<'_>, source: usize) -> bool {
    if from.name != "JOINEXPR" {
        return from.nodes("fromlist").any(|from| may_be_missing(from, source));
    }
    let (left, right) = (from.node("larg"), from.node("rarg"));
    let has = |side: Option<&Node<'_>>| side.is_some_and(|side| stands_in(side, source));
    let is_lost = match from.number("jointype") {
        Some(INNER) => false,
        Some(LEFT) => has(right),
        Some(RIGHT) => has(left),
        Some(FULL) => has(left) || has(right),
        _ => true,
    };
    is_lost || [left, right].into_iter().flatten().any(|side| may_be_missing(side, source))
}

fn stands_in(from: &Node<'_>, source: usize) -> bool {
    from.number("rtindex") == Some(source)
        || [from.node("larg"), from.node("rarg")]
            .into_iter()
            .flatten()
            .any(|side| stands_in(side, source))
}

/// Does this with each condition that holds for every row.
fn conditions<'t>(from: &'t Node<'t>, each: &mut impl FnMut(&'t Node<'t>)) {
    if from.name == "JOINEXPR" && from.number("jointype") != Some(INNER) {
        return;
    }
    if let Some(condition) = from.node("quals") {
        all_of(condition, each);
    }
    let sides = [from.node("larg"), from.node("rarg")].into_iter().flatten();
    sides.chain(from.nodes("fromlist")).for_each(|from| conditions(from, each));
}

fn all_of<'t>(condition: &'t Node<'t>, each: &mut impl FnMut(&'t Node<'t>)) {
    match condition.word("boolop") {
        Some("and") => condition.nodes("args").for_each(|part| all_of(part, each)),
        _ => each(condition),
    }
}
