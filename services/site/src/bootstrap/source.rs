//! The text of a file: from bytes, and from offsets to lines and columns.

use std::ops::Range;

use super::fault::{Fault, FaultReason, Label};

/// The largest bootstrap file. A real one has some three kilobytes; the limit keeps a wrong
/// file (an image, a log) from being read at length.
pub const MAX_BYTES: usize = 1024 * 1024;

/// The text of a file that can be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
}

impl<'a> Source<'a> {
    /// Takes bytes as text when they are UTF-8 without control characters, not too many of
    /// them, and not only blanks.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Box<Fault>> {
        refuse_size(bytes)?;
        refuse_utf16(bytes)?;
        refuse_binary(bytes)?;
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let offset = error.valid_up_to();
            let byte = bytes.get(offset).copied().unwrap_or_default();
            unreadable(
                FaultReason::FileNotUtf8,
                format!("the byte 0x{byte:02x} is not UTF-8"),
                "save the file as UTF-8; in an older encoding, retype the character",
                bytes,
                offset,
            )
        })?;
        Ok(Self { text })
    }

    /// The piece at `span` with its position.
    pub(super) fn label(&self, span: &Range<usize>, message: impl Into<String>) -> Label {
        let start = floor_boundary(self.text, span.start);
        let end = floor_boundary(self.text, span.end).max(start);
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Label {
            span: start..end,
            line: before.matches('\n').count() + 1,
            column: self.text[line_start..start].chars().count() + 1,
            text: self.text[start..end]
                .chars()
                .take(Label::MAX_TEXT)
                .collect(),
            message: message.into(),
        }
    }

    /// The gap after the last text, where what is missing could be written.
    pub(super) fn end(&self) -> Range<usize> {
        let end = self.text.trim_end().len();
        end..end
    }
}

/// The greatest character boundary at or below `index`.
fn floor_boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

fn refuse_size(bytes: &[u8]) -> Result<(), Box<Fault>> {
    if bytes.len() > MAX_BYTES {
        return Err(unreadable(
            FaultReason::FileTooLarge,
            format!(
                "the file has {} bytes or more; a bootstrap file has at most {MAX_BYTES}",
                bytes.len()
            ),
            "give the file that holds the bootstrap variables",
            bytes,
            0,
        ));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(unreadable(
            FaultReason::FileEmpty,
            "the file is empty".into(),
            "write one `variable: value` per line; deploy/examples has whole files",
            bytes,
            0,
        ));
    }
    Ok(())
}

/// UTF-16 shows itself by its byte order mark, or by a NUL in every other byte.
fn refuse_utf16(bytes: &[u8]) -> Result<(), Box<Fault>> {
    let marked = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let head = &bytes[..bytes.len().min(64)];
    let nuls = |parity: usize| {
        head.iter().skip(parity).step_by(2).all(|byte| *byte == 0) && head.len() >= 2
    };
    let patterned = head.iter().any(|byte| *byte != 0) && (nuls(0) || nuls(1));
    if marked || patterned {
        return Err(unreadable(
            FaultReason::FileUtf16,
            "the file is UTF-16".into(),
            "save it as UTF-8, or convert it: iconv -f UTF-16 -t UTF-8 FILE",
            bytes,
            0,
        ));
    }
    Ok(())
}

fn refuse_binary(bytes: &[u8]) -> Result<(), Box<Fault>> {
    let control = |byte: &u8| (*byte < 0x20 && !b"\t\n\r".contains(byte)) || *byte == 0x7f;
    match bytes.iter().position(control) {
        None => Ok(()),
        Some(offset) => Err(unreadable(
            FaultReason::FileBinary,
            format!(
                "the control character 0x{:02x} does not occur in text",
                bytes[offset]
            ),
            "give the text file that holds the bootstrap variables",
            bytes,
            offset,
        )),
    }
}

/// A fault at one byte of something that may be no text at all.
fn unreadable(
    reason: FaultReason,
    message: String,
    remedy: &str,
    bytes: &[u8],
    offset: usize,
) -> Box<Fault> {
    let before = &bytes[..offset];
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    let column = String::from_utf8_lossy(&before[line_start..])
        .chars()
        .count()
        + 1;
    Box::new(Fault {
        reason,
        variable: String::new(),
        message,
        remedy: remedy.into(),
        labels: vec![Label {
            span: offset..offset,
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column,
            text: String::new(),
            message: String::new(),
        }],
    })
}
