//! Requests to change subclouds and groups. Texts pass unread: judging them is the core's work.

use fleet::{FleetChange, GroupEdit, GroupId, SubcloudEdit, SubcloudGroup, UpdateApply};
use uuid::Uuid;

use super::{Malformed, excerpt, given_by_server, missing, value_of};
use crate::fleet_v1 as wire;

/// `UpdateSubcloud`: the fields that the mask names, or without a mask those that are not empty.
///
/// # Errors
/// An absent subcloud, and every path of the mask that cannot be changed.
pub fn update_subcloud(
    request: wire::UpdateSubcloudRequest,
) -> Result<FleetChange, Vec<Malformed>> {
    let wire::UpdateSubcloudRequest {
        target,
        subcloud,
        update_mask,
        etag,
        validate_only: _,
        request_id: _,
    } = request;
    let values = subcloud.ok_or_else(|| missing("subcloud"))?;
    let given = [
        ("description", &values.description),
        ("location", &values.location),
        ("group", &values.group),
    ];
    let filled = given.iter().filter(|(_, value)| !value.is_empty());
    let filled = filled.map(|(field, _)| (*field).to_owned()).collect();
    let mut edit = SubcloudEdit::default();
    let fields = "description, location and group";
    each_named(update_mask, filled, fields, |path| {
        match path {
            "description" => edit.description = Some(values.description.clone()),
            "location" => edit.location = Some(values.location.clone()),
            "group" => edit.group = Some(values.group.clone()),
            _ => return false,
        }
        true
    })?;
    Ok(FleetChange::Update {
        subcloud: target,
        etag,
        edit,
    })
}

/// `AddSubcloudGroup`: what is not said has its default.
///
/// # Errors
/// An absent group, fields that the server gives, and a way to apply updates that is unknown.
pub fn add_group(
    request: wire::AddSubcloudGroupRequest,
    id: Uuid,
) -> Result<FleetChange, Vec<Malformed>> {
    let wire::AddSubcloudGroupRequest {
        subcloud_group,
        validate_only: _,
        request_id: _,
    } = request;
    let group = subcloud_group.ok_or_else(|| missing("subcloud_group"))?;
    if !group.uuid.is_empty() {
        return Err(vec![given_by_server("subcloud_group.uuid")]);
    }
    let edit = GroupEdit {
        update: update_from_wire(group.update_apply_type)?,
        max_parallel: Some(group.max_parallel_subclouds).filter(|number| *number != 0),
        name: Some(group.name),
        description: Some(group.description),
    };
    Ok(FleetChange::AddGroup {
        id: GroupId(id),
        group: edit,
    })
}

/// What `AddSubcloud` says of the new subcloud: what is empty is not said.
pub fn said_of_new(description: String, location: String, group: String) -> SubcloudEdit {
    let said = |text: String| Some(text).filter(|text| !text.is_empty());
    SubcloudEdit {
        description: said(description),
        location: said(location),
        group: said(group),
    }
}

/// `UpdateSubcloudGroup`: the fields that the mask names, or without a mask those that are set.
///
/// # Errors
/// An absent group, every path of the mask that cannot be changed, and a way to apply updates
/// that is unknown.
pub fn update_group(
    request: wire::UpdateSubcloudGroupRequest,
) -> Result<FleetChange, Vec<Malformed>> {
    let wire::UpdateSubcloudGroupRequest {
        target,
        subcloud_group,
        update_mask,
        etag,
        validate_only: _,
        request_id: _,
    } = request;
    let values = subcloud_group.ok_or_else(|| missing("subcloud_group"))?;
    let update = update_from_wire(values.update_apply_type)?;
    let given = [
        ("name", !values.name.is_empty()),
        ("description", !values.description.is_empty()),
        ("update_apply_type", update.is_some()),
        ("max_parallel_subclouds", values.max_parallel_subclouds != 0),
    ];
    let filled = given.iter().filter(|(_, filled)| *filled);
    let filled = filled.map(|(field, _)| (*field).to_owned()).collect();
    let mut edit = GroupEdit::default();
    let mut unsaid = false;
    let fields = "name, description, update_apply_type and max_parallel_subclouds";
    each_named(update_mask, filled, fields, |path| {
        match path {
            "name" => edit.name = Some(values.name.clone()),
            "description" => edit.description = Some(values.description.clone()),
            "update_apply_type" => {
                edit.update = update;
                unsaid = update.is_none();
            }
            "max_parallel_subclouds" => edit.max_parallel = Some(values.max_parallel_subclouds),
            _ => return false,
        }
        true
    })?;
    if unsaid {
        return Err(vec![unsaid_value("subcloud_group.update_apply_type")]);
    }
    Ok(FleetChange::UpdateGroup {
        group: target,
        etag,
        edit,
    })
}

/// A group as operators see it.
pub fn group_to_wire(group: &SubcloudGroup) -> wire::SubcloudGroup {
    let SubcloudGroup {
        id,
        name,
        description,
        update,
        max_parallel,
        created_at,
        updated_at,
    } = group;
    wire::SubcloudGroup {
        uuid: id.to_string(),
        name: name.clone(),
        description: description.clone(),
        update_apply_type: update_to_wire(*update).into(),
        max_parallel_subclouds: *max_parallel,
        created_at_milliseconds: created_at.0,
        updated_at_milliseconds: updated_at.0,
        etag: group.etag(),
    }
}

pub(super) fn update_to_wire(update: UpdateApply) -> wire::UpdateApplyType {
    match update {
        UpdateApply::Parallel => wire::UpdateApplyType::Parallel,
        UpdateApply::Serial => wire::UpdateApplyType::Serial,
    }
}

fn update_from_wire(number: i32) -> Result<Option<UpdateApply>, Vec<Malformed>> {
    let path = "subcloud_group.update_apply_type";
    match value_of(path, number, wire::UpdateApplyType::as_str_name) {
        Ok(wire::UpdateApplyType::Unspecified) => Ok(None),
        Ok(wire::UpdateApplyType::Parallel) => Ok(Some(UpdateApply::Parallel)),
        Ok(wire::UpdateApplyType::Serial) => Ok(Some(UpdateApply::Serial)),
        Err(fault) => Err(vec![fault]),
    }
}

/// A path of a mask that names nothing that can change.
pub(super) fn no_such_field(index: usize, path: &str, fields: &str) -> Malformed {
    let problem = format!("`{}` is no field that can change", excerpt(path));
    Malformed::new(format!("update_mask.paths[{index}]"), problem)
        .remedy(format!("the fields that can are {fields}"))
}

/// An enumeration that the mask names.
pub(super) fn unsaid_value(path: impl Into<String>) -> Malformed {
    Malformed::new(path, "is named in the mask and not said")
        .remedy("say it, or leave it out of the mask")
}

/// Takes each path of the mask, or of what is filled when there is no mask. `fields` are the paths
/// that there are, in words.
pub(super) fn each_named(
    mask: Option<prost_types::FieldMask>,
    filled: Vec<String>,
    fields: &str,
    mut take: impl FnMut(&str) -> bool,
) -> Result<(), Vec<Malformed>> {
    let named = match mask {
        Some(mask) if !mask.paths.is_empty() => mask.paths,
        _ => filled,
    };
    let mut faults = Vec::new();
    for (index, path) in named.iter().enumerate() {
        if !take(path) {
            faults.push(no_such_field(index, path, fields));
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(values: wire::Subcloud, paths: &[&str]) -> wire::UpdateSubcloudRequest {
        wire::UpdateSubcloudRequest {
            target: "west".to_owned(),
            subcloud: Some(values),
            update_mask: Some(prost_types::FieldMask {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            }),
            ..Default::default()
        }
    }

    #[test]
    fn a_mask_can_empty_a_field_and_without_one_only_filled_fields_count() {
        let values = wire::Subcloud {
            location: "hall 7".to_owned(),
            ..Default::default()
        };
        let check = |paths: &[&str], description: Option<&str>, location: Option<&str>| {
            let change = update_subcloud(request(values.clone(), paths)).expect("readable");
            let FleetChange::Update { edit, .. } = change else {
                panic!("an update");
            };
            assert_eq!(edit.description.as_deref(), description, "{paths:?}");
            assert_eq!(edit.location.as_deref(), location, "{paths:?}");
        };
        check(&[], None, Some("hall 7"));
        check(&["description"], Some(""), None);
        check(&["description", "location"], Some(""), Some("hall 7"));
        let faults = update_subcloud(request(values.clone(), &["location", "name"]));
        assert_eq!(
            faults.expect_err("no such field")[0].path,
            "update_mask.paths[1]"
        );
    }
}
