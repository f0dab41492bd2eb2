//! `dcmanager subcloud manage`, `unmanage`, `update` and `delete`.

use api::fleet_v1::{
    DeleteSubcloudRequest, ManageSubcloudRequest, SetSubcloudGatewaysRequest, Subcloud,
    UnmanageSubcloudRequest, UpdateSubcloudPeerGroupMembersRequest, UpdateSubcloudRequest,
};
use clap::Args;
use prost_types::FieldMask;

use super::subcloud::{SHOW_COLUMNS, get, record};
use crate::answer::Answer;
use crate::failure::Failure;
use crate::program::Shape;
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
    /// Name or uuid of the subcloud peer group to put it into, or `none` to take it out of its own
    #[arg(
        long,
        value_name = "GROUP|none",
        conflicts_with_all = ["description", "location", "group", "gateways"]
    )]
    peer_group: Option<String>,
    /// This site's own gateways towards it, that of the link family first: one or two addresses
    /// with a comma between, or `none`; from then on they count, and no longer those that its
    /// bootstrap file names
    #[arg(
        long = "systemcontroller-gateway-address",
        value_name = "ADDR[,ADDR]|none",
        value_delimiter = ',',
        conflicts_with_all = ["description", "location", "group"]
    )]
    gateways: Option<Vec<String>>,
}

/// A change whose answer is the subcloud.
pub(super) const CHANGED: Shape = Shape::creates(&SHOW_COLUMNS);

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
        request_id: session.request_id(),
    };
    let answer = call(session.subclouds().manage_subcloud(request)).await?;
    changed(session, answer.subcloud).await
}

/// `unmanage`.
pub(super) async fn unmanage(session: &Session, subcloud: String) -> Result<Answer, Failure> {
    let request = UnmanageSubcloudRequest {
        subcloud,
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.subclouds().unmanage_subcloud(request)).await?;
    changed(session, answer.subcloud).await
}

/// `update`.
pub(super) async fn update(
    session: &Session,
    target: String,
    edit: Edit,
) -> Result<Answer, Failure> {
    if let Some(group) = edit.peer_group {
        return set_peer_group(session, target, group).await;
    }
    if let Some(gateways) = edit.gateways {
        return set_gateways(session, target, gateways).await;
    }
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
        request_id: session.request_id(),
    };
    let answer = call(session.subclouds().update_subcloud(request)).await?;
    changed(session, answer.subcloud).await
}

/// `update --peer-group`.
async fn set_peer_group(
    session: &Session,
    subcloud: String,
    group: String,
) -> Result<Answer, Failure> {
    let known = get(session, subcloud).await?;
    let (group, joins) = match group.as_str() {
        "none" if known.peer_group_uuid.is_empty() => {
            let note = format!("{} is in no subcloud peer group", known.name);
            return Ok(record(&known).note(note));
        }
        "none" => (known.peer_group_uuid, false),
        _ => (group, true),
    };
    let (add, remove) = if joins {
        (vec![known.uuid.clone()], Vec::new())
    } else {
        (Vec::new(), vec![known.uuid.clone()])
    };
    let request = UpdateSubcloudPeerGroupMembersRequest {
        subcloud_peer_group: group,
        add,
        remove,
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.peers().update_subcloud_peer_group_members(request)).await?;
    let group = promised(answer.subcloud_peer_group, "subcloud peer group")?;
    let verb = if joins { "in" } else { "no longer in" };
    let note = format!(
        "{} is {verb} subcloud peer group {}",
        known.name, group.name
    );
    let now = get(session, known.uuid).await?;
    Ok(if session.dry_run() {
        record(&now).note(format!("dry run: {note} then; nothing was changed"))
    } else {
        record(&now).note(note)
    })
}

/// `update --systemcontroller-gateway-address`.
async fn set_gateways(
    session: &Session,
    subcloud: String,
    gateways: Vec<String>,
) -> Result<Answer, Failure> {
    let none = gateways == ["none"];
    let request = SetSubcloudGatewaysRequest {
        subcloud,
        gateway_addresses: if none { Vec::new() } else { gateways },
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.peers().set_subcloud_gateways(request)).await?;
    changed(session, answer.subcloud).await
}

/// `delete`.
pub(super) async fn delete(session: &Session, subcloud: String) -> Result<Answer, Failure> {
    let request = DeleteSubcloudRequest {
        subcloud,
        etag: String::new(),
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.subclouds().delete_subcloud(request)).await?;
    let mut gone = promised(answer.subcloud, "subcloud")?;
    if session.dry_run() {
        gone = with_site(session, gone).await;
    }
    let note = format!(
        "{} is deleted and its certificate revoked; its name, region and addresses are free",
        gone.name
    );
    Ok(record(&gone).of_removal(session, &gone.name, note))
}

/// The names of the fields that are given.
pub(super) fn mask(named: &[(&str, bool)]) -> FieldMask {
    let given = named.iter().filter(|(_, given)| *given);
    FieldMask {
        paths: given.map(|(field, _)| (*field).to_owned()).collect(),
    }
}

/// The subcloud as it is now, or would be.
pub(super) async fn changed(
    session: &Session,
    subcloud: Option<Subcloud>,
) -> Result<Answer, Failure> {
    let subcloud = with_site(session, promised(subcloud, "subcloud")?).await;
    Ok(record(&subcloud).of_edit(session))
}

/// With its networks, which answers to changes leave out. The change is made, so that it is told
/// without them when they do not come.
async fn with_site(session: &Session, subcloud: Subcloud) -> Subcloud {
    let known = get(session, subcloud.uuid.clone()).await;
    Subcloud {
        site: known.ok().and_then(|known| known.site),
        ..subcloud
    }
}
