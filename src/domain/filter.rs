//! Which documents a search may find, by what is known of them.

use serde_json::Value;

use super::limits;
use crate::error::{Error, Result};

/// Conditions that a document must all meet. Empty: every document.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// The conditions.
    pub all: Vec<Condition>,
}

/// A test of one field.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// `id`, `source`, `title`, `date`, `type`, `domain`, or `metadata.KEY` (nested: `metadata.a.b`).
    pub field: String,
    /// What must hold of it. A field that a document lacks meets only `Exists(false)`.
    pub test: Test,
}

/// What must hold of a field. Text compares by code point, so ISO dates compare as dates; numbers by value.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Equal to one of these texts, numbers or booleans; where the field is a list, one of its elements is.
    AnyOf(Vec<Value>),
    /// Between the bounds, each inclusive, each text or number.
    Range {
        /// At least this.
        from: Option<Value>,
        /// At most this.
        to: Option<Value>,
    },
    /// Whether the field is there.
    Exists(bool),
}

impl Filter {
    /// The fields that are columns of a document.
    pub const COLUMNS: [&'static str; 6] = ["id", "source", "title", "date", "type", "domain"];

    /// Returns whether every document meets it.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Checks names and limits.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] on `filter` for an unknown field, a bound that is neither text nor number, or too much of
    /// anything.
    pub fn validate(self) -> Result<Self> {
        if self.all.len() > limits::FILTER_CONDITIONS_MAX {
            let message = format!("has {} conditions; at most {}", self.all.len(), limits::FILTER_CONDITIONS_MAX);
            return Err(Error::invalid("filter", message));
        }
        self.all.iter().try_for_each(Condition::validate)?;
        Ok(self)
    }
}

impl Condition {
    fn validate(&self) -> Result<()> {
        let known = Filter::COLUMNS.contains(&self.field.as_str())
            || self
                .field
                .strip_prefix("metadata.")
                .is_some_and(|key| !key.is_empty() && key.split('.').all(|k| !k.is_empty()));
        if !known {
            let message =
                format!("field {:?} is not one of {} or metadata.KEY", self.field, Filter::COLUMNS.join(", "));
            return Err(Error::invalid("filter", message));
        }
        let scalar = |value: &Value| value.is_string() || value.is_number();
        match &self.test {
            Test::AnyOf(values) if values.is_empty() || values.len() > limits::FILTER_VALUES_MAX => {
                let message = format!("{} takes 1 to {} values", self.field, limits::FILTER_VALUES_MAX);
                Err(Error::invalid("filter", message))
            }
            Test::AnyOf(values) if !values.iter().all(|v| scalar(v) || v.is_boolean()) => {
                Err(Error::invalid("filter", format!("{} compares with text, numbers and booleans only", self.field)))
            }
            Test::Range { from: None, to: None } => {
                Err(Error::invalid("filter", format!("the range of {} has no bound", self.field)))
            }
            Test::Range { from, to } if !from.iter().chain(to).all(scalar) => {
                Err(Error::invalid("filter", format!("the bounds of {} are text or numbers", self.field)))
            }
            _ => Ok(()),
        }
    }
}
