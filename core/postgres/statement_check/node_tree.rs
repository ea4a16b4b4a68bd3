//! The server's tree of a statement, in the words in which its catalog keeps it: a node is `{NAME
//! :field value …}`, a list `(value …)`, and everything else a word.

/// How deep nodes and lists may stand in one another. Statements of people are not deeper.
const DEPTH_MAX: usize = 400;

/// A value of the tree.
#[derive(Debug, PartialEq)]
pub(super) enum Value<'t> {
    Word(&'t str),
    List(Vec<Value<'t>>),
    Node(Node<'t>),
}

#[derive(Debug, PartialEq)]
pub(super) struct Node<'t> {
    pub(super) name: &'t str,
    pub(super) fields: Vec<(&'t str, Value<'t>)>,
}

impl<'t> Value<'t> {
    /// Reads a tree. `None` for one that is too deep, or is written in a way that is not known.
    pub(super) fn read(text: &'t str) -> Option<Self> {
        let mut reader = Reader { rest: text, depth: 0 };
        let first = reader.word()?;
        reader.value(first)
    }

    pub(super) fn node(&self) -> Option<&Node<'t>> {
        match self {
            Self::Node(node) => Some(node),
            _ => None,
        }
    }
}

impl<'t> Node<'t> {
    fn field(&self, name: &str) -> Option<&Value<'t>> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The field that is a node.
    pub(super) fn node(&self, name: &str) -> Option<&Self> {
        self.field(name)?.node()
    }

    /// The nodes of the field that is a list.
    pub(super) fn nodes(&self, name: &str) -> impl DoubleEndedIterator<Item = &Self> {
        let list = match self.field(name) {
            Some(Value::List(list)) => list.as_slice(),
            _ => &[],
        };
        list.iter().filter_map(Value::node)
    }

    pub(super) fn word(&self, name: &str) -> Option<&'t str> {
        match self.field(name) {
            Some(Value::Word(word)) => Some(word),
            _ => None,
        }
    }

    pub(super) fn number<N: std::str::FromStr>(&self, name: &str) -> Option<N> {
        self.word(name)?.parse().ok()
    }
}

struct Reader<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Reader<'t> {
    /// The next word, or a parenthesis or brace.
    fn word(&mut self) -> Option<&'t str> {
        self.rest = self.rest.trim_start();
        let mut is_escaped = false;
        let ends = |char: char| char.is_whitespace() || "(){}".contains(char);
        let length = match self.rest.chars().next()? {
            '(' | ')' | '{' | '}' => 1,
            _ => {
                let end = self.rest.find(|char| {
                    let is_end = !is_escaped && ends(char);
                    is_escaped = !is_escaped && char == '\\';
                    is_end
                });
                end.unwrap_or(self.rest.len())
            }
        };
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(word)
    }

    /// The value that begins with this word.
    fn value(&mut self, first: &'t str) -> Option<Value<'t>> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        let value = match first {
            "{" => Value::Node(self.fields()?),
            "(" => {
                let mut list = Vec::new();
                loop {
                    match self.word()? {
                        ")" => break Value::List(list),
                        first => list.push(self.value(first)?),
                    }
                }
            }
            "}" | ")" => return None,
            word => Value::Word(word),
        };
        self.depth -= 1;
        Some(value)
    }

    /// What stands behind a brace.
    fn fields(&mut self) -> Option<Node<'t>> {
        let (name, mut fields) = (self.word()?, Vec::new());
        let mut next = self.word()?;
        while next != "}" {
            // A text of the statement's may begin with a colon too, and stands behind a field.
            let (field, first) = (next.strip_prefix(':')?, self.word()?);
            fields.push((field, self.value(first)?));
            next = self.word()?;
            // The bytes of a constant are many words.
            while next != "}" && !next.starts_with(':') {
                self.value(next)?;
                next = self.word()?;
            }
        }
        Some(Node { name, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_lists_and_words_are_read() {
        let text = r"(({QUERY :a <> :list ({VAR :n 7 :name :odd\ {x} :last true} (o 1 2)) :bytes 2 [ 1 -2 ] :end {X}}))";
        let Some(Value::List(outer)) = Value::read(text) else { panic!("{text}") };
        let [Value::List(inner)] = outer.as_slice() else { panic!("{outer:?}") };
        let query = inner[0].node().unwrap();
        assert_eq!(query.name, "QUERY");
        assert_eq!((query.word("a"), query.number::<u32>("bytes")), (Some("<>"), Some(2)));
        assert_eq!(query.node("end").map(|node| node.name), Some("X"));
        let var = query.nodes("list").next().unwrap();
        assert_eq!((var.number("n"), var.word("last")), (Some(7), Some("true")));
        assert_eq!(query.nodes("list").count(), 1);
        assert_eq!(query.nodes("bytes").count(), 0);
    }

    #[test]
    fn what_is_no_tree_or_too_deep_is_not_read() {
        for text in ["", "{", "(", ")", "{A b}", "{A :b}", "{A :b (}"] {
            assert_eq!(Value::read(text), None, "{text}");
        }
        let deep = |levels: usize| format!("{}{}", "(".repeat(levels), ")".repeat(levels));
        assert!(Value::read(&deep(DEPTH_MAX)).is_some());
        assert!(Value::read(&deep(DEPTH_MAX + 1)).is_none());
        assert!(Value::read(&deep(1_000_000)).is_none());
    }
}
