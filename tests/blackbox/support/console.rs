//! What the console of a controller tells a monitoring system.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::cloud::Controller;

/// Every series of `/metrics` by its name with labels.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) text: String,
    series: BTreeMap<String, f64>,
}

impl Metrics {
    /// Asks the console of a controller.
    #[track_caller]
    pub(crate) fn of(controller: &mut Controller) -> Self {
        let console = controller.daemon().ready.consoles[0].clone();
        let mut stream = TcpStream::connect(&console).expect("the console");
        let request =
            format!("GET /metrics HTTP/1.1\r\nhost: {console}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, text) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let lines = text
            .lines()
            .filter(|line| line.starts_with(char::is_alphabetic));
        let series = lines.filter_map(|line| line.rsplit_once(' '));
        let series: Vec<(String, f64)> = series
            .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
            .collect();
        let count = series.len();
        let series: BTreeMap<String, f64> = series.into_iter().collect();
        assert_eq!(series.len(), count, "a series comes twice: {text}");
        Self {
            text: text.to_owned(),
            series,
        }
    }

    /// Whether there is a series.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.series.contains_key(name)
    }

    /// A series, or zero.
    pub(crate) fn get(&self, name: &str) -> f64 {
        self.series.get(name).copied().unwrap_or_default()
    }
}
