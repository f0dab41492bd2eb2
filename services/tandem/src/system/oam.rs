//! `system oam-…`: the deprecated view of the primary pool of oam.

use api::site_v1::{GetOamRequest, Oam, UpdateOamRequest, UpdateOamResponse};
use clap::Subcommand;

use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{Session, call, promised};
use crate::system::pairs::{is_clearing, pairs};

/// The deprecated view of oam.
#[derive(Debug, Subcommand)]
pub(crate) enum OamCommand {
    /// Deprecated: show the primary pool of oam; use addrpool-show
    #[command(name = "oam-show", after_help = "Example:\n  tandem system oam-show")]
    Show,
    /// Deprecated: modify the primary pool of oam; use addrpool-modify
    #[command(
        name = "oam-modify",
        after_help = "Paths: oam_subnet, oam_gateway_ip, oam_floating_ip, oam_c0_ip, oam_c1_ip, \
                      oam_start_ip,\noam_end_ip; oam_ip on a simplex site.\n\nExample:\n  \
                      tandem system oam-modify oam_gateway_ip=fd00::1 oam_floating_ip=fd00::3"
    )]
    Modify {
        /// What to change; the rest stays
        #[arg(required = true, value_name = "PATH=VALUE")]
        changes: Vec<String>,
    },
}

/// Names of the properties, and of the paths that `oam-modify` takes.
const PATHS: [&str; 8] = [
    "oam_subnet",
    "oam_gateway_ip",
    "oam_floating_ip",
    "oam_c0_ip",
    "oam_c1_ip",
    "oam_ip",
    "oam_start_ip",
    "oam_end_ip",
];

const COLUMNS: [Column; 8] = [
    Column::new(PATHS[0]),
    Column::new(PATHS[1]),
    Column::new(PATHS[2]),
    Column::new(PATHS[3]),
    Column::new(PATHS[4]),
    Column::new(PATHS[5]),
    Column::new(PATHS[6]),
    Column::new(PATHS[7]),
];

impl OamCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Show => Shape::reads(&COLUMNS),
            Self::Modify { .. } => Shape::changes(&COLUMNS),
        }
    }

    /// Finds what is wrong with the pairs.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Show => Ok(()),
            Self::Modify { changes } => edit(changes).map(drop),
        }
    }

    /// Sends the command and reads the answer.
    #[expect(deprecated, reason = "these commands are the deprecated interface")]
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        match self {
            Self::Show => {
                let answer = call(session.site().get_oam(GetOamRequest {})).await?;
                Ok(Answer::new(record(answer.oam)?).warning(
                    "oam-show is deprecated and knows the primary pool of oam only; use \
                     `system addrpool-show POOL`; `system network-addrpool-list` has the names",
                ))
            }
            Self::Modify { changes } => {
                let request = UpdateOamRequest {
                    oam: Some(edit(&changes)?),
                    validate_only: session.dry_run(),
                    request_id: session.request_id(),
                };
                let UpdateOamResponse { oam, effects } =
                    call(session.site().update_oam(request)).await?;
                let answer = Answer::of_change(session, effects, || record(oam))?;
                Ok(answer.warning(
                    "oam-modify is deprecated and knows the primary pool of oam only; use \
                     `system addrpool-modify`",
                ))
            }
        }
    }
}

/// The new values; a field that is not named stays empty, which means unchanged.
fn edit(changes: &[String]) -> Result<Oam, Failure> {
    let mut oam = Oam::default();
    for (path, value) in pairs(changes, &PATHS)? {
        if is_clearing(&value) {
            return Err(Failure::usage(
                format!("oam-modify cannot clear {path}"),
                "use `system addrpool-modify POOL --gateway-address none`, or the option of the \
                 address in question",
            ));
        }
        let field = match path {
            "oam_subnet" => &mut oam.oam_subnet,
            "oam_gateway_ip" => &mut oam.oam_gateway_ip,
            "oam_floating_ip" => &mut oam.oam_floating_ip,
            "oam_c0_ip" => &mut oam.oam_c0_ip,
            "oam_c1_ip" => &mut oam.oam_c1_ip,
            "oam_ip" => &mut oam.oam_ip,
            "oam_start_ip" => &mut oam.oam_start_ip,
            _ => &mut oam.oam_end_ip,
        };
        *field = value;
    }
    Ok(oam)
}

fn record(oam: Option<Oam>) -> Result<Body, Failure> {
    let Oam {
        oam_subnet,
        oam_gateway_ip,
        oam_floating_ip,
        oam_c0_ip,
        oam_c1_ip,
        oam_ip,
        oam_start_ip,
        oam_end_ip,
    } = promised(oam, "oam")?;
    let cells = [
        oam_subnet,
        oam_gateway_ip,
        oam_floating_ip,
        oam_c0_ip,
        oam_c1_ip,
        oam_ip,
        oam_start_ip,
        oam_end_ip,
    ];
    Ok(Body::record(&COLUMNS, cells.map(Cell::text)))
}
