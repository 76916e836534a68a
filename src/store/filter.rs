//! A filter as a WHERE clause: fixed texts with bound parameters; no name or value from a caller becomes SQL.

use rusqlite::types::Value as Bound;
use serde_json::Value;

use crate::domain::{Condition, Filter, Test};

/// A condition over `documents AS d` and the parameters that it binds, in order.
#[derive(Debug, Default)]
pub(super) struct Clause {
    /// SQL with a `?` for each parameter; true for every document when the filter is empty.
    pub(super) sql: String,
    /// The parameters.
    pub(super) params: Vec<Bound>,
}

impl Clause {
    /// Returns the clause for a validated filter.
    pub(super) fn of(filter: &Filter) -> Self {
        let mut clause = Self { sql: "TRUE".into(), params: Vec::new() };
        for condition in &filter.all {
            clause.sql.push_str(" AND ");
            clause.add(condition);
        }
        clause
    }

    fn add(&mut self, condition: &Condition) {
        match condition.field.strip_prefix("metadata.") {
            Some(key) => self.metadata(json_path(key), &condition.test),
            None => self.column(column(&condition.field), &condition.test),
        }
    }

    /// Columns hold text only, so a number or a boolean equals none of them.
    fn column(&mut self, column: &str, test: &Test) {
        match test {
            Test::AnyOf(values) => {
                let sql = format!("{column} IN (SELECT value FROM json_each(?) WHERE type = 'text')");
                self.push(&sql, [json_list(values)]);
            }
            Test::Range { from, to } => self.bounds(from.as_ref(), to.as_ref(), |bound, operator| match bound {
                Value::String(text) => (format!("{column} {operator} ?"), vec![text.clone().into()]),
                _ => ("FALSE".into(), Vec::new()),
            }),
            Test::Exists(wanted) => self.push(&format!("({column} IS NOT NULL) = ?"), [(*wanted).into()]),
        }
    }

    /// json_each gives a list's elements, and a scalar as the only one; an object's members are not elements. A JSON
    /// null reads as NULL: not there.
    fn metadata(&mut self, path: String, test: &Test) {
        let path = || Bound::from(path.clone());
        match test {
            Test::AnyOf(values) => self.push(
                "(json_type(d.metadata, ?) <> 'object' AND EXISTS (
                    SELECT 1 FROM json_each(d.metadata, ?) AS v WHERE (v.value, replace(v.type, 'real', 'integer'))
                    IN (SELECT value, replace(type, 'real', 'integer') FROM json_each(?))))",
                [path(), path(), json_list(values)],
            ),
            Test::Range { from, to } => self.bounds(from.as_ref(), to.as_ref(), |bound, operator| {
                let (types, bound) = match bound {
                    Value::Number(number) => ("'integer', 'real'", number_bound(number)),
                    other => ("'text'", Bound::from(other.as_str().unwrap_or_default().to_owned())),
                };
                let sql =
                    format!("(json_type(d.metadata, ?) IN ({types}) AND json_extract(d.metadata, ?) {operator} ?)");
                (sql, vec![path(), path(), bound])
            }),
            Test::Exists(wanted) => {
                self.push("(json_extract(d.metadata, ?) IS NOT NULL) = ?", [path(), (*wanted).into()]);
            }
        }
    }

    fn bounds(
        &mut self,
        from: Option<&Value>,
        to: Option<&Value>,
        compare: impl Fn(&Value, &'static str) -> (String, Vec<Bound>),
    ) {
        let bounds = from.map(|bound| (bound, ">=")).into_iter().chain(to.map(|bound| (bound, "<=")));
        self.sql.push_str("TRUE");
        for (bound, operator) in bounds {
            let (sql, params) = compare(bound, operator);
            self.sql.push_str(" AND ");
            self.push(&sql, params);
        }
    }

    fn push(&mut self, sql: &str, params: impl IntoIterator<Item = Bound>) {
        self.sql.push_str(sql);
        self.params.extend(params);
    }
}

/// Returns the column of a field; an empty title is none. A field that [`Filter::validate`] would refuse is never there.
fn column(field: &str) -> &'static str {
    match field {
        "id" => "d.id",
        "source" => "d.source",
        "title" => "nullif(d.title, '')",
        "date" => "d.date",
        "type" => "d.type",
        "domain" => "d.domain",
        _ => "NULL",
    }
}

/// Returns `$."a"."b"` for `a.b`; quotes and backslashes are escaped as in the stored JSON.
fn json_path(key: &str) -> String {
    key.split('.').fold("$".to_owned(), |path, part| format!("{path}.{}", Value::from(part)))
}

fn json_list(values: &[Value]) -> Bound {
    Bound::from(Value::from(values).to_string())
}

fn number_bound(number: &serde_json::Number) -> Bound {
    match (number.as_i64(), number.as_f64()) {
        (Some(integer), _) => integer.into(),
        (None, Some(real)) => real.into(),
        (None, None) => Bound::Null,
    }
}
