//! The person's side of the CLI: set up, trusting this project, logged in.

use super::{Finding, Patient, masked, shown};
use crate::ErrorKind;
use crate::claude_json::{Json, KeyAnswer, is_trusted, key_answer};
use crate::guard::global::{copy_command, newest_backup};
use crate::session::env::BILLING_VARIABLES;

/// Switches for clouds that bring their own login.
const CLOUDS: [(&str, &str); 4] = [
    ("CLAUDE_CODE_USE_BEDROCK", "Amazon Bedrock"),
    ("CLAUDE_CODE_USE_VERTEX", "Google Vertex AI"),
    ("CLAUDE_CODE_USE_FOUNDRY", "Microsoft Foundry"),
    ("CLAUDE_CODE_USE_MANTLE", "Bedrock Mantle"),
];

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let Some(places) = &patient.places else {
        return vec![
            Finding::error(
                "home",
                ErrorKind::Usage,
                "HOME is not set, so the CLI has no settings and no login",
            )
            .mend("set HOME (cron and systemd may leave it out), or claude.env.HOME"),
        ];
    };
    let file = shown(&places.global_file, &patient.child_env);
    if let Json::Bad(why) = &patient.global {
        let mend = match newest_backup(places) {
            Some(backup) => format!("restore it: {}", copy_command(&backup, &places.global_file)),
            None => "start `claude` once by hand and repair it there".into(),
        };
        return vec![
            Finding::error("claude-json", ErrorKind::NeedsPerson, format!("{file} is damaged"))
                .detail(format!("{why}; the CLI would ask a person what to do"))
                .mend(mend),
        ];
    }
    vec![onboarding(patient, &file), trust(patient, &file), login(patient)]
}

fn onboarding(patient: &Patient<'_>, file: &str) -> Finding {
    let id = "onboarding";
    if patient.global.is_true(&["hasCompletedOnboarding"]) {
        return Finding::ok(id, "the CLI has been set up");
    }
    let detail = match patient.global {
        Json::Missing => format!("there is no {file}"),
        Json::Empty => format!("{file} is empty"),
        _ => format!("{file} does not say hasCompletedOnboarding"),
    };
    Finding::error(id, ErrorKind::NeedsPerson, "the CLI has never been set up for this user")
        .detail(format!("{detail}; it would ask for a theme and a login"))
        .mend("start `claude` once by hand and follow it to its prompt")
}

fn trust(patient: &Patient<'_>, file: &str) -> Finding {
    let id = "trust";
    let project = patient.project.display();
    if is_trusted(&patient.global, patient.project) {
        return Finding::ok(id, "the project is trusted");
    }
    if patient.config.claude.trust_workspace {
        return Finding::ok(
            id,
            "the project is not trusted yet; claude.trust_workspace has longhaul answer yes",
        );
    }
    Finding::error(id, ErrorKind::NeedsPerson, format!("the project {project} is not trusted"))
        .detail(format!(
            "{file} holds no accepted trust for it; the CLI would ask, and Enter means \"No, exit\""
        ))
        .mend("start `claude` there once and accept, or set claude.trust_workspace = true")
}

/// What the CLI will pay with, in the order in which it decides.
fn login(patient: &Patient<'_>) -> Finding {
    let id = "login";
    let env = &patient.child_env;
    if let Some((_, name)) = CLOUDS.iter().find(|(switch, _)| {
        of_env_or_settings(patient, switch).is_some_and(|v| crate::claude_json::is_on(&v))
    }) {
        return Finding::ok(id, format!("{name} is used; its own login applies"))
            .detail("whether that works is seen at the first request");
    }
    let mut rejected = None;
    if let Some(key) = of_env_or_settings(patient, "ANTHROPIC_API_KEY") {
        match key_answer(&patient.global, &key) {
            KeyAnswer::Approved => {
                return Finding::ok(id, format!("API key {} is approved and pays", masked(&key)));
            }
            KeyAnswer::NeverAsked => return unapproved(&key),
            KeyAnswer::Rejected => rejected = Some(key),
        }
    }
    if let Some(token) = of_env_or_settings(patient, "ANTHROPIC_AUTH_TOKEN") {
        return Finding::ok(id, format!("ANTHROPIC_AUTH_TOKEN {} is used", masked(&token)));
    }
    if env.get("CLAUDE_CODE_OAUTH_TOKEN").is_some()
        || in_settings_env(patient, "CLAUDE_CODE_OAUTH_TOKEN").is_some()
    {
        return Finding::ok(id, "CLAUDE_CODE_OAUTH_TOKEN is used");
    }
    if patient.settings.iter().any(|layer| layer.json.text(&["apiKeyHelper"]).is_some()) {
        return Finding::ok(id, "an apiKeyHelper of the settings gives the key");
    }
    stored_login(patient, rejected.as_deref())
}

fn stored_login(patient: &Patient<'_>, rejected: Option<&str>) -> Finding {
    let id = "login";
    let stored = patient.places.as_ref().map(|places| places.config_dir.join(".credentials.json"));
    let credentials = stored.as_deref().map_or(Json::Missing, Json::read);
    if credentials.text(&["claudeAiOauth", "accessToken"]).is_some() {
        let plan =
            credentials.text(&["claudeAiOauth", "subscriptionType"]).unwrap_or("a subscription");
        return Finding::ok(id, format!("logged in with {}", plan.escape_debug()));
    }
    if patient.global.text(&["primaryApiKey"]).is_some() {
        return Finding::ok(id, "logged in with a Console key");
    }
    let mut finding = Finding::error(id, ErrorKind::Authentication, "the CLI has no login").mend(
        "start `claude` and use /login, or run `claude setup-token` and set CLAUDE_CODE_OAUTH_TOKEN",
    );
    let stray = BILLING_VARIABLES
        .iter()
        .find(|name| patient.own_env.get(name).is_some() && patient.child_env.get(name).is_none());
    if let Json::Bad(why) = &credentials {
        finding.detail = format!(".credentials.json is damaged: {why}");
    } else if let Some(key) = rejected {
        finding.detail =
            format!("the API key {} was answered with No once, so the CLI ignores it", masked(key));
        finding.mend = "start `claude` with that key and turn on \"Use custom API key\" in /config, or log in with /login".into();
    } else if let Some(name) = stray {
        finding.detail = format!("{name} is set, but not passed on");
        finding.mend =
            format!("log in with /login, or let that key pay: claude.pass_env = [\"{name}\"]");
    }
    finding
}

fn unapproved(key: &str) -> Finding {
    Finding::error(
        "login",
        ErrorKind::NeedsPerson,
        format!("the API key {} has not been approved", masked(key)),
    )
    .detail("the CLI would ask whether to use it, and Enter means No")
    .mend("start `claude` once with that key in the environment and answer Yes")
}

fn of_env_or_settings(patient: &Patient<'_>, name: &str) -> Option<String> {
    in_settings_env(patient, name).or_else(|| patient.child_env.text(name))
}

/// The variable as the settings' `env` sets it for every session.
fn in_settings_env(patient: &Patient<'_>, name: &str) -> Option<String> {
    patient
        .settings
        .iter()
        .rev()
        .find_map(|layer| layer.json.text(&["env", name]).map(str::to_string))
}
