//! `rb top` on a terminal: looks at the store again and again until a key ends it.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line as Styled, Text};
use ratatui::widgets::{Block, Borders, Sparkline};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;

use super::figures::{OperationLine, TopLine};
use super::screen::{self, Line, Look};
use super::seen::Seen;
use super::words::{micros, number, rate};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::terminal::plain;

/// Looks that are drawn over time.
const HISTORY: usize = 1000;

/// Width of the text; charts are drawn to its right if there is room for both.
const TEXT_COLUMNS: u16 = 80;
const CHART_COLUMNS: u16 = 24;
const CHART_ROWS: u16 = 4;

/// Time between two looks for a signal.
const SIGNAL_EVERY: Duration = Duration::from_millis(100);

/// A figure over time.
struct Chart {
    name: &'static str,
    of: fn(&TopLine) -> f64,
    show: fn(f64) -> String,
    values: VecDeque<f64>,
}

/// The figures on the screen.
struct Screen {
    lines: Vec<Line>,
    charts: Vec<Chart>,
    /// The reason why there is no answer.
    silent: Option<String>,
}

pub(super) fn run(path: &Path, interval: Duration) -> Result<Outcome, Failure> {
    // A store that is not open is an error of the command, and not a screen.
    let mut before = Seen::now(path)?;
    if let Ok((0, _) | (_, 0)) = ratatui::crossterm::terminal::size() {
        return Err(Failure::usage(
            "the terminal has no size: set it with stty, or give --once",
        ));
    }
    let mut terminal = ratatui::try_init().map_err(|source| Failure::Output { source })?;
    let mut screen = Screen::new();
    let killed = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        // Without it the signal ends the program, and leaves the terminal as it is.
        drop(flag::register(signal, Arc::clone(&killed)));
    }
    let mut due = Instant::now() + interval;
    let ended = loop {
        let drawn = terminal.draw(|frame| screen.draw(frame));
        match drawn.and_then(|_| wait(due, &killed)) {
            Ok(Next::Look) => due = Instant::now() + interval,
            // The size has changed.
            Ok(Next::Draw) => continue,
            Ok(Next::End) => break Ok(Outcome::Done),
            Err(source) => break Err(Failure::Output { source }),
        }
        match Seen::now(path) {
            Ok(now) => {
                screen.show(&TopLine::between(path, &before, &now));
                before = now;
            }
            Err(Failure::Monitor { source }) => screen.silent = Some(source.to_string()),
            Err(why) => screen.silent = Some(why.chain()),
        }
    };
    // The terminal may be gone.
    let restored = ratatui::try_restore();
    ended.and_then(|outcome| match restored {
        Ok(()) => Ok(outcome),
        Err(source) => Err(Failure::Output { source }),
    })
}

/// The reason why a wait has ended.
enum Next {
    Look,
    Draw,
    End,
}

/// Waits until it is time for the next look, for a key, or for a signal.
fn wait(due: Instant, killed: &AtomicBool) -> io::Result<Next> {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        let is_event = event::poll(left.min(SIGNAL_EVERY))?;
        if killed.load(Ordering::Relaxed) {
            return Ok(Next::End);
        }
        if !is_event {
            match left.is_zero() {
                true => return Ok(Next::Look),
                false => continue,
            }
        }
        match event::read()? {
            Event::Key(key) if ends(key) => return Ok(Next::End),
            Event::Resize(..) => return Ok(Next::Draw),
            _ => {}
        }
    }
}

fn ends(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c' | 'd') => control,
        _ => false,
    }
}

impl Screen {
    fn new() -> Screen {
        let chart = |name, of, show| Chart {
            name,
            of,
            show,
            values: VecDeque::new(),
        };
        Screen {
            lines: Vec::new(),
            charts: vec![
                chart("got", |top| top.returned_bytes_per_second, rate),
                chart("put", |top| top.stored_bytes_per_second, rate),
                chart("get p99", |top| p99(top, "get"), us),
                chart("put p99", |top| p99(top, "put"), us),
                chart("in flight", |top| top.store.in_flight as f64, number),
                chart(
                    "hit rate",
                    |top| 100.0 * top.hit_ratio.unwrap_or(0.0),
                    percent,
                ),
            ],
            silent: None,
        }
    }

    /// Takes the figures of a look.
    fn show(&mut self, top: &TopLine) {
        self.lines = screen::lines(top);
        self.silent = None;
        for chart in &mut self.charts {
            chart.values.truncate(HISTORY - 1);
            chart.values.push_front((chart.of)(top));
        }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let [body, foot] =
            Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
        let foot_text = match &self.silent {
            Some(why) => Styled::from(plain(why).into_owned()).style(alarm()),
            None if self.lines.is_empty() => Styled::from("the first figures come in a moment"),
            None => Styled::from("q ends"),
        };
        frame.render_widget(foot_text, foot);
        let rows = u16::try_from(self.lines.len()).unwrap_or(u16::MAX);
        let (text, charts) = if body.width >= TEXT_COLUMNS + CHART_COLUMNS {
            let [text, charts] =
                Layout::horizontal([Constraint::Length(TEXT_COLUMNS), Constraint::Min(0)])
                    .areas(body);
            (text, charts)
        } else {
            let [text, charts] =
                Layout::vertical([Constraint::Length(rows), Constraint::Min(0)]).areas(body);
            (text, charts)
        };
        let lines: Text<'_> = self.lines.iter().map(styled).collect();
        frame.render_widget(lines, text);
        self.draw_charts(frame, charts);
    }

    /// Draws as many charts as there is room for.
    fn draw_charts(&self, frame: &mut Frame<'_>, area: Rect) {
        let count = usize::from(area.height / CHART_ROWS).min(self.charts.len());
        if count == 0 || self.lines.is_empty() {
            return;
        }
        let places = Layout::vertical(vec![Constraint::Fill(1); count]).split(area);
        for (chart, place) in self.charts.iter().zip(places.iter()) {
            chart.draw(frame, *place);
        }
    }
}

impl Chart {
    fn draw(&self, frame: &mut Frame<'_>, area: Rect) {
        let shown = self.values.iter().take(usize::from(area.width));
        let highest = shown.clone().copied().fold(0.0, f64::max);
        let now = self.values.front().copied().unwrap_or(0.0);
        let title = format!(
            "{} {}, highest {}",
            self.name,
            (self.show)(now),
            (self.show)(highest)
        );
        // A sparkline draws whole numbers: thousandths of the highest.
        let heights: Vec<u64> = shown
            .map(|value| (1000.0 * value / highest.max(f64::MIN_POSITIVE)) as u64)
            .collect();
        let line = Sparkline::default()
            .block(Block::new().borders(Borders::TOP).title(title))
            .data(&heights)
            .max(1000)
            .direction(ratatui::widgets::RenderDirection::RightToLeft);
        frame.render_widget(line, area);
    }
}

fn styled(line: &Line) -> Styled<'static> {
    let text = Styled::from(plain(&line.text).into_owned());
    match line.look {
        Look::Plain => text,
        Look::Title => text.bold(),
        Look::Alarm => text.style(alarm()),
    }
}

fn alarm() -> Style {
    Style::new().fg(Color::Red).bold()
}

fn p99(top: &TopLine, op: &str) -> f64 {
    let find = |line: &&OperationLine| line.op == op;
    let found = top.operations.iter().find(find);
    found.and_then(|line| line.p99_us).unwrap_or(0.0)
}

fn us(value: f64) -> String {
    micros(Some(value))
}

fn percent(value: f64) -> String {
    format!("{value:.1} %")
}
