//! YAML with positions, reduced to what a bootstrap file may hold: one flat mapping of names to
//! texts or lists of texts.
//!
//! Whatever else YAML knows (anchors, aliases, tags, documents, nesting, tabs) is a fault of its
//! own. After a syntax error the offending line is blanked and the rest is read again, so that
//! the faults behind it are found in the same run.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::fault::FaultReason;
use super::findings::Findings;

/// How often the reading starts again after a syntax error. Each time costs three passes
/// over the file; a file with more broken lines than this is no bootstrap file.
const MAX_RESTARTS: usize = 16;

/// What a file says, before anything is known about variables.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) entries: Vec<Entry>,
    /// Whether a part of the file could not be read: what seems absent may be in there.
    pub(super) truncated: bool,
}

/// One `name: value`.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Text,
    pub(super) value: Value,
}

/// The value of an entry.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A text.
    Scalar(Text),
    /// A list of texts; `span` covers all of it.
    List {
        items: Vec<Text>,
        span: Range<usize>,
    },
    /// Something with structure; `span` covers its beginning.
    Nested { span: Range<usize> },
    /// The line is there but could not be read; its fault is told already.
    Broken,
}

/// A text and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) content: String,
    /// Where it stands, with its quotes.
    pub(super) span: Range<usize>,
    /// The first byte of `content` in the file when the two are the same byte by byte, as they
    /// are without escapes and line folding.
    pub(super) verbatim: Option<usize>,
    /// Whether it was written without quotes.
    pub(super) plain: bool,
}

impl Text {
    /// Whether this is YAML's way of writing nothing.
    pub(super) fn is_null(&self) -> bool {
        self.content.is_empty()
            || (self.plain && matches!(self.content.as_str(), "~" | "null" | "Null" | "NULL"))
    }
}

/// Reads the file, telling every fault of its form.
pub(super) fn read(findings: &mut Findings<'_>) -> Document {
    let text = findings.source.text;
    let mut clean = without_tabs(text, findings);
    let mut broken = Vec::new();
    for attempt in 0..=MAX_RESTARTS {
        let mut reading = Reading::new(&clean);
        let Err(error) = reading.run() else {
            return reading.finish(findings, broken, false);
        };
        let offset = reading.byte(error.marker().index());
        let line = culprit_line(&clean, offset);
        tell_syntax(&error, &clean, offset, &line, findings);
        if clean[line.clone()].trim().is_empty() || attempt == MAX_RESTARTS {
            return reading.finish(findings, broken, true);
        }
        broken.extend(broken_entry(&clean, &line));
        clean = without_line(&clean, &line);
    }
    Document {
        entries: Vec::new(),
        truncated: true,
    }
}

/// Tells every run of tabs outside comments, and answers the text with blanks in their place:
/// of the same length, so that positions stay.
fn without_tabs(text: &str, findings: &mut Findings<'_>) -> String {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let comment = line.find(" #").or_else(|| line.find("\t#"));
        let end = if line.trim_start().starts_with('#') {
            0
        } else {
            comment.unwrap_or(line.len())
        };
        let code = line[..end].trim_end();
        if let Some(first) = code.find('\t') {
            let run = code[first..]
                .bytes()
                .take_while(|byte| *byte == b'\t')
                .count();
            findings.fault(
                FaultReason::YamlTab,
                "",
                "a tab: YAML does not allow it where indentation could be meant",
                "write blanks instead of tabs",
                &[(offset + first..offset + first + run, "a tab")],
            );
        }
        offset += line.len();
    }
    text.replace('\t', " ")
}

/// The line to blank out. The parser notices some faults only on the line after, such as a
/// missing `:` or an open bracket; so of the two lines, it is the one without which more of the
/// file can be read.
fn culprit_line(text: &str, offset: usize) -> Range<usize> {
    let line = line_around(text, offset);
    let Some(previous) = line_before(text, line.start) else {
        return line;
    };
    let readable = |line: &Range<usize>| {
        let rest = without_line(text, line);
        let mut reading = Reading::new(&rest);
        match reading.run() {
            Ok(()) => usize::MAX,
            Err(error) => reading.byte(error.marker().index()),
        }
    };
    let blank = text[line.clone()].trim().is_empty();
    if blank || readable(&previous) > readable(&line) {
        previous
    } else {
        line
    }
}

/// The nearest line above `start` that has more than blanks or a comment.
fn line_before(text: &str, mut start: usize) -> Option<Range<usize>> {
    while start > 0 {
        let line = line_around(text, start - 1);
        let content = text[line.clone()].trim_start();
        if !content.is_empty() && !content.starts_with('#') {
            return Some(line);
        }
        start = line.start;
    }
    None
}

/// The text with blanks in place of a line, so that positions stay.
fn without_line(text: &str, line: &Range<usize>) -> String {
    let mut rest = text.to_owned();
    rest.replace_range(line.clone(), &" ".repeat(line.len()));
    rest
}

/// The line that holds the byte at `offset`, without its line feed.
fn line_around(text: &str, offset: usize) -> Range<usize> {
    let offset = offset.min(text.len());
    let start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[offset..]
        .find('\n')
        .map_or(text.len(), |newline| offset + newline);
    start..end
}

fn tell_syntax(
    error: &ScanError,
    text: &str,
    offset: usize,
    line: &Range<usize>,
    findings: &mut Findings<'_>,
) {
    let (reason, remedy) = match text[offset..].chars().next() {
        Some('*') if error.info().contains("anchor") => (
            FaultReason::YamlAlias,
            "write the value itself in place of the alias",
        ),
        _ => (
            FaultReason::YamlSyntax,
            "write `variable: value`, from the first column, quotes closed on the same line",
        ),
    };
    let content = text[line.clone()].trim_end();
    let end = (line.start + content.len()).max(line.start);
    let start = if line.contains(&offset) {
        offset.min(end)
    } else {
        line.start
    };
    let start = if start == end {
        line.start + leading_blanks(content)
    } else {
        start
    };
    let message = format!("not YAML: {}", error.info());
    findings.fault(
        reason,
        "",
        message,
        remedy,
        &[(start..end, "cannot be read")],
    );
}

fn leading_blanks(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The name on a line that cannot be read, so that its variable does not count as absent.
fn broken_entry(text: &str, line: &Range<usize>) -> Option<Entry> {
    let content = &text[line.clone()];
    let (name, _) = content.split_once(':')?;
    let start = line.start + leading_blanks(name);
    let name = name.trim();
    let span = start..start + name.len();
    let name = Text {
        content: name.into(),
        verbatim: Some(start),
        plain: true,
        span,
    };
    Some(Entry {
        name,
        value: Value::Broken,
    })
}

/// One pass over the events.
struct Reading<'a> {
    text: &'a str,
    /// The byte of each character: the parser counts characters.
    bytes: Vec<usize>,
    parser: Parser<'a, StrInput<'a>>,
    entries: Vec<Entry>,
    oddities: Vec<Oddity>,
}

/// A fault of form that is told only once the pass is the final one.
struct Oddity {
    reason: FaultReason,
    message: &'static str,
    remedy: &'static str,
    span: Range<usize>,
}

type Step<'a> = Result<(Event<'a>, Range<usize>), ScanError>;

impl<'a> Reading<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            bytes: text.char_indices().map(|(byte, _)| byte).collect(),
            parser: Parser::new_from_str(text),
            entries: Vec::new(),
            oddities: Vec::new(),
        }
    }

    fn byte(&self, character: usize) -> usize {
        self.bytes
            .get(character)
            .copied()
            .unwrap_or(self.text.len())
    }

    fn span(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }

    fn next(&mut self) -> Step<'a> {
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, self.text.len()..self.text.len())),
            Some(Err(error)) => Err(error),
            Some(Ok((event, span))) => {
                let span = self.span(span);
                self.note_properties(&event, &span);
                Ok((event, span))
            }
        }
    }

    /// Reads the whole stream: one document with one mapping.
    fn run(&mut self) -> Result<(), ScanError> {
        let mut documents = 0;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(()),
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        self.odd(
                            FaultReason::YamlMultipleDocuments,
                            "a second document begins here",
                            "keep one document per file: remove this line and what follows",
                            span,
                        );
                        return Ok(());
                    }
                }
                Event::MappingStart(..) => self.mapping()?,
                Event::Scalar(..) | Event::SequenceStart(..) => {
                    // A document of nothing is an empty plain text.
                    let nothing = matches!(event, Event::Scalar(..)) && span.is_empty();
                    if !nothing {
                        self.odd(
                            FaultReason::YamlNotAMapping,
                            "the file is not a list of variables",
                            "write one `variable: value` per line",
                            line_around(self.text, span.start),
                        );
                    }
                    self.skip(&event)?;
                }
                _ => {}
            }
        }
    }

    fn mapping(&mut self) -> Result<(), ScanError> {
        loop {
            let (event, span) = self.next()?;
            let name = match event {
                Event::MappingEnd | Event::StreamEnd => return Ok(()),
                Event::Scalar(content, style, ..) => Some(self.text_of(&content, style, span)),
                other => {
                    if !matches!(other, Event::Alias(_)) {
                        self.odd(
                            FaultReason::YamlNestedValue,
                            "a variable's name has structure",
                            "write the plain name of a variable before the `:`",
                            span,
                        );
                    }
                    self.skip(&other)?;
                    None
                }
            };
            let value = self.value()?;
            if let Some(name) = name {
                self.entries.push(Entry { name, value });
            }
        }
    }

    fn value(&mut self) -> Result<Value, ScanError> {
        let (event, span) = self.next()?;
        Ok(match event {
            Event::Scalar(content, style, ..) => Value::Scalar(self.text_of(&content, style, span)),
            Event::SequenceStart(..) => self.list(span)?,
            // Its fault is told where properties are noted.
            Event::Alias(_) => Value::Broken,
            other => {
                self.skip(&other)?;
                Value::Nested {
                    span: self.first_line(span),
                }
            }
        })
    }

    fn list(&mut self, begun: Range<usize>) -> Result<Value, ScanError> {
        let mut items = Vec::new();
        let mut nested = false;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::SequenceEnd | Event::StreamEnd => {
                    let last = items.last().map(|item: &Text| item.span.end);
                    // A flow list ends with its bracket, a block list with its last item.
                    let end = if span.is_empty() {
                        last.unwrap_or(begun.end)
                    } else {
                        span.end
                    };
                    let span = begun.start..end.max(begun.end);
                    return Ok(if nested {
                        Value::Nested {
                            span: self.first_line(begun),
                        }
                    } else {
                        Value::List { items, span }
                    });
                }
                Event::Scalar(content, style, ..) => {
                    items.push(self.text_of(&content, style, span));
                }
                other => {
                    nested = true;
                    self.skip(&other)?;
                }
            }
        }
    }

    /// Reads to the end of what `event` began, without recursion: nesting has no limit.
    fn skip(&mut self, event: &Event<'a>) -> Result<(), ScanError> {
        let begins =
            |event: &Event<'_>| matches!(event, Event::MappingStart(..) | Event::SequenceStart(..));
        let mut depth = usize::from(begins(event));
        while depth > 0 {
            let (event, _) = self.next()?;
            match event {
                Event::MappingEnd | Event::SequenceEnd => depth -= 1,
                Event::StreamEnd => return Ok(()),
                event => depth += usize::from(begins(&event)),
            }
        }
        Ok(())
    }

    /// Notes anchors, tags and aliases wherever they are.
    fn note_properties(&mut self, event: &Event<'a>, span: &Range<usize>) {
        let (anchor, tag) = match event {
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(anchor, tag)
            | Event::MappingStart(anchor, tag) => (*anchor, tag.is_some()),
            Event::Alias(_) => {
                self.odd(
                    FaultReason::YamlAlias,
                    "an alias stands for a value written elsewhere",
                    "write the value itself in place of the alias",
                    span.clone(),
                );
                return;
            }
            _ => return,
        };
        if anchor != 0 {
            let span = self.property('&', span);
            self.odd(
                FaultReason::YamlAnchor,
                "an anchor names a value for aliases, which are not allowed here",
                "remove the anchor, the text from & to the blank",
                span,
            );
        }
        if tag {
            let span = self.property('!', span);
            self.odd(
                FaultReason::YamlTag,
                "a tag changes how a value is read, which is not allowed here",
                "remove the tag, the text from ! to the blank; quote the value if need be",
                span,
            );
        }
    }

    /// The word with which a property begins: within the span of a scalar, before the one of a
    /// mapping or list.
    fn property(&self, mark: char, span: &Range<usize>) -> Range<usize> {
        let line = line_around(self.text, span.start);
        let inside = self.text[span.start..span.end.max(span.start)].find(mark);
        let start = match inside {
            Some(offset) => span.start + offset,
            None => match self.text[..span.start].rfind(mark) {
                Some(offset) => offset,
                None => return line,
            },
        };
        let word = self.text[start..].find(char::is_whitespace);
        start..word.map_or(self.text.len(), |length| start + length)
    }

    fn odd(
        &mut self,
        reason: FaultReason,
        message: &'static str,
        remedy: &'static str,
        span: Range<usize>,
    ) {
        self.oddities.push(Oddity {
            reason,
            message,
            remedy,
            span,
        });
    }

    fn first_line(&self, span: Range<usize>) -> Range<usize> {
        let line = line_around(self.text, span.start);
        let content = self.text[span.start..line.end].trim_end();
        span.start..span.start + content.len()
    }

    fn text_of(&self, content: &str, style: ScalarStyle, span: Range<usize>) -> Text {
        let quotes = match style {
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => 1,
            ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded => 0,
        };
        let inner = self
            .text
            .get(span.start + quotes..span.end.saturating_sub(quotes));
        let verbatim = (inner == Some(content)).then_some(span.start + quotes);
        Text {
            content: content.to_owned(),
            verbatim,
            plain: style == ScalarStyle::Plain,
            span,
        }
    }

    /// Tells the oddities of the final pass, and adds the lines that could not be read.
    fn finish(self, findings: &mut Findings<'_>, broken: Vec<Entry>, truncated: bool) -> Document {
        let mut cut = truncated;
        for oddity in self.oddities {
            cut |= oddity.reason == FaultReason::YamlMultipleDocuments;
            let (message, remedy) = (oddity.message, oddity.remedy);
            findings.fault(oddity.reason, "", message, remedy, &[(oddity.span, "")]);
        }
        let mut entries = self.entries;
        entries.extend(broken);
        Document {
            entries,
            truncated: cut,
        }
    }
}
