//! The headers of commands, agents and skills, as far as they give power.
//!
//! Their text is the session's working material. Their header is not all of
//! that: `allowed-tools` of a command lets the session that starts with it run
//! what it names unasked, `hooks` and `mcpServers` of an agent start programs
//! with it. So the entries of a header are compared, but for those that are
//! known to give nothing.
//!
//! A header is YAML, and a key can be spelled in many ways. What is taken for
//! harmless is recognised by its plainest spelling alone; everything else counts.

/// Keys that describe, restrict or choose.
const HARMLESS: [&str; 18] = [
    "arguments",
    "argument-hint",
    "background",
    "color",
    "description",
    "disable-model-invocation",
    "disallowedTools",
    "effort",
    "isolation",
    "license",
    "maxTurns",
    "memory",
    "model",
    "name",
    "tools",
    "user-invocable",
    "version",
    "when_to_use",
];

/// Line ends within what we take for a line: to the CLI, another entry begins
/// there.
const LINE_ENDS: [char; 4] = ['\r', '\u{85}', '\u{2028}', '\u{2029}'];

/// The lines of the header of a Markdown file that may give power; empty when
/// none does.
pub(super) fn power(text: &str) -> String {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let Some(rest) = text.strip_prefix("---") else {
        return String::new();
    };
    let mut out = String::new();
    let mut harmless = false;
    // The CLI may end it earlier, at dashes within a line; more is compared then.
    let lines = rest.lines().skip(1).take_while(|line| !line.starts_with("---"));
    for line in lines.flat_map(|line| line.split(LINE_ENDS)) {
        if begins_entry(line) {
            harmless = is_harmless(line);
        }
        if !harmless && !line.trim().is_empty() {
            out.push_str(line);
            out.push('\n');
        }
    }
    // Behind the dashes themselves stands nothing, if all is well.
    match rest.lines().next().map(str::trim) {
        Some("") | None => out,
        Some(odd) => format!("{odd}\n{out}"),
    }
}

/// Anything but the continuation of the entry above.
fn begins_entry(line: &str) -> bool {
    !(line.trim().is_empty() || line.starts_with([' ', '-', '#']))
}

fn is_harmless(line: &str) -> bool {
    let Some((key, value)) = line.split_once(':') else { return false };
    // An anchor, a tag or a mapping may reach beyond its own entry.
    HARMLESS.contains(&key) && !value.trim_start().starts_with(['&', '!', '{', '*'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_and_texts_give_no_power() {
        for harmless in [
            "",
            "Do this.\n",
            "Do this.\n---\nhooks: x\n---\n",
            "---\ndescription: x\n---\nallowed-tools: Bash\n",
            "---\nname: a\ndescription: >\n  long\n  text\ntools:\n- Read\n- Bash\nmodel: opus\n---\nhooks:\n",
            "\u{feff}\n---\r\ndescription: x\r\n\r\n# said\r\n---\r\n",
            "---\n---\n",
            "---",
        ] {
            assert_eq!(power(harmless), "", "{harmless:?}");
        }
    }

    #[test]
    fn whatever_else_stands_in_a_header_counts() {
        for powerful in [
            "---\nallowed-tools: Bash\n---\n",
            "\n\n---\nallowed-tools: Bash\n---\n",
            "---\ndescription: x\nhooks:\n  Stop: []\n---\n",
            "---\r\nhooks: {}\r\n---\r\n",
            "---\n  name: a\n  \"\\x68ooks\": {}\n---\n",
            "---\n\"hooks\": {}\n---\n",
            "---\n{description: x, hooks: {}}\n---\n",
            "---\ndescription: {a: b}\n---\n",
            "---\n? hooks\n: x\n---\n",
            "---\nDescription: x\n---\n",
            "---\n\tmcpServers: x\n---\n",
            "---\nmcpServers:\n  - s:\n      command: x",
            "--- \ndescription: x\nunknown: x\n---\n",
            "--- {hooks: {}}\n---\n",
            "---\ndescription: x\rallowed-tools: Bash\n---\n",
            "---\ndescription: x\r---\nhooks: {}\n---\n",
            "---\rhooks: {}\r---\r",
            "---\nname: a\u{2028}hooks: {}\u{85}model: x\n---\n",
        ] {
            assert_ne!(power(powerful), "", "{powerful:?}");
        }
    }

    #[test]
    fn only_the_powerful_lines_are_compared() {
        let text = |description: &str, tool: &str| {
            format!(
                "---\ndescription: {description}\nallowed-tools:\n  - {tool}\nmodel: opus\n---\nText\n"
            )
        };
        assert_eq!(power(&text("a", "Read")), power(&text("b", "Read")));
        assert_ne!(power(&text("a", "Read")), power(&text("a", "Bash")));
    }
}
