//! The settings files of the CLI: those it would stop at, and servers it would ask about.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Finding, Patient, shown};
use crate::ErrorKind;
use crate::claude_json::{Json, Places, project_servers, project_settings};

/// The values of `permissions.defaultMode` the CLI knows; at any other it stops and asks.
const MODES: [&str; 7] =
    ["acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "manual", "plan"];

/// One file of settings. There are no others: `--settings` is longhaul's own.
pub(super) struct Layer {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it comes with the project.
    pub of_project: bool,
    /// What is in it.
    pub json: Json,
}

/// The layers that apply in `project`, the weakest first.
pub(super) fn layers(project: &Path, places: Option<&Places>) -> Vec<Layer> {
    let mut out = Vec::new();
    let mut add = |path: PathBuf, of_project: bool| {
        let json = Json::read(&path);
        // An empty file is no settings to the CLI, and no mistake.
        if json != Json::Missing && json != Json::Empty {
            out.push(Layer { path, of_project, json });
        }
    };
    if let Some(places) = places {
        add(places.config_dir.join("settings.json"), false);
    }
    for path in project_settings(project) {
        add(path, true);
    }
    out
}

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        patient.settings.iter().filter_map(|layer| unusable(patient, layer)).collect();
    findings.extend(servers(patient));
    findings.extend(no_hooks(patient));
    findings
}

/// Without hooks longhaul still works, on its second-best sources.
fn no_hooks(patient: &Patient<'_>) -> Option<Finding> {
    let off = |layer: &&Layer| layer.json.is_true(&["disableAllHooks"]);
    let layer = patient.settings.iter().rev().find(off)?;
    let place = shown(&layer.path, &patient.child_env);
    Some(
        Finding::warning("hooks", format!("{place} switches off all hooks and the statusline"))
            .detail(
                "the window is taken from the model table, and a session that waits for a person \
                 is noticed late",
            )
            .mend("take disableAllHooks out, or set context.window_tokens"),
    )
}

/// What the CLI does not take for settings.
fn unusable(patient: &Patient<'_>, layer: &Layer) -> Option<Finding> {
    let why = match &layer.json {
        Json::Bad(why) => why.clone(),
        Json::Missing => "it does not exist".into(),
        Json::Empty => "it is empty".into(),
        Json::Object(_) => {
            let mode = layer.json.text(&["permissions", "defaultMode"])?;
            if MODES.contains(&mode) {
                return None;
            }
            format!("permissions.defaultMode has the unknown value \"{}\"", mode.escape_debug())
        }
    };
    let id = "settings";
    let place = shown(&layer.path, &patient.child_env);
    Some(
        Finding::error(id, ErrorKind::NeedsPerson, format!("the settings {place} cannot be used"))
            .detail(format!("{why}; the CLI would ask a person what to do"))
            .mend("repair the file, or move it away"),
    )
}

/// A `.mcp.json` of the project, or of a folder above, names servers about which
/// the CLI asks once.
fn servers(patient: &Patient<'_>) -> Option<Finding> {
    if patient.config.claude.args.iter().any(|arg| arg == "--strict-mcp-config") {
        return None;
    }
    let files: Vec<(PathBuf, Json)> = project_servers(patient.project)
        .into_iter()
        .map(|path| {
            let json = Json::read(&path);
            (path, json)
        })
        .collect();
    let named = files.iter().filter_map(|(path, json)| {
        let servers = json.at(&["mcpServers"])?.as_object()?;
        Some(servers.keys().map(move |server| (path, server)))
    });
    let project = patient.project.to_string_lossy();
    let in_global = |key: &str| patient.global.at(&["projects", &project, key]);
    let listed = |key: &str, server: &str| {
        let holds = |value: Option<&Value>| {
            value
                .and_then(Value::as_array)
                .is_some_and(|items| items.iter().any(|item| item == server))
        };
        holds(in_global(key)) || patient.settings.iter().any(|layer| holds(layer.json.at(&[key])))
    };
    let all =
        patient.settings.iter().any(|layer| layer.json.is_true(&["enableAllProjectMcpServers"]))
            || in_global("enableAllProjectMcpServers").and_then(Value::as_bool) == Some(true);
    let open: Vec<(&PathBuf, &String)> = named
        .flatten()
        .filter(|(_, server)| {
            !all && !listed("enabledMcpjsonServers", server)
                && !listed("disabledMcpjsonServers", server)
        })
        .collect();
    let (first, _) = open.first()?;
    let place = match first.strip_prefix(patient.project) {
        Ok(own) => own.display().to_string(),
        Err(_) => shown(first, &patient.child_env),
    };
    let names: BTreeSet<String> =
        open.iter().map(|(_, server)| server.escape_debug().to_string()).collect();
    let names: Vec<String> = names.into_iter().collect();
    Some(
        Finding::error("mcp", ErrorKind::NeedsPerson, format!("the CLI would ask about the MCP servers of {place}: {}", names.join(", ")))
            .mend("start `claude` there once and answer, or name them in enabledMcpjsonServers or disabledMcpjsonServers of .claude/settings.local.json"),
    )
}
