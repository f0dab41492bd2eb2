//! One run: arguments in, text and exit status out.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, FromArgMatches as _};
use tokio::runtime::Runtime;

use crate::answer::{Answer, EFFECT_COLUMNS};
use crate::arguments::{Area, DcmanagerAlone, Globals, Remote, Shell, SystemAlone, Tandem};
use crate::dcmanager::{Dcmanager, DcmanagerArea, Declaration};
use crate::environment::Environment;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Column, Selection};
use crate::session::Target;
use crate::streams::Streams;
use crate::system::{Followed, System, SystemArea, Watch};

/// The name that this program was called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// `tandem`, or any name without a meaning of its own.
    Tandem,
    /// `system`: what is `tandem system` otherwise.
    System,
    /// `dcmanager`: what is `tandem dcmanager` otherwise.
    Dcmanager,
}

/// Runs one command line; the first argument is the name of the program.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let name = Name::of(arguments.first().map(OsString::as_os_str));
    let mut streams = Streams::new(stdout, stderr, environment.colour_on_stderr());
    let line = match Line::parse(name, &arguments) {
        Ok(line) => line,
        Err(error) => return explain(&error, environment, &mut streams),
    };
    line.execute(environment, &mut streams)
        .unwrap_or_else(|failure| {
            streams.remark(&failure.render(environment.colour_on_stderr()));
            failure.exit
        })
}

/// The whole command line of `tandem`, for completions and tests of the help texts.
pub fn command() -> Command {
    Name::Tandem.command()
}

impl Name {
    fn of(program: Option<&OsStr>) -> Self {
        match program
            .and_then(|program| Path::new(program).file_stem())
            .and_then(OsStr::to_str)
        {
            Some("system") => Self::System,
            Some("dcmanager") => Self::Dcmanager,
            _ => Self::Tandem,
        }
    }

    fn command(self) -> Command {
        let command = match self {
            Self::Tandem => Tandem::command(),
            Self::System => SystemAlone::command(),
            Self::Dcmanager => DcmanagerAlone::command(),
        };
        // A fixed width, so that the texts do not depend on the terminal.
        command.version(api::VERSION).term_width(HELP_WIDTH)
    }
}

/// The width of help texts in columns: the narrowest terminal that is common.
const HELP_WIDTH: usize = 80;

/// A command line that clap accepts.
struct Line {
    globals: Globals,
    remote: Remote,
    command: Parsed,
}

/// What is asked for.
enum Parsed {
    /// Something that a daemon answers.
    Question(Box<Question>),
    /// Events, until somebody ends it.
    Watch(Followed, Watch),
    /// A completion script.
    Completions(Shell),
}

impl Parsed {
    fn of(question: Question) -> Self {
        Self::Question(Box::new(question))
    }

    fn of_system(command: SystemArea) -> Self {
        match command {
            SystemArea::Question(command) => Self::of(Question::System(command)),
            SystemArea::Watch(watch) => Self::Watch(Followed::Site, watch),
        }
    }

    fn of_dcmanager(command: DcmanagerArea) -> Self {
        match command {
            DcmanagerArea::Question(command) => Self::of(Question::Dcmanager(command)),
            DcmanagerArea::Watch(watch) => Self::Watch(Followed::Fleet, watch),
        }
    }
}

/// Something that a daemon answers.
enum Question {
    System(System),
    Dcmanager(Dcmanager),
}

impl Line {
    fn parse(name: Name, arguments: &[OsString]) -> Result<Self, clap::Error> {
        let matches = name.command().try_get_matches_from(arguments)?;
        let complete = |error: clap::Error| error.format(&mut name.command());
        let here = Remote::default;
        let (globals, remote, command) = match name {
            Name::Tandem => {
                let line = Tandem::from_arg_matches(&matches).map_err(complete)?;
                let (remote, command) = match line.area {
                    Area::System { remote, command } => (remote, Parsed::of_system(command)),
                    Area::Dcmanager { command } => (here(), Parsed::of_dcmanager(command)),
                    Area::Completions { shell } => (here(), Parsed::Completions(shell)),
                };
                (line.globals, remote, command)
            }
            Name::System => {
                let line = SystemAlone::from_arg_matches(&matches).map_err(complete)?;
                (line.globals, line.remote, Parsed::of_system(line.command))
            }
            Name::Dcmanager => {
                let line = DcmanagerAlone::from_arg_matches(&matches).map_err(complete)?;
                (line.globals, here(), Parsed::of_dcmanager(line.command))
            }
        };
        Ok(Self {
            globals,
            remote,
            command,
        })
    }

    fn execute(
        self,
        environment: &Environment,
        streams: &mut Streams<'_>,
    ) -> Result<Exit, Failure> {
        let Self {
            globals,
            remote,
            command,
        } = self;
        let question = match command {
            Parsed::Question(question) => question,
            Parsed::Watch(followed, watch) => {
                return follow(followed, watch, &globals, &remote, environment, streams);
            }
            Parsed::Completions(shell) => return Ok(streams.answer(&completions(shell))),
        };
        let columns = question.shape().columns(&globals)?;
        let selection = Selection::of(&globals.columns, columns)?;
        let answer = question.ask(&globals, &remote, environment);
        let answer = answer.map_err(|failure| remote.explained(failure))?;
        let remarks = remote.remarked(answer.remarks(environment.colour_on_stderr()));
        let exit = answer.exit;
        let text = answer.body.select(&selection).render(globals.format)?;
        // The answer first: what it means for the reader stands below it on a terminal.
        let written = streams.answer(&text);
        if written != Exit::Success {
            return Ok(written);
        }
        streams.remark(&remarks);
        Ok(exit)
    }
}

/// Writes events as they come. Every option is judged as for any other command.
fn follow(
    followed: Followed,
    watch: Watch,
    globals: &Globals,
    remote: &Remote,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    let columns = Shape::reads(&[]).columns(globals)?;
    Selection::of(&globals.columns, columns)?;
    Watch::check(globals.format)?;
    let target = target(globals, remote, environment)?;
    let stdout = environment.stdout();
    runtime()?.block_on(watch.run(followed, &target, globals.format, stdout, streams))
}

fn target(
    globals: &Globals,
    remote: &Remote,
    environment: &Environment,
) -> Result<Target, Failure> {
    Ok(Target {
        endpoint: globals.endpoint(environment)?,
        credentials: globals.credentials(environment),
        subcloud: remote.metadata()?,
        request_id: globals.request_id.clone().unwrap_or_default(),
    })
}

/// One connection and one thing at a time: more threads would only cost their start.
fn runtime() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(|fault| {
        let explanation = format!("the runtime does not start: {fault}");
        Failure::unreachable(explanation, "raise the limit of open files (`ulimit -n`)")
    })
}

impl Question {
    fn shape(&self) -> Shape {
        match self {
            Self::System(command) => command.shape(),
            Self::Dcmanager(command) => command.shape(),
        }
    }

    /// Sends the command and waits for its answer. Everything that can be wrong on this side is
    /// found before the connection is opened.
    fn ask(
        self,
        globals: &Globals,
        remote: &Remote,
        environment: &Environment,
    ) -> Result<Answer, Failure> {
        let target = target(globals, remote, environment)?;
        let declared = match &self {
            Self::System(command) => command.check().map(|()| Declaration::default())?,
            Self::Dcmanager(command) => command.declaration(environment.colour_on_stderr())?,
        };
        runtime()?.block_on(async {
            let session = target.session(globals.dry_run).await?;
            match self {
                Self::System(command) => command.run(&session).await,
                Self::Dcmanager(command) => command.run(&session, declared).await,
            }
        })
    }
}

/// What is known of a command before it runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    columns: &'static [Column],
    preview: Preview,
}

/// What `--dry-run` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preview {
    /// The effects.
    Effects,
    /// The columns of the command itself.
    Same,
    /// Columns of its own.
    Own(&'static [Column]),
    /// Nothing: the command only reads.
    Pointless,
}

impl Shape {
    /// A command that only reads.
    pub(crate) const fn reads(columns: &'static [Column]) -> Self {
        Self {
            columns,
            preview: Preview::Pointless,
        }
    }

    /// A command that changes something; a dry run lists the effects.
    pub(crate) const fn changes(columns: &'static [Column]) -> Self {
        Self {
            columns,
            preview: Preview::Effects,
        }
    }

    /// A command that changes something; a dry run shows the object as it would be.
    pub(crate) const fn creates(columns: &'static [Column]) -> Self {
        Self {
            columns,
            preview: Preview::Same,
        }
    }

    /// A command that changes something; a dry run shows these columns.
    pub(crate) const fn previews(columns: &'static [Column], preview: &'static [Column]) -> Self {
        Self {
            columns,
            preview: Preview::Own(preview),
        }
    }

    /// The columns of the answer.
    fn columns(self, globals: &Globals) -> Result<&'static [Column], Failure> {
        let dry_run = globals.dry_run;
        match self.preview {
            Preview::Pointless if globals.request_id.is_some() => Err(Failure::usage(
                "--request-id has no meaning here: the command changes nothing",
                "leave --request-id out",
            )),
            Preview::Pointless if dry_run => Err(Failure::usage(
                "--dry-run has no meaning here: the command changes nothing",
                "leave --dry-run out",
            )),
            Preview::Effects if dry_run => Ok(&EFFECT_COLUMNS),
            Preview::Own(columns) if dry_run => Ok(columns),
            Preview::Effects | Preview::Same | Preview::Own(_) | Preview::Pointless => {
                Ok(self.columns)
            }
        }
    }
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    let mut command = command();
    match shell {
        Shell::Bash => generate(clap_complete::Shell::Bash, &mut command, &mut script),
        Shell::Zsh => generate(clap_complete::Shell::Zsh, &mut command, &mut script),
        Shell::Fish => generate(clap_complete::Shell::Fish, &mut command, &mut script),
    }
    String::from_utf8_lossy(&script).into_owned()
}

fn generate(shell: clap_complete::Shell, command: &mut Command, script: &mut Vec<u8>) {
    clap_complete::generate(shell, command, "tandem", script);
}

/// Help, version, or what is wrong with the command line.
fn explain(error: &clap::Error, environment: &Environment, streams: &mut Streams<'_>) -> Exit {
    let asked_for = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    let colour = if asked_for {
        environment.colour_on_stdout()
    } else {
        environment.colour_on_stderr()
    };
    let text = error.render();
    let text = if colour {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    if asked_for {
        return streams.answer(&text);
    }
    streams.remark(&text);
    Exit::Usage
}
