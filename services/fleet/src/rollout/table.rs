//! Address tables: one CSV row with the fields of the pool for each subcloud.
//!
//! The header names the columns: `subcloud`, and any of `name`, `subnet`, `order`, `ranges`
//! (several are separated by blanks), `floating_address`, `controller0_address`,
//! `controller1_address`, `gateway_address`. An empty field says nothing; `none` clears an
//! address.

use std::collections::BTreeMap;

use site::PoolEdit;

use super::order::MAX_MEMBERS;
use super::template::{PoolField, set_subnet};
use crate::{Reason, Violation};

/// The largest table: [`MAX_MEMBERS`] rows of some 160 bytes, within a request of 2 MiB.
pub const MAX_TABLE_BYTES: usize = 1536 * 1024;

/// The most faults that are told at once; beyond it no operator reads on.
const MAX_FAULTS: usize = 100;

const FIELD: &str = "table";

/// The rows of a table, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    rows: Vec<Row>,
}

/// The pool of one subcloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) subcloud: String,
    pub(super) line: u64,
    pub(super) pool: PoolEdit,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Column {
    Subcloud,
    Subnet,
    Field(PoolField),
}

impl Column {
    fn of(name: &str) -> Option<Self> {
        match name {
            "subcloud" => Some(Self::Subcloud),
            "subnet" => Some(Self::Subnet),
            _ => PoolField::ALL
                .into_iter()
                .find(|field| field.name() == name)
                .map(Self::Field),
        }
    }
}

impl Table {
    /// Reads a table. Every fault has its line.
    ///
    /// # Errors
    /// Every fault, at most a hundred.
    pub fn read(bytes: &[u8]) -> Result<Self, Vec<Violation>> {
        if bytes.len() > MAX_TABLE_BYTES {
            let message = format!("the table has more than {MAX_TABLE_BYTES} bytes");
            return Err(vec![fault(1, message, "make several rollouts of it")]);
        }
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .comment(Some(b'#'))
            .from_reader(bytes);
        let mut records = reader.records();
        let header = match records.next() {
            Some(Ok(header)) => header,
            Some(Err(error)) => return Err(vec![unreadable(&error)]),
            None => {
                let remedy = "begin with a header such as `subcloud,name,subnet`";
                return Err(vec![fault(1, "the table is empty", remedy)]);
            }
        };
        let columns = columns(&header)?;
        let mut reading = Reading::default();
        for record in records {
            match record {
                Ok(record) => reading.row(&columns, &record),
                Err(error) => reading.faults.push(unreadable(&error)),
            }
            if reading.faults.len() >= MAX_FAULTS || reading.rows.len() > MAX_MEMBERS {
                break;
            }
        }
        reading.finish()
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether each row says what a new pool needs: a name and a subnet.
    ///
    /// # Errors
    /// Each that is missing, at most a hundred.
    pub fn complete(&self) -> Result<(), Vec<Violation>> {
        let missing = self.rows.iter().flat_map(|row| {
            let name = row.pool.name.is_none().then_some("name");
            let subnet = row.pool.network.is_none().then_some("subnet");
            name.into_iter().chain(subnet).map(|field| {
                let message = format!("subcloud {} has no {field}", row.subcloud);
                fault(row.line, message, "a new pool needs a name and a subnet")
                    .object("subcloud", row.subcloud.clone())
            })
        });
        let faults: Vec<_> = missing.take(MAX_FAULTS).collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }
}

fn columns(header: &csv::StringRecord) -> Result<Vec<Column>, Vec<Violation>> {
    let mut columns = Vec::new();
    let mut faults = Vec::new();
    for name in header {
        match Column::of(name) {
            Some(column) if columns.contains(&column) => {
                faults.push(fault(
                    1,
                    format!("there are two columns {name}"),
                    "keep one",
                ));
            }
            Some(column) => columns.push(column),
            None => {
                let fields = PoolField::ALL.map(PoolField::name).join(", ");
                let remedy = format!("the columns are subcloud, subnet, {fields}");
                faults.push(fault(1, format!("there is no column {name:?}"), remedy));
            }
        }
    }
    if !columns.contains(&Column::Subcloud) {
        let remedy = "begin with a header such as `subcloud,name,subnet`";
        faults.push(fault(1, "there is no column subcloud", remedy));
    }
    if faults.is_empty() {
        Ok(columns)
    } else {
        Err(faults)
    }
}

#[derive(Default)]
struct Reading {
    rows: Vec<Row>,
    faults: Vec<Violation>,
    lines: BTreeMap<String, u64>,
}

impl Reading {
    fn row(&mut self, columns: &[Column], record: &csv::StringRecord) {
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != columns.len() {
            let message = format!("{} fields, but {} columns", record.len(), columns.len());
            self.faults.push(fault(
                line,
                message,
                "give each column a field, empty if need be",
            ));
            return;
        }
        let mut row = Row {
            subcloud: String::new(),
            line,
            pool: PoolEdit::default(),
        };
        for (column, text) in columns.iter().zip(record) {
            let set = match column {
                _ if text.is_empty() => Ok(()),
                Column::Subcloud => {
                    text.clone_into(&mut row.subcloud);
                    Ok(())
                }
                Column::Subnet => set_subnet(&mut row.pool, text).map(|_| ()),
                Column::Field(field) => {
                    let texts = match field {
                        PoolField::Ranges => text.split_whitespace().map(str::to_owned).collect(),
                        _ => vec![text.to_owned()],
                    };
                    field.set(&mut row.pool, texts)
                }
            };
            if let Err(problem) = set {
                let valid = match column {
                    Column::Subnet => "write a subnet with its prefix length, such as fd01::/64",
                    _ => "write FIRST-LAST, such as fd01::2-fd01::ff, with a blank before the next",
                };
                self.faults.push(fault(line, problem, valid));
            }
        }
        if row.subcloud.is_empty() {
            self.faults.push(fault(
                line,
                "no subcloud is named",
                "write its name or uuid",
            ));
        } else if let Some(first) = self.lines.insert(row.subcloud.clone(), line) {
            let message = format!("subcloud {} stands in line {first} already", row.subcloud);
            self.faults
                .push(fault(line, message, "keep one of the two lines"));
        }
        self.rows.push(row);
    }

    fn finish(mut self) -> Result<Table, Vec<Violation>> {
        if self.rows.is_empty() && self.faults.is_empty() {
            self.faults.push(fault(
                1,
                "the table has no rows",
                "write a row for each subcloud",
            ));
        }
        if self.rows.len() > MAX_MEMBERS {
            let message = format!("the table has more than {MAX_MEMBERS} rows");
            self.faults
                .push(fault(1, message, "make several rollouts of it"));
        }
        if self.faults.is_empty() {
            Ok(Table { rows: self.rows })
        } else {
            Err(self.faults)
        }
    }
}

fn unreadable(error: &csv::Error) -> Violation {
    let line = error.position().map_or(1, csv::Position::line);
    fault(line, error.to_string(), "save the file as CSV in UTF-8")
}

fn fault(line: u64, message: impl AsRef<str>, remedy: impl Into<String>) -> Violation {
    let message = format!("line {line}: {}", message.as_ref());
    Violation::new(Reason::InvalidArgument, message, remedy)
        .at(FIELD)
        .fact("line", line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        let faults = Table::read(text.as_bytes()).unwrap_err();
        faults.into_iter().map(|fault| fault.message).collect()
    }

    #[test]
    fn a_row_is_the_pool_of_its_subcloud() {
        let table = Table::read(
            b"# spring\nsubcloud,name,subnet,ranges,gateway_address\n\
              west,admin6,fd01:7::/64,fd01:7::2-fd01:7::f fd01:7::20-fd01:7::2f,none\n\
              east,,fd01:8::/64,,\n",
        )
        .unwrap();
        let [west, east] = table.rows() else {
            panic!("{table:?}")
        };
        assert_eq!((west.subcloud.as_str(), west.line), ("west", 3));
        assert_eq!(west.pool.network.as_deref(), Some("fd01:7::"));
        assert_eq!(west.pool.ranges.as_ref().map(Vec::len), Some(2));
        assert_eq!(west.pool.gateway_address.as_deref(), Some(""));
        assert_eq!(east.pool.gateway_address, None);
        let missing = table.complete().unwrap_err();
        assert_eq!(missing[0].message, "line 4: subcloud east has no name");
    }

    #[test]
    fn every_fault_comes_at_once_with_its_line() {
        assert_eq!(
            messages("subcloud,subnet,subnet,colour\n"),
            [
                "line 1: there are two columns subnet",
                "line 1: there is no column \"colour\""
            ]
        );
        assert_eq!(
            messages("subcloud,subnet,ranges\nw,fd01::,\n,fd01::/64,a\nw,fd01::/64\nw,,\n"),
            [
                "line 2: \"fd01::\" is no subnet with a prefix length, such as fd01::/64",
                "line 3: \"a\" is no range such as fd01::2-fd01::ff",
                "line 3: no subcloud is named",
                "line 4: 2 fields, but 3 columns",
                "line 5: subcloud w stands in line 2 already",
            ]
        );
        assert_eq!(messages(""), ["line 1: the table is empty"]);
        assert_eq!(messages("name\n"), ["line 1: there is no column subcloud"]);
        assert_eq!(messages("subcloud\n"), ["line 1: the table has no rows"]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_too_odd_to_be_judged(bytes in proptest::collection::vec(0_u8..=255, 0..200)) {
            let _judged = Table::read(&bytes);
        }
    }
}
