//! The grammar of the task file, by example and by property.

use proptest::prelude::*;

use super::syntax::lines;
use super::*;

fn parse(text: &str) -> TaskFile {
    TaskFile::parse(text.as_bytes()).unwrap()
}

fn counts(text: &str) -> (u32, u32) {
    let file = parse(text);
    (file.ticked, file.total)
}

/// The examples of the documentation, run as it states them.
#[test]
fn documented_examples_hold() {
    let doc = include_str!("../../../dev-docs/TASK_FILE.md");
    let mut seen = 0;
    for block in doc.split("````text ").skip(1) {
        let (head, rest) = block.split_once('\n').unwrap();
        let (body, _) = rest.split_once("````").unwrap();
        let file = parse(body);
        let state = match file.state() {
            State::Open => "open",
            State::Done { .. } => "done",
            State::Blocked { .. } => "blocked",
        };
        let found = format!("{state} {}/{}", file.ticked, file.total);
        assert_eq!(found, head.trim(), "example:\n{body}");
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} examples found");
}

#[test]
fn every_marker_and_mark_is_read() {
    let file = parse("- [ ] a\n* [x] b\n+ [X] c\n1. [ ] d\n2) [x] e\n- [-] f\n- [] g\n- [✔️] h\n");
    let ticks: Vec<_> = file.items.iter().map(|i| (i.text.as_str(), i.ticked)).collect();
    let expected = [
        ("a", false),
        ("b", true),
        ("c", true),
        ("d", false),
        ("e", true),
        ("f", false),
        ("g", false),
        ("h", false),
    ];
    assert_eq!(ticks, expected);
    assert_eq!(file.oddities().len(), 2, "{:?}", file.oddities());
}

#[test]
fn near_misses_are_no_checkboxes() {
    for text in [
        "-[ ] no blank",
        "[ ] no marker",
        "- [x](http://a.example)",
        "- [ab] two marks",
        "- x",
        "-     [x] code in an item",
        "1234567890. [x] too long",
        "a- [x] b",
        "- [x]y",
        "- [x",
        "    - [x] indented code",
        "\t- [x] indented code",
        "para\n    - [x] still text",
        "- a\n\n      - [x] code in an item",
        "- > [x] quote in an item",
        "- - -\n\n    - [x] b",
        "- a\n\npara\n    - [x] b",
    ] {
        assert_eq!(counts(text), (0, 0), "{text:?}");
    }
}

#[test]
fn nested_items_count_at_any_usual_indentation() {
    for text in [
        "- [x] a\n  - [ ] b",
        "- [x] a\n    - [ ] b",
        "- [x] a\n\t- [ ] b",
        "1. [x] a\n\n   - [ ] b",
        "- [x] a\n\n    - [ ] b",
        "- [x] a\n        - [ ] b",
        "- [x] a\n\n  text\n\n    - [ ] b",
        "- [x] a\n  text\n    - [ ] b",
        "-\t[x] a\n\t- [ ] b",
        "10. [x] a\n    - [ ] b",
    ] {
        let file = parse(text);
        assert_eq!((file.ticked, file.total), (1, 2), "{text:?}");
        assert_eq!(file.items[1].depth, 1, "{text:?}");
    }
    assert_eq!(parse("- a\n  - b\n    1. [ ] c\n- [ ] d").items[0].depth, 2);
    assert_eq!(parse("- 1. [ ] a").items[0].depth, 1);
    assert_eq!(parse("-\n  - [ ] a").items[0].depth, 1);
}

#[test]
fn fences_hide_until_a_closing_fence_of_their_kind() {
    for (text, expected) in [
        ("```\n- [x] a\n```\n- [ ] b", (0, 1)),
        ("````\n- [x] a\n```\n- [x] b\n````\n- [ ] c", (0, 1)),
        ("~~~\n- [x] a\n```\n- [x] b\n~~~~\n- [ ] c", (0, 1)),
        ("```\n- [x] a\n``` no\n- [x] b\n```\n- [ ] c", (0, 1)),
        ("```\n- [x] a\n    ```\n- [x] b\n```\n- [ ] c", (0, 1)),
        ("- [ ] a\n  ```sh\n  - [x] b\n  ```\n- [ ] c", (0, 2)),
        ("- ```\n  - [x] a\n  ```\n- [ ] b", (0, 1)),
        ("`` ` ``\n- [x] a", (1, 1)),
        ("``` a`b\n- [x] a", (1, 1)),
        ("> ```\n- [x] a", (1, 1)),
    ] {
        assert_eq!(counts(text), expected, "{text:?}");
    }
}

#[test]
fn an_unclosed_block_that_hides_open_boxes_is_not_done() {
    let half = parse("- [x] a\n```\nlog\n- [ ] b\n");
    assert_eq!((half.ticked, half.total, half.unclosed_at), (1, 1, Some(2)));
    assert_eq!(half.state(), State::Open);
    assert!(parse("- [x] a\n```\nlog\n").is_done());
    assert!(parse("- [x] a\n```\n- [ ] b\n```\n").is_done());
    assert!(!parse("- [x] a\n<!-- later\n- [ ] b\n").is_done());
}

#[test]
fn comments_hide_their_lines() {
    for (text, expected) in [
        ("<!-- - [x] a -->\n- [ ] b", (0, 1)),
        ("<!--\n- [x] a\n--> - [x] b\n- [ ] c", (0, 1)),
        ("<!-->\n- [ ] a", (0, 1)),
        ("- <!-- x\n- [x] a\n-->\n- [ ] b", (0, 1)),
        ("- [ ] see `<!--` in the parser\n- [x] b", (1, 2)),
        ("text <!--\n- [x] a\n-->", (1, 1)),
    ] {
        assert_eq!(counts(text), expected, "{text:?}");
    }
    assert_eq!(parse("- [ ] a <!-- b --> c").items[0].text, "a  c");
    assert_eq!(parse("- [ ] a\n\ntext <!-- x\nStatus: done\n-->").status, None);
}

#[test]
fn status_lines_are_read_in_their_usual_spellings() {
    for line in [
        "Status: done",
        "status:DONE",
        "STATUS : Done",
        "**Status**: done",
        "**Status:** done",
        "**Status: done**",
        "__Status__: *done*",
        "   Status: done",
        "Status: done   ",
        "Status: done <!-- by session 3 -->",
        "- [ ] a\nStatus: done",
        "- [ ] a\n\nStatus: done",
        "# T\nStatus: done\r\nmore",
    ] {
        assert!(matches!(parse(line).status, Some(Status::Done { .. })), "{line:?}");
    }
    for line in [
        "> Status: done",
        "> quote\nStatus: done",
        "```\nStatus: done\n```",
        "    Status: done",
        "`Status: done`",
        "- Status: done",
        "- [ ] a\n  Status: done",
        "- a\n\n  Status: done",
        "# Status: done",
        "<!-- Status: done -->",
        "The Status: done",
        "| Status: done |",
        "Status = done",
        "Status:",
        "Status done",
        "Substatus: done",
    ] {
        assert_eq!(parse(line).status, None, "{line:?}");
    }
    for line in ["Status: done?", "Status: not done", "Status: done, almost", "Status: in progress"]
    {
        assert!(matches!(parse(line).status, Some(Status::Other { .. })), "{line:?}");
    }
}

#[test]
fn blocked_carries_its_reason() {
    for (text, reason) in [
        ("Status: blocked", None),
        ("**Status:** Blocked", None),
        ("Status: blocked: need the API key", Some("need the API key")),
        ("Status: blocked - need the key", Some("need the key")),
        ("Status: blocked — need the key", Some("need the key")),
        ("Status: **blocked**, no key", Some("no key")),
        ("Status: blocked (no key)", Some("(no key)")),
        ("Status: blocked\nneed the key\nand more", Some("need the key")),
        ("Status: blocked\n\nneed the key", None),
        ("Status: blocked\n- [ ] a", None),
    ] {
        let state = State::Blocked { reason: reason.map(str::to_owned) };
        assert_eq!(parse(text).state(), state, "{text:?}");
    }
    assert!(matches!(parse("Status: unblocked").status, Some(Status::Other { .. })));
}

#[test]
fn blocked_wins_and_done_must_be_unanimous() {
    assert!(matches!(
        parse("- [x] a\n\nStatus: done\nStatus: blocked: x\nStatus: done").state(),
        State::Blocked { .. }
    ));
    let torn = parse("Status: done\n- [ ] a\n\nStatus: in progress");
    assert_eq!(torn.state(), State::Open);
    assert!(matches!(torn.status, Some(Status::Other { line: 4, contradicts: Some(1), .. })));
    assert_eq!(parse("- [ ] a\n\nStatus: done").state(), State::Done { by: DoneBy::StatusLine });
    let boxes = State::Done { by: DoneBy::Checkboxes };
    assert_eq!(parse("- [x] a\n\nStatus: in progress").state(), boxes);
    assert_eq!(parse("no boxes").state(), State::Open);
    assert_eq!(parse("no boxes").oddities().len(), 1);
}

#[test]
fn what_is_no_text_is_refused() {
    assert_eq!(TaskFile::parse(b""), Err(TaskFileError::Empty));
    assert_eq!(TaskFile::parse(b"\xef\xbb\xbf \r\n\t"), Err(TaskFileError::Empty));
    assert_eq!(TaskFile::parse(b"- [x] \xff"), Err(TaskFileError::NotUtf8 { offset: 6 }));
    assert_eq!(TaskFile::parse(b"- [x] a\0"), Err(TaskFileError::HasNul { offset: 7 }));
    let huge = vec![b' '; MAX_TASK_FILE_BYTES as usize + 1];
    assert!(matches!(TaskFile::parse(&huge), Err(TaskFileError::TooLarge { .. })));
    assert_eq!(counts("\u{feff}- [x] a\r\n- [ ] b\r- [ ] c"), (1, 3));
}

#[test]
fn the_digest_is_sha256_of_the_bytes() {
    assert_eq!(
        parse("abc").digest,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

/// Quadratic time would make this run for hours.
#[test]
fn a_mebibyte_of_anything_is_read_at_once() {
    let size = MAX_TASK_FILE_BYTES as usize;
    for unit in [
        "- ", "1. ", "- x\n", "<!--", "<!-- -->", "`", "* * x", "> ", "[", "\t", "\r", "- [ ]\n ",
        "_", "#",
    ] {
        let mut text = unit.repeat(size / unit.len() - 1);
        text.push('x');
        assert!(TaskFile::parse(text.as_bytes()).is_ok(), "{unit:?}");
    }
    let stairs: String =
        (0..1000).map(|n| format!("{}- [ ]\n", " ".repeat(n * 2 % 1024))).collect();
    assert_eq!(counts(&(stairs + &"x\n".repeat(size / 4))), (0, 1000));
}

/// Lines that exercise every rule, put together at random.
fn markdown() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => "[ \t]{0,9}([-*+]|[0-9]{1,3}[.)])[ \t]{1,5}\\[[ xX~-]\\][a-z `<!>-]{0,9}",
        1 => "[ \t]{0,5}(```+|~~~+)[a-z`]{0,3}",
        1 => "[ \t]{0,5}> ?.{0,12}",
        1 => "[ \t]{0,4}(<!--|-->|<!---->).{0,5}",
        1 => "[*_]{0,2}[Ss]tatus[*_]{0,2}: ?(done|blocked|open).{0,4}",
        1 => "[ \t]{0,3}",
        1 => "[^\r\n\0]{0,20}",
    ];
    proptest::collection::vec(line, 1..25)
        .prop_map(|lines| lines.join("\n").replace(['\r', '\0'], ""))
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = TaskFile::parse(&bytes);
    }

    #[test]
    fn counts_agree_with_items(text in markdown()) {
        let Ok(file) = TaskFile::parse(text.as_bytes()) else { return Ok(()) };
        prop_assert_eq!(file.total as usize, file.items.len());
        prop_assert_eq!((file.total - file.ticked) as usize, file.open_items().count());
        for item in &file.items {
            let line = lines(text.trim_start_matches('\u{feff}')).nth(item.line as usize - 1).unwrap();
            let shown = format!("[{}]", item.mark);
            prop_assert!(line.contains(&shown));
        }
    }

    #[test]
    fn crlf_is_lf(text in markdown()) {
        let lf = TaskFile::parse(text.as_bytes());
        let crlf = TaskFile::parse(text.replace('\n', "\r\n").as_bytes());
        let strip = |r: Result<TaskFile, _>| r.map(|f| TaskFile { digest: String::new(), ..f });
        prop_assert_eq!(strip(lf), strip(crlf));
    }

    #[test]
    fn ticking_a_box_ticks_one_more(text in markdown(), pick in any::<prop::sample::Index>()) {
        let Ok(before) = TaskFile::parse(text.as_bytes()) else { return Ok(()) };
        let open: Vec<_> = before.open_items().collect();
        if open.is_empty() { return Ok(()) }
        let item = open[pick.index(open.len())];
        let ticked: Vec<_> = text.split('\n').enumerate().map(|(index, line)| {
            if index + 1 != item.line as usize { return line.to_owned() }
            line.replacen(&format!("[{}]", item.mark), "[x]", 1)
        }).collect();
        let after = parse(&ticked.join("\n"));
        prop_assert_eq!(after.ticked, before.ticked + 1);
        prop_assert_eq!(after.total, before.total);
    }

    #[test]
    fn fenced_text_has_no_items(text in markdown()) {
        let fence = "`".repeat(longest_run(&text, '`').max(2) + 1);
        let file = parse(&format!("{fence}\n{text}\n{fence}\n"));
        prop_assert_eq!((file.total, file.status, file.unclosed_at), (0, None, None));
    }

    #[test]
    fn quoted_text_has_no_items(text in markdown()) {
        let quoted: Vec<_> = text.split('\n').map(|line| format!("> {line}")).collect();
        let file = parse(&quoted.join("\n"));
        prop_assert_eq!((file.total, file.status), (0, None));
    }

    #[test]
    fn an_open_box_at_the_margin_keeps_the_file_open(text in markdown()) {
        // Whatever follows, a box that stands first cannot be hidden.
        let file = parse(&format!("- [ ] first\n{text}"));
        prop_assert_ne!(file.state(), State::Done { by: DoneBy::Checkboxes });
    }
}

fn longest_run(text: &str, mark: char) -> usize {
    text.split(|c| c != mark).map(str::len).max().unwrap_or(0)
}
