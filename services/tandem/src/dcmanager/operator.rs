//! `dcmanager operator …`.

use std::path::{Path, PathBuf};

use api::fleet_v1::{
    AddOperatorRequest, AddOperatorResponse, ListOperatorsRequest, Operator, OperatorRole,
    RevokeOperatorRequest, RevokeOperatorResponse,
};
use clap::{Args, Subcommand, ValueEnum, ValueHint};
use identity::{LeafKey, certificate_pem, write_private};

use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{PAGE_SIZE, Session, call, every_page, promised};
use crate::wording;

/// Operators.
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Make an operator: a key here, and a certificate for it from the controller
    #[command(
        long_about = "Make an operator: a key here, and a certificate for it from the \
                      controller.\n\nThe key never leaves this machine. Key and certificate are \
                      files that only their owner can read; give them to the operator together \
                      with ca.crt of the controller.",
        after_help = "Example:\n  tandem dcmanager operator add alice --role reader"
    )]
    Add(NewOperator),
    /// List the operators, revoked ones too
    #[command(after_help = "Example:\n  tandem dcmanager operator list")]
    List,
    /// Make an operator's certificate worthless, also on connections that are open
    #[command(after_help = "Example:\n  tandem dcmanager operator revoke alice")]
    Revoke {
        /// Name of the operator
        name: String,
    },
}

/// What `operator add` is given.
#[derive(Debug, Args)]
pub(crate) struct NewOperator {
    /// Name: 1 to 64 letters, digits, '.', '_' and '-'
    name: String,
    /// What the operator may do
    #[arg(long, value_enum)]
    role: RoleName,
    /// File for the key [default: NAME.key]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    key_file: Option<PathBuf>,
    /// File for the certificate [default: NAME.crt]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    cert_file: Option<PathBuf>,
}

/// A role on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    /// Reads everything and changes nothing
    Reader,
    /// Also changes sites, subclouds, groups and rollouts
    Configurator,
    /// Also makes and revokes operators
    Admin,
}

const COLUMNS: [Column; 5] = [
    Column::new("name"),
    Column::new("role"),
    Column::new("created_at"),
    Column::new("expires_at"),
    Column::new("revoked_at"),
];

const NEW_COLUMNS: [Column; 5] = [
    Column::new("name"),
    Column::new("role"),
    Column::new("expires_at"),
    Column::new("key"),
    Column::new("certificate"),
];

impl OperatorCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Add(_) => Shape::creates(&NEW_COLUMNS),
            Self::List => Shape::reads(&COLUMNS),
            Self::Revoke { .. } => Shape::creates(&COLUMNS),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        match self {
            Self::Add(new) => new.run(session).await,
            Self::List => {
                let mut client = session.operators();
                let operators = every_page(async |page_token| {
                    let request = ListOperatorsRequest {
                        page_size: PAGE_SIZE,
                        page_token,
                    };
                    let page = call(client.list_operators(request)).await?;
                    Ok((page.operators, page.next_page_token))
                })
                .await?;
                let rows = operators.into_iter().map(row);
                Ok(Answer::new(Body::list(&COLUMNS, rows)))
            }
            Self::Revoke { name } => revoke(session, name).await,
        }
    }
}

impl NewOperator {
    /// The key is on disk before anything is sent: a certificate without it is of no use.
    async fn run(self, session: &Session) -> Result<Answer, Failure> {
        let Self {
            name,
            role,
            key_file,
            cert_file,
        } = self;
        let key_file = key_file.unwrap_or_else(|| PathBuf::from(format!("{name}.key")));
        let cert_file = cert_file.unwrap_or_else(|| PathBuf::from(format!("{name}.crt")));
        for file in [&key_file, &cert_file] {
            refuse_existing(file)?;
        }
        let unmade = |error: identity::KeyError| {
            Failure::usage(format!("no key can be made: {error}"), "try again")
        };
        let key = LeafKey::generate().map_err(unmade)?;
        let request = AddOperatorRequest {
            name,
            role: role.on_the_wire().into(),
            certificate_signing_request: key.csr_der().map_err(unmade)?.to_vec(),
            validate_only: session.dry_run(),
            request_id: session.request_id(),
        };
        if session.dry_run() {
            let answer = call(session.operators().add_operator(request)).await?;
            let answer = made(answer, &key_file, &cert_file)?;
            return Ok(answer.note("dry run: no key was made and nothing was changed"));
        }
        write(&key_file, key.to_pkcs8_pem().as_bytes())?;
        let answer = match call(session.operators().add_operator(request)).await {
            Ok(answer) => answer,
            Err(failure) => {
                // Of a certificate that does not exist the key is of no use.
                drop(std::fs::remove_file(&key_file));
                return Err(failure);
            }
        };
        write(&cert_file, certificate_pem(&answer.certificate).as_bytes())?;
        made(answer, &key_file, &cert_file)
    }
}

impl RoleName {
    fn on_the_wire(self) -> OperatorRole {
        match self {
            Self::Reader => OperatorRole::Reader,
            Self::Configurator => OperatorRole::Configurator,
            Self::Admin => OperatorRole::Admin,
        }
    }
}

async fn revoke(session: &Session, name: String) -> Result<Answer, Failure> {
    let request = RevokeOperatorRequest {
        name,
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let RevokeOperatorResponse { operator } =
        call(session.operators().revoke_operator(request)).await?;
    let answer = Answer::new(Body::record(&COLUMNS, row(promised(operator, "operator")?)));
    Ok(match session.dry_run() {
        true => answer.note("dry run: nothing was changed"),
        false => answer,
    })
}

fn refuse_existing(file: &Path) -> Result<(), Failure> {
    if file.exists() {
        return Err(Failure::bad_input(
            format!("{} exists already and is not overwritten", file.display()),
            "name other files with --key-file and --cert-file, or move it away",
        ));
    }
    Ok(())
}

fn write(file: &Path, content: &[u8]) -> Result<(), Failure> {
    write_private(file, content).map_err(|error| {
        Failure::unwritable(
            format!("{error}: {}", error.source),
            "name a file in a directory that you may write to",
        )
    })
}

fn made(answer: AddOperatorResponse, key: &Path, cert: &Path) -> Result<Answer, Failure> {
    let Operator {
        name,
        role,
        expires_at_milliseconds,
        ..
    } = promised(answer.operator, "operator")?;
    let body = Body::record(
        &NEW_COLUMNS,
        [
            Cell::text(name),
            wording::operator_role(role),
            wording::time(expires_at_milliseconds),
            Cell::text(key.display().to_string()),
            Cell::text(cert.display().to_string()),
        ],
    );
    Ok(Answer::new(body))
}

fn row(operator: Operator) -> [Cell; 5] {
    let Operator {
        name,
        role,
        key_sha256: _,
        created_at_milliseconds,
        expires_at_milliseconds,
        revoked_at_milliseconds,
    } = operator;
    [
        Cell::text(name),
        wording::operator_role(role),
        wording::time(created_at_milliseconds),
        wording::time(expires_at_milliseconds),
        wording::time(revoked_at_milliseconds),
    ]
}
