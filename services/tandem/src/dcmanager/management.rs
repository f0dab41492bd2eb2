//! `dcmanager subcloud manage`, `unmanage`, `update` and `delete`.

use api::fleet_v1::{
    DeleteSubcloudRequest, ManageSubcloudRequest, Subcloud, UnmanageSubcloudRequest,
    UpdateSubcloudRequest,
};
use clap::Args;
use prost_types::FieldMask;

use super::subcloud::record;
use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::Body;
use crate::session::{Session, call, promised};

/// New values of a subcloud.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Edit {
    /// What to say about it, at most 255 characters; `""` for nothing
    #[arg(long)]
    description: Option<String>,
    /// Where it is, at most 255 characters; `""` for nothing
    #[arg(long)]
    location: Option<String>,
    /// Name or uuid of the group to put it into
    #[arg(long)]
    group: Option<String>,
}

/// `manage`.
pub(super) async fn manage(
    session: &Session,
    subcloud: String,
    force: bool,
) -> Result<Answer, Failure> {
    let request = ManageSubcloudRequest {
        subcloud,
        force,
        validate_only: session.dry_run(),
        request_id: String::new(),
    };
    let answer = call(session.subclouds().manage_subcloud(request)).await?;
    changed(session, answer.subcloud)
}

/// `unmanage`.
pub(super) async fn unmanage(session: &Session, subcloud: String) -> Result<Answer, Failure> {
    let request = UnmanageSubcloudRequest {
        subcloud,
        validate_only: session.dry_run(),
        request_id: String::new(),
    };
    let answer = call(session.subclouds().unmanage_subcloud(request)).await?;
    changed(session, answer.subcloud)
}

/// `update`.
pub(super) async fn update(
    session: &Session,
    target: String,
    edit: Edit,
) -> Result<Answer, Failure> {
    let named = [
        ("description", edit.description.is_some()),
        ("location", edit.location.is_some()),
        ("group", edit.group.is_some()),
    ];
    let request = UpdateSubcloudRequest {
        target,
        subcloud: Some(Subcloud {
            description: edit.description.unwrap_or_default(),
            location: edit.location.unwrap_or_default(),
            group: edit.group.unwrap_or_default(),
            ..Subcloud::default()
        }),
        update_mask: Some(mask(&named)),
        etag: String::new(),
        validate_only: session.dry_run(),
        request_id: String::new(),
    };
    let answer = call(session.subclouds().update_subcloud(request)).await?;
    changed(session, answer.subcloud)
}

/// `delete`.
pub(super) async fn delete(session: &Session, subcloud: String) -> Result<Answer, Failure> {
    let request = DeleteSubcloudRequest {
        subcloud,
        etag: String::new(),
        validate_only: session.dry_run(),
        request_id: String::new(),
    };
    let answer = call(session.subclouds().delete_subcloud(request)).await?;
    let gone = promised(answer.subcloud, "subcloud")?;
    if session.dry_run() {
        let note = format!(
            "dry run: {} would be deleted; nothing was changed",
            gone.name
        );
        return Ok(record(&gone).note(note));
    }
    let note = format!(
        "{} is deleted and its certificate revoked; its name, region and addresses are free",
        gone.name
    );
    Ok(Answer::new(Body::Nothing).note(note))
}

/// The names of the fields that are given.
pub(super) fn mask(named: &[(&str, bool)]) -> FieldMask {
    let given = named.iter().filter(|(_, given)| *given);
    FieldMask {
        paths: given.map(|(field, _)| (*field).to_owned()).collect(),
    }
}

fn changed(session: &Session, subcloud: Option<Subcloud>) -> Result<Answer, Failure> {
    let answer = record(&promised(subcloud, "subcloud")?);
    Ok(if session.dry_run() {
        answer.note("dry run: nothing was changed")
    } else {
        answer
    })
}
