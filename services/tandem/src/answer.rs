//! What a command that succeeded has to say.

use api::site_v1::Effect;

use crate::exit::Exit;
use crate::failure::{BOLD, Failure, YELLOW, paint};
use crate::output::{Body, Cell, Column, printable};
use crate::session::Session;
use crate::wording;

/// The answer for standard output, and remarks for standard error.
#[derive(Debug)]
pub(crate) struct Answer {
    /// For standard output.
    pub(crate) body: Body,
    /// How the run ends once it is written.
    pub(crate) exit: Exit,
    remarks: Vec<Remark>,
}

/// A line on standard error.
#[derive(Debug)]
enum Remark {
    /// Something that the operator should look at.
    Warning(String),
    /// What a change does.
    Effect(String),
    /// Anything else.
    Note(String),
    /// Lines that are ready to be shown.
    Excerpt(String),
}

/// The columns of a preview.
pub(crate) const EFFECT_COLUMNS: [Column; 6] = [
    Column::new("kind"),
    Column::new("description").prose(),
    Column::new("network"),
    Column::new("family"),
    Column::new("hosts"),
    Column::new("addresses"),
];

impl Answer {
    /// An answer without remarks.
    pub(crate) fn new(body: Body) -> Self {
        Self {
            body,
            exit: Exit::Success,
            remarks: Vec::new(),
        }
    }

    /// The answer to a change: the effects that it would have when it is a dry run, else what
    /// `body` makes, with the effects as remarks.
    ///
    /// # Errors
    /// Those of `body`.
    pub(crate) fn of_change(
        session: &Session,
        effects: Vec<Effect>,
        body: impl FnOnce() -> Result<Body, Failure>,
    ) -> Result<Self, Failure> {
        if session.dry_run() {
            return Ok(Self::preview(effects));
        }
        let mut answer = Self::new(body()?);
        answer.add_effects(effects);
        Ok(answer)
    }

    /// The answer to a deletion: the effects that it would have when it is a dry run, else
    /// nothing but remarks.
    pub(crate) fn of_deletion(session: &Session, effects: Vec<Effect>, note: String) -> Self {
        if session.dry_run() {
            return Self::preview(effects);
        }
        let mut answer = Self::new(Body::Nothing).note(note);
        answer.add_effects(effects);
        answer
    }

    /// The answer to an edit of a record of the fleet, which a dry run only shows.
    #[must_use]
    pub(crate) fn of_edit(self, session: &Session) -> Self {
        if session.dry_run() {
            return self.note("dry run: nothing was changed");
        }
        self
    }

    /// The answer to the deletion of a record of the fleet: a dry run shows it, else there is
    /// nothing left but `note`.
    #[must_use]
    pub(crate) fn of_removal(self, session: &Session, name: &str, note: String) -> Self {
        if session.dry_run() {
            return self.note(format!(
                "dry run: {name} would be deleted; nothing was changed"
            ));
        }
        Self::new(Body::Nothing).note(note)
    }

    fn preview(effects: Vec<Effect>) -> Self {
        let what = if effects.is_empty() {
            "the change has no effects; "
        } else {
            ""
        };
        let note = format!("dry run: {what}nothing was changed");
        Self::new(self::effects(effects)).note(note)
    }

    fn add_effects(&mut self, effects: Vec<Effect>) {
        let said = |effect: Effect| format!("{}: {}", effect.kind, effect.description);
        self.remarks
            .extend(effects.into_iter().map(said).map(Remark::Effect));
    }

    /// The end of something that was waited for, and that did not come out as it was asked for.
    #[must_use]
    pub(crate) fn unsuccessful(mut self) -> Self {
        self.exit = Exit::Refused;
        self
    }

    /// Adds a warning.
    #[must_use]
    pub(crate) fn warning(mut self, text: impl Into<String>) -> Self {
        self.remarks.push(Remark::Warning(text.into()));
        self
    }

    /// Adds a remark.
    #[must_use]
    pub(crate) fn note(mut self, text: impl Into<String>) -> Self {
        self.remarks.push(Remark::Note(text.into()));
        self
    }

    /// Adds lines that are ready to be shown, each with its end, before all other remarks.
    #[must_use]
    pub(crate) fn excerpt(mut self, lines: String) -> Self {
        self.remarks.insert(0, Remark::Excerpt(lines));
        self
    }

    /// What standard error shows.
    pub(crate) fn remarks(&self, colour: bool) -> String {
        let show = |remark: &Remark| match remark {
            Remark::Warning(text) => {
                format!(
                    "{} {}\n",
                    paint("warning:", YELLOW, colour),
                    printable(text)
                )
            }
            Remark::Effect(text) => {
                format!("{} {}\n", paint("effect:", BOLD, colour), printable(text))
            }
            Remark::Note(text) => format!("{}\n", printable(text)),
            Remark::Excerpt(lines) => lines.clone(),
        };
        self.remarks.iter().map(show).collect()
    }
}

/// Effects as a dry run shows them.
pub(crate) fn effects(effects: Vec<Effect>) -> Body {
    Body::list(&EFFECT_COLUMNS, effects.into_iter().map(row))
}

fn row(effect: Effect) -> [Cell; 6] {
    let Effect {
        kind,
        description,
        network,
        family,
        hosts,
        addresses,
    } = effect;
    [
        Cell::text(kind),
        Cell::text(description),
        Cell::text(network),
        wording::family(family),
        Cell::joined(hosts),
        Cell::joined(addresses),
    ]
}
