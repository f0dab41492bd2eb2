//! The lines of other small files that operators write in the same form as a bootstrap file.

use super::document::{self, Text, Value};
use super::fault::{FaultReason, Faults};
use super::findings::{self, Findings};
use super::source::Source;

/// One `name: value` or `name: [value, …]` with its places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The name.
    pub name: Placed,
    /// The values; empty when the line has none.
    pub values: Vec<Placed>,
    /// Whether they were written as a list.
    pub is_list: bool,
}

/// A text and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The text, without its quotes.
    pub text: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// Reads a flat file: what can be read of it, and every fault of its form, so that the caller
/// can judge the readable lines in the same run. `file_name` is used in messages only.
pub fn lines(file_name: &str, bytes: &[u8]) -> (Vec<Line>, Option<Faults>) {
    let source = match Source::new(bytes) {
        Ok(source) => source,
        Err(fault) => return (Vec::new(), Some(findings::unreadable(file_name, *fault))),
    };
    let mut findings = Findings::new(source);
    let document = document::read(&mut findings);
    let placed = |text: &Text| {
        // Behind an opening quote, where that is one for one what is in the file.
        let start = text.verbatim.unwrap_or(text.span.start);
        let label = source.label(&(start..start), "");
        Placed {
            text: text.content.clone(),
            line: label.line,
            column: label.column,
        }
    };
    let mut lines = Vec::new();
    for entry in &document.entries {
        let (values, is_list) = match &entry.value {
            Value::Scalar(text) if text.is_null() => (Vec::new(), false),
            Value::Scalar(text) => (vec![placed(text)], false),
            Value::List { items, .. } => (items.iter().map(placed).collect(), true),
            Value::Broken => continue,
            Value::Nested { span } => {
                findings.fault(
                    FaultReason::YamlNestedValue,
                    &entry.name.content,
                    format!("{} has structure", entry.name.content),
                    "write a text or a list of texts",
                    &[(span.clone(), "neither a text nor a list of texts")],
                );
                continue;
            }
        };
        lines.push(Line {
            name: placed(&entry.name),
            values,
            is_list,
        });
    }
    let faults = (!findings.faults.is_empty()).then(|| findings.into_faults(file_name));
    (lines, faults)
}
