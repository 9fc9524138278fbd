//! The arguments: permissions are asked for by a terminal nobody watches.

use super::settings::Layer;
use super::{Finding, Patient};
use crate::ErrorKind;
use crate::claude_json::Json;
use crate::config::PermissionPolicy;
use crate::session::settings::{BYPASS_MODE, bypass_argument, check_args, permission_modes};

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let claude = &patient.config.claude;
    if let Err(err) = check_args(&claude.args) {
        return vec![Finding::of_error("arguments", &err)];
    }
    // The CLI takes this mode from the user's settings too, not from the project's.
    let by_settings = || {
        let set = |layer: &&Layer| !layer.of_project && mode_in(&layer.json) == Some(BYPASS_MODE);
        permission_modes(&claude.args)
            .next()
            .is_none()
            .then(|| patient.settings.iter().find(set))??;
        Some(format!("permissions.defaultMode = {BYPASS_MODE} in your settings"))
    };
    if let Some(source) = bypass_argument(&claude.args).or_else(by_settings) {
        if !claude.allow_bypass {
            return vec![
                Finding::error("bypass", ErrorKind::Usage, format!("{source} is refused"))
                    .detail("a session that asks for nothing can delete anything its user can")
                    .mend(
                        "take another --permission-mode, or set claude.allow_bypass = true if \
                         the machine is a sandbox",
                    ),
            ];
        }
        // The CLI takes "1" and nothing else.
        if patient.is_root && patient.child_env.text("IS_SANDBOX").as_deref() != Some("1") {
            return vec![
                Finding::error(
                    "bypass",
                    ErrorKind::Usage,
                    "the CLI refuses to bypass permissions as root",
                )
                .mend(
                    "run as another user, or set claude.env.IS_SANDBOX = \"1\" if this is a sandbox",
                ),
            ];
        }
    }
    vec![permissions(patient)]
}

fn permissions(patient: &Patient<'_>) -> Finding {
    let id = "permissions";
    let args = &patient.config.claude.args;
    // Bypass in the project's own settings makes the CLI start in manual mode.
    let set = patient.settings.iter().rev().find_map(|layer| match mode_in(&layer.json)? {
        BYPASS_MODE if layer.of_project => Some("manual"),
        mode => Some(mode),
    });
    let mode = bypass_argument(args)
        .map(|_| BYPASS_MODE.to_string())
        .or_else(|| permission_modes(args).last().map(str::to_string))
        .or_else(|| set.map(str::to_string));
    let help = "give `--permission-mode auto`, or `acceptEdits` with `--allowedTools`, in claude.args or after `--`";
    let declined = match &patient.config.permissions.policy {
        PermissionPolicy::Deny => {
            "what it asks for is declined (permissions.policy), unless an allowed tool covers it"
        }
        PermissionPolicy::Stop => {
            "the run stops at the first question with exit code 10 (permissions.policy), unless \
             an allowed tool covers it"
        }
        PermissionPolicy::Command(_) => "what it asks for is put to permissions.command",
    };
    match mode.as_deref() {
        None => Finding::note(id, "no permission mode is named; the CLI takes its own default")
            .detail(declined)
            .mend(help),
        Some(mode @ ("default" | "manual" | "plan" | "acceptEdits")) => Finding::warning(
            id,
            format!("permission mode {mode} asks, and nobody is there to answer"),
        )
        .detail(declined)
        .mend(help),
        Some(mode) => Finding::ok(id, format!("permission mode {}", mode.escape_debug())),
    }
}

fn mode_in(json: &Json) -> Option<&str> {
    json.text(&["permissions", "defaultMode"])
}
