//! Tables, JSON, YAML, CSV and plain values, all from the same rows.
//!
//! The keys of the machine formats are the names of the columns and never change. Tables look
//! the same on a terminal and in a pipe, because operators' scripts split them with `awk`: a row
//! of names and numbers is one line. Only prose, and the values of a single object, go on below.

use comfy_table::{ContentLineStyle, LineStyle, Table, TableStyle};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::nearest::nearest;

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// An ASCII table, in a pipe too.
    #[default]
    Table,
    /// JSON: an array of objects for lists, an object otherwise.
    Json,
    /// YAML of the same shape as the JSON.
    Yaml,
    /// CSV (RFC 4180) with a line of column names.
    Csv,
    /// Bare values: a line per row of a list, a line per value otherwise.
    Value,
}

/// A column of a list, or a property of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    key: &'static str,
    heading: &'static str,
    prose: bool,
}

impl Column {
    /// A column whose heading is its key.
    pub(crate) const fn new(key: &'static str) -> Self {
        Self::titled(key, key)
    }

    /// A column with blanks in its heading; the key has underscores.
    pub(crate) const fn titled(key: &'static str, heading: &'static str) -> Self {
        Self {
            key,
            heading,
            prose: false,
        }
    }

    /// The same column for sentences: in the table of a list they go on below.
    pub(crate) const fn prose(self) -> Self {
        Self {
            prose: true,
            ..self
        }
    }

    fn is_called(self, name: &str) -> bool {
        let same = |own: &str| own.eq_ignore_ascii_case(name);
        same(self.key) || same(self.heading) || same(&self.key.replace('_', "-"))
    }
}

/// One value: for machines, and as text for tables, CSV and plain values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    machine: Value,
    text: String,
}

impl Cell {
    /// No value: `null`, shown as `None`.
    pub(crate) fn none() -> Self {
        Self {
            machine: Value::Null,
            text: "None".to_owned(),
        }
    }

    /// A text; an empty one is no value.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        if text.is_empty() {
            return Self::none();
        }
        Self {
            machine: Value::String(text.clone()),
            text,
        }
    }

    /// A number.
    pub(crate) fn number(number: impl Into<u64>) -> Self {
        let number = number.into();
        Self {
            machine: Value::from(number),
            text: number.to_string(),
        }
    }

    /// A truth value, shown as `True` or `False`.
    pub(crate) fn flag(flag: bool) -> Self {
        let text = if flag { "True" } else { "False" };
        Self {
            machine: Value::Bool(flag),
            text: text.to_owned(),
        }
    }

    /// An array, shown in the manner of `['a', 'b']`.
    pub(crate) fn quoted(items: Vec<String>) -> Self {
        let quoted: Vec<String> = items.iter().map(|item| format!("'{item}'")).collect();
        let text = format!("[{}]", quoted.join(", "));
        Self {
            machine: Value::from(items),
            text,
        }
    }

    /// An array, shown in the manner of `a,b`; an empty one is shown as `None`.
    pub(crate) fn joined(items: Vec<String>) -> Self {
        let text = if items.is_empty() {
            "None".to_owned()
        } else {
            items.join(",")
        };
        Self {
            machine: Value::from(items),
            text,
        }
    }

    /// The text.
    pub(crate) fn plain(&self) -> String {
        self.text.clone()
    }

    /// The text in CSV, whose readers take an empty field for no value.
    fn field(&self) -> &str {
        let none = match &self.machine {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        if none { "" } else { &self.text }
    }

    /// An array of objects, shown as `text`.
    pub(crate) fn objects(objects: Vec<Value>, text: String) -> Self {
        Self {
            machine: Value::Array(objects),
            text,
        }
    }
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    /// Nothing to show.
    Nothing,
    /// Any number of rows.
    List {
        columns: Vec<Column>,
        rows: Vec<Vec<Cell>>,
    },
    /// The properties of one object.
    Record {
        columns: Vec<Column>,
        cells: Vec<Cell>,
    },
}

impl Body {
    /// A list; each row has a cell for each column.
    pub(crate) fn list<const N: usize>(
        columns: &[Column; N],
        rows: impl IntoIterator<Item = [Cell; N]>,
    ) -> Self {
        let rows = rows.into_iter().map(Vec::from).collect();
        Self::List {
            columns: columns.to_vec(),
            rows,
        }
    }

    /// One object, with a cell for each property.
    pub(crate) fn record<const N: usize>(columns: &[Column; N], cells: [Cell; N]) -> Self {
        Self::Record {
            columns: columns.to_vec(),
            cells: Vec::from(cells),
        }
    }

    /// Keeps the columns of `selection`, in its order.
    pub(crate) fn select(self, selection: &Selection) -> Self {
        let Selection::Some(indices) = selection else {
            return self;
        };
        match self {
            Self::Nothing => Self::Nothing,
            Self::List { columns, rows } => Self::List {
                columns: pick(&columns, indices),
                rows: rows.iter().map(|row| pick(row, indices)).collect(),
            },
            Self::Record { columns, cells } => Self::Record {
                columns: pick(&columns, indices),
                cells: pick(&cells, indices),
            },
        }
    }

    /// The text of the answer with its last line end; empty when there is nothing to show.
    ///
    /// # Errors
    /// A serializer that fails, which is a defect of it.
    pub(crate) fn render(&self, format: Format) -> Result<String, Failure> {
        if matches!(self, Self::Nothing) {
            return Ok(String::new());
        }
        match format {
            Format::Table => Ok(self.table()),
            Format::Value => Ok(self.values()),
            Format::Json => {
                let text = serde_json::to_string_pretty(&self.machine());
                text.map(|text| text + "\n")
                    .map_err(|fault| broken("JSON", fault))
            }
            Format::Yaml => {
                serde_saphyr::to_string(&self.machine()).map_err(|fault| broken("YAML", fault))
            }
            Format::Csv => self.csv().map_err(|fault| broken("CSV", fault)),
        }
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(STYLE);
        match self {
            Self::Nothing => {}
            Self::List { columns, rows } => {
                table.set_header(columns.iter().map(|column| column.heading));
                for row in rows {
                    let cells = columns.iter().zip(row);
                    table.add_row(cells.map(|(column, cell)| match column.prose {
                        true => wrapped(&printable(&cell.text), PROSE_WIDTH),
                        false => printable(&cell.text),
                    }));
                }
            }
            Self::Record { columns, cells } => {
                table.set_header(["Property", "Value"]);
                for (column, cell) in columns.iter().zip(cells) {
                    let value = wrapped(&printable(&cell.text), VALUE_WIDTH);
                    table.add_row([column.heading.to_owned(), value]);
                }
            }
        }
        format!("{table}\n")
    }

    fn values(&self) -> String {
        let line = |cells: &Vec<Cell>, separator: &str| {
            let texts: Vec<String> = cells.iter().map(|cell| printable(&cell.text)).collect();
            texts.join(separator) + "\n"
        };
        match self {
            Self::Nothing => String::new(),
            Self::List { rows, .. } => rows.iter().map(|row| line(row, " ")).collect(),
            Self::Record { cells, .. } => line(cells, "\n"),
        }
    }

    /// The value that JSON and YAML write.
    pub(crate) fn machine(&self) -> Value {
        match self {
            Self::Nothing => Value::Null,
            Self::List { columns, rows } => {
                Value::Array(rows.iter().map(|row| object(columns, row)).collect())
            }
            Self::Record { columns, cells } => object(columns, cells),
        }
    }

    fn csv(&self) -> Result<String, Box<dyn std::error::Error>> {
        let (columns, rows): (&[Column], Vec<&Vec<Cell>>) = match self {
            Self::Nothing => (&[], Vec::new()),
            Self::List { columns, rows } => (columns, rows.iter().collect()),
            Self::Record { columns, cells } => (columns, vec![cells]),
        };
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(columns.iter().map(|column| column.key))?;
        for row in rows {
            writer.write_record(row.iter().map(Cell::field))?;
        }
        Ok(String::from_utf8(writer.into_inner()?)?)
    }
}

/// Which columns are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection {
    /// All of them.
    All,
    /// Those at these places, in this order.
    Some(Vec<usize>),
}

impl Selection {
    /// The columns called `names`; all of them when there is none.
    ///
    /// # Errors
    /// Every name that is no column's, with the nearest one.
    pub(crate) fn of(names: &[String], columns: &[Column]) -> Result<Self, Failure> {
        if names.is_empty() {
            return Ok(Self::All);
        }
        let place = |name: &String| columns.iter().position(|column| column.is_called(name));
        let unknown: Vec<&String> = names.iter().filter(|name| place(name).is_none()).collect();
        if unknown.is_empty() {
            return Ok(Self::Some(names.iter().filter_map(place).collect()));
        }
        if columns.is_empty() {
            return Err(Failure::usage(
                "this command shows no columns",
                "leave --column out",
            ));
        }
        let keys: Vec<&str> = columns.iter().map(|column| column.key).collect();
        let named: Vec<String> = unknown
            .iter()
            .map(|name| match nearest(name, keys.iter().copied()) {
                Some(key) => format!("`{name}` (did you mean `{key}`?)"),
                None => format!("`{name}`"),
            })
            .collect();
        Err(Failure::usage(
            format!("there is no column {}", named.join(", ")),
            format!("the columns of this command are {}", keys.join(", ")),
        ))
    }
}

/// The widest line of prose in a list, in characters: two such columns fit a wide terminal.
const PROSE_WIDTH: usize = 60;

/// The widest line of a value of a single object, in characters.
const VALUE_WIDTH: usize = 80;

/// The text in lines of at most `width` characters, broken after blanks and commas. What has
/// neither, such as a token, stays whole, so that it can be copied.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines = String::new();
    let mut used = 0;
    for piece in text.split_inclusive([' ', ',']) {
        let length = piece.chars().count();
        if used > 0 && used + piece.trim_end().chars().count() > width {
            lines.truncate(lines.trim_end().len());
            lines.push('\n');
            used = 0;
        }
        lines.push_str(piece);
        used += length;
    }
    lines
}

/// The table that the field's tools draw: rules above and below the heading and at the end.
const STYLE: TableStyle = TableStyle::new()
    .top_border(RULE)
    .header_lines(LINE)
    .header_separator(RULE)
    .content_lines(LINE)
    .bottom_border(RULE);
const RULE: LineStyle = LineStyle::new('+', '-', '+', '+');
const LINE: ContentLineStyle = ContentLineStyle::new('|', '|', '|');

/// `text` on one line and without control characters: names come from other sites, and an
/// escape sequence in one must not reach the operator's terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_direction(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Characters that reorder the text around them and so make it look like another.
fn is_direction(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn object(columns: &[Column], cells: &[Cell]) -> Value {
    let pairs = columns.iter().zip(cells);
    let pairs = pairs.map(|(column, cell)| (column.key.to_owned(), cell.machine.clone()));
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn pick<Item: Clone>(items: &[Item], indices: &[usize]) -> Vec<Item> {
    indices
        .iter()
        .filter_map(|index| items.get(*index).cloned())
        .collect()
}

fn broken(format: &str, fault: impl std::fmt::Display) -> Failure {
    Failure::bad_answer(format!("the answer cannot be written as {format}: {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_sequence_is_shown_and_not_sent() {
        assert_eq!(
            printable("a\u{1b}[2Jb\nc\u{202e}d"),
            "a\\u{1b}[2Jb\\nc\\u{202e}d"
        );
        assert_eq!(printable("prise d’été ✓"), "prise d’été ✓");
    }

    #[test]
    fn long_values_go_on_below_and_words_stay_whole() {
        for (text, expected) in [
            ("", ""),
            ("aaaa bb", "aaaa bb"),
            ("aaaa bbb", "aaaa\nbbb"),
            ("aaa,bbb,ccc", "aaa,\nbbb,ccc"),
            ("a bbbbbbbbbbb c", "a\nbbbbbbbbbbb\nc"),
            ("éééé éé", "éééé éé"),
        ] {
            assert_eq!(wrapped(text, 7), expected, "{text}");
        }
    }

    #[test]
    fn columns_are_found_by_key_and_heading_and_keep_the_order_of_the_request() {
        let columns = [Column::new("id"), Column::titled("last_seen", "last seen")];
        let of = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            Selection::of(&names, &columns)
        };
        for name in ["last_seen", "last seen", "Last-Seen"] {
            assert_eq!(
                of(&[name, "id"]).expect("known"),
                Selection::Some(vec![1, 0])
            );
        }
        let failure = of(&["id", "lastseen", "zzz"]).expect_err("unknown");
        let text = failure.render(false);
        assert!(
            text.contains("`lastseen` (did you mean `last_seen`?), `zzz`"),
            "{text}"
        );
    }

    proptest::proptest! {
        /// Names come from other sites: whatever they are, a row stays one line and nothing
        /// controls the terminal.
        #[test]
        fn a_row_is_one_line_whatever_its_text(text in "\\PC*|.*|[\\x00-\\x20|+]*") {
            let columns = [Column::new("name"), Column::new("n")];
            let body = Body::list(&columns, [[Cell::text(text), Cell::number(1_u32)]]);
            let table = body.render(Format::Table).expect("a table");
            proptest::prop_assert_eq!(table.lines().count(), 5, "{}", table);
            let controls = table.chars().filter(|&c| c.is_control() && c != '\n').count();
            proptest::prop_assert_eq!(controls, 0);
            let values = body.render(Format::Value).expect("values");
            proptest::prop_assert_eq!(values.lines().count(), 1, "{}", values);
        }

        #[test]
        fn wrapping_loses_nothing_but_blanks(text in "[a-c,é ]{0,40}", width in 1_usize..12) {
            let lines = wrapped(&text, width);
            let solid = |text: &str| text.replace([' ', '\n'], "");
            proptest::prop_assert_eq!(solid(&lines), solid(&text));
            for line in lines.lines().map(str::trim_end) {
                let breakable = line.trim_end_matches(',').contains([' ', ',']);
                let fits = line.chars().count() <= width;
                proptest::prop_assert!(fits || !breakable, "{:?}", lines);
            }
        }

        #[test]
        fn json_and_csv_give_the_text_back(text in "[a-z\\PC][\\PC\\n\\t\"',:#-]*") {
            let body = Body::record(&[Column::new("name")], [Cell::text(text.clone())]);
            let json = body.render(Format::Json).expect("JSON");
            let value: Value = serde_json::from_str(&json).expect("JSON");
            proptest::prop_assert_eq!(&value["name"], &Value::String(text.clone()));
            let csv = body.render(Format::Csv).expect("CSV");
            let mut reader = csv::Reader::from_reader(csv.as_bytes());
            let record = reader.records().next().expect("a row").expect("CSV");
            proptest::prop_assert_eq!(record.get(0), Some(text.as_str()));
        }
    }
}
