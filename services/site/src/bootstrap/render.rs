//! Faults as an operator reads them on a terminal: the line, carets under the text, the remedy.

use annotate_snippets::renderer::DEFAULT_TERM_WIDTH;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::fault::{Fault, FaultReason, Faults, Label, Warning};
use crate::ReasonSet as _;

/// How many lines between two pieces of text are still shown in one excerpt. The renderer folds
/// what lies between, but has to read it.
const NEAR_LINES: usize = 200;

/// Every fault and warning of a file, then a line that counts them. `text` is the file as it was
/// parsed; `color` asks for terminal colours.
pub fn render(file_name: &str, text: &[u8], faults: &Faults, color: bool) -> String {
    let text = String::from_utf8_lossy(text);
    let mut output = String::new();
    for fault in faults.faults() {
        let readable = !is_unreadable(fault.reason);
        output += &render_one(
            &Report {
                level: Level::ERROR,
                id: Some(fault.reason.name()),
                message: &fault.message,
                remedy: &fault.remedy,
                labels: &fault.labels,
            },
            file_name,
            readable.then_some(text.as_ref()),
            color,
        );
    }
    output += &render_warnings(file_name, text.as_bytes(), faults.warnings(), color);
    output += &count_line(file_name, faults.faults(), faults.warnings());
    output
}

/// The warnings of a file that is right.
pub fn render_warnings(file_name: &str, text: &[u8], warnings: &[Warning], color: bool) -> String {
    let text = String::from_utf8_lossy(text);
    let mut output = String::new();
    for warning in warnings {
        output += &render_one(
            &Report {
                level: Level::WARNING,
                id: None,
                message: &warning.message,
                remedy: &warning.remedy,
                labels: std::slice::from_ref(&warning.label),
            },
            file_name,
            Some(text.as_ref()),
            color,
        );
    }
    output
}

/// One fault or warning.
struct Report<'a> {
    level: Level<'static>,
    id: Option<&'static str>,
    message: &'a str,
    remedy: &'a str,
    labels: &'a [Label],
}

/// `text` is `None` for a file that cannot be shown.
fn render_one(report: &Report<'_>, file_name: &str, text: Option<&str>, color: bool) -> String {
    let mut title = report.level.clone().primary_title(report.message);
    if let Some(id) = report.id {
        title = title.id(id);
    }
    let mut group = Group::with_title(title);
    match text {
        Some(text) => {
            for excerpt in excerpts(report.labels) {
                group = group.element(snippet(text, file_name, &excerpt));
            }
        }
        None => {
            if let Some(place) = report.labels.first() {
                let origin = Origin::path(file_name)
                    .line(place.line)
                    .char_column(place.column);
                group = group.element(origin);
            }
        }
    }
    // The remedy can repeat text of the file, so it must not style the terminal.
    let remedy = annotate_snippets::normalize_untrusted_str(report.remedy);
    group = group.element(Level::HELP.message(remedy));
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let rendered = renderer.term_width(DEFAULT_TERM_WIDTH).render(&[group]);
    format!("{rendered}\n\n")
}

/// Labels that are near each other, in the order of the most important one.
fn excerpts(labels: &[Label]) -> Vec<Vec<(AnnotationKind, &Label)>> {
    let mut excerpts: Vec<Vec<(AnnotationKind, &Label)>> = Vec::new();
    for (index, label) in labels.iter().enumerate() {
        let kind = if index == 0 {
            AnnotationKind::Primary
        } else {
            AnnotationKind::Context
        };
        let near = excerpts.iter_mut().find(|excerpt| {
            excerpt
                .iter()
                .all(|(_, other)| other.line.abs_diff(label.line) <= NEAR_LINES)
        });
        match near {
            Some(excerpt) => excerpt.push((kind, label)),
            None => excerpts.push(vec![(kind, label)]),
        }
    }
    excerpts
}

/// The lines around the labels.
fn snippet<'t>(
    text: &'t str,
    file_name: &'t str,
    labels: &[(AnnotationKind, &'t Label)],
) -> Snippet<'t, annotate_snippets::Annotation<'t>> {
    let starts = labels.iter().map(|(_, label)| label.span.start);
    let ends = labels.iter().map(|(_, label)| label.span.end);
    let from = starts.min().unwrap_or_default();
    let to = ends.max().unwrap_or_default();
    let start = text[..from].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[to..]
        .find('\n')
        .map_or(text.len(), |newline| to + newline);
    let first_line = text[..start].matches('\n').count() + 1;
    let annotations = labels.iter().map(|(kind, label)| {
        let span = label.span.start - start..label.span.end - start;
        let message = (!label.message.is_empty()).then_some(label.message.as_str());
        kind.span(span).label(message)
    });
    Snippet::source(&text[start..end])
        .path(file_name)
        .line_start(first_line)
        .annotations(annotations)
}

/// Whether the file has no text that could be shown.
fn is_unreadable(reason: FaultReason) -> bool {
    matches!(
        reason,
        FaultReason::FileEmpty
            | FaultReason::FileTooLarge
            | FaultReason::FileUtf16
            | FaultReason::FileBinary
            | FaultReason::FileNotUtf8
    )
}

fn count_line(file_name: &str, faults: &[Fault], warnings: &[Warning]) -> String {
    let plural = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    };
    let faults = plural(faults.len(), "fault");
    match warnings.len() {
        0 => format!("{file_name}: {faults}\n"),
        count => format!("{file_name}: {faults}, {}\n", plural(count, "warning")),
    }
}
