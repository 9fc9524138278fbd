//! Drawing the panel in place, with the log scrolling above it.
//!
//! A few escape sequences of our own. indicatif was tried and is light enough
//! (about 0.2 MB and 50 µs a redraw), but it writes on the thread that calls
//! it, so that Ctrl-S would stop the supervisor. Here a frame is one write by a
//! thread of its own, holds only the lines that changed, and nothing runs
//! between frames. The cursor is never hidden and always rests on the line below the
//! panel, so whatever ends longhaul leaves a terminal in order.

use std::collections::VecDeque;

use jiff::tz::TimeZone;

use super::Teller;
use super::line::{self, Tone};
use super::look::{self, Look};
use super::outlet::Outlet;
use super::panel::{self, Moments, Row};
use crate::clock::Timestamp;
use crate::cycle::{Notice, Snapshot};
use crate::text;

/// The elapsed time moves once a second.
const TICK_MS: u64 = 1_000;
/// Readings that come faster than this wait for the next one.
const FRAME_MS: u64 = 100;
/// A gap between two ticks that means longhaul was stopped (Ctrl-Z) or the
/// machine slept: other text may stand where the panel was.
const ABSENT_MS: u64 = 3_500;
/// Log lines kept while the terminal takes nothing.
const MAX_WAITING_LINES: usize = 500;
/// A foreign text longer than this is cut; the journal has all of it.
const LONGEST: usize = 1_000;
/// Columns of the time before a log line.
const STAMP: usize = 10;

/// Shows a panel.
pub struct Live {
    outlet: Outlet,
    zone: TimeZone,
    painter: Painter,
    moments: Moments,
    drawn_at: Option<Timestamp>,
    ticked_at: Option<Timestamp>,
    /// The process group that may draw, if not ours.
    group: Option<i64>,
}

impl Live {
    /// Draws through `outlet`, with times local to `zone`.
    pub fn new(outlet: Outlet, look: Look, zone: TimeZone) -> Self {
        Self {
            outlet,
            zone,
            painter: Painter::new(look),
            moments: Moments::default(),
            drawn_at: None,
            ticked_at: None,
            group: None,
        }
    }

    /// Draws when `group` has the terminal.
    pub fn for_group(self, group: Option<i64>) -> Self {
        Self { group, ..self }
    }

    fn draw(&mut self, now: Timestamp, view: &Snapshot<'_>) {
        if self.outlet.is_silent() {
            return;
        }
        if !look::is_foreground(self.group) {
            self.painter.forget();
            return;
        }
        // A terminal that takes nothing gets the newest frame later.
        if !self.outlet.is_idle() {
            return;
        }
        let (columns, lines) = look::size();
        let columns = columns.saturating_sub(1).max(1);
        let rows =
            panel::rows(view, now, self.moments, &self.zone, columns, lines.saturating_sub(1));
        let frame = self.painter.frame(&rows, columns, lines);
        if !frame.is_empty() {
            self.outlet.offer(&frame);
        }
        self.drawn_at = Some(now);
    }
}

impl Teller for Live {
    fn tell(&mut self, at: Timestamp, notice: &Notice, view: &Snapshot<'_>) {
        if matches!(notice, Notice::Activity { .. }) {
            self.moments.active_at = Some(at);
        }
        // The panel shows it.
        let is_in_panel = matches!(notice, Notice::CheckpointDelivered { .. });
        let logged = line::line(notice, view).filter(|_| !is_in_panel);
        let is_due = self.drawn_at.is_none_or(|drawn| at.ms_since(drawn) >= FRAME_MS);
        if let Some((tone, words)) = &logged {
            let time = text::local(at.unix_ms, &self.zone, "%H:%M:%S");
            self.painter.log(&time, *tone, words);
        }
        if logged.is_some() || is_due {
            self.draw(at, view);
        }
    }

    fn tick(&mut self, now: Timestamp, view: &Snapshot<'_>) {
        let absent = self.ticked_at.is_some_and(|last| now.ms_since(last) > ABSENT_MS);
        if absent {
            self.painter.forget();
        }
        self.ticked_at = Some(now);
        self.draw(now, view);
    }

    fn tick_ms(&self) -> Option<u64> {
        (!self.outlet.is_silent()).then_some(TICK_MS)
    }

    fn finish(&mut self, now: Timestamp, view: &Snapshot<'_>) {
        self.outlet.drain();
        self.draw(now, view);
        self.outlet.drain();
    }
}

/// What stands on the terminal, and what has to be written to change it.
pub struct Painter {
    look: Look,
    /// Log lines not on the terminal yet: time, tone, words.
    log: VecDeque<(String, Tone, String)>,
    /// Log lines that found no room.
    lost: u64,
    /// The panel as it was drawn: text and width of each line.
    drawn: Vec<(String, usize)>,
    drawn_columns: usize,
}

impl Painter {
    /// Nothing is drawn yet.
    pub fn new(look: Look) -> Self {
        Self { look, log: VecDeque::new(), lost: 0, drawn: Vec::new(), drawn_columns: 0 }
    }

    /// Takes a line for the log.
    pub fn log(&mut self, time: &str, tone: Tone, words: &str) {
        if self.log.len() >= MAX_WAITING_LINES {
            self.log.pop_front();
            self.lost += 1;
        }
        let words = text::safe(words);
        let words = text::clip(&words, LONGEST).into_owned();
        self.log.push_back((time.to_owned(), tone, words));
    }

    /// The panel is not where it was drawn any more: begin a new one.
    pub fn forget(&mut self) {
        self.drawn.clear();
    }

    /// What to write so that the log has scrolled and the panel shows `rows`;
    /// empty if it does already. `columns` is what a line may take, one less
    /// than the terminal has; `lines` is the terminal's height.
    pub fn frame(&mut self, rows: &[Row], columns: usize, lines: usize) -> String {
        let fresh: Vec<(String, usize)> = rows
            .iter()
            .map(|row| (row.paint(columns, self.look), row.width().min(columns)))
            .collect();
        let is_same_place = columns == self.drawn_columns && fresh.len() == self.drawn.len();
        if is_same_place && self.log.is_empty() && fresh == self.drawn {
            return String::new();
        }
        // One frame at once where the terminal can, and no wrapping where its
        // idea of a width differs from ours.
        let mut out = String::from("\x1b[?2026h\x1b[?7l");
        self.go_up(&mut out, columns, lines);
        if !is_same_place {
            out.push_str("\x1b[J");
        }
        let must_write_all = !is_same_place || !self.log.is_empty();
        self.write_log(&mut out, columns);
        for (index, row) in fresh.iter().enumerate() {
            if must_write_all || self.drawn.get(index) != Some(row) {
                out.push_str(&row.0);
                out.push_str("\x1b[K");
            }
            out.push_str("\r\n");
        }
        // What was typed below the panel (^C) goes too.
        out.push_str("\x1b[J\x1b[?7h\x1b[?2026l");
        self.drawn = fresh;
        self.drawn_columns = columns;
        out
    }

    /// To the first line of the panel. On a terminal that has become narrower
    /// its lines have been folded, so it is higher than it was drawn.
    fn go_up(&self, out: &mut String, columns: usize, lines: usize) {
        let terminal = columns + 1;
        let height: usize =
            self.drawn.iter().map(|(_, width)| width.div_ceil(terminal).max(1)).sum();
        let height = height.min(lines.saturating_sub(1));
        out.push('\r');
        if height > 0 {
            out.push_str(&format!("\x1b[{height}A"));
        }
    }

    fn write_log(&mut self, out: &mut String, columns: usize) {
        if self.lost > 0 {
            let n = text::count(self.lost, "line was", "lines were");
            self.lost = 0;
            let row = Row::default().and(panel::Style::Dim, &format!("({n} left out)"));
            out.push_str(&row.paint(columns, self.look));
            out.push_str("\x1b[K\r\n");
        }
        for (time, tone, words) in self.log.drain(..) {
            let whole = format!("{time}  {words}");
            for (index, part) in text::wrap(&whole, columns, STAMP).iter().enumerate() {
                let row = match part.split_at_checked(STAMP) {
                    Some((stamp, rest)) if index == 0 => {
                        Row::default().and(panel::Style::Dim, stamp).and(tone.into(), rest)
                    }
                    Some(_) | None => Row::default().and(tone.into(), part),
                };
                out.push_str(&row.paint(columns, self.look));
                out.push_str("\x1b[K\r\n");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::staged::{self, Stage};

    const COLOURS: Look = Look { has_colour: true, has_unicode: true };

    const PLAIN: Look = Look { has_colour: false, has_unicode: true };

    fn rows(stage: &Stage, moments: Moments, columns: usize, most: usize) -> Vec<Row> {
        panel::rows(&stage.view(), stage.now, moments, &TimeZone::UTC, columns, most)
    }

    /// A painter and a terminal that shows what it writes.
    struct Screen {
        painter: Painter,
        terminal: vt100::Parser,
        moments: Moments,
        columns: usize,
        lines: usize,
    }

    impl Screen {
        fn new(look: Look, columns: usize, lines: usize) -> Self {
            Self {
                painter: Painter::new(look),
                terminal: vt100::Parser::new(lines as u16, columns as u16, 1_000),
                moments: Moments::default(),
                columns,
                lines,
            }
        }

        fn show(&mut self, stage: &Stage) -> String {
            let columns = self.columns - 1;
            let rows = rows(stage, self.moments, columns, self.lines - 1);
            let frame = self.painter.frame(&rows, columns, self.lines);
            self.terminal.process(frame.as_bytes());
            frame
        }

        fn text(&self) -> String {
            let text = self.terminal.screen().contents();
            let lines = text.lines().map(str::trim_end);
            lines.fold(String::new(), |all, line| all + line + "\n")
        }

        fn resize(&mut self, columns: usize, lines: usize) {
            (self.columns, self.lines) = (columns, lines);
            let screen = self.terminal.screen_mut();
            screen.set_size(lines as u16, columns as u16);
        }
    }

    #[test]
    fn the_panel_stands_below_the_log() {
        let stage = staged::mid_night();
        let mut screen = Screen::new(COLOURS, 100, 24);
        screen.painter.log("08:00:00", Tone::Plain, "run begins");
        screen.show(&stage);
        screen.painter.log("08:00:01", Tone::Good, "tasks: 6 of 12");
        screen.show(&stage);
        insta::assert_snapshot!(screen.text(), @r"
        08:00:00  run begins
        08:00:01  tasks: 6 of 12
        ─ longhaul · cycle 2 · claude-opus-4-5 ──────────────────────────────────────────────────── 50:54 ─
        context  ████████████████░░░░░░░│░░░░░░░░░  48 %  96.0k of 200k tokens · window by the CLI
        tasks    █████████████████░░░░░░░░░░░░░░░░  6 of 12  (+4 in this run)
        cost     $5.83 by the CLI's count · 5.15M tokens
        now      the session works
        last     Bash: cargo test --workspace
        ");
    }

    #[test]
    fn what_holds_the_run_up_stands_in_the_panel() {
        let mut stage = staged::mid_night();
        let mut screen = Screen::new(COLOURS, 80, 24);
        stage.stands_still(2);
        screen.show(&stage);
        let hung = screen.text();
        let kept = rows(&stage, Moments::default(), 79, 2);
        assert!(kept[1].paint(79, PLAIN).starts_with("hangs "), "it goes before what can wait");
        stage.fails_at_limit(4_300_000).command(crate::cycle::Command::Pause);
        screen.show(&stage);
        insta::assert_snapshot!(hung + &screen.text(), @r"
        ─ longhaul · cycle 2 · claude-opus-4-5 ──────────────────────────────── 52:54 ─
        context  ████████████░░░░░░│░░░░░░░  48 %  96.0k of 200k (by the CLI)
        tasks    █████████████░░░░░░░░░░░░░  6 of 12  (+4 in this run)
        cost     $5.83 by the CLI's count · 5.15M tokens
        now      nothing moves in the session's turn: it may hang
        hangs    for 12 min (last sign: prompt); interrupted at 09:01 (in 9 min)
        last     Bash: cargo test --workspace
        ─ longhaul · cycle 2 · claude-opus-4-5 ──────────────────────────────── 52:54 ─
        context  ████████████░░░░░░│░░░░░░░  48 %  96.0k of 200k (by the CLI)
        tasks    █████████████░░░░░░░░░░░░░  6 of 12  (+4 in this run)
        cost     $5.83 by the CLI's count · 5.15M tokens
        now      waiting for a usage limit to be reset
        waits    five-hour limit, until 10:04 (in 1 h 12 min)
        paused   since 08:52 (0 s ago), by `longhaul pause`; `longhaul resume` goes on
        last     Bash: cargo test --workspace
        ");
    }

    #[test]
    fn a_narrow_terminal_shows_less_and_wraps_the_log() {
        let stage = staged::mid_night();
        let mut screen = Screen::new(COLOURS, 40, 24);
        let words = "threshold reached: context 71 % (142k of 200k tokens)";
        screen.painter.log("08:00:00", Tone::Plain, words);
        screen.show(&stage);
        insta::assert_snapshot!(screen.text(), @r"
        08:00:00  threshold reached: context 71
                  % (142k of 200k tokens)
        ─ longhaul · cycle 2 ────────── 50:54 ─
        context  █████░░│░░  48 %  96.0k/200k
        tasks    █████░░░░░  6 of 12
        cost     $5.83 CLI · 5.15M tokens
        now      the session works
        last     Bash: cargo test --workspace
        ");
    }

    #[test]
    fn ascii_stands_in_where_there_is_nothing_else() {
        let look = Look { has_colour: false, has_unicode: false };
        let mut screen = Screen::new(look, 60, 24);
        let mut stage = staged::mid_night();
        stage.command(crate::cycle::Command::Stop);
        screen.moments.active_at = Some(stage.now);
        stage.wait(3_720_000);
        let frame = screen.show(&stage);
        assert!(frame.is_ascii() && !frame.contains("\x1b[3"), "{frame:?}");
        insta::assert_snapshot!(screen.text(), @r"
        - longhaul - cycle 2 - claude-opus-4-5 ---------- 1:52:54 -
        context  #########....|.....  48 %  96.0k/200k
        tasks    ##########.........  6 of 12  (+4 in this run)
        cost     $5.83 by the CLI's count - 5.15M tokens
        now      checkpoint (stopped), request 1: typed - then the~
        last     Bash: cargo test --workspace - 1 h 2 min ago
        ");
    }

    #[test]
    fn what_has_not_changed_is_not_written_again() {
        let mut stage = staged::mid_night();
        let mut screen = Screen::new(COLOURS, 100, 24);
        let whole = screen.show(&stage).len();
        assert_eq!(screen.show(&stage), "");
        stage.wait(1_000);
        let next = screen.show(&stage);
        assert!(next.contains("50:55") && !next.contains("context"), "{next:?}");
        assert!(next.len() < whole / 2);
    }

    #[test]
    fn no_width_breaks_the_picture_and_the_cursor_stays_visible() {
        let stages = [
            Stage::new(staged::params()),
            staged::mid_night(),
            staged::bad_night(),
            staged::good_night(),
        ];
        for columns in 1..=200 {
            let lines = 2 + columns % 23;
            let mut screen = Screen::new(COLOURS, columns, lines);
            for stage in &stages {
                screen.painter.log("08:00:00", Tone::Bad, "a long line 漢字 \u{1b}[2J of the log");
                for row in rows(stage, Moments::default(), columns, 6) {
                    let painted = row.paint(columns, PLAIN);
                    assert!(text::width(&painted) <= columns, "{columns}: {painted}");
                }
                let frame = screen.show(stage);
                let shown = screen.terminal.screen();
                assert!(!shown.hide_cursor());
                assert_eq!(shown.cursor_position().1, 0);
                assert!(!frame.contains("?25l"));
                let count = screen.text().matches("longhaul ·").count();
                assert!(count <= 1, "{columns}x{lines}: {}", screen.text());
            }
        }
    }

    #[test]
    fn a_terminal_made_wider_or_narrower_shows_one_panel() {
        let stage = staged::mid_night();
        let mut screen = Screen::new(COLOURS, 120, 30);
        for (columns, lines) in [(120, 30), (60, 30), (200, 50), (40, 8), (100, 24)] {
            screen.resize(columns, lines);
            screen.painter.log("08:00:00", Tone::Plain, "run begins");
            screen.show(&stage);
            let text = screen.text();
            assert_eq!(text.matches("tasks  ").count(), 1, "{columns}: {text}");
        }
    }

    #[test]
    fn lines_folded_by_a_narrower_terminal_are_cleared() {
        let mut painter = Painter::new(COLOURS);
        let stage = staged::mid_night();
        let draw = |painter: &mut Painter, columns: usize| {
            let rows = rows(&stage, Moments::default(), columns, 23);
            painter.frame(&rows, columns, 24)
        };
        draw(&mut painter, 99);
        let widths: Vec<usize> = painter.drawn.iter().map(|(_, width)| *width).collect();
        let folded: usize = widths.iter().map(|w| w.div_ceil(50)).sum();
        assert!(folded > widths.len());
        let frame = draw(&mut painter, 49);
        assert!(frame.contains(&format!("\r\x1b[{folded}A\x1b[J")), "{frame:?}");
    }

    #[test]
    fn what_was_typed_below_the_panel_goes_with_the_next_frame() {
        let mut stage = staged::mid_night();
        let mut screen = Screen::new(COLOURS, 100, 24);
        screen.show(&stage);
        let before = screen.text();
        screen.terminal.process(b"^C");
        assert_ne!(screen.text(), before);
        stage.wait(1_000);
        screen.show(&stage);
        assert_eq!(screen.text().lines().count(), before.lines().count());
    }

    #[test]
    fn after_an_absence_the_panel_is_begun_anew_below() {
        let stage = staged::mid_night();
        let mut screen = Screen::new(COLOURS, 100, 24);
        screen.show(&stage);
        screen.terminal.process(b"$ fg\r\n");
        let shell = screen.text();
        assert!(shell.ends_with("$ fg\n"), "{shell}");
        screen.painter.forget();
        screen.show(&stage);
        assert!(screen.text().contains("$ fg\n"));
        assert_eq!(screen.text().matches("longhaul ·").count(), 2);
    }

    #[test]
    fn a_log_that_finds_no_room_says_how_much_is_missing() {
        let stage = staged::mid_night();
        let mut screen = Screen::new(COLOURS, 100, 24);
        for n in 0..MAX_WAITING_LINES + 3 {
            screen.painter.log("08:00:00", Tone::Plain, &n.to_string());
        }
        let frame = screen.show(&stage);
        assert!(frame.contains("(3 lines were left out)"), "{frame}");
        assert!(frame.contains(&(MAX_WAITING_LINES + 2).to_string()));
    }

    #[test]
    fn a_panel_of_colours_by_pressure() {
        let mut stage = staged::mid_night();
        let mut colour_at = |tokens| {
            stage.context(tokens);
            let rows = rows(&stage, Moments::default(), 99, 6);
            let row = rows[1].paint(99, COLOURS);
            let bar = row.find('█').map(|at| row[..at].rsplit_once('m').map_or("", |(l, _)| l));
            bar.unwrap_or_default().rsplit_once('[').map_or(String::new(), |(_, c)| c.to_owned())
        };
        // The threshold is 140,000; 60 % of it are 84,000.
        assert_eq!(colour_at(83_999), "32");
        assert_eq!(colour_at(84_000), "33");
        assert_eq!(colour_at(139_999), "33");
        assert_eq!(colour_at(140_000), "1;31");
    }
}
